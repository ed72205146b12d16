// Package handover is the specification, and the only reader and writer, of the documents by which an agent moves from one
// installation (the source) to another (the target), and of the two state tables by which they stay of one mind.
//
// # Documents
//
// Every document is a JWS in compact form (RFC 7515) with a typ of its own, signed by the key of an issuer, of the CA itself:
//
//	ampora-handover+jwt   Token: the pass with which one agent moves
//	ampora-receipt+jwt    Receipt: what one side tells the other about a handover
//	ampora-bundle+jwt     Bundle: an installation's issuers
//
// It counts when its key is that of a certificate that is pinned for the peer in iss. alg follows from the pinned key: ES256,
// ES384, EdDSA or PS256. What the document itself says of keys never counts. There is one spelling only: parse, serialize,
// compare. Claims are case-sensitive, and doubled ones are refused (RFC 7519 section 4); unknown ones are ignored.
//
// # Handover token
//
//	handover_token = token *("~" earlier)     ; newest first
//	token, earlier = compact JWS of type ampora-handover+jwt
//
// The earlier tokens are the agent's lineage: each token names the one before by its hash (prev), and was issued by the
// installation that the one before was for. The certificates of a token's target vouch for the key of the next token. An
// agent that comes back is recognised when they lead without a gap from the last token that this installation has made for
// it to the token itself.
package handover
