package enroll

import (
	"context"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/handover"
	"github.com/ampora/ampora/plugin/internal/audit"
	"github.com/ampora/ampora/plugin/internal/ca"
	"github.com/ampora/ampora/plugin/internal/name"
	"github.com/ampora/ampora/plugin/internal/store"
)

// reasonUnspecified stands where an operator gives none, reasonDeleted for an agent that was deleted; see ca.Reasons.
const (
	reasonUnspecified = "unspecified"
	reasonDeleted     = "cessationOfOperation"
)

// metAgent takes the agent's lock and settles its rows. Another tenant's agent is agent_unknown. The caller releases the
// lock when there is no error.
func (e *Enroller) metAgent(ctx context.Context, tenant, agentID string) (m met, release func(), err error) {
	if err := name.CheckID(agentID, apitype.AgentUnknown); err != nil {
		return met{}, nil, err
	}
	unlock := e.Locks.Agent(agentID, "")
	defer func() {
		if release == nil { // an error, or a panic underneath
			unlock()
		}
	}()
	if m, err = e.meet(ctx, agentID, ""); err != nil {
		return met{}, nil, err
	}
	if m.agent == nil || m.agent.absent() || !inTenant(tenant, m.agent.Tenant) {
		return met{}, nil, unknownAgent()
	}
	return m, unlock, nil
}

// Agent reads one agent's row.
func (e *Enroller) Agent(ctx context.Context, tenant, agentID string) (apitype.Agent, error) {
	m, release, err := e.metAgent(ctx, tenant, agentID)
	if err != nil {
		return apitype.Agent{}, err
	}
	defer release()
	return m.agent.info(m.revoked), nil
}

// Agents lists agent rows in the order of their ids, without their certificates.
func (e *Enroller) Agents(ctx context.Context, tenant string, page apitype.Page) (apitype.ListResponse[apitype.Agent], error) {
	return list(ctx, page, e.walkAgents, func(id string) (*apitype.Agent, error) {
		agent, err := e.Agent(ctx, tenant, id)
		if apitype.CodeOf(err) == apitype.AgentUnknown {
			return nil, nil
		}
		if err == nil && (!wanted(page.Pool, agent.Pool) || !wanted(page.Group, agent.Group) || !wanted(page.State, agent.State)) {
			return nil, nil
		}
		agent.Certificate = ""
		return &agent, err
	})
}

func (e *Enroller) walkAgents(ctx context.Context, after string, visit func(id string) (bool, error)) error {
	return e.Store.Walk(ctx, store.AgentPrefix, after, visit)
}

// RevokeAgent ends every leaf of the agent, and with it its live sessions. Revoking again changes nothing and keeps the
// first reason.
func (e *Enroller) RevokeAgent(ctx context.Context, origin audit.Origin, tenant, agentID, reason string) (apitype.AgentRevocation, error) {
	var none apitype.AgentRevocation
	if reason == "" {
		reason = reasonUnspecified
	}
	if !ca.KnownReason(reason) {
		return none, apitype.Errorf(apitype.FieldInvalid, "reason must be one of %v", ca.Reasons())
	}
	m, release, err := e.metAgent(ctx, tenant, agentID)
	if err != nil {
		return none, err
	}
	defer release()
	row := m.revoked
	if !m.ended() {
		if row, err = e.revocation(ctx, m, reason, e.Now()); err != nil {
			return none, err
		}
		row.Record = audit.NewRecord(origin, e.Now(), revokedEvent(m.agent, reason))
		if err := e.putRevoked(ctx, row); err != nil {
			return none, err
		}
		e.finish(ctx, agentID, &met{agent: m.agent, revoked: row})
		e.endPending(ctx, met{agent: m.agent, revoked: row})
	}
	return apitype.AgentRevocation{AgentID: agentID, Reason: row.Reason, RevocationTime: row.Time.Unix()}, nil
}

// DeleteAgent revokes the agent and leaves a tombstone. Deleting what is gone, or never was, changes nothing.
func (e *Enroller) DeleteAgent(ctx context.Context, origin audit.Origin, tenant, agentID string) error {
	m, release, err := e.metAgent(ctx, tenant, agentID)
	if apitype.CodeOf(err) == apitype.AgentUnknown {
		return nil
	}
	if err != nil {
		return err
	}
	defer release()
	if m.agent.lands() { // its source must hear how that ends
		return apitype.Errorf(apitype.HandoverPending, "the agent is in state %s with peer %s", m.agent.In.State, m.agent.In.Peer)
	}
	events := []apitype.Event{agentEvent(m.agent, apitype.ActionAgentDeleted)}
	if !m.ended() {
		events = append(events, revokedEvent(m.agent, reasonDeleted))
	}
	last := *m.agent
	events = append(events, last.stepOut(handover.AgentRevoked, e.Now())...) // see removeAgent
	return e.bury(ctx, m, audit.NewRecord(origin, e.Now(), events...))
}

