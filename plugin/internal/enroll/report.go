package enroll

import (
	"context"
	"slices"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/identity"
	"github.com/ampora/ampora/plugin/internal/audit"
	"github.com/ampora/ampora/plugin/internal/name"
	"github.com/ampora/ampora/plugin/internal/store"
	"github.com/google/uuid"
)

// confirmAfter is how long after it was first seen a next leaf counts as confirmed although the agent has not said so:
// agents connect first and keep what they were given afterwards.
const confirmAfter = 15 * time.Minute

// Seen takes in that an edge saw an agent with a leaf, and answers what the row says of it. A next leaf that the agent says
// it has applied, or that was first seen a while ago, takes the place of the current one.
//
// What the agent tells of itself goes into the row, at most once an hour when nothing but last_seen changed. It is no
// event: nobody acted. A leaf that is neither the row's nor revoked came back after it was replaced; that is told once.
func (e *Enroller) Seen(ctx context.Context, origin audit.Origin, tenant, edge string, in apitype.SessionReport) (apitype.SessionAnswer, error) {
	answer := apitype.SessionAnswer{AgentID: in.AgentID, SerialNumber: in.SerialNumber, Leaf: apitype.LeafUnknown}
	serial, ok := identity.ParseSerialText(in.SerialNumber)
	if !ok || serial.Kind() != identity.KindLeaf || serial.AgentID() != in.AgentID {
		return answer, apitype.Errorf(apitype.FieldInvalid, "serial_number is no serial of this agent's leaf")
	}
	source, err := parseSource(in.SourceIP)
	if err != nil {
		return answer, err
	}
	in.SourceIP = formatSource(source)
	defer e.Locks.Agent(in.AgentID, "")()
	m, err := e.meet(ctx, in.AgentID, "")
	switch {
	case err != nil:
		return answer, err
	case m.gone() && inTenant(tenant, m.revoked.Tenant):
		answer.Leaf = apitype.LeafRevoked
		return answer, nil
	case m.agent == nil || m.agent.absent() || !inTenant(tenant, m.agent.Tenant):
		return answer, nil
	}
	if m, err = e.came(ctx, origin, m, serial, in.SourceIP); err != nil {
		return answer, err
	}
	row := m.agent
	answer.Leaf = standing(m, serial)
	answer.Tenant, answer.Group, answer.Configuration, answer.KeyOrigin = row.Tenant, row.Group, row.Configuration, row.KeyOrigin
	answer.OwnConfiguration = row.Configuration
	if row.Configuration == "" && row.Group != "" {
		if answer.Configuration, err = e.ConfigurationOf(ctx, row.Tenant, row.Group); err != nil {
			return answer, err
		}
	}
	switch answer.Leaf {
	case apitype.LeafCurrent, apitype.LeafNext:
	case apitype.LeafSuperseded:
		if !row.leftBehind(serial, in.Since) {
			err = e.suspectClone(ctx, origin, row, in)
		}
		return answer, err
	default:
		return answer, nil
	}
	if row.confirmed(answer.Leaf, in.Applied, e.Now()) {
		if row, err = e.confirm(ctx, origin, row, in.SourceIP); err != nil {
			return answer, err
		}
		answer.Leaf = apitype.LeafCurrent // the one that it replaces as well, for this once: nobody has copied it
	}
	if row, err = e.seenTwice(ctx, origin, row, edge, serial, in); err != nil {
		return answer, err
	}
	next, dirty := row.told(in)
	dirty = next.configured(in.Configuration, e.Now()) || dirty
	if answer.Leaf == apitype.LeafNext && row.NextSeen.IsZero() {
		next.NextSeen, dirty = e.Now().UTC(), true
	}
	dirty = dirty || e.Now().Sub(row.LastSeen) >= lastSeenStep
	answer.InstanceUID = next.InstanceUID
	answer.StateWanted = in.StateHash != "" && next.StateHash != in.StateHash
	if !dirty {
		return answer, nil
	}
	next.LastSeen, next.Edge = e.Now().UTC().Truncate(time.Second), edge
	return answer, e.Store.Put(ctx, store.Sharded(store.AgentPrefix, row.AgentID), &next)
}

