package pool

import (
	"context"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/name"
	"github.com/ampora/ampora/plugin/token"
)

// Authenticate answers the pool that the admin secret belongs to. The pool is named by its id or, inside the tenant (or
// among the tenantless ones), by its name. Whoever has no good secret learns nothing about which pools there are: every
// refusal is pool_secret_invalid.
func (p *Pools) Authenticate(ctx context.Context, tenant, pool, secret string) (View, error) {
	s, err := token.Parse(token.PoolSecret, secret)
	if err != nil {
		return View{}, apitype.Errorf(apitype.PoolSecretInvalid, "it is no admin secret, or was not copied intact")
	}
	r, err := p.find(ctx, func() *row {
		if name.CheckID(pool, apitype.PoolUnknown) == nil {
			return p.byID[pool]
		}
		return p.rows[key(tenant, pool)]
	})
	if err != nil {
		return View{}, err
	}
	now, err := p.Epoch.Now(ctx)
	if err != nil {
		return View{}, err
	}
	hash := s.Hash()
	switch {
	case r == nil, tenant != "" && r.Tenant != tenant, !hash.Equal(r.SecretHash):
		return View{}, apitype.Errorf(apitype.PoolSecretInvalid, "no pool of this name or id has this admin secret")
	case r.Restores != now.Restores():
		return View{}, apitype.Errorf(apitype.PoolSecretInvalid, "it ended when Vault was restored from a backup")
	}
	return r.view(), nil
}
