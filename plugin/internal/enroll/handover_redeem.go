package enroll

import (
	"context"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/handover"
	"github.com/ampora/ampora/plugin/internal/audit"
	"github.com/ampora/ampora/plugin/internal/ca"
	"github.com/ampora/ampora/plugin/internal/federation"
	"github.com/ampora/ampora/plugin/internal/name"
	"github.com/ampora/ampora/plugin/internal/settings"
	"github.com/ampora/ampora/plugin/internal/store"
)

// keyOfItsOwn is what made the key of every agent that moves: see mayLeave.
const keyOfItsOwn = settings.KeyOriginCSR

// keys finds the pinned keys of peers for package handover. One that is suspended does not count.
type keys struct {
	ctx   context.Context
	peers Peers
}

func (k keys) ByID(peerID string) (handover.PeerKeys, error) {
	peer, err := k.peers.ByID(k.ctx, peerID)
	if err != nil {
		return handover.PeerKeys{}, err
	}
	if peer.Suspended {
		return handover.PeerKeys{}, apitype.Errorf(apitype.PeerSuspended, "peer %s is suspended", peer.Name)
	}
	return handover.PeerKeys{PeerID: peer.PeerID, TrustDomain: peer.TrustDomain, Pinned: peer.Pinned}, nil
}

// arrival is a handover token after every check that needs no agent's row.
type arrival struct {
	*handover.Opened
	home  *handover.Ancestor // our own last token in its lineage, if that leads to it
	rowID string             // of the row that it makes, or of ours that it leads back to
	in    apitype.HandoverRedeemRequest
}

// open reads a handover token. The row is ours when the token's lineage leads back to the last handover of it.
func (e *Enroller) open(ctx context.Context, in apitype.HandoverRedeemRequest) (*arrival, error) {
	for field, value := range map[string]*string{"group": in.Group, "configuration": in.Configuration} {
		if value != nil && *value != "" {
			if err := name.Check(field, *value); err != nil {
				return nil, err
			}
		}
	}
	self, err := e.Peers.Self(ctx)
	if err != nil {
		return nil, err
	}
	opened, err := handover.Open(in.Token, self, keys{ctx, e.Peers}, e.Now())
	if err != nil {
		return nil, err
	}
	if err := fits(opened.Token); err != nil {
		return nil, err
	}
	a := &arrival{Opened: opened, in: in, rowID: handover.RowID(opened.Token.Issuer, opened.Token.ID)}
	if a.home, err = opened.Home(self, keys{ctx, e.Peers}); err != nil || a.home == nil {
		return a, err
	}
	if own, err := get[agentRow](ctx, e, store.AgentPrefix, a.home.Token.Agent.AgentID); err != nil {
		return nil, err
	} else if own.sentWith(a.home) {
		a.rowID = own.AgentID
	} else {
		a.home = nil
	}
	return a, nil
}

// fits refuses what the agent's row does not take, with the row's own bounds.
func fits(t handover.Token) error {
	err := name.Text("display_name", t.Agent.DisplayName, name.MaxLabel)
	switch {
	case err != nil:
		return apitype.Errorf(apitype.HandoverMalformed, "the claim agent.display_name is no name of an agent")
	case t.Agent.InstanceUID != "" && name.CheckID(t.Agent.InstanceUID, apitype.HandoverMalformed) != nil:
		return apitype.Errorf(apitype.HandoverMalformed, "the claim agent.instance_uid is no UUID")
	case len(t.Agent.Description) > name.MaxDescription:
		return apitype.Errorf(apitype.HandoverMalformed, "the claim agent.description has more than %d bytes", name.MaxDescription)
	case t.Audit != "" && name.CheckID(t.Audit, apitype.HandoverMalformed) != nil:
		return apitype.Errorf(apitype.HandoverMalformed, "the claim audit is no UUID")
	}
	return nil
}

// sentWith reports whether the token is the one by which the agent last left. It is looked at again under the agent's lock.
func (a *agentRow) sentWith(token *handover.Ancestor) bool {
	return a != nil && a.Out != nil && a.Out.ID == token.Token.ID && a.Out.TokenHash == token.Hash
}

// redeemed reports whether the row is there, or waits, because of this very token.
func (a *arrival) redeemed(row *agentRow) bool {
	return row.lastHandover(a.Token.ID) == apitype.HandoverTarget && row.In.PeerID == a.Token.Issuer && row.In.TokenHash == a.Hash
}

