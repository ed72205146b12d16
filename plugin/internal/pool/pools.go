package pool

import (
	"context"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/audit"
	"github.com/ampora/ampora/plugin/internal/epoch"
	"github.com/ampora/ampora/plugin/internal/settings"
	"github.com/ampora/ampora/plugin/internal/store"
)

// Pools owns the rows of all pools and keeps them in memory. It is safe for concurrent use.
//
// Reading asks memory alone, once it is read in: a token asks for its pool at every turn.
type Pools struct {
	Store    *store.Store
	Locks    *store.Locks
	Log      *audit.Log
	Settings *settings.Settings
	Epoch    *epoch.Epoch
	Now      func() time.Time
	// HoldGroup refuses with group_missing what is no group of the tenant, and else keeps it from being deleted until the
	// answer is called. An empty name is no work.
	HoldGroup func(ctx context.Context, tenant, group string) (release func(), err error)

	writing sync.Mutex // held by every change of any row; taken before Locks

	mu     sync.RWMutex
	loaded bool
	rows   map[string]*row // by key, without tombstones
	byID   map[string]*row
}

// View answers the pool of this id, or false when there is none (any more).
func (p *Pools) View(ctx context.Context, poolID string) (View, bool, error) {
	r, err := p.find(ctx, func() *row { return p.byID[poolID] })
	if err != nil || r == nil {
		return View{}, false, err
	}
	return r.view(), true, nil
}

// Named answers the tenant's pool of this name; without a tenant, the tenantless one.
func (p *Pools) Named(ctx context.Context, tenant, name string) (View, error) {
	r, err := p.named(ctx, tenant, name)
	if err != nil {
		return View{}, err
	}
	return r.view(), nil
}

func (p *Pools) named(ctx context.Context, tenant, name string) (*row, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	r, err := p.find(ctx, func() *row { return p.rows[key(tenant, name)] })
	if err == nil && r == nil {
		err = apitype.Errorf(apitype.PoolUnknown, "no pool has this name")
	}
	return r, err
}

// Exists reports whether there is such a pool, for Vault's choice between create and update.
func (p *Pools) Exists(ctx context.Context, tenant, name string) (bool, error) {
	r, err := p.find(ctx, func() *row { return p.rows[key(tenant, name)] })
	return r != nil, err
}

// Read answers the tenant's pool of this name.
func (p *Pools) Read(ctx context.Context, tenant, name string) (apitype.Pool, error) {
	r, err := p.named(ctx, tenant, name)
	if err != nil {
		return apitype.Pool{}, err
	}
	now, err := p.Epoch.Now(ctx)
	return r.info(now.Restores()), err
}

// List answers the tenant's pools by name; without a tenant, the tenantless ones.
func (p *Pools) List(ctx context.Context, tenant string, page apitype.Page) (apitype.ListResponse[apitype.Pool], error) {
	out := apitype.ListResponse[apitype.Pool]{Keys: []string{}, KeyInfo: map[string]apitype.Pool{}}
	now, err := p.Epoch.Now(ctx)
	if err != nil {
		return out, err
	}
	all, err := p.all(ctx)
	if err != nil {
		return out, err
	}
	for _, r := range all {
		if r.Tenant != tenant || r.Name <= page.After {
			continue
		}
		if page.Limit > 0 && len(out.Keys) == page.Limit {
			out.NextAfter = out.Keys[len(out.Keys)-1]
			break
		}
		out.Keys = append(out.Keys, r.Name)
		out.KeyInfo[r.Name] = r.info(now.Restores())
	}
	return out, nil
}

// InGroup calls visit with the name of every pool of the tenant whose tokens land in the group, until it answers false.
func (p *Pools) InGroup(ctx context.Context, tenant, group string, visit func(kind, id string) bool) error {
	all, err := p.all(ctx)
	for _, r := range all {
		if r.Tenant == tenant && r.Group == group && !visit("pool", r.Name) {
			break
		}
	}
	return err
}

// Tenantless is how many pools belong to no tenant.
func (p *Pools) Tenantless(ctx context.Context) (int, error) {
	all, err := p.all(ctx)
	n := 0
	for _, r := range all {
		if r.Tenant == "" {
			n++
		}
	}
	return n, err
}

// all answers every row in the order of the keys.
func (p *Pools) all(ctx context.Context) ([]*row, error) {
	var all []*row
	_, err := p.find(ctx, func() *row {
		for _, r := range p.rows {
			all = append(all, r)
		}
		return nil
	})
	sort.Slice(all, func(i, j int) bool { return all[i].key() < all[j].key() })
	return all, err
}

// find looks into memory, which it reads in first if need be.
func (p *Pools) find(ctx context.Context, look func() *row) (*row, error) {
	p.mu.RLock()
	if p.loaded {
		defer p.mu.RUnlock()
		return look(), nil
	}
	p.mu.RUnlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.load(ctx); err != nil {
		return nil, err
	}
	return look(), nil
}

// load reads every row. The caller holds mu.
func (p *Pools) load(ctx context.Context) error {
	if p.loaded {
		return nil
	}
	rows, byID := map[string]*row{}, map[string]*row{}
	err := p.walk(ctx, func(r *row) error {
		if !r.Deleted {
			rows[r.key()], byID[r.PoolID] = r, r
		}
		return nil
	})
	if err != nil {
		return err
	}
	p.rows, p.byID, p.loaded = rows, byID, true
	return nil
}

// walk reads every row from storage, tombstones too.
func (p *Pools) walk(ctx context.Context, visit func(*row) error) error {
	tenants, err := p.Store.List(ctx, store.PoolPrefix)
	if err != nil {
		return err
	}
	for _, tenant := range tenants {
		if !strings.HasSuffix(tenant, "/") {
			continue
		}
		names, err := p.Store.List(ctx, store.PoolPrefix+tenant)
		if err != nil {
			return err
		}
		for _, n := range names {
			r := &row{}
			found, err := p.Store.Get(ctx, store.PoolPrefix+tenant+n, r)
			if err != nil {
				return err
			}
			if found {
				if err := visit(r); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// Forget drops the memory, because a row changed behind our back.
func (p *Pools) Forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.loaded = false
}
