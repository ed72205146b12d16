package enroll

import (
	"context"
	"net/netip"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/audit"
	"github.com/ampora/ampora/plugin/internal/name"
	"github.com/ampora/ampora/plugin/internal/store"
	"github.com/ampora/ampora/plugin/token"
)

// maxCIDRs is how many networks a token may be bound to.
const maxCIDRs = 64

// Issue issues one bootstrap token. The answer is the only place that ever holds its plaintext.
func (e *Enroller) Issue(ctx context.Context, origin audit.Origin, in apitype.TokenIssueRequest) (apitype.IssuedToken, error) {
	var none apitype.IssuedToken
	cfg, err := e.Settings.Get(ctx)
	if err != nil {
		return none, err
	}
	row, err := newTokenRow(cfg, in, e.Now())
	if err != nil {
		return none, err
	}
	secret := token.New(token.Bootstrap)
	hash := secret.Hash()
	row.TokenID, row.Hash, row.AgentID = secret.ID(), hash[:], secret.AgentID()
	row.IssuedBy = origin.Actor.DisplayName
	row.Record = audit.NewRecord(origin, e.Now(), apitype.Event{
		EntityType: "token", EntityID: row.TokenID, Action: apitype.ActionTokenIssued, Tenant: row.Tenant,
		Details: map[string]any{"label": row.Label, "group": row.Group, "bound_cidrs": row.BoundCIDRs, "expires_at": formatTime(row.ExpiresAt)},
	})
	defer e.Locks.Agent(row.AgentID)()
	if err := e.Store.Put(ctx, store.Sharded(store.TokenPrefix, row.TokenID), row); err != nil {
		return none, err
	}
	e.finish(ctx, row.AgentID, &met{token: row})
	return apitype.IssuedToken{Token: secret.Reveal(), TokenID: row.TokenID, ExpiresAt: formatTime(row.ExpiresAt)}, nil
}

func newTokenRow(cfg apitype.Config, in apitype.TokenIssueRequest, now time.Time) (*tokenRow, error) {
	ttl := in.TTL
	if ttl == 0 {
		ttl = cfg.TokenTTL
	}
	if ttl < cfg.TokenMinTTL || ttl > cfg.TokenMaxTTL {
		return nil, apitype.Errorf(apitype.TTLOutOfRange, "ttl is not between %s and %s",
			time.Duration(cfg.TokenMinTTL)*time.Second, time.Duration(cfg.TokenMaxTTL)*time.Second)
	}
	if err := name.Text("label", in.Label, name.MaxLabel); err != nil {
		return nil, err
	}
	for field, value := range map[string]string{"tenant": in.Tenant, "group": in.Group} {
		if value == "" {
			continue
		}
		if err := name.Check(field, value); err != nil {
			return nil, err
		}
	}
	if len(in.BoundCIDRs) > maxCIDRs {
		return nil, apitype.Errorf(apitype.FieldInvalid, "bound_cidrs has more than %d entries", maxCIDRs)
	}
	var cidrs []string
	for _, text := range in.BoundCIDRs {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, apitype.Errorf(apitype.FieldInvalid, "bound_cidrs must be networks like 10.0.0.0/8")
		}
		cidrs = append(cidrs, p.Masked().String())
	}
	return &tokenRow{
		Label: in.Label, Tenant: in.Tenant, Group: in.Group, BoundCIDRs: cidrs,
		IssuedAt: now.UTC(), ExpiresAt: now.UTC().Add(time.Duration(ttl) * time.Second).Truncate(time.Second),
	}, nil
}

// metToken reads a token's row by its id and settles it. What is spent, unknown or another tenant's is token_unknown: ids
// must not tell one tenant about another. The caller releases the lock when there is no error.
func (e *Enroller) metToken(ctx context.Context, tenant, tokenID string) (m met, release func(), err error) {
	if err := name.CheckID(tokenID, apitype.TokenUnknown); err != nil {
		return met{}, nil, err
	}
	// The row tells which lock is its own, so it is read once more under the lock.
	row, err := get[tokenRow](ctx, e, store.TokenPrefix, tokenID)
	if err != nil {
		return met{}, nil, err
	}
	if row == nil || !inTenant(tenant, row.Tenant) {
		return met{}, nil, unknownToken()
	}
	unlock := e.Locks.Agent(row.AgentID)
	defer func() {
		if release == nil { // an error, or a panic underneath
			unlock()
		}
	}()
	if m, err = e.meet(ctx, row.AgentID, tokenID); err != nil {
		return met{}, nil, err
	}
	if m.token == nil {
		return met{}, nil, apitype.Errorf(apitype.TokenRedeemed, "the token has made its agent")
	}
	return m, unlock, nil
}

// Token reads one token's row.
func (e *Enroller) Token(ctx context.Context, tenant, tokenID string) (apitype.TokenInfo, error) {
	m, release, err := e.metToken(ctx, tenant, tokenID)
	if err != nil {
		return apitype.TokenInfo{}, err
	}
	defer release()
	return m.token.info(e.Now()), nil
}

// RevokeToken ends a token. Ending it again changes nothing and keeps the first reason.
func (e *Enroller) RevokeToken(ctx context.Context, origin audit.Origin, tenant, tokenID, reason string) (apitype.TokenInfo, error) {
	if err := name.Text("reason", reason, name.MaxReason); err != nil {
		return apitype.TokenInfo{}, err
	}
	m, release, err := e.metToken(ctx, tenant, tokenID)
	if err != nil {
		return apitype.TokenInfo{}, err
	}
	defer release()
	if m.token.Revoked {
		return m.token.info(e.Now()), nil
	}
	row := *m.token
	row.Revoked, row.Reason = true, reason
	row.Record = audit.NewRecord(origin, e.Now(), apitype.Event{
		EntityType: "token", EntityID: row.TokenID, Action: apitype.ActionTokenRevoked, Tenant: row.Tenant,
		Details: map[string]any{"reason": reason},
	})
	if err := e.Store.Put(ctx, store.Sharded(store.TokenPrefix, tokenID), &row); err != nil {
		return apitype.TokenInfo{}, err
	}
	e.finish(ctx, row.AgentID, &met{token: &row})
	return row.info(e.Now()), nil
}

// Tokens lists token rows in the order of their ids. What is spent is not listed: its agent is the record of it.
func (e *Enroller) Tokens(ctx context.Context, tenant string, page apitype.Page) (apitype.ListResponse[apitype.TokenInfo], error) {
	return list(ctx, e, store.TokenPrefix, page, func(id string) (*apitype.TokenInfo, error) {
		m, release, err := e.metToken(ctx, tenant, id)
		switch apitype.CodeOf(err) {
		case apitype.TokenUnknown, apitype.TokenRedeemed:
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		defer release()
		info := m.token.info(e.Now())
		return &info, nil
	})
}

// list collects one page of what read answers for each id; nil is left out.
func list[T any](ctx context.Context, e *Enroller, prefix string, page apitype.Page, read func(id string) (*T, error)) (apitype.ListResponse[T], error) {
	out := apitype.ListResponse[T]{Keys: []string{}, KeyInfo: map[string]T{}}
	err := e.Store.Walk(ctx, prefix, page.After, func(id string) (bool, error) {
		if page.Limit > 0 && len(out.Keys) == page.Limit {
			out.NextAfter = out.Keys[len(out.Keys)-1]
			return false, nil
		}
		info, err := read(id)
		if err != nil || info == nil {
			return true, err
		}
		out.Keys = append(out.Keys, id)
		out.KeyInfo[id] = *info
		return true, nil
	})
	return out, err
}