// RedeemHandover takes an agent over from a peer, as far as this side can: its row is made, or found again, and waits for the
// source to let go. Nobody is admitted before. Redeeming the same token again answers the same until the agent has come.
// Errors: those of handover.Open; handover_replayed, agent_revoked, tenant_mismatch, group_missing, configuration_missing.
func (e *Enroller) RedeemHandover(ctx context.Context, origin audit.Origin, tenant string, in apitype.HandoverRedeemRequest) (apitype.HandoverRedemption, error) {
	var none apitype.HandoverRedemption
	a, err := e.open(ctx, in)
	if err != nil {
		return none, err
	}
	peer, err := e.Peers.ByID(ctx, a.Token.Issuer)
	if err != nil {
		return none, err
	}
	defer e.Locks.Agent(a.rowID, "")()
	m, err := e.meet(ctx, a.rowID, "")
	if err != nil {
		return none, err
	}
	if m, err = e.bringUpToDate(ctx, m); err != nil {
		return none, err
	}
	peer, unhold, err := e.Peers.Hold(ctx, peer.Name)
	if err != nil {
		return none, err
	}
	defer unhold()
	if err := e.mayArrive(ctx, tenant, peer, m, a); err != nil {
		return none, err
	}
	if a.redeemed(m.agent) {
		return e.redemption(ctx, peer, m.agent)
	}
	next, release, err := e.arrivingIn(ctx, tenant, peer, m.agent, a)
	if err != nil {
		return none, err
	}
	defer release()
	next.Record = audit.NewRecord(origin, e.Now(), next.handoverEvent(apitype.HandoverTarget, apitype.ActionHandoverRedeemed, nil))
	if err := e.claim(ctx, next.In.ID, next.AgentID); err != nil {
		return none, err
	}
	if err := e.letGo(ctx, next.AgentID, m.agent.inInfo()); err != nil {
		return none, err
	}
	if _, err := e.took(ctx, m, next); err != nil { // the commit
		return none, err
	}
	return e.redemption(ctx, peer, next)
}

// arrivingIn is the row of an agent that is to come, to where it lands; both are kept from being deleted until release is called.
func (e *Enroller) arrivingIn(ctx context.Context, tenant string, peer *federation.Peer, own *agentRow, a *arrival) (next *agentRow, release func(), err error) {
	to, release, err := e.holdLanding(ctx, tenant, peer, own, a)
	if err != nil {
		return nil, nil, err
	}
	if next, err = e.arriving(ctx, tenant, peer, own, a, to); err != nil {
		release()
		return nil, nil, err
	}
	return next, release, nil
}

// claim stores what leads from the handover to its agent. Its id is of the peer's choosing, and must not be one that leads to
// another agent, or that is over.
func (e *Enroller) claim(ctx context.Context, id, agentID string) error {
	lock := &e.claiming[int(id[0])%len(e.claiming)]
	lock.Lock()
	defer lock.Unlock()
	pointer, err := get[handoverRow](ctx, e, store.HandoverPrefix, id)
	if err != nil {
		return err
	}
	if pointer.isOther(agentID) {
		return replayed()
	}
	return e.point(ctx, id, apitype.HandoverTarget, agentID)
}

// isOther reports whether it cannot be that of a handover that is to bring this agent. A nil one is nobody's.
func (h *handoverRow) isOther(agentID string) bool {
	return h != nil && (h.Final != nil || h.Side != apitype.HandoverTarget || h.AgentID != agentID)
}

func (e *Enroller) redemption(ctx context.Context, peer *federation.Peer, row *agentRow) (apitype.HandoverRedemption, error) {
	i := row.In
	out := apitype.HandoverRedemption{
		HandoverID: i.ID, AgentID: row.AgentID, Peer: i.Peer, State: string(i.State), Tenant: row.Tenant, Group: i.Group, Configuration: i.Configuration,
	}
	if step := i.State.Sends(i.Acked); step != "" {
		var err error
		if out.Receipt, err = e.signReceipt(ctx, peer, row.targetReceipt(step)); err != nil {
			return apitype.HandoverRedemption{}, err
		}
	}
	return out, nil
}

