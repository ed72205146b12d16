package session

import (
	"sync"
	"time"

	"github.com/ampora/ampora/edge/recent"
	"github.com/ampora/ampora/plugin/apitype"
)

// mismatchEvery is how long a mismatch is not told again.
const mismatchEvery = time.Hour

// mismatches are those that the engine has not been told. What there is no room for comes again: the agent keeps trying.
type mismatches struct {
	mu    sync.Mutex
	queue []apitype.Mismatch
	told  *recent.Map[mismatch, struct{}]
}

// mismatch is what counts as the same.
type mismatch struct{ agent, fingerprint string }

func newMismatches() *mismatches {
	return &mismatches{told: recent.NewMap[mismatch, struct{}](rememberedTokens)}
}

func (q *mismatches) add(m apitype.Mismatch) {
	q.mu.Lock()
	defer q.mu.Unlock()
	key := mismatch{m.AgentID, m.Fingerprint}
	if _, known := q.told.Get(key); known || len(q.queue) >= apitype.MaxMismatches {
		return
	}
	q.told.Put(key, struct{}{}, mismatchEvery)
	q.queue = append(q.queue, m)
}

// take empties the queue.
func (q *mismatches) take() []apitype.Mismatch {
	q.mu.Lock()
	defer q.mu.Unlock()
	all := q.queue
	q.queue = nil
	return all
}

// giveBack is for what was taken and could not be told.
func (q *mismatches) giveBack(all []apitype.Mismatch) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.queue = append(all, q.queue...)
	q.queue = q.queue[:min(len(q.queue), apitype.MaxMismatches)]
}
