package pool

import (
	"context"
	"slices"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/audit"
	"github.com/ampora/ampora/plugin/internal/name"
	"github.com/ampora/ampora/plugin/internal/settings"
	"github.com/ampora/ampora/plugin/internal/store"
	"github.com/ampora/ampora/plugin/token"
	"github.com/google/uuid"
)

func checkName(pool string) error { return name.Check("pool", pool) }

// Write makes a pool, and then answers its admin secret, or changes the fields that are set.
func (p *Pools) Write(ctx context.Context, origin audit.Origin, tenant, pool string, in apitype.PoolRequest) (apitype.Pool, error) {
	if err := checkName(pool); err != nil {
		return apitype.Pool{}, err
	}
	return p.change(ctx, tenant, pool, func(old *row, restores int) (*row, string, error) {
		if old == nil {
			return p.create(ctx, origin, tenant, pool, restores, in)
		}
		next := *old
		fields, err := p.apply(ctx, &next, in)
		if err != nil || len(fields) == 0 {
			return nil, "", err
		}
		next.Record = audit.NewRecord(origin, p.Now(), next.event(apitype.ActionPoolUpdated, map[string]any{"fields": fields}))
		return &next, "", nil
	}, in.Group)
}

func (p *Pools) create(ctx context.Context, origin audit.Origin, tenant, pool string, restores int, in apitype.PoolRequest) (*row, string, error) {
	next := &row{
		PoolID: uuid.NewString(), Name: pool, Tenant: tenant, Generation: 1,
		CreatedAt: p.Now().UTC(), CreatedBy: origin.Actor.DisplayName,
	}
	if _, err := p.apply(ctx, next, in); err != nil {
		return nil, "", err
	}
	secret := next.newSecret(restores)
	next.Record = audit.NewRecord(origin, p.Now(), next.event(apitype.ActionPoolCreated, map[string]any{
		"group": next.Group, "default_ttl": next.DefaultTTL, "max_ttl": next.MaxTTL, "leaf_ttl": next.LeafTTL,
		"bound_cidrs": next.BoundCIDRs, "max_outstanding": next.MaxOutstanding,
	}))
	return next, secret, nil
}

func (r *row) newSecret(restores int) string {
	secret := token.New(token.PoolSecret)
	hash := secret.Hash()
	r.SecretHash, r.Restores = hash[:], restores
	return secret.Reveal()
}

// apply sets the fields that are given, and names those that it changed.
func (p *Pools) apply(ctx context.Context, r *row, in apitype.PoolRequest) ([]string, error) {
	var fields []string
	number := func(field string, to *int64, given *int64) {
		if given != nil && *given != *to {
			*to = *given
			fields = append(fields, field)
		}
	}
	number("default_ttl", &r.DefaultTTL, in.DefaultTTL)
	number("max_ttl", &r.MaxTTL, in.MaxTTL)
	number("leaf_ttl", &r.LeafTTL, in.LeafTTL)
	number("max_outstanding", &r.MaxOutstanding, in.MaxOutstanding)
	if in.Group != nil && *in.Group != r.Group {
		r.Group = *in.Group
		fields = append(fields, "group")
	}
	if in.BoundCIDRs != nil {
		cidrs, err := name.CIDRs("bound_cidrs", *in.BoundCIDRs)
		if err != nil {
			return nil, err
		}
		if !slices.Equal(cidrs, r.BoundCIDRs) {
			r.BoundCIDRs = cidrs
			fields = append(fields, "bound_cidrs")
		}
	}
	cfg, err := p.Settings.Get(ctx)
	if err != nil {
		return nil, err
	}
	if err := settings.NeedTenant(cfg, r.Tenant); err != nil {
		return nil, err
	}
	slices.Sort(fields)
	return fields, r.validate(cfg)
}

func (r *row) validate(cfg apitype.Config) error {
	maxTTL := r.MaxTTL
	if maxTTL == 0 {
		maxTTL = cfg.TokenMaxTTL
	}
	seconds := func(n int64) time.Duration { return time.Duration(n) * time.Second }
	switch {
	case maxTTL < cfg.TokenMinTTL || maxTTL > cfg.TokenMaxTTL:
		return apitype.Errorf(apitype.TTLOutOfRange, "max_ttl is not between %s and %s", seconds(cfg.TokenMinTTL), seconds(cfg.TokenMaxTTL))
	case r.DefaultTTL != 0 && (r.DefaultTTL < cfg.TokenMinTTL || r.DefaultTTL > maxTTL):
		return apitype.Errorf(apitype.TTLOutOfRange, "default_ttl is not between %s and %s", seconds(cfg.TokenMinTTL), seconds(maxTTL))
	case r.LeafTTL != 0 && (r.LeafTTL < 60 || r.LeafTTL > cfg.LeafMaxTTL):
		return apitype.Errorf(apitype.FieldInvalid, "leaf_ttl is not between a minute and leaf_max_ttl (%s)", seconds(cfg.LeafMaxTTL))
	case r.MaxOutstanding < 0 || r.MaxOutstanding > 1_000_000:
		return apitype.Errorf(apitype.FieldInvalid, "max_outstanding is not between 0 (no cap) and 1000000")
	}
	return nil
}

// Rotate ends every token that the pool has issued so far and answers a new admin secret; the one before is dead.
func (p *Pools) Rotate(ctx context.Context, origin audit.Origin, tenant, pool, reason string) (apitype.Pool, error) {
	return p.end(ctx, tenant, pool, reason, func(next *row, restores int) string {
		secret := next.newSecret(restores)
		next.Record = audit.NewRecord(origin, p.Now(), next.event(apitype.ActionPoolSecretRotated, map[string]any{"reason": reason}))
		return secret
	})
}

