package enroll

import (
	"context"
	"crypto/subtle"
	"crypto/x509"
	"encoding/base64"
	"net/netip"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/identity"
	"github.com/ampora/ampora/plugin/internal/audit"
	"github.com/ampora/ampora/plugin/internal/authority"
	"github.com/ampora/ampora/plugin/internal/ca"
	"github.com/ampora/ampora/plugin/internal/settings"
)

// renewal is a request for a next leaf after every check that needs no state.
type renewal struct {
	fingerprint string
	csr         *ca.CSR
	proof       []byte
	generate    bool
	source      netip.Addr
}

func parseRenewal(in apitype.RenewRequest) (*renewal, error) {
	r := &renewal{fingerprint: in.Fingerprint, generate: in.GenerateKey}
	if len(in.Fingerprint) != 64 {
		return nil, apitype.Errorf(apitype.FieldInvalid, "fingerprint must be the SHA-256 of the presented certificate, in hex")
	}
	var err error
	if in.CSR != "" {
		if in.GenerateKey {
			return nil, apitype.Errorf(apitype.FieldInvalid, "csr and generate_key exclude each other")
		}
		if r.csr, err = ca.ParseCSR(in.CSR); err != nil {
			return nil, err
		}
	}
	if len(in.Proof) > identity.MaxProof {
		return nil, apitype.Errorf(apitype.FieldInvalid, "proof is longer than %d characters", identity.MaxProof)
	}
	if r.proof, err = base64.StdEncoding.DecodeString(in.Proof); err != nil {
		return nil, apitype.Errorf(apitype.FieldInvalid, "proof is no base64")
	}
	if _, err := hashIdempotencyKey(in.IdempotencyKey); err != nil {
		return nil, err
	}
	r.source, err = parseSource(in.SourceIP)
	return r, err
}

// Renew gives an agent its next leaf. Until that is confirmed (see Seen) the current one goes on beside it. It never rests on
// the edge's word alone: the CSR is for the current leaf's key, or that key has signed the new one; a leaf for the key that
// the agent has is of use to nobody else. A key of our making is only for an agent that enrolled with one. Errors:
// agent_unknown, agent_revoked, certificate_revoked for a leaf that was replaced, certificate_untrusted for one whose issuer was
// retired, renewal_proof_missing, key_not_allowed.
//
// Asking again for the same key gives the same leaf again. Otherwise the new one replaces a next leaf that was not confirmed.
func (e *Enroller) Renew(ctx context.Context, origin audit.Origin, tenant, agentID string, in apitype.RenewRequest) (*apitype.Identity, error) {
	r, err := parseRenewal(in)
	if err != nil {
		return nil, err
	}
	cfg, err := e.Settings.Get(ctx)
	if err != nil {
		return nil, err
	}
	m, release, err := e.metAgent(ctx, tenant, agentID)
	if err != nil {
		return nil, err
	}
	defer release()
	set, err := e.Authority.Set(ctx) // under the lock, see LiveLeaves
	if err != nil {
		return nil, err
	}
	if m.ended() {
		return nil, apitype.Errorf(apitype.AgentRevoked, "the agent was revoked")
	}
	now := e.Now()
	next := *m.agent
	events, err := next.mayRenew(r, now)
	if err != nil {
		return nil, err
	}
	switch r.fingerprint {
	case next.Leaf.Fingerprint:
	case next.Next.fingerprint(): // whoever presents it has it
		events = append(events, next.confirm(now))
	default:
		return nil, apitype.Errorf(apitype.CertificateRevoked, "the presented certificate is not the agent's current one")
	}
	if !next.Leaf.NotAfter.After(now) {
		return nil, apitype.Errorf(apitype.CertificateExpired, "the presented certificate expired at %s", formatTime(next.Leaf.NotAfter))
	}
	if next.Leaf.Peer == "" && !set.Trusts(next.Leaf.IssuerID) { // retiring it by force has locked the agent out
		return nil, apitype.Errorf(apitype.CertificateUntrusted, "the issuer of the presented certificate was retired")
	}
	key, keyOrigin, err := e.renewalKey(ctx, cfg, &next, r)
	if err != nil {
		return nil, err
	}
	if again := next.sameNext(set, key); again != nil {
		return stored(set, &next, *again)
	}
	if r.generate && !next.NextSeen.IsZero() {
		// A session that was left behind asks, and what it got would end the leaf that the agent has gone over to.
		return nil, apitype.Errorf(apitype.RateLimited, "the agent has begun to use its next certificate")
	}
	if err := next.roomForPast(now); err != nil {
		return nil, err
	}
	issued, err := e.newLeaf(ctx, cfg, set, &next, key)
	if err != nil {
		return nil, err
	}
	if next.Next != nil {
		next.supersede(*next.Next, now)
	}
	replaced := next.Leaf.Serial
	next.Next, next.NextSeen = &issued.leaf, time.Time{}
	next.KeyOrigin = keyOrigin
	next.IdempotencyHash, next.CSRKeyHash = nil, nil
	event := issued.event(&next)
	event.Action = apitype.ActionCertificateRenewed
	event.Details["replaces"], event.Details["key_origin"] = replaced, keyOrigin
	next.Record = audit.NewRecord(origin.ForAgent(agentID, formatSource(r.source)), now, append(events, event)...)
	if err := e.putMoved(ctx, &next, m.revoked); err != nil { // the commit
		return nil, err
	}
	e.finish(ctx, agentID, &met{agent: &next, revoked: m.revoked})
	return issued.answer(&next), nil
}

