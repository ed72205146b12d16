package enroll

import (
	"context"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/audit"
	"github.com/ampora/ampora/plugin/internal/name"
	"github.com/ampora/ampora/plugin/internal/store"
)

// UpdateAgent changes the fields that are set. A group and a configuration must be ones of the agent's tenant.
func (e *Enroller) UpdateAgent(ctx context.Context, origin audit.Origin, tenant, agentID string, in apitype.AgentUpdateRequest) (apitype.Agent, error) {
	agent, _, err := e.update(ctx, origin, tenant, agentID, in)
	return agent, err
}

// update reports whether there was something to change.
func (e *Enroller) update(ctx context.Context, origin audit.Origin, tenant, agentID string, in apitype.AgentUpdateRequest) (agent apitype.Agent, changed bool, err error) {
	if err := validUpdate(in); err != nil {
		return apitype.Agent{}, false, err
	}
	m, release, err := e.metAgent(ctx, tenant, agentID)
	if err != nil {
		return apitype.Agent{}, false, err
	}
	defer release()
	next, details := *m.agent, map[string]any{}
	if next.lands() { // what it is to have when it has come
		incoming := *next.In
		next.In = &incoming
	}
	if in.Configuration != nil && !next.hasConfiguration(*in.Configuration) {
		release, err := e.HoldConfiguration(ctx, next.Tenant, *in.Configuration)
		if err != nil {
			return apitype.Agent{}, false, err
		}
		defer release()
		details["configuration"], next.Configuration = *in.Configuration, *in.Configuration
		if next.lands() {
			next.In.Configuration = next.Configuration
		}
	}
	if in.Group != nil && !next.inGroup(*in.Group) {
		release, err := e.HoldGroup(ctx, next.Tenant, *in.Group)
		if err != nil {
			return apitype.Agent{}, false, err
		}
		defer release()
		details["group"], next.Group = *in.Group, *in.Group
		if next.lands() {
			next.In.Group = next.Group
		}
	}
	if in.DisplayName != nil && *in.DisplayName != next.DisplayName {
		// The new name may hold what an agent said, and so stays out of the event.
		details["display_name"], next.DisplayName = true, *in.DisplayName
	}
	if len(details) == 0 {
		return next.info(m.revoked), false, nil
	}
	next.Record = audit.NewRecord(origin, e.Now(), apitype.Event{
		EntityType: "agent", EntityID: agentID, Action: apitype.ActionAgentUpdated, Tenant: next.Tenant, AgentID: agentID, Details: details,
	})
	if next.Group != m.agent.Group || next.Configuration != m.agent.Configuration {
		defer e.Feed.Reassigned(agentID) // also after a Put of unknown outcome: it costs a report
	}
	if err := e.Store.Put(ctx, store.Sharded(store.AgentPrefix, agentID), &next); err != nil {
		return apitype.Agent{}, false, err
	}
	e.finish(ctx, agentID, &met{agent: &next})
	return next.info(m.revoked), true, nil
}

// inGroup and hasConfiguration speak of an agent that is to come home as well: of what it is to have here then.
func (a *agentRow) inGroup(group string) bool {
	return a.Group == group && (!a.lands() || a.In.Group == group)
}

func (a *agentRow) hasConfiguration(configuration string) bool {
	return a.Configuration == configuration && (!a.lands() || a.In.Configuration == configuration)
}

func validUpdate(in apitype.AgentUpdateRequest) error {
	for field, value := range map[string]*string{"group": in.Group, "configuration": in.Configuration} {
		if value != nil && *value != "" {
			if err := name.Check(field, *value); err != nil {
				return err
			}
		}
	}
	if in.DisplayName != nil {
		return name.Text("display_name", *in.DisplayName, name.MaxLabel)
	}
	return nil
}
