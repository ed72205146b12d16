// Package epoch ends tokens all at once: one row counts how often that has happened to the whole mount and to each tenant.
//
// A token carries the Mark of the moment it was issued in. One Put moves the row on, and every token with an older Mark is
// dead, however many there are. The same row counts how often the mount was restored from a backup.
//
// Issuing and redeeming hold the mount's lock shared from the moment they look at the row until they have committed, and
// whoever moves it on holds that lock exclusively (see store.Locks). So when a revocation answers, nothing older can still
// commit.
package epoch

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/audit"
	"github.com/ampora/ampora/plugin/internal/name"
	"github.com/ampora/ampora/plugin/internal/store"
)

// maxRestores is what fits into the top byte of a generation (see Now.Generation).
const maxRestores = 255

// Mark is the moment in which a token was issued.
type Mark struct {
	All    uint64 `json:"all,omitempty"`
	Tenant uint64 `json:"tenant,omitempty"`
}

// End is one revocation of everything.
type End struct {
	Count  uint64    `json:"count"`
	Time   time.Time `json:"time"`
	Reason string    `json:"reason,omitempty"`
}

// row is the stored state.
type row struct {
	All      End            `json:"all"`
	Tenants  map[string]End `json:"tenants,omitempty"`
	Restores int            `json:"restores,omitempty"`
	Record   *audit.Record  `json:"record,omitempty"`
}

func (*row) SchemaName() string { return "epoch" }
func (*row) SchemaVersion() int { return 1 }

// Now is the state at one moment. It never changes.
type Now struct{ row *row }

// Mark is what a token issued now carries.
func (n Now) Mark(tenant string) Mark {
	return Mark{All: n.row.All.Count, Tenant: n.row.Tenants[tenant].Count}
}

// Ended answers what has ended a token since its mark, or nil.
func (n Now) Ended(m Mark, tenant string) *End {
	if m.All != n.row.All.Count {
		return &n.row.All
	}
	if end := n.row.Tenants[tenant]; m.Tenant != end.Count {
		return &end
	}
	return nil
}

// Restores is how often the mount was restored from a backup.
func (n Now) Restores() int { return n.row.Restores }

// Generation is the generation of an agent's next leaf. Its top byte is the number of restores, so that a leaf issued
// between a backup and its restoration never shares its serial with one issued afterwards.
func (n Now) Generation(last uint32) uint32 {
	return max(last, n.Forgotten()) + 1
}

// Forgotten is the highest generation that may have been given and be forgotten by a restore: none up to it is given any more.
func (n Now) Forgotten() uint32 { return uint32(n.row.Restores) << 16 }

// Epoch is the mount's row. It is safe for concurrent use.
type Epoch struct {
	store *store.Store
	log   *audit.Log
	locks *store.Locks
	now   func() time.Time

	mu     sync.RWMutex
	cached *row
}

// New makes an Epoch that reads its row at first use.
func New(s *store.Store, log *audit.Log, locks *store.Locks, now func() time.Time) *Epoch {
	return &Epoch{store: s, log: log, locks: locks, now: now}
}

// Now reads the state. The caller holds the mount's lock for as long as the answer must stay true.
func (e *Epoch) Now(ctx context.Context) (Now, error) {
	e.mu.RLock()
	r := e.cached
	e.mu.RUnlock()
	if r != nil {
		return Now{r}, nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	r, err := e.read(ctx)
	return Now{r}, err
}

// read fills the cache. The caller holds mu.
func (e *Epoch) read(ctx context.Context) (*row, error) {
	if e.cached != nil {
		return e.cached, nil
	}
	r := &row{}
	if _, err := e.store.Get(ctx, store.EpochKey, r); err != nil {
		return nil, err
	}
	e.cached = r
	return r, nil
}

// RevokeAll ends every token that was issued so far, or every one of the tenant.
func (e *Epoch) RevokeAll(ctx context.Context, origin audit.Origin, tenant, reason string) (apitype.RevokeAllResponse, error) {
	if err := name.Text("reason", reason, name.MaxReason); err != nil {
		return apitype.RevokeAllResponse{}, err
	}
	defer e.locks.Mount()()
	end := End{Time: e.now().UTC(), Reason: reason}
	err := e.move(ctx, origin, func(next *row) (apitype.Event, error) {
		if tenant == "" {
			end.Count = next.All.Count + 1
			next.All = end
		} else {
			end.Count = next.Tenants[tenant].Count + 1
			next.Tenants[tenant] = end
		}
		return apitype.Event{
			EntityType: "token", EntityID: "all", Action: apitype.ActionTokenAllRevoked, Tenant: tenant, Details: map[string]any{"reason": reason},
		}, nil
	})
	return apitype.RevokeAllResponse{Tenant: tenant, RevokedAt: end.Time.Format(time.RFC3339), Reason: reason}, err
}

// AfterRestore ends what a backup has brought back: every token, and every pool's admin secret (which names the restore
// that it was made after). The caller has dropped everything in memory that is older than the restore.
func (e *Epoch) AfterRestore(ctx context.Context, origin audit.Origin, reason string) (apitype.RestoreResponse, error) {
	if err := name.Text("reason", reason, name.MaxReason); err != nil {
		return apitype.RestoreResponse{}, err
	}
	defer e.locks.Mount()()
	out := apitype.RestoreResponse{RestoredAt: e.now().UTC().Format(time.RFC3339)}
	err := e.move(ctx, origin, func(next *row) (apitype.Event, error) {
		if next.Restores == maxRestores {
			return apitype.Event{}, apitype.Errorf(apitype.ConfigFixed, "this mount was restored %d times, and serial numbers count no further", maxRestores)
		}
		next.Restores++
		next.All = End{Count: next.All.Count + 1, Time: e.now().UTC(), Reason: "Vault was restored from a backup"}
		out.RestoreCount = next.Restores
		return apitype.Event{
			EntityType: "config", EntityID: "config", Action: apitype.ActionConfigRestored,
			Details: map[string]any{"reason": reason, "restore_count": next.Restores},
		}, nil
	})
	return out, err
}

// move puts the row on by one step. The caller holds the mount's lock exclusively.
func (e *Epoch) move(ctx context.Context, origin audit.Origin, step func(next *row) (apitype.Event, error)) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	old, err := e.read(ctx)
	if err != nil {
		return err
	}
	if err := e.log.Ensure(ctx, old.Record); err != nil {
		return err
	}
	next := *old
	next.Tenants = map[string]End{}
	maps.Copy(next.Tenants, old.Tenants)
	event, err := step(&next)
	if err != nil {
		return err
	}
	next.Record = audit.NewRecord(origin, e.now(), event)
	e.cached = nil // what is stored is unknown until the Put is known to have worked
	if err := e.store.Put(ctx, store.EpochKey, &next); err != nil {
		return err
	}
	e.cached = &next
	e.log.Tell(ctx, next.Record)
	return nil
}

// Settle stores the event of a change that a crash cut short.
func (e *Epoch) Settle(ctx context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	r, err := e.read(ctx)
	if err != nil {
		return err
	}
	return e.log.Ensure(ctx, r.Record)
}

// Forget drops the cache, because the row changed behind our back.
func (e *Epoch) Forget() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.cached = nil
}