// Revoke ends every token that the pool has issued so far, and the admin secret until that is rotated. Issuing by Vault
// policy goes on.
func (p *Pools) Revoke(ctx context.Context, origin audit.Origin, tenant, pool, reason string) (apitype.Pool, error) {
	return p.end(ctx, tenant, pool, reason, func(next *row, _ int) string {
		next.SecretHash = nil
		next.Record = audit.NewRecord(origin, p.Now(), next.event(apitype.ActionPoolRevoked, map[string]any{"reason": reason}))
		return ""
	})
}

func (p *Pools) end(ctx context.Context, tenant, pool, reason string, change func(next *row, restores int) string) (apitype.Pool, error) {
	if err := name.Text("reason", reason, name.MaxReason); err != nil {
		return apitype.Pool{}, err
	}
	if _, err := p.named(ctx, tenant, pool); err != nil {
		return apitype.Pool{}, err
	}
	return p.change(ctx, tenant, pool, func(old *row, restores int) (*row, string, error) {
		if old == nil {
			return nil, "", apitype.Errorf(apitype.PoolUnknown, "no pool has this name")
		}
		next := *old
		next.Generation++
		next.EndedAt, next.Reason = p.Now().UTC(), reason
		secret := change(&next, restores)
		return &next, secret, nil
	}, nil)
}

// Delete removes a pool. None of its tokens can be redeemed afterwards. Deleting what is not there changes nothing.
func (p *Pools) Delete(ctx context.Context, origin audit.Origin, tenant, pool string) error {
	if _, err := p.named(ctx, tenant, pool); err != nil {
		if apitype.CodeOf(err) == apitype.PoolUnknown {
			return nil
		}
		return err
	}
	_, err := p.change(ctx, tenant, pool, func(old *row, _ int) (*row, string, error) {
		if old == nil {
			return nil, "", nil
		}
		next := *old
		next.Deleted = true
		next.Record = audit.NewRecord(origin, p.Now(), next.event(apitype.ActionPoolDeleted, nil))
		return &next, "", nil
	}, nil)
	return err
}

// change puts another row in the place of a pool's, or makes its first, and answers it with the admin secret that step
// made, if any. A nil row changes nothing. Meanwhile no transition of the pool's tokens is under way.
func (p *Pools) change(ctx context.Context, tenant, pool string, step func(old *row, restores int) (next *row, secret string, err error), group *string) (apitype.Pool, error) {
	var none apitype.Pool
	p.writing.Lock()
	defer p.writing.Unlock()
	old, err := p.find(ctx, func() *row { return p.rows[key(tenant, pool)] })
	if err != nil {
		return none, err
	}
	poolID := ""
	if old != nil {
		poolID = old.PoolID
	}
	defer p.hold(poolID)()
	if group != nil {
		release, err := p.HoldGroup(ctx, tenant, *group)
		if err != nil {
			return none, err
		}
		defer release()
	}
	if err := p.settle(ctx, tenant, pool); err != nil {
		return none, err
	}
	now, err := p.Epoch.Now(ctx)
	if err != nil {
		return none, err
	}
	next, secret, err := step(old, now.Restores())
	switch {
	case err != nil:
		return none, err
	case next == nil && old == nil:
		return none, nil
	case next == nil:
		return old.info(now.Restores()), nil
	}
	if err := p.put(ctx, next); err != nil {
		return none, err
	}
	info := next.info(now.Restores())
	info.AdminSecret = secret
	return info, nil
}

// hold keeps transitions of the pool's tokens out. A pool that is being made has none.
func (p *Pools) hold(poolID string) (release func()) {
	if poolID == "" {
		return p.Locks.Issuing("")
	}
	return p.Locks.Pool(poolID)
}

// put commits a row and tells of it.
func (p *Pools) put(ctx context.Context, next *row) error {
	stored := false
	defer func() { p.remember(next, stored) }() // also after a panic underneath
	if err := p.Store.Put(ctx, next.key(), next); err != nil {
		return err
	}
	stored = true
	p.Log.Tell(ctx, next.Record)
	if next.Deleted {
		ctx, cancel := store.Commit(ctx)
		defer cancel()
		_ = p.finish(ctx, next) // the tombstone that is left otherwise says the same; Settle removes it
	}
	return nil
}

// remember takes a stored row into memory. After a Put of unknown outcome memory is read in again.
func (p *Pools) remember(r *row, stored bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case !stored, !p.loaded:
		p.loaded = false
	case r.Deleted:
		delete(p.rows, r.key())
		delete(p.byID, r.PoolID)
	default:
		p.rows[r.key()], p.byID[r.PoolID] = r, r
	}
}

// settle finishes what a crash left of the row at this place: its record is stored before another row replaces it.
func (p *Pools) settle(ctx context.Context, tenant, pool string) error {
	r := &row{}
	found, err := p.Store.Get(ctx, key(tenant, pool), r)
	if err != nil || !found {
		return err
	}
	return p.finish(ctx, r)
}

func (p *Pools) finish(ctx context.Context, r *row) error {
	if err := p.Log.Ensure(ctx, r.Record); err != nil {
		return err
	}
	if r.Deleted {
		return p.Store.Delete(ctx, r.key())
	}
	return nil
}

// Settle finishes what crashes left.
func (p *Pools) Settle(ctx context.Context) error {
	p.writing.Lock()
	defer p.writing.Unlock()
	return p.walk(ctx, func(r *row) error { return p.finish(ctx, r) })
}
