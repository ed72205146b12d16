package enroll

import (
	"context"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/store"
)

// Who refers to a group or a configuration, for those who would delete it (see named.Referrer). Rows are read without their
// locks: the caller makes sure that no reference is made meanwhile.

// TokensInGroup calls visit with every outstanding token whose agent will land in the tenant's group, until it answers false.
func (e *Enroller) TokensInGroup(ctx context.Context, tenant, group string, visit func(kind, id string) bool) error {
	return e.walkTokens(ctx, "", func(id string) (bool, error) {
		row, err := e.token(ctx, id)
		if err != nil || row == nil || row.Tenant != tenant || row.Group != group || row.state(e.Now()) != apitype.TokenStateIssued {
			return true, err
		}
		spent, err := e.spent(ctx, row)
		if err != nil || spent {
			return true, err
		}
		return visit("token", id), nil
	})
}

// AgentsInGroup calls visit with every agent in the tenant's group, until it answers false.
func (e *Enroller) AgentsInGroup(ctx context.Context, tenant, group string, visit func(kind, id string) bool) error {
	return e.agentsThat(ctx, visit, func(a *agentRow) bool {
		return a.Tenant == tenant && (a.Group == group || a.lands() && a.In.Group == group)
	})
}

// AgentsWithConfiguration calls visit with every agent that has the tenant's configuration of its own, until it answers
// false.
func (e *Enroller) AgentsWithConfiguration(ctx context.Context, tenant, configuration string, visit func(kind, id string) bool) error {
	return e.agentsThat(ctx, visit, func(a *agentRow) bool {
		return a.Tenant == tenant && (a.Configuration == configuration || a.lands() && a.In.Configuration == configuration)
	})
}

func (e *Enroller) agentsThat(ctx context.Context, visit func(kind, id string) bool, refer func(*agentRow) bool) error {
	return e.walkAgents(ctx, "", func(id string) (bool, error) {
		row, err := get[agentRow](ctx, e, store.AgentPrefix, id)
		if err != nil || row == nil || row.absent() || !refer(row) {
			return true, err
		}
		revoked, err := get[revokedRow](ctx, e, store.RevokedPrefix, id)
		if err != nil || revoked != nil && revoked.Deleted { // a row that is still to be removed
			return true, err
		}
		return visit("agent", id), nil
	})
}
