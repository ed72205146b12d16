package enroll

import (
	"context"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/audit"
	"github.com/ampora/ampora/plugin/internal/name"
	"github.com/ampora/ampora/plugin/internal/store"
)

// Issue issues one bootstrap token. The answer is the only place that ever holds its plaintext.
func (e *Enroller) Issue(ctx context.Context, origin audit.Origin, in apitype.TokenIssueRequest) (apitype.IssuedToken, error) {
	if err := checkNames(map[string]string{"tenant": in.Tenant, "group": in.Group}); err != nil {
		return apitype.IssuedToken{}, err
	}
	cidrs, err := name.CIDRs("bound_cidrs", in.BoundCIDRs)
	if err != nil {
		return apitype.IssuedToken{}, err
	}
	defer e.Locks.Issuing("")()
	release, err := e.HoldGroup(ctx, in.Tenant, in.Group)
	if err != nil {
		return apitype.IssuedToken{}, err
	}
	defer release()
	row := &tokenRow{Label: in.Label, Tenant: in.Tenant, Group: in.Group, BoundCIDRs: cidrs}
	issued, err := e.issue(ctx, origin, issuance{row: row, ttl: in.TTL, count: 1})
	if err != nil {
		return apitype.IssuedToken{}, err
	}
	return issued[0], nil
}

func checkNames(names map[string]string) error {
	for field, value := range names {
		if value == "" {
			continue
		}
		if err := name.Check(field, value); err != nil {
			return err
		}
	}
	return nil
}

// metToken reads a token's row by its id and settles it. What is spent, unknown or another tenant's is token_unknown: ids
// must not tell one tenant about another. The caller releases the lock when there is no error.
func (e *Enroller) metToken(ctx context.Context, tenant, tokenID string) (m met, release func(), err error) {
	if err := name.CheckID(tokenID, apitype.TokenUnknown); err != nil {
		return met{}, nil, err
	}
	// The row tells which lock is its own, so it is read once more under the lock.
	row, err := e.token(ctx, tokenID)
	if err != nil {
		return met{}, nil, err
	}
	if row == nil || !inTenant(tenant, row.Tenant) {
		return met{}, nil, unknownToken()
	}
	unlock := e.Locks.Agent(row.AgentID, row.Pool.ID)
	defer func() {
		if release == nil { // an error, or a panic underneath
			unlock()
		}
	}()
	if m, err = e.meet(ctx, row.AgentID, tokenID); err != nil {
		return met{}, nil, err
	}
	if m.token == nil && m.agent == nil && !m.gone() { // tidied away since
		return met{}, nil, unknownToken()
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
	if m.token.Revoked || m.token.ended != nil {
		return m.token.info(e.Now()), nil
	}
	row := *m.token
	row.Revoked, row.Reason, row.inBatch = true, reason, false
	row.Record = audit.NewRecord(origin, e.Now(), apitype.Event{
		EntityType: "token", EntityID: row.TokenID, Action: apitype.ActionTokenRevoked, Tenant: row.Tenant,
		Details: row.withPool(map[string]any{"reason": reason}),
	})
	if err := e.Store.Put(ctx, store.Sharded(store.TokenPrefix, tokenID), &row); err != nil {
		return apitype.TokenInfo{}, err
	}
	e.tallies.gone(row.Pool.ID, tokenID)
	e.Log.Tell(ctx, row.Record)
	return row.info(e.Now()), nil
}

// Tokens lists token rows in the order of their ids. What is spent is not listed: its agent is the record of it.
func (e *Enroller) Tokens(ctx context.Context, tenant string, page apitype.Page) (apitype.ListResponse[apitype.TokenInfo], error) {
	return list(ctx, page, e.walkTokens, func(id string) (*apitype.TokenInfo, error) {
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
		if !wanted(page.Pool, info.Pool) || !wanted(page.Group, info.Group) || !wanted(page.State, info.State) {
			return nil, nil
		}
		return &info, nil
	})
}

// wanted reports whether a value passes a filter.
func wanted(filter, value string) bool { return filter == "" || filter == value }

// list collects one page of what read answers for each id that walk visits; nil is left out.
func list[T any](ctx context.Context, page apitype.Page, walk func(ctx context.Context, after string, visit func(id string) (bool, error)) error, read func(id string) (*T, error)) (apitype.ListResponse[T], error) {
	out := apitype.ListResponse[T]{Keys: []string{}, KeyInfo: map[string]T{}}
	err := walk(ctx, page.After, func(id string) (bool, error) {
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
