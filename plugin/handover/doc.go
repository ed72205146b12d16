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
//	ampora-manifest+jwt   Manifest: which handover tokens a handover file holds
//
// It counts when its key is that of a certificate that is pinned for the peer in iss. alg follows from the pinned key: ES256,
// ES384, EdDSA or PS256 (RSA with 3072 to 4096 bits). What the document itself says of keys never counts: kid and x5c are not
// looked at, and a header with jwk, jku, x5u, crit or b64 is refused. There is one spelling only: parse, serialize, compare.
// Claims are case-sensitive, and doubled ones are refused (RFC 7519 section 4); unknown ones are ignored. Times are whole
// Unix seconds; two clocks may differ by Leeway.
//
// Whoever holds an ECDSA signature can turn it into a second one of the same content. The hash of the second names nothing,
// so that a source refuses the receipts for it; nobody but the thief of a token comes by one.
//
// # Handover token
//
//	handover_token = token *("~" earlier)     ; newest first, at most MaxLineage tokens
//	token, earlier = compact JWS of type ampora-handover+jwt
//
// Claims of a token, those in brackets being optional:
//
//	iss, aud              peer_id of source and target
//	sub                   SPIFFE ID of the leaf
//	jti                   the handover's id, a UUID, the same on both sides
//	iat, nbf, exp         exp is at most MaxLifetime after iat
//	cnf.x5t#S256          SHA-256 of the leaf's DER, base64url (RFC 8705)
//	agent                 agent_id, certificate (the leaf, PEM), [display_name, instance_uid, description, capabilities,
//	                      tenant, group, configuration, enrolled_at]
//	target                name, endpoint, ca_bundle (PEM)
//	[source]              endpoint
//	[prev]                SHA-256, lower-case hex, of the compact form of the token by which the agent came to the source
//	[audit]               id of the source's event
//
// The leaf is signed by a pinned issuer of iss itself, and names the agent of sub and agent. Open checks all of this; what
// rests on state (whether the token was redeemed before, what the peer may ask for) is for the target to check.
//
// # Lineage
//
// The earlier tokens are the agent's lineage. Each token names the one before by its hash (prev), and was issued by the
// installation that the one before was for. The certificates of a token's target vouch for the key of the next token. An
// agent that comes back is recognised when they lead without a gap from the last token that this installation has made for
// it to the token itself: Home answers that token, and its jti and hash have to be those that the row has stored. Else it is
// a new agent. When a string would be too long the oldest tokens are left out.
//
// # Handover file
//
// The tokens of a group of agents travel in one file of lines, each of which ends with a line feed, the last one too:
//
//	file     = manifest LF 1*(handover_token LF)  ; at most MaxFile bytes and MaxFileTokens tokens
//	manifest = compact JWS of type ampora-manifest+jwt
//
// Claims of a manifest, those in brackets being optional:
//
//	iss, aud              peer_id of source and target, those of every token
//	jti                   the file's id, a UUID
//	iat, exp              exp is that of the token that ends first
//	[group]               of the agents at the source
//	entries               for each token, in the order of the lines: handover_id (its jti), token_hash (its SHA-256, lower-case
//	                      hex, without its lineage, whose hashes hang on it)
//
// So a line that is missing, doubled, changed, foreign or in another place is seen, and named by its number. A manifest moves
// nobody: each token is redeemed for itself, in any order and number, and counts also without the manifest. What it adds is
// that people, and who asks how far a file has come, know what belongs together.
//
// # Receipts
//
// The target speaks first, and the source answers in the same reply:
//
//	redeemed   the token was redeemed      released, or refused with a code
//	connected  the agent has come          completed, or refused with a code
//	lapsed     the target has given up     returned, or refused with a code
//
// The target repeats a receipt until it has an answer, so every one may be lost, doubled, late or overtaken by others. It
// signs it when it sends it; what is to be sent follows from its state:
//
//	awaiting_release    redeemed
//	awaiting_reconnect  -
//	active              connected, until acked
//	lapsed              lapsed, until acked
//	rejected            -
//
// Besides, either side tells the other which of its bundles it has pinned (pinned), and hears that this was noted (noted).
//
// A receipt names the jti, the hash of the token and both peers, and counts only between these two.
//
// # State table of the source
//
// In handover_pending and in all states after moved_to_peer the agent is served at the source. In released and moved_to_peer
// it is given its new home and nothing else. "time up" among the conditions means that the token has expired. Each line is
// one Put of the agent's row at most, and none when neither state nor event changes.
//
//	state             input      when     next           event               answer     code
//
//	handover_pending  redeemed   in time  released       Handover.Released   released   -
//	handover_pending  redeemed   time up  expired        Handover.Expired    refused    handover_expired
//	handover_pending  connected  in time  moved_to_peer  Handover.Completed  completed  -
//	handover_pending  connected  time up  expired        Handover.Expired    refused    handover_expired
//	handover_pending  lapsed     -        lapsed         Handover.Lapsed     returned   -
//	handover_pending  cancel     -        cancelled      Handover.Cancelled  -          -
//	handover_pending  force      -        cancelled      Handover.Cancelled  -          -
//	handover_pending  rotated    -        rotated        Handover.Rejected   -          fingerprint_mismatch
//	handover_pending  revoked    -        revoked        Handover.Rejected   -          agent_revoked
//	handover_pending  time up    -        expired        Handover.Expired    -          -
//
//	released          redeemed   -        released       -                   released   -
//	released          connected  -        moved_to_peer  Handover.Completed  completed  -
//	released          lapsed     -        lapsed         Handover.Lapsed     returned   -
//	released          cancel     -        released       -                   -          handover_pending
//	released          force      -        forced         Handover.Forced     -          -
//	released          rotated    -        released       -                   -          agent_moved
//	released          revoked    -        released       -                   -          -
//	released          time up    -        released       -                   -          -
//
//	moved_to_peer     redeemed   -        moved_to_peer  -                   released   -
//	moved_to_peer     connected  -        moved_to_peer  -                   completed  -
//	moved_to_peer     lapsed     -        moved_to_peer  -                   refused    agent_moved
//	moved_to_peer     cancel     -        moved_to_peer  -                   -          agent_moved
//	moved_to_peer     force      -        moved_to_peer  -                   -          agent_moved
//	moved_to_peer     rotated    -        moved_to_peer  -                   -          agent_moved
//	moved_to_peer     revoked    -        moved_to_peer  -                   -          -
//	moved_to_peer     time up    -        moved_to_peer  -                   -          -
//
//	cancelled         redeemed   -        cancelled      -                   refused    handover_cancelled
//	cancelled         connected  -        cancelled      -                   refused    handover_cancelled
//	cancelled         lapsed     -        cancelled      -                   returned   -
//	cancelled         cancel     -        cancelled      -                   -          -
//	cancelled         force      -        cancelled      -                   -          handover_cancelled
//	cancelled         rotated    -        cancelled      -                   -          -
//	cancelled         revoked    -        cancelled      -                   -          -
//	cancelled         time up    -        cancelled      -                   -          -
//
//	expired           redeemed   -        expired        -                   refused    handover_expired
//	expired           connected  -        expired        -                   refused    handover_expired
//	expired           lapsed     -        expired        -                   returned   -
//	expired           cancel     -        expired        -                   -          handover_expired
//	expired           force      -        expired        -                   -          handover_expired
//	expired           rotated    -        expired        -                   -          -
//	expired           revoked    -        expired        -                   -          -
//	expired           time up    -        expired        -                   -          -
//
//	rotated           redeemed   -        rotated        -                   refused    fingerprint_mismatch
//	rotated           connected  -        rotated        -                   refused    fingerprint_mismatch
//	rotated           lapsed     -        rotated        -                   returned   -
//	rotated           cancel     -        rotated        -                   -          fingerprint_mismatch
//	rotated           force      -        rotated        -                   -          fingerprint_mismatch
//	rotated           rotated    -        rotated        -                   -          -
//	rotated           revoked    -        rotated        -                   -          -
//	rotated           time up    -        rotated        -                   -          -
//
//	revoked           redeemed   -        revoked        -                   refused    agent_revoked
//	revoked           connected  -        revoked        -                   refused    agent_revoked
//	revoked           lapsed     -        revoked        -                   returned   -
//	revoked           cancel     -        revoked        -                   -          agent_revoked
//	revoked           force      -        revoked        -                   -          agent_revoked
//	revoked           rotated    -        revoked        -                   -          -
//	revoked           revoked    -        revoked        -                   -          -
//	revoked           time up    -        revoked        -                   -          -
//
//	lapsed            redeemed   -        lapsed         -                   refused    handover_lapsed
//	lapsed            connected  -        lapsed         -                   refused    handover_lapsed
//	lapsed            lapsed     -        lapsed         -                   returned   -
//	lapsed            cancel     -        lapsed         -                   -          handover_lapsed
//	lapsed            force      -        lapsed         -                   -          handover_lapsed
//	lapsed            rotated    -        lapsed         -                   -          -
//	lapsed            revoked    -        lapsed         -                   -          -
//	lapsed            time up    -        lapsed         -                   -          -
//
//	forced            redeemed   -        forced         -                   refused    handover_forced
//	forced            connected  -        forced         -                   refused    handover_forced
//	forced            lapsed     -        forced         -                   returned   -
//	forced            cancel     -        forced         -                   -          handover_forced
//	forced            force      -        forced         -                   -          -
//	forced            rotated    -        forced         -                   -          -
//	forced            revoked    -        forced         -                   -          -
//	forced            time up    -        forced         -                   -          -
//
// # State table of the target
//
// The agent is served at the target in active alone. "acked" means that the source has answered the receipt of this state,
// "forced" that a refusal has the code handover_forced. The column acked is what is stored: kept leaves it as it was.
//
//	state               input           when                   next                event               acked  code
//
//	awaiting_release    released        -                      awaiting_reconnect  Handover.Released   no     -
//	awaiting_release    refused         -                      rejected            Handover.Rejected   yes    -
//	awaiting_release    completed       -                      awaiting_release    -                   kept   -
//	awaiting_release    returned        -                      awaiting_release    -                   kept   -
//	awaiting_release    agent came      -                      awaiting_release    -                   kept   handover_pending
//	awaiting_release    give up         -                      lapsed              Handover.Lapsed     no     -
//	awaiting_release    too late        -                      lapsed              Handover.Lapsed     no     -
//	awaiting_release    redeemed again  -                      awaiting_release    -                   kept   -
//
//	awaiting_reconnect  released        -                      awaiting_reconnect  -                   kept   -
//	awaiting_reconnect  refused         -                      rejected            Handover.Rejected   yes    -
//	awaiting_reconnect  completed       -                      awaiting_reconnect  -                   kept   -
//	awaiting_reconnect  returned        -                      awaiting_reconnect  -                   kept   -
//	awaiting_reconnect  agent came      -                      active              Handover.Connected  no     -
//	awaiting_reconnect  give up         -                      lapsed              Handover.Lapsed     no     -
//	awaiting_reconnect  too late        -                      lapsed              Handover.Lapsed     no     -
//	awaiting_reconnect  redeemed again  -                      awaiting_reconnect  -                   kept   -
//
//	active              released        -                      active              -                   kept   -
//	active              refused         forced                 rejected            Handover.Rejected   yes    -
//	active              refused         not forced, not acked  active              Handover.Rejected   yes    -
//	active              refused         not forced, acked      active              -                   yes    -
//	active              completed       -                      active              -                   yes    -
//	active              returned        -                      active              -                   kept   -
//	active              agent came      -                      active              -                   kept   -
//	active              give up         -                      active              -                   kept   handover_finished
//	active              too late        -                      active              -                   kept   -
//	active              redeemed again  -                      active              -                   kept   handover_replayed
//
//	lapsed              released        -                      lapsed              -                   kept   -
//	lapsed              refused         -                      lapsed              -                   yes    -
//	lapsed              completed       -                      lapsed              -                   kept   -
//	lapsed              returned        -                      lapsed              -                   yes    -
//	lapsed              agent came      -                      lapsed              -                   kept   handover_lapsed
//	lapsed              give up         -                      lapsed              -                   kept   -
//	lapsed              too late        -                      lapsed              -                   kept   -
//	lapsed              redeemed again  -                      lapsed              -                   kept   handover_replayed
//
//	rejected            released        -                      rejected            -                   kept   -
//	rejected            refused         -                      rejected            -                   kept   -
//	rejected            completed       -                      rejected            -                   kept   -
//	rejected            returned        -                      rejected            -                   kept   -
//	rejected            agent came      -                      rejected            -                   kept   handover_cancelled
//	rejected            give up         -                      rejected            -                   kept   -
//	rejected            too late        -                      rejected            -                   kept   -
//	rejected            redeemed again  -                      rejected            -                   kept   handover_replayed
//
// # Where the agent is
//
// A row keeps its last handover away (out) and its last one here (in). While in is active, and newer than out, the agent is
// here. Else out decides: the agent is away in released and moved_to_peer, and here in every other state and without one. So a
// handover home that its source takes back by force leaves the row as it was before the agent came. A row that was made by a
// handover has an agent only while that is active.
//
// # What holds
//
// A test walks every line of both tables. Another one drives the two functions through every order of events: messages lost,
// doubled and reordered, crashes before and after each Put, operators and agents doing anything at any time, with one handover
// and another one onward or home; it prints how many states that are:
//
//	go test -v -run TestExplore ./plugin/handover/internal/explore
//
// In each of them:
//
//   - the agent is never served on both sides, unless an operator forced it; then, too, it ends on one side;
//   - it is never on none for good: when messages flow and time passes it ends on exactly one side, unless it is revoked;
//   - a token works once at most;
//   - an agent that was revoked at the source before its release never becomes active at the target.
//
// What they do not cover is a Vault that was restored from a backup: it has forgotten what it has promised.
package handover
