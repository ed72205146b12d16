package enroll

import (
	"context"
	"fmt"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/handover"
	"github.com/ampora/ampora/plugin/internal/audit"
	"github.com/ampora/ampora/plugin/internal/ca"
	"github.com/ampora/ampora/plugin/internal/federation"
	"github.com/ampora/ampora/plugin/internal/name"
	"github.com/ampora/ampora/plugin/internal/settings"
	"github.com/google/uuid"
)

// minHandoverTTL is the shortest life of a handover token.
const minHandoverTTL = time.Minute

// Handover makes the token with which an agent moves to a peer. The agent goes on here until the peer has redeemed it.
// Errors: peer_unknown, peer_suspended, agent_unknown, agent_revoked, agent_moved, handover_pending, handover_unsupported,
// capability_missing, renewal_pending, ttl_out_of_range.
func (e *Enroller) Handover(ctx context.Context, origin audit.Origin, tenant, agentID string, in apitype.HandoverRequest) (apitype.HandoverToken, error) {
	var none apitype.HandoverToken
	ttl, self, err := e.handoverTerms(ctx, in)
	if err != nil {
		return none, err
	}
	m, release, err := e.metAgent(ctx, tenant, agentID)
	if err != nil {
		return none, err
	}
	defer release()
	if m, err = e.bringUpToDate(ctx, m); err != nil {
		return none, err
	}
	peer, unhold, err := e.Peers.Hold(ctx, in.Peer)
	if err != nil {
		return none, err
	}
	defer unhold()
	expires := e.Now().Add(ttl)
	if err := e.mayLeave(m, expires); err != nil {
		return none, err
	}
	next := *m.agent
	if err := e.letGo(ctx, next.AgentID, next.outInfo()); err != nil {
		return none, err
	}
	if next.Out, err = e.newOutgoing(ctx, &next, peer, in, expires); err != nil {
		return none, err
	}
	record := audit.NewRecord(origin, e.Now(), next.handoverEvent(apitype.HandoverSource, apitype.ActionHandoverIssued, nil))
	next.Out.Event = record.Events[0].ID
	claims, lineage, err := next.handoverClaims(self, peer)
	if err != nil {
		return none, err
	}
	claims.Source.Endpoint = e.endpoint(ctx)
	token, err := e.Peers.Sign(ctx, peer, handover.TypeHandover, claims)
	if err != nil {
		return none, err
	}
	next.Out.TokenHash = handover.Hash(token)
	next.Record = record
	if err := e.point(ctx, next.Out.ID, apitype.HandoverSource, agentID); err != nil {
		return none, err
	}
	if err := e.putMoved(ctx, &next, m.revoked); err != nil { // the commit
		return none, err
	}
	e.finish(ctx, agentID, &met{agent: &next, revoked: m.revoked})
	return apitype.HandoverToken{
		HandoverToken: handover.Join(token, lineage), HandoverID: next.Out.ID, AgentID: agentID, Peer: peer.Name, ExpiresAt: formatTime(expires),
	}, nil
}

// handoverTerms checks what needs no state.
func (e *Enroller) handoverTerms(ctx context.Context, in apitype.HandoverRequest) (ttl time.Duration, self string, err error) {
	if err := name.Check("peer", in.Peer); err != nil {
		return 0, "", err
	}
	if in.Configuration != "" {
		if err := name.Check("configuration", in.Configuration); err != nil {
			return 0, "", err
		}
	}
	cfg, err := e.Settings.Get(ctx)
	if err != nil {
		return 0, "", err
	}
	ttl = time.Duration(in.TTL) * time.Second
	if in.TTL == 0 {
		ttl = time.Duration(cfg.HandoverTTL) * time.Second
	}
	if most := time.Duration(cfg.HandoverMaxTTL) * time.Second; ttl < minHandoverTTL || ttl > most {
		return 0, "", apitype.Errorf(apitype.TTLOutOfRange, "a handover token lives between %s and %s", minHandoverTTL, most)
	}
	self, err = e.Peers.Self(ctx)
	return ttl, self, err
}

// endpoint is where agents reach this installation, "" while that is not known.
func (e *Enroller) endpoint(ctx context.Context) string {
	cfg, err := e.Settings.Get(ctx)
	if err != nil {
		return ""
	}
	return cfg.Endpoint
}

