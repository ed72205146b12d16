package enroll_test

import (
	"maps"
	"slices"
	"sync"

	"github.com/ampora/ampora/plugin/internal/revocation"
)

// ledger is what a process remembers of leaves that count no longer, as CRLs would be made of it.
type ledger struct {
	mu    sync.Mutex
	whole bool // nothing has come to make it doubtful since it was loaded
	dead  map[string][]revocation.Leaf
}

func (l *ledger) Changed(agentID string, leaves []revocation.Leaf) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.whole {
		l.dead[agentID] = leaves
	}
}

func (l *ledger) Discard() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.whole = false
}

func (l *ledger) load(w *world) {
	w.t.Helper()
	l.dead, l.whole = map[string][]revocation.Leaf{}, true
	w.must(w.DeadLeaves(w.t.Context(), func(agentID string, leaves []revocation.Leaf) { l.dead[agentID] = leaves }))
}

// compare fails when memory is not in doubt and yet not what storage says.
func (l *ledger) compare(w *world) {
	w.t.Helper()
	if !l.whole {
		return
	}
	stored := &ledger{}
	stored.load(w)
	same := func(a, b []revocation.Leaf) bool {
		return slices.EqualFunc(a, b, func(a, b revocation.Leaf) bool {
			return a.Serial == b.Serial && a.Reason == b.Reason && a.Time.Equal(b.Time)
		})
	}
	maps.DeleteFunc(l.dead, func(_ string, leaves []revocation.Leaf) bool { return len(leaves) == 0 })
	if !maps.EqualFunc(l.dead, stored.dead, same) {
		w.t.Fatalf("memory says %v, storage says %v", l.dead, stored.dead)
	}
}
