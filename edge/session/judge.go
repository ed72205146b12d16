package session

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/ampora/ampora/edge/trust"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/handover"
	"github.com/ampora/ampora/plugin/identity"
)

// verdict is a certificate that passes. Of a guest the names and the serial are those that it has here.
type verdict struct {
	*identity.Leaf
	digest Digest
	issuer *x509.Certificate
	guest  bool
	// expected says that the engine has still to be told that the guest has come, and to agree.
	expected bool
}

// PeerRevocations knows what peers have revoked. It is asked under locks, and must neither wait nor come back.
type PeerRevocations interface {
	PeerRevoked(peer string, cert *x509.Certificate) bool
}

// releaseRetry is the least time after which an agent may come again that is faster than its release, and half of the most. It
// is a short one: an agent is sent here only when the source has let go of it.
const releaseRetry = 5 * time.Second

// judgeLeaf decides about a certificate without asking anybody.
func (d *Desk) judgeLeaf(c Caller, s *trust.Snapshot, now time.Time) (*verdict, error) {
	leaf, err := identity.VerifyLeaf(c.Certificate, s.Issuers, s.Settings.TrustDomain, now)
	switch {
	case errors.Is(err, identity.ErrExpired):
		return nil, about(outOfTime(c.Certificate, now), "agent", c.Certificate.Subject.CommonName)
	case err != nil:
		return d.judgeGuest(c, s, now)
	}
	v := &verdict{Leaf: leaf, digest: sha256.Sum256(c.Certificate.Raw), issuer: s.Issuers[leaf.IssuerIndex]}
	err = d.judgeStanding(leaf, s, now)
	if move, gone := s.Move(agentKey(leaf.Serial)); err == nil && gone && move.Fingerprint != v.digest {
		err = refusef(apitype.AgentMoved, "the agent has gone to %s with another certificate", move.Peer)
	}
	if err != nil {
		return nil, about(err, "agent", leaf.AgentID, "tenant", leaf.Tenant)
	}
	return v, nil
}

// judgeGuest decides about a certificate that was not issued here. It passes only when it is, to the byte, the one with which
// the engine says that an agent of a peer comes.
func (d *Desk) judgeGuest(c Caller, s *trust.Snapshot, now time.Time) (*verdict, error) {
	digest := sha256.Sum256(c.Certificate.Raw)
	g := s.Guest(digest)
	if g == nil {
		return nil, d.judgeStranger(c, s, now)
	}
	v := &verdict{digest: digest, guest: true, expected: g.State != handover.Active}
	err := v.vouched(c.Certificate, g, s.Peer(g.Peer), now)
	if err == nil {
		err = d.judgeStanding(v.Leaf, s, now)
	}
	switch {
	case err != nil:
	case d.peerRevoked(g.Peer, c.Certificate):
		err = refusef(apitype.CertificateRevoked, "%s has revoked the agent's certificate", g.Peer)
	case g.State == handover.AwaitingRelease:
		r := refusef(apitype.HandoverPending, "%s has not let go of the agent yet", g.Peer)
		r.RetryAfter = releaseRetry + rand.N(releaseRetry)
		err = r
	}
	if err != nil {
		return nil, about(err, "agent", g.AgentID, "tenant", g.Tenant, "peer", g.Peer)
	}
	return v, nil
}

// vouched has the peer vouch for its agent's certificate, as it has to as long as it is a peer: what it has retired counts no
// longer here either.
func (v *verdict) vouched(cert *x509.Certificate, g *trust.Guest, peer *trust.Peer, now time.Time) error {
	if peer == nil {
		return refusef(apitype.CertificateUntrusted, "%s is no peer any more", g.Peer)
	}
	leaf, err := vouchedBy(peer, cert, now)
	switch {
	case errors.Is(err, identity.ErrExpired):
		return outOfTime(cert, now)
	case err != nil || leaf.AgentID != g.SourceAgentID:
		return refusef(apitype.CertificateUntrusted, "no issuer of %s vouches for the certificate", g.Peer)
	case v.expected && peer.Suspended:
		return refusef(apitype.PeerSuspended, "the agent comes from %s", g.Peer)
	}
	v.issuer = peer.Issuers[leaf.IssuerIndex]
	v.Leaf = &identity.Leaf{
		AgentID: g.AgentID, Tenant: g.Tenant, Serial: g.Serial, Fingerprint: leaf.Fingerprint, NotAfter: leaf.NotAfter, IssuerIndex: leaf.IssuerIndex,
	}
	return nil
}