// mayLeave refuses an agent that cannot be moved, or not now.
func (e *Enroller) mayLeave(m met, expires time.Time) error {
	a := m.agent
	state, peer := a.handoverState()
	switch {
	case m.ended():
		return apitype.Errorf(apitype.AgentRevoked, "the agent was revoked")
	case a.away() && !a.Out.State.Open():
		return apitype.Errorf(apitype.AgentMoved, "peer %s has the agent", peer)
	case state != "":
		return apitype.Errorf(apitype.HandoverPending, "the agent is in state %s with peer %s", state, peer)
	case a.KeyOrigin == settings.KeyOriginServer:
		return apitype.Errorf(apitype.HandoverUnsupported, "the agent's key was made here and is not kept, and the offer of its new home would need it")
	case a.Capabilities&apitype.CapabilityAcceptsOpAMP == 0:
		return apitype.Errorf(apitype.CapabilityMissing, "the agent does not accept connection settings")
	case a.Leaf.Peer != "":
		return apitype.Errorf(apitype.RenewalPending, "the agent still has the certificate that it came with")
	case a.Next != nil:
		return apitype.Errorf(apitype.RenewalPending, "a next certificate is out that the agent has not confirmed")
	case a.Leaf.NotAfter.Before(expires.Add(handover.LapseAfter)):
		return apitype.Errorf(apitype.RenewalPending, "the agent's certificate ends at %s, before the move is sure to be over", formatTime(a.Leaf.NotAfter))
	}
	return nil
}

func (e *Enroller) newOutgoing(ctx context.Context, row *agentRow, peer *federation.Peer, in apitype.HandoverRequest, expires time.Time) (*outgoing, error) {
	configuration, err := e.effectiveConfiguration(ctx, row)
	if err != nil {
		return nil, err
	}
	if in.Configuration != "" {
		configuration = in.Configuration
	}
	restores, err := e.restores(ctx)
	if err != nil {
		return nil, err
	}
	now, after := e.Now().UTC(), ""
	if row.In != nil {
		after = row.In.ID
	}
	return &outgoing{State: handover.Pending, After: after, move: move{
		ID: uuid.NewString(), Peer: peer.Name, PeerID: peer.PeerID, Since: now, CreatedAt: now, ExpiresAt: expires.UTC().Truncate(time.Second),
		Group: row.Group, Configuration: configuration, Fingerprint: row.Leaf.Fingerprint, Restores: restores,
	}}, nil
}

// effectiveConfiguration is the agent's own, or that of its group.
func (e *Enroller) effectiveConfiguration(ctx context.Context, row *agentRow) (string, error) {
	if row.Configuration != "" || row.Group == "" {
		return row.Configuration, nil
	}
	return e.ConfigurationOf(ctx, row.Tenant, row.Group)
}

// handoverClaims is what the token of the row's outgoing handover says, and the lineage behind it.
func (a *agentRow) handoverClaims(self string, peer *federation.Peer) (claims handover.Token, lineage []string, err error) {
	o := a.Out
	leaf, err := ca.ParseCertificate(a.Leaf.Certificate)
	if err != nil || len(leaf.URIs) != 1 {
		return claims, nil, fmt.Errorf("the certificate in an agent row is damaged: %w", err)
	}
	claims = handover.Token{
		Issuer: self, Audience: peer.PeerID, ID: o.ID, Audit: o.Event,
		IssuedAt: o.CreatedAt.Unix(), NotBefore: o.CreatedAt.Unix(), Expires: o.ExpiresAt.Unix(),
		Agent: handover.Agent{
			AgentID: a.AgentID, DisplayName: a.DisplayName, InstanceUID: a.InstanceUID, Description: a.Description, Capabilities: a.Capabilities,
			Tenant: a.Tenant, Group: a.Group, Configuration: o.Configuration, Certificate: a.Leaf.Certificate, EnrolledAt: a.EnrolledAt.Unix(),
		},
		Target:       handover.Target{Name: peer.Name, Endpoint: peer.Endpoint, CABundle: peer.CABundle},
		Subject:      leaf.URIs[0].String(),
		Confirmation: handover.Confirmation{X5TS256: handover.Thumbprint(leaf)},
	}
	if a.In == nil || a.In.State != handover.Active {
		return claims, nil, nil
	}
	token, earlier, err := handover.Split(a.In.Token)
	claims.Previous = a.In.TokenHash
	return claims, append([]string{token}, earlier...), err
}