// bury Puts the agent's tombstone, which is the commit, and then removes its row.
func (e *Enroller) bury(ctx context.Context, m met, record *audit.Record) error {
	row, err := e.grave(ctx, m, record)
	if err != nil {
		return err
	}
	if err := e.putRevoked(ctx, row); err != nil {
		return err
	}
	e.finish(ctx, row.AgentID, &met{agent: m.agent, revoked: row})
	return nil
}

// tombstone buries an agent that a peer has taken back by force, and that has leaves of ours. The step in its row was the commit.
func (e *Enroller) tombstone(ctx context.Context, m *met) error {
	row, err := e.grave(ctx, *m, nil)
	if err != nil {
		return err
	}
	if err := e.putRevoked(ctx, row); err != nil {
		return err
	}
	m.revoked = row
	return nil
}

// grave is the agent's tombstone. It stays until neither a leaf nor the token could be valid any more.
func (e *Enroller) grave(ctx context.Context, m met, record *audit.Record) (*revokedRow, error) {
	row, err := e.revocation(ctx, m, reasonDeleted, e.Now())
	if err != nil {
		return nil, err
	}
	row.Deleted, row.KeepUntil, row.Record = true, row.NotAfter, record
	if m.agent.TokenExpiresAt.After(row.KeepUntil) {
		row.KeepUntil = m.agent.TokenExpiresAt
	}
	return row, nil
}

// revocation is the record that covers every leaf the agent has. Where that was so before, the first reason and time stand.
//
// After a restore it also covers those that were given since the backup, which nobody remembers: all generations that the
// restored mount does not give any more.
func (e *Enroller) revocation(ctx context.Context, m met, reason string, at time.Time) (*revokedRow, error) {
	cfg, err := e.Settings.Get(ctx)
	if err != nil {
		return nil, err
	}
	state, err := e.Epoch.Now(ctx)
	if err != nil {
		return nil, err
	}
	a, now := m.agent, e.Now()
	row := &revokedRow{AgentID: a.AgentID, Tenant: a.Tenant, Generation: a.newest(), Reason: reason, Time: at.UTC(), NotAfter: a.lastNotAfter()}
	if forgotten := state.Forgotten(); forgotten > row.Generation {
		row.Generation = forgotten
		if last := now.Add(time.Duration(cfg.LeafMaxTTL) * time.Second); last.After(row.NotAfter) {
			row.NotAfter = last
		}
	}
	if m.ended() {
		row.Reason, row.Time, row.Leaves = m.revoked.Reason, m.revoked.Time, unexpired(m.revoked.Leaves, now)
	} else {
		row.Leaves = unexpired(a.Past, now)
		for _, l := range a.good() {
			if l.Peer == "" {
				row.Leaves = append(row.Leaves, l.dead(at, reason))
			}
		}
	}
	for _, l := range row.Leaves {
		if l.NotAfter.After(row.NotAfter) {
			row.NotAfter = l.NotAfter
		}
	}
	return row, nil
}

// putRevoked commits a revocation and tells the edges. A Put of unknown outcome, or one that panics, makes what memory
// knows worthless.
func (e *Enroller) putRevoked(ctx context.Context, row *revokedRow) error {
	known := false
	defer func() {
		if !known {
			e.Feed.Discard()
		}
	}()
	err := e.putDead(ctx, store.RevokedPrefix, row, row.AgentID, row.Leaves)
	known = !store.UnknownOutcome(err)
	if err == nil {
		e.Feed.Revoked(row.sync())
	}
	return err
}

// Revoked answers all revocations whose leaves may still be valid, for the change feed.
func (e *Enroller) Revoked(ctx context.Context) ([]apitype.SyncRevoked, error) {
	var all []apitype.SyncRevoked
	now := e.Now()
	err := e.Store.Walk(ctx, store.RevokedPrefix, "", func(id string) (bool, error) {
		row, err := get[revokedRow](ctx, e, store.RevokedPrefix, id)
		if err == nil && row != nil && row.NotAfter.After(now) {
			all = append(all, row.sync())
		}
		return true, err
	})
	return all, err
}

func agentEvent(a *agentRow, action string) apitype.Event {
	return apitype.Event{EntityType: "agent", EntityID: a.AgentID, Action: action, Tenant: a.Tenant, AgentID: a.AgentID}
}

func revokedEvent(a *agentRow, reason string) apitype.Event {
	return apitype.Event{
		EntityType: "certificate", EntityID: a.Leaf.Serial, Action: apitype.ActionCertificateRevoked, Tenant: a.Tenant, AgentID: a.AgentID,
		Details: map[string]any{"reason": reason, "fingerprint": a.Leaf.Fingerprint},
	}
}
