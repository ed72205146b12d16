package enroll

import (
	"context"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/handover"
	"github.com/ampora/ampora/plugin/internal/audit"
	"github.com/ampora/ampora/plugin/internal/federation"
	"github.com/ampora/ampora/plugin/internal/store"
)

// Peers are the installations that handovers go to and come from. It is safe for concurrent use.
type Peers interface {
	// Hold answers the peer, or peer_unknown or peer_suspended, and keeps it as it is until release is called. It is called
	// after what is needed of store.Locks was taken.
	Hold(ctx context.Context, name string) (peer *federation.Peer, release func(), err error)
	Get(ctx context.Context, name string) (*federation.Peer, error)
	ByID(ctx context.Context, peerID string) (*federation.Peer, error)
	// Self is our own peer_id, or not_configured.
	Self(ctx context.Context) (string, error)
	// Sign signs a document for the peer.
	Sign(ctx context.Context, peer *federation.Peer, typ string, claims any) (string, error)
	// Acknowledged notes how new a bundle of ours the peer has pinned.
	Acknowledged(ctx context.Context, peer string, sequence uint64) error
	// Told notes that the peer knows which bundle of its own is pinned here.
	Told(ctx context.Context, peer string, sequence uint64) error
	// Pending is what peers are still to be told of that.
	Pending(ctx context.Context) ([]apitype.OutboxMessage, error)
}

// putMoved commits a row whose handovers, or leaves, are not what they were, and tells the edges where the agent is. A Put of
// unknown outcome, or one that panics, makes what memory knows worthless. Of a revoked agent all leaves stay dead, which its
// revocation says: its peer may still tell what became of a handover.
func (e *Enroller) putMoved(ctx context.Context, row *agentRow, revoked *revokedRow) error {
	dead := row.Past
	if revoked != nil {
		dead = revoked.Leaves
	}
	if row.Out == nil && row.In == nil {
		return e.putDead(ctx, store.AgentPrefix, row, row.AgentID, dead)
	}
	known := false
	defer func() {
		if !known {
			e.Feed.Discard()
			e.underway.discard()
		}
	}()
	err := e.putDead(ctx, store.AgentPrefix, row, row.AgentID, dead)
	known = !store.UnknownOutcome(err)
	if err == nil {
		e.tellPlace(row)
		e.underway.track(row)
	}
	return err
}

// point stores what leads from a handover to its agent.
func (e *Enroller) point(ctx context.Context, id, side, agentID string) error {
	row := &handoverRow{ID: id, Side: side, AgentID: agentID, Made: e.Now().UTC()}
	return e.Store.Put(ctx, store.Sharded(store.HandoverPrefix, id), row)
}

// letGo writes down what became of a handover, before the agent's row forgets it. A nil one is no work.
func (e *Enroller) letGo(ctx context.Context, agentID string, last *finished) error {
	if last == nil {
		return nil
	}
	row := &handoverRow{
		ID: last.info.HandoverID, Side: last.info.Side, AgentID: agentID, Made: e.Now().UTC(),
		Final: &last.info, PeerID: last.peerID, TokenHash: last.tokenHash,
	}
	return e.Store.Put(ctx, store.Sharded(store.HandoverPrefix, row.ID), row)
}

// letGoAll does so with everything that the row has.
func (e *Enroller) letGoAll(ctx context.Context, row *agentRow) error {
	if err := e.letGo(ctx, row.AgentID, row.outInfo()); err != nil {
		return err
	}
	return e.letGo(ctx, row.AgentID, row.inInfo())
}

// bringUpToDate takes the steps that time, revocation, a restore or the end of a peer have made due, and answers the agent as
// it is then. The caller holds the agent's lock.
func (e *Enroller) bringUpToDate(ctx context.Context, m met) (met, error) {
	if m.agent == nil {
		return m, nil
	}
	restores, err := e.restores(ctx)
	if err != nil {
		return m, err
	}
	if in := e.dueAtSource(ctx, m, restores); in != "" {
		if m, _, err = e.sourceStep(ctx, audit.System(), m, in, nil); err != nil {
			return m, err
		}
	}
	if in := e.dueAtTarget(ctx, m, restores); in != "" {
		m, _, err = e.targetStep(ctx, audit.System(), m, in, nil)
	}
	return m, err
}

func (e *Enroller) dueAtSource(ctx context.Context, m met, restores int) handover.SourceInput {
	o := m.agent.Out
	switch {
	case o == nil || o.State != handover.Pending:
	case m.ended():
		return handover.AgentRevoked
	case o.Restores != restores, e.peerEnded(ctx, o.Peer):
		return handover.DoCancel
	case !e.Now().Before(o.ExpiresAt):
		return handover.TimeUp
	}
	return ""
}

