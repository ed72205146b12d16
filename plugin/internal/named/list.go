package named

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/store"
)

// List answers one page of a tenant's things, by name.
func List[T, R any, P Row[R]](ctx context.Context, r *Rows[R, P], tenant string, page apitype.Page, info func(P) T) (apitype.ListResponse[T], error) {
	out := apitype.ListResponse[T]{Keys: []string{}, KeyInfo: map[string]T{}}
	err := r.Each(ctx, tenant, page.After, func(row P) bool {
		if page.Limit > 0 && len(out.Keys) == page.Limit {
			out.NextAfter = out.Keys[len(out.Keys)-1]
			return false
		}
		key := row.Common().Name
		out.Keys = append(out.Keys, key)
		out.KeyInfo[key] = info(row)
		return true
	})
	return out, err
}

// Each calls visit with the rows of a tenant by name, beginning after the name 'after', until visit answers false. It
// takes no locks.
func (r *Rows[R, P]) Each(ctx context.Context, tenant, after string, visit func(P) bool) error {
	names, err := r.Store.List(ctx, store.NamedFolder(r.Prefix, tenant))
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, name := range names {
		if name <= after {
			continue
		}
		row, err := r.get(ctx, tenant, name)
		if err != nil {
			return err
		}
		if row != nil && !visit(row) {
			return nil
		}
	}
	return nil
}

// All calls visit with the rows of all tenants. A row that cannot be read is left out, which Sweep tells of; a fault of the
// storage is an error. It takes no locks.
func (r *Rows[R, P]) All(ctx context.Context, visit func(P)) error {
	ctx = store.InPassing(ctx)
	return r.walk(ctx, func(tenant, name string) error {
		row, err := r.get(ctx, tenant, name)
		switch {
		case store.UnknownOutcome(err):
			return err
		case err == nil && row != nil:
			visit(row)
		}
		return nil
	})
}

// walk calls visit with every row's tenant ("" for none) and name, until that answers an error.
func (r *Rows[R, P]) walk(ctx context.Context, visit func(tenant, name string) error) error {
	folders, err := r.Store.List(ctx, r.Prefix)
	if err != nil {
		return err
	}
	for _, folder := range folders {
		names, err := r.Store.List(ctx, r.Prefix+folder)
		if err != nil {
			return err
		}
		tenant := strings.TrimSuffix(folder, "/")
		if tenant == store.NoTenant {
			tenant = ""
		}
		for _, name := range names {
			if err := visit(tenant, name); err != nil {
				return err
			}
		}
	}
	return nil
}

// Sweep meets every row once, so that nothing a crash left stays so. A row that cannot be read is left out and told of at
// the end; a fault of the storage ends the sweep.
func (r *Rows[R, P]) Sweep(ctx context.Context) error {
	left, first := 0, error(nil)
	err := r.walk(ctx, func(tenant, name string) error {
		err := r.sweepOne(ctx, tenant, name)
		if store.UnknownOutcome(err) || ctx.Err() != nil {
			return err
		}
		if err != nil {
			if left++; first == nil {
				first = err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if left > 0 {
		return fmt.Errorf("%d %s rows were left out, the first: %w", left, r.Noun, first)
	}
	return nil
}

func (r *Rows[R, P]) sweepOne(ctx context.Context, tenant, name string) error {
	defer r.names.Lock(tenant, name)()
	_, err := r.meet(ctx, tenant, name)
	return err
}

// Count answers how many things a tenant has.
func (r *Rows[R, P]) Count(ctx context.Context, tenant string) (int, error) {
	n := 0
	err := r.Each(ctx, tenant, "", func(P) bool { n++; return true })
	return n, err
}
