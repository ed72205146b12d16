package handover

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/identity"
)

// PeerKeys is what is pinned of a peer.
type PeerKeys struct {
	PeerID      string
	TrustDomain string
	Pinned      []*x509.Certificate // its issuers
}

// Peers finds peers. It may be used by several goroutines at once.
type Peers interface {
	// ByID answers peer_unknown for an installation that is no peer, and peer_suspended for one that does not count now.
	// Asked for ourselves it may answer with our own issuers: they are used to show our own tokens in a lineage, see Hops.
	ByID(peerID string) (PeerKeys, error)
}

// Opened is a handover token after every check that needs no state.
type Opened struct {
	Token   Token
	Compact string   // the token alone
	Hash    string   // of Compact
	Lineage []string // the earlier tokens, newest first; each names the next one and was made for the one before

	Leaf     *x509.Certificate
	Identity identity.Leaf // what Leaf says of the agent, at its source
	Peer     PeerKeys      // the source
}

// Text is the whole string again.
func (o *Opened) Text() string { return Join(o.Compact, o.Lineage) }

// Open checks everything of a handover token that needs no state: its shape, its signature by a pinned key of the peer in
// iss, that it is for self (a peer_id), its times, and its leaf. The errors of peers are passed on. Others, in the order of
// the checks: handover_malformed, handover_wrong_audience, handover_signature_invalid, handover_expired,
// certificate_expired.
func Open(text, self string, peers Peers, now time.Time) (*Opened, error) {
	compact, lineage, err := Split(text)
	if err != nil {
		return nil, err
	}
	o := &Opened{Compact: compact, Hash: Hash(compact), Lineage: lineage}
	var claimed Token
	if err := Unverified(compact, TypeHandover, &claimed); err != nil {
		return nil, err
	}
	if claimed.Issuer == self && self != "" {
		return nil, apitype.Errorf(apitype.HandoverWrongAudience, "this installation has made it itself")
	}
	if o.Peer, err = peers.ByID(claimed.Issuer); err != nil {
		return nil, err
	}
	if err := Verify(compact, TypeHandover, o.Peer.Pinned, &o.Token); err != nil {
		return nil, err
	}
	if err := o.Token.check(); err != nil {
		return nil, err
	}
	if o.Token.Audience != self {
		return nil, apitype.Errorf(apitype.HandoverWrongAudience, "it was made for another peer")
	}
	if err := o.Token.checkTimes(now); err != nil {
		return nil, err
	}
	if err := o.openLeaf(now); err != nil {
		return nil, err
	}
	if _, err := o.ancestors(); err != nil {
		return nil, err
	}
	return o, nil
}

// Read reads a handover token without asking who signed it, for looking at it where no peer is known: its shape, its leaf and
// how its lineage hangs together, but no signature and no time. Nothing may rest on it. Peer is the zero value but for the id
// that the token claims. The error is handover_malformed.
func Read(text string) (*Opened, error) {
	compact, lineage, err := Split(text)
	if err != nil {
		return nil, err
	}
	o := &Opened{Compact: compact, Hash: Hash(compact), Lineage: lineage}
	if err := Unverified(compact, TypeHandover, &o.Token); err != nil {
		return nil, err
	}
	if err := o.Token.check(); err != nil {
		return nil, err
	}
	o.Peer.PeerID = o.Token.Issuer
	if o.Leaf, err = o.Token.leaf(); err != nil {
		return nil, err
	}
	if _, err := o.ancestors(); err != nil {
		return nil, err
	}
	return o, nil
}

// leaf is the certificate that the token names twice.
func (t *Token) leaf() (*x509.Certificate, error) {
	leaf, err := parseLeaf(t.Agent.Certificate)
	if err != nil {
		return nil, err
	}
	if t.Confirmation.X5TS256 != Thumbprint(leaf) {
		return nil, apitype.Errorf(apitype.HandoverMalformed, "cnf and agent.certificate do not agree")
	}
	return leaf, nil
}

// openLeaf checks that the leaf is the one that the token names, and that the peer itself has issued it to that agent.
func (o *Opened) openLeaf(now time.Time) error {
	leaf, err := o.Token.leaf()
	if err != nil {
		return err
	}
	id, err := identity.VerifyLeaf(leaf, o.Peer.Pinned, o.Peer.TrustDomain, now)
	switch {
	case errors.Is(err, identity.ErrExpired):
		return apitype.Errorf(apitype.CertificateExpired, "the agent's certificate is not valid now")
	case err != nil && !signedByOne(leaf, o.Peer.Pinned):
		return apitype.Errorf(apitype.HandoverSignatureInvalid, "no pinned issuer has signed the agent's certificate")
	case err != nil:
		return apitype.Errorf(apitype.HandoverMalformed, "agent.certificate is no agent's certificate of this peer")
	}
	agent := o.Token.Agent
	if id.AgentID != agent.AgentID || id.Tenant != agent.Tenant ||
		o.Token.Subject != identity.SPIFFEID(o.Peer.TrustDomain, id.Tenant, id.AgentID).String() {
		return apitype.Errorf(apitype.HandoverMalformed, "sub, agent and agent.certificate do not name the same agent")
	}
	o.Leaf, o.Identity = leaf, *id
	return nil
}

func signedByOne(leaf *x509.Certificate, issuers []*x509.Certificate) bool {
	for _, issuer := range issuers {
		if leaf.CheckSignatureFrom(issuer) == nil {
			return true
		}
	}
	return false
}

// Thumbprint is the value of cnf.x5t#S256 for a leaf: SHA-256 of its DER, base64url without padding (RFC 8705 section 3.1).
func Thumbprint(leaf *x509.Certificate) string {
	sum := sha256.Sum256(leaf.Raw)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