func (e *Enroller) dueAtTarget(ctx context.Context, m met, restores int) handover.TargetInput {
	i := m.agent.In
	switch {
	case i == nil || !i.State.Open():
	case m.ended(), i.Restores != restores, i.State == handover.AwaitingRelease && e.peerEnded(ctx, i.Peer):
		return handover.DoGiveUp
	case e.Now().Sub(i.Since) >= handover.LapseAfter:
		return handover.TooLate
	}
	return ""
}

// peerEnded reports whether it is known that the peer is suspended, or gone.
func (e *Enroller) peerEnded(ctx context.Context, name string) bool {
	peer, err := e.Peers.Get(ctx, name)
	return apitype.CodeOf(err) == apitype.PeerUnknown || err == nil && peer.Suspended
}

func (e *Enroller) restores(ctx context.Context) (int, error) {
	now, err := e.Epoch.Now(ctx)
	if err != nil {
		return 0, err
	}
	return now.Restores(), nil
}

// sourceStep takes one step of the row's outgoing handover, as its table says. The receipt is the peer's, nil without one.
func (e *Enroller) sourceStep(ctx context.Context, origin audit.Origin, m met, in handover.SourceInput, receipt *handover.Receipt) (met, handover.SourceStep, error) {
	o := m.agent.Out
	step := o.State.On(in, !e.Now().Before(o.ExpiresAt))
	if step.Next == o.State && step.Event == "" {
		return m, step, nil
	}
	next := *m.agent
	out := *o
	out.State, out.Since = step.Next, e.Now().UTC()
	if receipt != nil && receipt.TargetAgentID != "" {
		out.PeerAgentID = receipt.TargetAgentID
	}
	next.Out = &out
	next.Record = audit.NewRecord(origin, e.Now(), next.handoverEvent(apitype.HandoverSource, step.Event, receipt))
	m, err := e.took(ctx, m, &next)
	return m, step, err
}

// targetStep takes one step of the row's incoming handover.
func (e *Enroller) targetStep(ctx context.Context, origin audit.Origin, m met, in handover.TargetInput, receipt *handover.Receipt) (met, handover.TargetStep, error) {
	i := m.agent.In
	step := i.State.On(in, i.Acked, receipt != nil && receipt.Code == apitype.HandoverForced)
	if step.Next == i.State && step.Event == "" && step.Acked == i.Acked {
		return m, step, nil
	}
	next := *m.agent
	incoming := *i
	incoming.Acked = step.Acked
	if step.Next != i.State {
		incoming.State, incoming.Since = step.Next, e.Now().UTC()
	}
	if receipt != nil && receipt.Step == handover.StepRefused {
		incoming.Code = receipt.Code
	}
	next.In = &incoming
	if step.Next == handover.Active && i.State != handover.Active {
		if err := next.arrive(e.Now()); err != nil {
			return m, step, err
		}
	}
	if step.Event != "" {
		events := []apitype.Event{next.handoverEvent(apitype.HandoverTarget, step.Event, receipt)}
		if next.absent() { // also for a peer that it was to go on to
			events = append(events, next.stepOut(handover.DoCancel, e.Now())...)
		}
		next.Record = audit.NewRecord(origin, e.Now(), events...)
	}
	m, err := e.took(ctx, m, &next)
	return m, step, err
}

// took commits a step and finishes what follows.
func (e *Enroller) took(ctx context.Context, m met, next *agentRow) (met, error) {
	if err := e.putMoved(ctx, next, m.revoked); err != nil {
		return m, err
	}
	m.agent = next
	e.finish(ctx, next.AgentID, &met{agent: next, revoked: m.revoked})
	return m, nil
}

// arrive makes the agent that has come the row's: its leaf is the current one.
func (a *agentRow) arrive(now time.Time) error {
	claims, err := a.In.claims()
	if err != nil {
		return err
	}
	if a.Leaf.Generation != a.In.Leaf.Generation {
		a.supersede(a.Leaf, now)
	}
	a.Leaf, a.Next, a.NextSeen = a.In.Leaf, nil, time.Time{}
	a.Group, a.Configuration = a.In.Group, a.In.Configuration
	a.takeOver(claims)
	return nil
}

// takeOver fills in what the token says of the agent.
func (a *agentRow) takeOver(claims handover.Token) {
	agent := claims.Agent
	a.DisplayName, a.InstanceUID, a.Description, a.Capabilities = agent.DisplayName, agent.InstanceUID, agent.Description, agent.Capabilities
	a.StateHash = apitype.StateHash(agent.Description, agent.DisplayName, agent.Capabilities)
	a.KeyOrigin, a.CSRKeyHash, a.IdempotencyHash = keyOfItsOwn, nil, nil
}

// claims is what the handover's token says. It was verified when it was redeemed.
func (i *incoming) claims() (claims handover.Token, err error) {
	token, _, err := handover.Split(i.Token)
	if err == nil {
		err = handover.Unverified(token, handover.TypeHandover, &claims)
	}
	return claims, err
}
