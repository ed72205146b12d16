package enroll

import (
	"context"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/audit"
	"github.com/ampora/ampora/plugin/internal/name"
	"github.com/ampora/ampora/plugin/internal/pool"
	"github.com/ampora/ampora/plugin/internal/settings"
	"github.com/ampora/ampora/plugin/internal/store"
	"github.com/ampora/ampora/plugin/token"
	"github.com/google/uuid"
)

// issuance is a request for tokens after it is known whom they are for.
type issuance struct {
	row   *tokenRow  // what the tokens have in common
	pool  *pool.View // that they come from, or nil
	ttl   int64      // seconds; 0: what is usual
	count int
	via   string // by what other than Vault's policies the request was allowed
}

// issue commits tokens with one Put, however many. The caller holds the locks of Issuing.
func (e *Enroller) issue(ctx context.Context, origin audit.Origin, in issuance) ([]apitype.IssuedToken, error) {
	row := in.row
	cfg, err := e.Settings.Get(ctx)
	if err != nil {
		return nil, err
	}
	if err := settings.NeedTenant(cfg, row.Tenant); err != nil {
		return nil, err
	}
	if err := name.Text("label", row.Label, name.MaxLabel); err != nil {
		return nil, err
	}
	ttl, err := in.lifetime(cfg)
	if err != nil {
		return nil, err
	}
	now, err := e.Epoch.Now(ctx)
	if err != nil {
		return nil, err
	}
	row.Mark = now.Mark(row.Tenant)
	row.IssuedAt = e.Now().UTC()
	row.ExpiresAt = row.IssuedAt.Add(ttl).Truncate(time.Second)
	if row.IssuedBy == "" {
		row.IssuedBy = origin.Actor.DisplayName
	}
	secrets, ids := make([]token.Secret, in.count), make([]string, in.count)
	issued := make([]apitype.IssuedToken, in.count)
	for i := range secrets {
		secrets[i] = token.New(token.Bootstrap)
		ids[i] = secrets[i].ID()
		issued[i] = apitype.IssuedToken{Token: secrets[i].Reveal(), TokenID: ids[i], ExpiresAt: formatTime(row.ExpiresAt)}
	}
	if in.count > 1 {
		row.BatchID = uuid.NewString()
	}
	row.Record = audit.NewRecord(origin, e.Now(), in.event(ids[0]))
	if in.pool != nil && in.pool.MaxOutstanding > 0 {
		if err := e.tallies.reserve(*in.pool, row.Mark, ids, row.ExpiresAt, e.Now()); err != nil {
			return nil, err
		}
	}
	if err := e.commit(ctx, row, secrets); err != nil {
		if !store.UnknownOutcome(err) {
			e.tallies.gone(row.Pool.ID, ids...)
		}
		return nil, err
	}
	return issued, nil
}

func (e *Enroller) commit(ctx context.Context, row *tokenRow, secrets []token.Secret) error {
	if len(secrets) == 1 {
		hash := secrets[0].Hash()
		row.TokenID, row.Hash, row.AgentID = secrets[0].ID(), hash[:], secrets[0].AgentID()
		return e.singles().Do(ctx, single{row, row.Record})
	}
	batch := &batchRow{Each: *row}
	for _, s := range secrets {
		batch.add(s)
	}
	if err := e.putBatch(ctx, batch); err != nil {
		return err
	}
	e.Log.Tell(ctx, row.Record)
	return nil
}

// lifetime is how long the tokens may wait to be redeemed.
func (in issuance) lifetime(cfg apitype.Config) (time.Duration, error) {
	usual, longest := cfg.TokenTTL, cfg.TokenMaxTTL
	if in.pool != nil && in.pool.MaxTTL > 0 {
		longest = min(longest, in.pool.MaxTTL)
	}
	if in.pool != nil && in.pool.DefaultTTL > 0 {
		usual = in.pool.DefaultTTL
	}
	ttl := in.ttl
	if ttl == 0 {
		ttl = min(usual, longest)
	}
	if ttl < cfg.TokenMinTTL || ttl > longest {
		return 0, apitype.Errorf(apitype.TTLOutOfRange, "ttl is not between %s and %s",
			time.Duration(cfg.TokenMinTTL)*time.Second, time.Duration(longest)*time.Second)
	}
	return time.Duration(ttl) * time.Second, nil
}

// event is that of the whole issuance: a bulk act is one event with a count.
func (in issuance) event(tokenID string) apitype.Event {
	row := in.row
	details := row.withPool(map[string]any{
		"label": row.Label, "group": row.Group, "bound_cidrs": row.BoundCIDRs, "expires_at": formatTime(row.ExpiresAt),
	})
	if in.via != "" {
		details["via"] = in.via
	}
	e := apitype.Event{EntityType: "token", EntityID: tokenID, Action: apitype.ActionTokenIssued, Tenant: row.Tenant, Details: details}
	if row.BatchID != "" {
		e.EntityID = row.BatchID
		details["count"] = in.count
	}
	return e
}