// mayArrive refuses what the rows do not allow. What has redeemed this very token may go on while the agent is still to come.
func (e *Enroller) mayArrive(ctx context.Context, tenant string, peer *federation.Peer, m met, a *arrival) error {
	cfg, err := e.Settings.Get(ctx)
	if err != nil {
		return err
	}
	if err := settings.NeedTenant(cfg, tenant); err != nil {
		return err
	}
	if !peer.AllowsTenant(tenant) {
		return apitype.Errorf(apitype.TenantMismatch, "peer %s may not bring agents into this tenant (allowed_tenants)", peer.Name)
	}
	pointer, err := get[handoverRow](ctx, e, store.HandoverPrefix, a.Token.ID)
	if err != nil {
		return err
	}
	elsewhere := m.agent != nil && m.agent.Tenant != tenant
	switch {
	// What became of the agent there is not for this tenant: it is told the same whether or not the agent is still there.
	case elsewhere && !inTenant(tenant, m.agent.Tenant) && (a.home == nil || pointer != nil):
		return replayed()
	case elsewhere: // its own tenant can have it
		return apitype.Errorf(apitype.TenantMismatch, "the agent is one of another tenant here, or of none")
	case a.redeemed(m.agent):
		step := m.agent.In.State.On(handover.RedeemedAgain, m.agent.In.Acked, false)
		return refusedStep(nil, step.Code, string(m.agent.In.State))
	case pointer.isOther(a.rowID), m.gone(), a.home == nil && m.agent != nil:
		return replayed()
	case a.home == nil:
		return nil
	}
	return e.mayComeHome(ctx, m, a)
}

func replayed() error {
	return apitype.Errorf(apitype.HandoverReplayed, "the token was redeemed here before, or has the id of another handover")
}

// mayComeHome refuses, under the agent's lock, an agent to whose row the token's lineage led before it was taken.
func (e *Enroller) mayComeHome(ctx context.Context, m met, a *arrival) error {
	switch {
	case m.agent == nil || !m.agent.sentWith(a.home): // meanwhile
		return apitype.Errorf(apitype.HandoverReplayed, "the agent has moved on since")
	case m.ended():
		return apitype.Errorf(apitype.AgentRevoked, "the agent was revoked here")
	case m.agent.lands():
		return apitype.Errorf(apitype.HandoverPending, "an earlier handover of the agent to here is in state %s", m.agent.In.State)
	}
	if i := m.agent.In; i != nil {
		if step := i.State.Sends(i.Acked); step != "" && e.hears(ctx, i.Peer, step) {
			return apitype.Errorf(apitype.HandoverPending, "peer %s has not yet answered the receipt '%s' of the handover before (handovers/%s)", i.Peer, step, i.ID)
		}
	}
	switch {
	case m.agent.back():
		return apitype.Errorf(apitype.HandoverReplayed, "the agent has come home since")
	case !m.agent.away():
		return apitype.Errorf(apitype.HandoverForced, "the agent is active here (%s)", m.agent.Out.State)
	}
	return nil
}

// arriving is the row of an agent that is to come.
func (e *Enroller) arriving(ctx context.Context, tenant string, peer *federation.Peer, own *agentRow, a *arrival, to landing) (*agentRow, error) {
	leaf, err := publicKey(a.Leaf.PublicKey)
	if err != nil {
		return nil, err
	}
	state, err := e.Epoch.Now(ctx)
	if err != nil {
		return nil, err
	}
	now, agent := e.Now().UTC(), a.Token.Agent
	next := &agentRow{AgentID: a.rowID, Tenant: tenant, Group: to.group, Configuration: to.configuration, EnrolledAt: now}
	if own != nil {
		*next = *own
	}
	next.In = &incoming{
		State: handover.AwaitingRelease, Made: own == nil, Token: a.Text(),
		move: move{
			ID: a.Token.ID, Peer: peer.Name, PeerID: peer.PeerID, PeerAgentID: agent.AgentID, TokenHash: a.Hash, Since: now, CreatedAt: now,
			ExpiresAt: time.Unix(a.Token.Expires, 0).UTC(), Group: to.group, Configuration: to.configuration, Fingerprint: a.Identity.Fingerprint,
			Event: a.Token.Audit, Restores: state.Restores(),
		},
		Leaf: leafRow{
			Certificate: ca.EncodeCertificate(a.Leaf.Raw), Peer: peer.Name, Serial: a.Identity.Serial.String(), Generation: state.Generation(next.newest()),
			Fingerprint: a.Identity.Fingerprint, KeyHash: leaf.hash[:], NotAfter: a.Leaf.NotAfter,
		},
	}
	if own == nil {
		next.Leaf = next.In.Leaf
		next.takeOver(a.Token)
	}
	return next, nil
}