// told is the row with what the agent says of itself, and whether that is news.
func (a *agentRow) told(in apitype.SessionReport) (next agentRow, news bool) {
	next = *a
	if u, err := uuid.Parse(in.InstanceUID); err == nil && next.InstanceUID == "" {
		next.InstanceUID, news = u.String(), true
	}
	if in.HasState && stateFits(in) {
		next.Description, next.DisplayName, next.Capabilities = in.Description, in.DisplayName, in.Capabilities
		if next.DisplayName == "" {
			next.DisplayName = a.DisplayName
		}
		next.StateHash = in.StateHash
		news = news || next.StateHash != a.StateHash
	}
	return next, news
}

// stateFits bounds what an agent may write into its row.
func stateFits(in apitype.SessionReport) bool {
	return len(in.Description) <= name.MaxDescription && name.Text("display_name", in.DisplayName, name.MaxLabel) == nil &&
		in.StateHash == apitype.StateHash(in.Description, in.DisplayName, in.Capabilities)
}

// confirmed reports whether the agent's next leaf has proved itself: the agent says so, or it has been in use for a while.
func (a *agentRow) confirmed(standing, applied string, now time.Time) bool {
	switch {
	case a.Next == nil:
		return false
	case applied == a.Next.Fingerprint:
		return true
	}
	return standing == apitype.LeafNext && a.used(now)
}

// used reports whether the next leaf was first seen so long ago that it counts as confirmed.
func (a *agentRow) used(now time.Time) bool {
	return a.Next != nil && !a.NextSeen.IsZero() && now.Sub(a.NextSeen) >= confirmAfter
}

// confirm commits that the next leaf has taken the place of the current one.
func (e *Enroller) confirm(ctx context.Context, origin audit.Origin, row *agentRow, sourceIP string) (*agentRow, error) {
	next := *row
	now := e.Now()
	ended := next.confirm(now)
	next.Record = audit.NewRecord(origin.ForAgent(row.AgentID, sourceIP), now, ended)
	if err := e.putMoved(ctx, &next, nil); err != nil {
		return nil, err
	}
	e.finish(ctx, row.AgentID, &met{agent: &next})
	return &next, nil
}

// leftBehind reports whether a session of a replaced leaf began, by its edge's clock, while the leaf was good: it is told late by an
// edge that has not heard of the new one, and nobody has come back. Should that be a thief, he is told when he does.
func (a *agentRow) leftBehind(serial identity.Serial, since int64) bool {
	i := slices.IndexFunc(a.Past, func(l leafRef) bool { return l.Generation == serial.Generation() })
	return i >= 0 && since != 0 && since < a.Past[i].Time.Unix()
}

// suspectClone tells, once for each leaf of the agent, that a replaced one came back.
func (e *Enroller) suspectClone(ctx context.Context, origin audit.Origin, row *agentRow, in apitype.SessionReport) error {
	if row.SuspectedAt == row.Leaf.Generation {
		return nil
	}
	next := *row
	next.SuspectedAt = row.Leaf.Generation
	next.Record = audit.NewRecord(origin.ForAgent(row.AgentID, in.SourceIP), e.Now(), apitype.Event{
		EntityType: "certificate", EntityID: in.SerialNumber, Action: apitype.ActionCertificateSuspected, Tenant: row.Tenant, AgentID: row.AgentID,
		Details: map[string]any{"current_serial_number": row.Leaf.Serial},
	})
	if err := e.Store.Put(ctx, store.Sharded(store.AgentPrefix, row.AgentID), &next); err != nil {
		return err
	}
	e.finish(ctx, row.AgentID, &met{agent: &next})
	return nil
}
