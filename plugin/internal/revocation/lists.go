package revocation

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/ca"
	"github.com/ampora/ampora/plugin/internal/store"
	"github.com/google/uuid"
)

// MaxWait is how long whoever asks for a list waits for the first one.
const MaxWait = 3 * time.Second

// loadTimeout bounds one load, which gives way to requests, and retry separates failed loads and failed signatures.
const (
	loadTimeout = 30 * time.Minute
	retry       = time.Second
)

// Sources is what Lists work with.
type Sources struct {
	// Leaves visits every agent that has leaves which count no longer, from storage. Of several visits the last counts.
	Leaves func(ctx context.Context, visit func(agentID string, leaves []Leaf)) error
	// Issuer answers one issuer, or issuer_unknown.
	Issuer func(ctx context.Context, issuerID string) (*ca.Issuer, error)
	// Expiry is how long a list is good for.
	Expiry func(context.Context) (time.Duration, error)
	// Failed hears what went wrong in the background. It is tried again.
	Failed func(what string, err error)
	Now    func() time.Time
}

// Lists makes each issuer's list of revoked certificates, from memory: who asks gets the one that is there, and a newer one
// of those in use is signed in the background when something has changed. Until memory is known to be whole nobody gets any, because a list
// that leaves somebody out lets him in. It is safe for concurrent use.
type Lists struct {
	sources Sources
	life    context.Context // ends with the backend
	numbers *numbers
	signing sync.Mutex // one signature at a time: a long list keeps a core busy

	mu      sync.Mutex
	loading chan struct{} // closed when a load has ended; nil when none runs
	discard bool          // the running load must not be used
	pending map[uuid.UUID][]Leaf
	memory  *memory // nil until whole
}

// NewLists makes Lists whose work in the background ends with life. Their numbers are kept in rows.
func NewLists(life context.Context, rows *store.Store, sources Sources) *Lists {
	return &Lists{sources: sources, life: life, numbers: newNumbers(rows)}
}

// Changed tells all leaves of an agent that count no longer. Call it after the Put.
func (l *Lists) Changed(agentID string, leaves []Leaf) {
	agent, err := uuid.Parse(agentID)
	if err != nil { // no agent is called so, and what the rows say is known better by a load
		l.Discard()
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.memory == nil {
		// A running load may have passed this row already; one that begins later will find it.
		if l.loading != nil {
			l.pending[agent] = leaves
		}
		return
	}
	for _, id := range l.memory.set(agent, leaves) {
		if made := l.memory.lists[id]; made != nil {
			l.outdate(id, made)
		}
	}
}

// Discard drops the memory, because a Put of unknown outcome may have made it wrong, or storage changed behind our back.
func (l *Lists) Discard() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.memory = nil
	l.discard = l.loading != nil
}

// Forget drops what is known of numbers, because another node wrote a row of theirs.
func (l *Lists) Forget() { l.numbers.forget() }

// Warm begins to load the memory, so that who asks first need not wait.
func (l *Lists) Warm() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.begin()
}

// Loading reports whether a load is under way.
func (l *Lists) Loading() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.loading != nil
}

// begin sees to it that memory is there or being loaded. The answer is closed when the load has ended. The caller holds mu.
func (l *Lists) begin() <-chan struct{} {
	if l.memory == nil && l.loading == nil {
		l.loading, l.pending = make(chan struct{}), map[uuid.UUID][]Leaf{}
		go l.load(l.loading)
	}
	return l.loading
}

func (l *Lists) load(done chan struct{}) {
	ctx, cancel := context.WithTimeout(l.life, loadTimeout)
	defer cancel()
	m, err := l.read(ctx)
	if err != nil { // or a storage that is down would be asked in a tight loop
		l.failed("reading the leaves that count no longer", err)
		l.pause(retry)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	defer close(done)
	l.loading = nil
	if err == nil && !l.discard {
		for agent, leaves := range l.pending {
			m.set(agent, leaves)
		}
		l.memory = m
	}
	l.discard, l.pending = false, nil
}

// read reads all rows. A panic underneath is one failed load: it would end the process, and every mount with it.
func (l *Lists) read(ctx context.Context) (m *memory, err error) {
	defer func() {
		if p := recover(); p != nil {
			m, err = nil, errors.New("it panicked")
		}
	}()
	m = newMemory()
	var bad error
	err = l.sources.Leaves(ctx, func(agentID string, leaves []Leaf) {
		agent, err := uuid.Parse(agentID)
		if err != nil {
			bad = fmt.Errorf("an agent's id is no UUID: %w", err)
			return
		}
		m.set(agent, leaves)
	})
	return m, errors.Join(err, bad)
}

func (l *Lists) failed(what string, err error) {
	if l.life.Err() == nil {
		l.sources.Failed(what, err)
	}
}

// pause waits, but not beyond the end of the backend.
func (l *Lists) pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-l.life.Done():
	}
}

var errNotMade = apitype.Errorf(apitype.NotReady, "the list of revoked certificates is still being made")