// withPool adds to an event's details where the token comes from.
func (t *tokenRow) withPool(details map[string]any) map[string]any {
	if t.Pool.ID != "" {
		details["pool"], details["pool_id"] = t.Pool.Name, t.Pool.ID
	}
	if t.BatchID != "" {
		details["batch_id"] = t.BatchID
	}
	return details
}

// IssueFromPool issues tokens of a pool for whoever Vault's policies allow it.
func (e *Enroller) IssueFromPool(ctx context.Context, origin audit.Origin, tenant, poolName string, in apitype.PoolIssueRequest) (apitype.PoolIssueResponse, error) {
	return e.issueFrom(ctx, origin, in, "", func() (pool.View, error) { return e.Pools.Named(ctx, tenant, poolName) })
}

// IssueWithSecret issues tokens of a pool for a holder of its admin secret. The origin's address is the holder's.
func (e *Enroller) IssueWithSecret(ctx context.Context, origin audit.Origin, tenant, poolRef string, in apitype.PoolAdminIssueRequest) (apitype.PoolIssueResponse, error) {
	source, err := parseSource(in.SourceIP)
	if err != nil {
		return apitype.PoolIssueResponse{}, err
	}
	if source.IsValid() {
		origin.SourceIP = formatSource(source)
	}
	request := apitype.PoolIssueRequest{TTL: in.TTL, Label: in.HolderLabel, Count: in.Count}
	return e.issueFrom(ctx, origin, request, "admin_secret", func() (pool.View, error) {
		return e.Pools.Authenticate(ctx, tenant, poolRef, in.AdminSecret)
	})
}

func (e *Enroller) issueFrom(ctx context.Context, origin audit.Origin, in apitype.PoolIssueRequest, via string, find func() (pool.View, error)) (apitype.PoolIssueResponse, error) {
	var none apitype.PoolIssueResponse
	count := 1
	if in.Count != nil {
		if *in.Count < 1 || *in.Count > apitype.MaxCount {
			return none, apitype.Errorf(apitype.FieldInvalid, "count is not between 1 and %d", apitype.MaxCount)
		}
		count = int(*in.Count)
	}
	p, release, err := e.holdPool(ctx, find)
	if err != nil {
		return none, err
	}
	defer release()
	unhold, err := e.HoldGroup(ctx, p.Tenant, p.Group)
	if err != nil {
		return none, err
	}
	defer unhold()
	row := &tokenRow{
		Label: in.Label, Tenant: p.Tenant, Group: p.Group, Pool: poolRef{ID: p.PoolID, Name: p.Name, Generation: p.Generation},
	}
	if via != "" {
		row.IssuedBy = "a holder of the pool's admin secret"
	}
	issued, err := e.issue(ctx, origin, issuance{row: row, pool: &p, ttl: in.TTL, count: count, via: via})
	if err != nil {
		return none, err
	}
	if in.Count == nil {
		one := issued[0]
		return apitype.PoolIssueResponse{Token: one.Token, TokenID: one.TokenID, ExpiresAt: one.ExpiresAt}, nil
	}
	return apitype.PoolIssueResponse{Tokens: issued, BatchID: row.BatchID}, nil
}

// holdPool takes the locks for issuing from the pool that find answers, and makes sure that a capped one is counted.
func (e *Enroller) holdPool(ctx context.Context, find func() (pool.View, error)) (pool.View, func(), error) {
	for {
		p, err := find()
		if err != nil {
			return p, nil, err
		}
		again, release, err := e.tryPool(ctx, p.PoolID, find)
		if err != nil || release != nil {
			return again, release, err
		}
		if again.PoolID == p.PoolID { // else the pool was made again meanwhile
			if err := e.count(ctx, p.PoolID); err != nil {
				return p, nil, err
			}
		}
	}
}

// tryPool asks find again under the pool's lock, since a secret may have ended meanwhile. It holds the lock no longer, and
// answers no release, when it is another pool by now or still has to be counted.
func (e *Enroller) tryPool(ctx context.Context, poolID string, find func() (pool.View, error)) (p pool.View, release func(), err error) {
	unlock := e.Locks.Issuing(poolID)
	defer func() {
		if release == nil { // also after a panic underneath
			unlock()
		}
	}()
	if p, err = find(); err != nil || p.PoolID != poolID {
		return p, nil, err
	}
	if p.MaxOutstanding > 0 {
		now, err := e.Epoch.Now(ctx)
		if err != nil || !e.tallies.known(p, now.Mark(p.Tenant)) {
			return p, nil, err
		}
	}
	return p, unlock, nil
}
