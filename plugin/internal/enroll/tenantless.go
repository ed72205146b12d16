package enroll

import (
	"context"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/store"
)

// MaxTenantless is how far those that belong to no tenant are counted: one more means that there are more.
const MaxTenantless = 1000

// TenantlessTokens is how many outstanding tokens belong to no tenant. Those that have been redeemed, have expired or were
// revoked do not count: nothing will come of them.
func (e *Enroller) TenantlessTokens(ctx context.Context) (n int, err error) {
	err = e.walkTokens(ctx, "", func(id string) (bool, error) {
		row, err := e.token(ctx, id)
		if err != nil || row == nil || row.Tenant != "" || row.state(e.Now()) != apitype.TokenStateIssued {
			return true, err
		}
		spent, err := e.spent(ctx, row)
		if err == nil && !spent {
			n++
		}
		return n <= MaxTenantless, err
	})
	return n, err
}

// TenantlessAgents is how many agents belong to no tenant. A tombstone does not count. A token becomes an agent before it
// goes, so whoever counts tokens first misses neither.
func (e *Enroller) TenantlessAgents(ctx context.Context) (n int, err error) {
	err = e.Store.Walk(ctx, store.AgentPrefix, "", func(id string) (bool, error) {
		row, err := get[agentRow](ctx, e, store.AgentPrefix, id)
		if err != nil || row == nil || row.Tenant != "" {
			return true, err
		}
		revoked, err := get[revokedRow](ctx, e, store.RevokedPrefix, id)
		if err == nil && !(met{agent: row, revoked: revoked}).gone() {
			n++
		}
		return n <= MaxTenantless, err
	})
	return n, err
}
