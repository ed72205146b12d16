package enroll

import (
	"context"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/store"
	"github.com/ampora/ampora/plugin/token"
)

// token reads a token, from a row of its own or from its batch, with what has ended it together with others. It answers
// nil when there is none. For the answer to stay true the caller holds the mount and the token's pool.
func (e *Enroller) token(ctx context.Context, tokenID string) (*tokenRow, error) {
	row, err := get[tokenRow](ctx, e, store.TokenPrefix, tokenID)
	if err == nil && row == nil {
		row, err = e.inBatch(ctx, tokenID)
	}
	if err != nil || row == nil {
		return nil, err
	}
	return row, e.weigh(ctx, row)
}

// weigh finds out what has ended a token together with others, and what its pool asks of it.
func (e *Enroller) weigh(ctx context.Context, row *tokenRow) error {
	now, err := e.Epoch.Now(ctx)
	if err != nil {
		return err
	}
	if end := now.Ended(row.Mark, row.Tenant); end != nil {
		row.ended, row.reason = apitype.Errorf(apitype.TokenRevoked, "all tokens of that time were ended"), end.Reason
		return nil
	}
	if row.Pool.ID == "" {
		return nil
	}
	p, found, err := e.Pools.View(ctx, row.Pool.ID)
	switch {
	case err != nil:
		return err
	case !found:
		row.ended, row.reason = apitype.Errorf(apitype.PoolRevoked, "its pool was deleted"), "the pool was deleted"
	case p.Generation != row.Pool.Generation:
		row.ended, row.reason = apitype.Errorf(apitype.PoolRevoked, "the pool's tokens of that time were ended"), p.Reason
	default:
		row.cidrs, row.leafTTL = p.BoundCIDRs, p.LeafTTL
	}
	return nil
}

// lockToken takes the locks under which a token is checked or redeemed. Which pool it comes from stands in its row.
func (e *Enroller) lockToken(ctx context.Context, secret token.Secret) (release func(), err error) {
	row, err := e.token(ctx, secret.ID())
	if err != nil {
		return nil, err
	}
	poolID := ""
	if row != nil {
		poolID = row.Pool.ID
	}
	return e.Locks.Agent(secret.AgentID(), poolID), nil
}

// spent reports whether the token has made its agent.
func (e *Enroller) spent(ctx context.Context, row *tokenRow) (bool, error) {
	agent, err := get[agentRow](ctx, e, store.AgentPrefix, row.AgentID)
	if err != nil || agent != nil {
		return true, err
	}
	revoked, err := get[revokedRow](ctx, e, store.RevokedPrefix, row.AgentID)
	return revoked != nil, err
}

// walkTokens calls visit with the id of every token in ascending order, those of batches among them, beginning after the
// id 'after', until visit answers false or an error.
func (e *Enroller) walkTokens(ctx context.Context, after string, visit func(id string) (bool, error)) error {
	batched, err := e.batchTokens(ctx, after)
	if err != nil {
		return err
	}
	more := true
	// before visits the batches' ids below the given one, and leaves out those that have a row of their own.
	before := func(id string) error {
		for more && err == nil && len(batched) > 0 && (id == "" || batched[0] < id) {
			next := batched[0]
			batched = batched[1:]
			more, err = visit(next)
		}
		if len(batched) > 0 && batched[0] == id {
			batched = batched[1:]
		}
		return err
	}
	err = e.Store.Walk(ctx, store.TokenPrefix, after, func(id string) (bool, error) {
		if err := before(id); err != nil || !more {
			return false, err
		}
		var err error
		more, err = visit(id)
		return more, err
	})
	if err != nil || !more {
		return err
	}
	return before("")
}
