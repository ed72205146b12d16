package enroll

import (
	"context"
	"crypto/subtle"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/audit"
	"github.com/ampora/ampora/plugin/internal/authority"
	"github.com/ampora/ampora/plugin/internal/settings"
	"github.com/ampora/ampora/plugin/internal/store"
)

// Redeem turns a token into an agent, or answers the same again for the same request.
func (e *Enroller) Redeem(ctx context.Context, origin audit.Origin, tenant string, in apitype.RedeemRequest) (*apitype.Identity, error) {
	k, err := parseIntake(in)
	if err != nil {
		return nil, err
	}
	cfg, err := e.Settings.Get(ctx)
	if err != nil {
		return nil, err
	}
	switch {
	case k.csr == nil && cfg.KeyOrigin == settings.KeyOriginCSR:
		return nil, apitype.Errorf(apitype.CSRRequired, "generate_key is not allowed here")
	case k.csr != nil && cfg.KeyOrigin == settings.KeyOriginServer:
		return nil, apitype.Errorf(apitype.KeyNotAllowed, "keys are made on the server here")
	}
	agentID := k.secret.AgentID()
	release, err := e.lockToken(ctx, k.secret)
	if err != nil {
		return nil, err
	}
	defer release()
	set, err := e.Authority.Set(ctx) // under the lock, see LiveLeaves
	if err != nil {
		return nil, err
	}
	m, err := e.meet(ctx, agentID, k.secret.ID())
	if err != nil {
		return nil, err
	}
	origin = origin.ForAgent(agentID, formatSource(k.source))
	if m.agent != nil {
		return e.redeemAgain(ctx, origin, tenant, cfg, set, m, k)
	}
	tokenRow, err := m.redeemable(tenant, k.secret, k.source, e.Now())
	if err != nil {
		return nil, err
	}
	group, unhold, err := e.landing(ctx, tokenRow)
	if err != nil {
		return nil, err
	}
	defer unhold()
	row := &agentRow{
		AgentID: agentID, DisplayName: in.DisplayName, InstanceUID: k.instanceUID, Description: in.Description, Capabilities: in.Capabilities,
		Tenant: tokenRow.Tenant, Group: group,
		Pool: tokenRow.Pool.Name, PoolID: tokenRow.Pool.ID, LeafTTL: tokenRow.leafTTL,
		TokenID: tokenRow.TokenID, TokenHash: tokenRow.Hash, TokenExpiresAt: tokenRow.ExpiresAt,
		EnrolledAt: e.Now().UTC(), SourceIP: formatSource(k.source), KeyOrigin: settings.KeyOriginCSR,
	}
	row.StateHash = apitype.StateHash(in.Description, in.DisplayName, in.Capabilities)
	if row.DisplayName == "" {
		row.DisplayName = tokenRow.Label
	}
	if k.csr == nil {
		row.KeyOrigin = settings.KeyOriginServer
	}
	issued, err := e.firstLeaf(ctx, cfg, set, row, k)
	if err != nil {
		return nil, err
	}
	row.Record = audit.NewRecord(origin, e.Now(),
		apitype.Event{
			EntityType: "token", EntityID: row.TokenID, Action: apitype.ActionTokenRedeemed, Tenant: row.Tenant, AgentID: agentID,
			Details: tokenRow.withPool(map[string]any{"label": tokenRow.Label, "group": row.Group, "key_origin": row.KeyOrigin}),
		},
		issued.event(row))
	e.batches.use(row.TokenID)
	if err := e.Store.Put(ctx, store.Sharded(store.AgentPrefix, agentID), row); err != nil { // the commit
		return nil, err
	}
	e.tallies.gone(row.PoolID, row.TokenID)
	e.finish(ctx, agentID, &met{token: m.token, agent: row})
	return issued.answer(row), nil
}

// firstLeaf signs the leaf that the token is redeemed for, and writes it into the row.
func (e *Enroller) firstLeaf(ctx context.Context, cfg apitype.Config, set *authority.Set, row *agentRow, k *intake) (*issued, error) {
	key, err := k.key()
	if err != nil {
		return nil, err
	}
	issued, err := e.newLeaf(ctx, cfg, set, row, key)
	if err != nil {
		return nil, err
	}
	row.Leaf, row.IdempotencyHash, row.CSRKeyHash = issued.leaf, k.idempotency, nil
	if k.csr != nil {
		row.CSRKeyHash = k.csr.KeyHash[:]
	}
	return issued, nil
}

// landing holds the group that the token's agent lands in. If that is gone by now, the agent lands in none.
func (e *Enroller) landing(ctx context.Context, t *tokenRow) (group string, release func(), err error) {
	release, err = e.HoldGroup(ctx, t.Tenant, t.Group)
	if apitype.CodeOf(err) == apitype.GroupMissing {
		return "", func() {}, nil
	}
	return t.Group, release, err
}

// redeemAgain answers a token that has made its agent: with the same certificate for the same request, with a fresh leaf of
// the same agent where the key was of our making (we do not keep it), and else with token_redeemed.
func (e *Enroller) redeemAgain(ctx context.Context, origin audit.Origin, tenant string, cfg apitype.Config, set *authority.Set, m met, k *intake) (*apitype.Identity, error) {
	row, hash := m.agent, k.secret.Hash()
	age := e.Now().Sub(row.EnrolledAt)
	sameKey := k.csr != nil && subtle.ConstantTimeCompare(k.csr.KeyHash[:], row.CSRKeyHash) == 1
	sameRequest := k.idempotency != nil && subtle.ConstantTimeCompare(k.idempotency, row.IdempotencyHash) == 1 && age < idempotencyWindow
	serverKey := k.csr == nil && row.KeyOrigin == settings.KeyOriginServer
	switch {
	case !hash.Equal(row.TokenHash):
		return nil, unknownToken()
	case !inTenant(tenant, row.Tenant):
		return nil, apitype.Errorf(apitype.TenantMismatch, "the token belongs elsewhere")
	case !sameRequest && (!sameKey || age >= retryWindow(cfg)), !sameKey && !serverKey:
		return nil, apitype.Errorf(apitype.TokenRedeemed, "the token has made its agent")
	case m.ended():
		return nil, apitype.Errorf(apitype.AgentRevoked, "the agent was revoked")
	case sameKey:
		return stored(set, row, row.Leaf)
	}
	if err := row.roomForPast(e.Now()); err != nil {
		return nil, err
	}
	next := *row
	next.supersede(row.Leaf, e.Now())
	issued, err := e.firstLeaf(ctx, cfg, set, &next, k)
	if err != nil {
		return nil, err
	}
	next.Record = audit.NewRecord(origin, e.Now(), issued.event(&next))
	if err := e.putLeaves(ctx, &next); err != nil {
		return nil, err
	}
	e.finish(ctx, row.AgentID, &met{agent: &next})
	return issued.answer(&next), nil
}
