package enroll

import (
	"context"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/identity"
	"github.com/ampora/ampora/plugin/internal/audit"
	"github.com/ampora/ampora/plugin/internal/name"
	"github.com/ampora/ampora/plugin/internal/store"
	"github.com/google/uuid"
)

// Seen takes in that an edge saw an agent with a leaf, and answers what the row says of it.
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
	case m.agent == nil || !inTenant(tenant, m.agent.Tenant):
		return answer, nil
	}
	row := m.agent
	answer.Leaf = standing(m, serial)
	answer.Tenant, answer.Group, answer.Configuration = row.Tenant, row.Group, row.Configuration
	if row.Configuration == "" && row.Group != "" {
		if answer.Configuration, err = e.ConfigurationOf(ctx, row.Tenant, row.Group); err != nil {
			return answer, err
		}
	}
	if answer.Leaf == apitype.LeafSuperseded {
		return answer, e.suspectClone(ctx, origin, row, in)
	}
	if answer.Leaf != apitype.LeafCurrent {
		return answer, nil
	}
	next := *row
	dirty := e.Now().Sub(row.LastSeen) >= lastSeenStep
	if next.InstanceUID == "" {
		if u, err := uuid.Parse(in.InstanceUID); err == nil {
			next.InstanceUID, dirty = u.String(), true
		}
	}
	if in.HasState && stateFits(in) {
		next.Description, next.DisplayName, next.Capabilities = in.Description, in.DisplayName, in.Capabilities
		if next.DisplayName == "" {
			next.DisplayName = row.DisplayName
		}
		next.StateHash = in.StateHash
		dirty = dirty || next.StateHash != row.StateHash
	}
	answer.InstanceUID = next.InstanceUID
	answer.StateWanted = in.StateHash != "" && next.StateHash != in.StateHash
	if !dirty {
		return answer, nil
	}
	next.LastSeen, next.Edge = e.Now().UTC().Truncate(time.Second), edge
	return answer, e.Store.Put(ctx, store.Sharded(store.AgentPrefix, row.AgentID), &next)
}

// stateFits bounds what an agent may write into its row.
func stateFits(in apitype.SessionReport) bool {
	return len(in.Description) <= name.MaxDescription && name.Text("display_name", in.DisplayName, name.MaxLabel) == nil &&
		in.StateHash == apitype.StateHash(in.Description, in.DisplayName, in.Capabilities)
}

func standing(m met, serial identity.Serial) string {
	switch {
	case m.revoked != nil && serial.Generation() <= m.revoked.Generation:
		return apitype.LeafRevoked
	case serial.String() == m.agent.Leaf.Serial:
		return apitype.LeafCurrent
	case serial.Generation() < m.agent.Leaf.Generation:
		return apitype.LeafSuperseded
	}
	return apitype.LeafUnknown
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