// renewalKey is the key that the next leaf is for, and who made it, if the request may have a leaf for that key.
func (e *Enroller) renewalKey(ctx context.Context, cfg apitype.Config, row *agentRow, r *renewal) (leafKey, string, error) {
	presented, err := ca.ParseCertificate(row.Leaf.Certificate)
	if err != nil {
		return leafKey{}, "", err
	}
	switch {
	case r.generate && row.KeyOrigin != settings.KeyOriginServer:
		return leafKey{}, "", apitype.Errorf(apitype.KeyNotAllowed, "the agent makes its own key")
	case r.generate && cfg.KeyOrigin == settings.KeyOriginCSR:
		return leafKey{}, "", apitype.Errorf(apitype.CSRRequired, "generate_key is not allowed here")
	case r.generate:
		key, err := newKey()
		return key, settings.KeyOriginServer, err
	case r.csr == nil:
		key, err := publicKey(presented.PublicKey)
		return key, row.KeyOrigin, err
	case subtle.ConstantTimeCompare(r.csr.KeyHash[:], row.Leaf.KeyHash) == 1:
		return csrKey(r.csr), row.KeyOrigin, nil
	case cfg.KeyOrigin == settings.KeyOriginServer:
		return leafKey{}, "", apitype.Errorf(apitype.KeyNotAllowed, "keys are made on the server here")
	}
	if err := e.proven(ctx, cfg, row, presented, r); err != nil {
		return leafKey{}, "", err
	}
	return csrKey(r.csr), settings.KeyOriginCSR, nil
}

// proven checks that the presented leaf's key has signed the new one, unless the agent's group or the mount goes without.
func (e *Enroller) proven(ctx context.Context, cfg apitype.Config, row *agentRow, presented *x509.Certificate, r *renewal) error {
	spki, err := x509.MarshalPKIXPublicKey(r.csr.PublicKey)
	if err != nil {
		return err
	}
	if identity.VerifyProof(presented, spki, r.proof) == nil {
		return nil
	}
	proof, err := e.RenewProofOf(ctx, row.Tenant, row.Group)
	if err != nil {
		return err
	}
	if proof == "" {
		proof = cfg.RenewProof
	}
	if proof == settings.RenewProofEdge && len(r.proof) == 0 {
		return nil
	}
	if len(r.proof) == 0 {
		return apitype.Errorf(apitype.RenewalProofMissing, "the CSR is for another key than that of the current certificate")
	}
	return apitype.Errorf(apitype.RenewalProofMissing, "the proof is no signature of the current certificate's key over the new one")
}

// sameNext is the next leaf when it is for this key already, and by the issuer that signs now.
func (a *agentRow) sameNext(set *authority.Set, key leafKey) *leafRow {
	issuer, err := set.Active()
	if err != nil || a.Next == nil || a.Next.IssuerID != issuer.ID || key.private != "" ||
		subtle.ConstantTimeCompare(key.hash[:], a.Next.KeyHash) != 1 {
		return nil
	}
	return a.Next
}

// roomForPast refuses to replace another leaf while too many have been replaced that have not expired.
func (a *agentRow) roomForPast(now time.Time) error {
	if n := len(unexpired(a.Past, now)); n >= maxPast {
		return apitype.Errorf(apitype.RateLimited, "the agent has %d replaced certificates that have not expired", n)
	}
	return nil
}

func (l *leafRow) fingerprint() string {
	if l == nil {
		return ""
	}
	return l.Fingerprint
}
