// Package pool keeps token pools: what the tokens of each look like, the hash of its admin secret, and the generation that
// ends all its tokens at once.
//
// A token names its pool's id and the pool's generation at the time. One Put of the pool's row with a higher generation
// ends every token before it. A pool that is made again under the same name has another id, and so another pool's tokens
// mean nothing to it.
package pool

import (
	"slices"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/audit"
	"github.com/ampora/ampora/plugin/internal/store"
)

// row is pool/<tenant, or "-">/<name>. A row is never changed: whoever changes a pool puts another in its place.
type row struct {
	PoolID         string   `json:"pool_id"`
	Name           string   `json:"name"`
	Tenant         string   `json:"tenant,omitempty"`
	Group          string   `json:"group,omitempty"`
	DefaultTTL     int64    `json:"default_ttl,omitempty"`
	MaxTTL         int64    `json:"max_ttl,omitempty"`
	LeafTTL        int64    `json:"leaf_ttl,omitempty"`
	BoundCIDRs     []string `json:"bound_cidrs,omitempty"`
	MaxOutstanding int64    `json:"max_outstanding,omitempty"`

	Generation uint64    `json:"generation"`
	SecretHash []byte    `json:"secret_hash,omitempty"` // SHA-256, see package token; absent: no secret is good
	Restores   int       `json:"restores,omitempty"`    // how often the mount had been restored when the secret was made
	CreatedAt  time.Time `json:"created_at"`
	CreatedBy  string    `json:"created_by"`
	EndedAt    time.Time `json:"ended_at,omitzero"` // of the last generation
	Reason     string    `json:"reason,omitempty"`  // of that

	Deleted bool          `json:"deleted,omitempty"` // a tombstone: only its record is still to be told
	Record  *audit.Record `json:"record"`
}

func (*row) SchemaName() string { return "pool" }
func (*row) SchemaVersion() int { return 1 }

func key(tenant, name string) string { return store.NamedKey(store.PoolPrefix, tenant, name) }

func (r *row) key() string { return key(r.Tenant, r.Name) }

// info is the row as people see it. restores is how often the mount has been restored by now.
func (r *row) info(restores int) apitype.Pool {
	info := apitype.Pool{
		PoolID: r.PoolID, Name: r.Name, Tenant: r.Tenant, Group: r.Group, DefaultTTL: r.DefaultTTL, MaxTTL: r.MaxTTL, LeafTTL: r.LeafTTL,
		BoundCIDRs: append([]string{}, r.BoundCIDRs...), MaxOutstanding: r.MaxOutstanding,
		AdminSecretEnabled: len(r.SecretHash) > 0 && r.Restores == restores,
		CreatedAt:          r.CreatedAt.UTC().Format(time.RFC3339), CreatedBy: r.CreatedBy, RevocationReason: r.Reason,
	}
	if !r.EndedAt.IsZero() {
		info.RevokedAt = r.EndedAt.UTC().Format(time.RFC3339)
	}
	return info
}

func (r *row) event(action string, details map[string]any) apitype.Event {
	if details == nil {
		details = map[string]any{}
	}
	details["pool"] = r.Name
	return apitype.Event{EntityType: "pool", EntityID: r.PoolID, Action: action, Tenant: r.Tenant, Details: details}
}

// View is what tokens need to know of their pool. Its lists are shared and not to be changed.
type View struct {
	PoolID         string
	Name           string
	Tenant         string
	Group          string
	DefaultTTL     int64 // seconds, 0: config.token_ttl
	MaxTTL         int64 // seconds, 0: config.token_max_ttl
	LeafTTL        int64 // seconds, 0: config.leaf_ttl
	BoundCIDRs     []string
	MaxOutstanding int64 // 0: no cap
	Generation     uint64
	Reason         string // for which the generations before were ended
}

func (r *row) view() View {
	return View{
		PoolID: r.PoolID, Name: r.Name, Tenant: r.Tenant, Group: r.Group, DefaultTTL: r.DefaultTTL, MaxTTL: r.MaxTTL, LeafTTL: r.LeafTTL,
		BoundCIDRs: slices.Clip(r.BoundCIDRs), MaxOutstanding: r.MaxOutstanding, Generation: r.Generation, Reason: r.Reason,
	}
}
