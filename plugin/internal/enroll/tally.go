package enroll

import (
	"context"
	"sync"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/epoch"
	"github.com/ampora/ampora/plugin/internal/pool"
)

// tallies knows which tokens of capped pools are outstanding. A pool's is counted when it is first needed, and then kept.
type tallies struct {
	mu    sync.Mutex
	pools map[string]*tally
}

// tally is one pool's, of one generation and mark: tokens of others are dead.
type tally struct {
	generation uint64
	mark       epoch.Mark
	tokens     map[string]time.Time // expiry by token id
}

func (t *tallies) known(p pool.View, mark epoch.Mark) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.of(p, mark) != nil
}

// of answers the pool's tally if it is still true. The caller holds mu.
func (t *tallies) of(p pool.View, mark epoch.Mark) *tally {
	y := t.pools[p.PoolID]
	if y == nil || y.generation != p.Generation || y.mark != mark {
		return nil
	}
	return y
}

// reserve counts tokens in that are about to be issued, or refuses with pool_full.
func (t *tallies) reserve(p pool.View, mark epoch.Mark, ids []string, expiry, now time.Time) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	y := t.of(p, mark)
	if y == nil { // forgotten since it was looked for
		return apitype.Errorf(apitype.NotReady, "the pool's tokens are being counted")
	}
	room := p.MaxOutstanding - int64(len(y.tokens))
	if room < int64(len(ids)) {
		for id, end := range y.tokens {
			if !now.Before(end) {
				delete(y.tokens, id)
			}
		}
		if room = p.MaxOutstanding - int64(len(y.tokens)); room < int64(len(ids)) {
			return apitype.Errorf(apitype.PoolFull, "%d of %d tokens are outstanding", len(y.tokens), p.MaxOutstanding)
		}
	}
	for _, id := range ids {
		y.tokens[id] = expiry
	}
	return nil
}

// gone counts tokens out that are redeemed, revoked, or were never stored.
func (t *tallies) gone(poolID string, ids ...string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if y := t.pools[poolID]; y != nil {
		for _, id := range ids {
			delete(y.tokens, id)
		}
	}
}

func (t *tallies) set(poolID string, y *tally) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.pools == nil {
		t.pools = map[string]*tally{}
	}
	t.pools[poolID] = y
}

func (t *tallies) forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pools = nil
}

// count counts the pool's outstanding tokens. Meanwhile none is issued, redeemed or revoked.
func (e *Enroller) count(ctx context.Context, poolID string) error {
	defer e.Locks.Pool(poolID)()
	p, found, err := e.Pools.View(ctx, poolID)
	if err != nil || !found {
		return err
	}
	now, err := e.Epoch.Now(ctx)
	if err != nil {
		return err
	}
	y := &tally{generation: p.Generation, mark: now.Mark(p.Tenant), tokens: map[string]time.Time{}}
	err = e.walkTokens(ctx, "", func(id string) (bool, error) {
		row, err := e.token(ctx, id)
		if err != nil || row == nil || row.Pool.ID != poolID || row.state(e.Now()) != apitype.TokenStateIssued {
			return true, err
		}
		spent, err := e.spent(ctx, row)
		if err == nil && !spent {
			y.tokens[id] = row.ExpiresAt
		}
		return true, err
	})
	if err == nil {
		e.tallies.set(poolID, y)
	}
	return err
}