// vouchedBy reads a leaf of a peer. Which trust domain the peer has is its own affair: what counts is its key.
func vouchedBy(peer *trust.Peer, cert *x509.Certificate, now time.Time) (*identity.Leaf, error) {
	if len(cert.URIs) != 1 {
		return nil, identity.ErrUntrusted
	}
	return identity.VerifyLeaf(cert, peer.Issuers, cert.URIs[0].Host, now)
}

// errUnexpected is behind the refusal of an agent for which a peer vouches and which is not expected.
var errUnexpected = errors.New("not expected")

// judgeStranger says why a certificate does not pass that is neither ours nor a guest's.
func (d *Desk) judgeStranger(c Caller, s *trust.Snapshot, now time.Time) error {
	peer, leaf := voucher(c.Certificate, s, now)
	if peer == nil {
		return refusef(apitype.CertificateUntrusted, "the certificate was not issued here")
	}
	g := s.GuestFrom(peer.Name, leaf.AgentID)
	if g == nil {
		r := refusef(apitype.CertificateUntrusted, "the agent is one of %s, and is not expected here", peer.Name)
		r.cause = errUnexpected
		return about(r, "there", leaf.AgentID, "peer", peer.Name)
	}
	d.mismatches.add(apitype.Mismatch{AgentID: g.AgentID, Fingerprint: leaf.Fingerprint, SourceIP: text(c.Source)})
	return about(refusef(apitype.FingerprintMismatch, "the agent is expected from %s with another certificate", g.Peer), "agent", g.AgentID, "peer", g.Peer)
}

// voucher is the peer that vouches for a certificate, and what it says there.
func voucher(cert *x509.Certificate, s *trust.Snapshot, now time.Time) (*trust.Peer, *identity.Leaf) {
	for _, peer := range s.Peers {
		if peer.Suspended {
			continue
		}
		if leaf, err := vouchedBy(peer, cert, now); err == nil {
			return peer, leaf
		}
	}
	return nil, nil
}

func (d *Desk) peerRevoked(peer string, cert *x509.Certificate) bool {
	return d.PeerRevocations != nil && d.PeerRevocations.PeerRevoked(peer, cert)
}

// PeerRevocationsChanged ends the sessions of guests whose certificates their peers have revoked meanwhile.
func (d *Desk) PeerRevocationsChanged() {
	if s := d.Trust.Current(); s != nil {
		d.guard("revocation", func() { d.endDoomed(s, time.Now()) })
	}
}

// maxAwaiting bounds the callers that are kept waiting for a release.
const maxAwaiting = 1024

// judge is judgeLeaf, with some patience for an agent that is faster than the word that it may come: the source sends it off
// while its answer to us is still on its way, and this edge may be the last to hear.
func (d *Desk) judge(ctx context.Context, c Caller, s *trust.Snapshot) (*verdict, error) {
	v, err := d.judgeLeaf(c, s, time.Now())
	if !early(err) {
		return v, err
	}
	select {
	case d.awaiting <- struct{}{}:
		defer func() { <-d.awaiting }()
	default:
		return nil, err
	}
	patience := time.NewTimer(d.Timing.Release)
	defer patience.Stop()
	for {
		news := d.news.next() // before looking again, or some might be missed
		if v, err = d.judgeLeaf(c, d.Trust.Current(), time.Now()); !early(err) {
			return v, err
		}
		select {
		case <-news:
		case <-patience.C:
			return nil, err
		case <-ctx.Done():
			return nil, err
		}
	}
}

// early reports whether whoever is refused may only have come too early.
func early(err error) bool {
	return apitype.CodeOf(err) == apitype.HandoverPending || errors.Is(err, errUnexpected)
}
