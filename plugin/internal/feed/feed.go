// Package feed is the change feed that edges poll: what is an exception to "every unexpired leaf of ours is good".
//
// It lives in memory. The epoch is random for each load of that memory, and n counts the changes since: n is given under
// the feed's lock as a change enters memory, after its Put. An edge that comes with a foreign epoch, an n that we never
// gave, or one too far back, gets a full snapshot. Until memory is known to be whole nobody gets anything: an empty set
// would let revoked agents in.
package feed

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/google/uuid"
)

// MaxWait bounds how long a poll stays open: an open call holds up a reload of the plugin and the sealing of Vault.
const MaxWait = 3 * time.Second

// keep is how many changes a delta may go back.
const keep = 8192

// loadTimeout bounds one load, and loadRetry separates failed ones.
const (
	loadTimeout = 5 * time.Minute
	loadRetry   = time.Second
)

// kind is what a change touched.
type kind int

const (
	revoked kind = iota
	issuers
	settings
	placed
	reassigned
	groups
	configurations
	peers
)

type change struct {
	kind    kind
	agentID string
	named   Named // of groups and configurations
}

// Sources is what the feed reads from.
type Sources struct {
	// Revoked answers everything that is revoked, from storage.
	Revoked func(context.Context) ([]apitype.SyncRevoked, error)
	// Places answers every agent that a handover has put somewhere, from storage.
	Places func(context.Context) ([]Place, error)
	// Issuers and Settings answer from memory.
	Issuers  func(context.Context) ([]apitype.SyncIssuer, error)
	Settings func(context.Context) (apitype.SyncSettings, error)
	// Peers answers them all, also from memory. Nil is for none.
	Peers func(context.Context) ([]apitype.SyncPeer, error)
	// Groups answers which configuration each group of every tenant gives, and Configurations the hash of each, from storage.
	// Nil is for none.
	Groups         func(context.Context) (map[Named]string, error)
	Configurations func(context.Context) (map[Named]string, error)
	Now            func() time.Time
}

// Feed is the change feed. It is safe for concurrent use.
type Feed struct {
	sources Sources
	life    context.Context // ends with the backend

	mu      sync.Mutex
	loading chan struct{} // closed when a load has ended; nil when none runs
	discard bool          // the running load must not be used
	pending []func(*memory)
	memory  *memory // nil until whole
}

type memory struct {
	epoch   string
	n       uint64
	revoked map[string]apitype.SyncRevoked
	places  map[string]Place
	things  map[kind]map[Named]string // groups and configurations
	changes []change                  // the last ones; the newest is number n
	moved   chan struct{}
}

// New makes a Feed whose loads end with life.
func New(life context.Context, sources Sources) *Feed {
	return &Feed{sources: sources, life: life}
}

// Revoked tells that agents were revoked. Call it after the Put.
func (f *Feed) Revoked(r apitype.SyncRevoked) {
	f.enter(func(m *memory) {
		m.revoked[r.AgentID] = r
		m.add(change{kind: revoked, agentID: r.AgentID})
	})
}

// enter brings a change into memory.
func (f *Feed) enter(change func(*memory)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.memory != nil:
		change(f.memory)
	case f.loading != nil: // which may have passed this row already; a load that begins later will find it
		f.pending = append(f.pending, change)
	}
}

// IssuersChanged tells that the set of issuers changed.
func (f *Feed) IssuersChanged() { f.touched(issuers) }

// SettingsChanged tells that the configuration changed.
func (f *Feed) SettingsChanged() { f.touched(settings) }

// Reassigned tells that an agent's group or own configuration was changed, or may have been.
func (f *Feed) Reassigned(agentID string) {
	f.enter(func(m *memory) { m.add(change{kind: reassigned, agentID: agentID}) })
}

// PeersChanged tells that a peer was made, changed or deleted.
func (f *Feed) PeersChanged() { f.touched(peers) }

func (f *Feed) touched(k kind) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.memory != nil {
		f.memory.add(change{kind: k})
	}
}

// Discard drops the memory, because a Put of unknown outcome may have made it wrong, or storage changed behind our back.
func (f *Feed) Discard() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.memory != nil {
		close(f.memory.moved)
		f.memory = nil
	}
	f.discard = f.loading != nil
}

func (m *memory) add(c change) {
	m.n++
	m.changes = append(m.changes, c)
	if len(m.changes) > 2*keep {
		m.changes = append([]change{}, m.changes[len(m.changes)-keep:]...)
	}
	close(m.moved)
	m.moved = make(chan struct{})
}

// Poll answers what changed since the revision, at once when something has and else after wait. It is not_ready while the
// memory is not whole.
func (f *Feed) Poll(ctx context.Context, since string, wait time.Duration) (apitype.SyncResponse, error) {
	deadline := time.NewTimer(min(max(wait, 0), MaxWait))
	defer deadline.Stop()
	patience := time.NewTimer(MaxWait) // with a memory that is not whole
	defer patience.Stop()
	for {
		moved, at, err := f.whole(ctx, patience.C)
		if err != nil {
			return apitype.SyncResponse{}, err
		}
		if since == at {
			select {
			case <-moved:
				continue
			case <-ctx.Done():
				return apitype.SyncResponse{}, ctx.Err()
			case <-deadline.C:
			}
		}
		if r, with := f.collect(since); r != nil {
			return f.complete(ctx, *r, with)
		} // the memory was dropped meanwhile: wait for it to be whole again
	}
}

// whole waits until there is a memory, or patience ends, and answers its revision and the channel that closes when it moves.
func (f *Feed) whole(ctx context.Context, patience <-chan time.Time) (moved <-chan struct{}, at string, err error) {
	for {
		m, moved, at := f.begin()
		if m != nil {
			return moved, at, nil
		}
		select {
		case <-moved:
			continue
		case <-ctx.Done():
		case <-patience:
		}
		return nil, "", apitype.Errorf(apitype.NotReady, "the set of revoked agents is still being read")
	}
}

// begin answers the memory with its revision and the channel that closes when it moves; or, while there is none, nil and
// the channel that closes when the load ends. It begins a load when none runs.
func (f *Feed) begin() (*memory, <-chan struct{}, string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.memory != nil {
		return f.memory, f.memory.moved, f.memory.revision()
	}
	if f.loading == nil {
		f.loading = make(chan struct{})
		go f.load(f.loading)
	}
	return nil, f.loading, ""
}

// Warm begins to load the memory, so that the first edge need not wait.
func (f *Feed) Warm() { f.begin() }

func (f *Feed) load(done chan struct{}) {
	ctx, cancel := context.WithTimeout(f.life, loadTimeout)
	defer cancel()
	m, err := f.read(ctx)
	if err != nil {
		select { // or a storage that is down would be asked in a tight loop
		case <-time.After(loadRetry):
		case <-ctx.Done():
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	defer close(done)
	f.loading = nil
	if err == nil && !f.discard {
		for _, change := range f.pending {
			change(m)
		}
		f.memory = m
	}
	f.discard, f.pending = false, nil
}

// read makes a memory of what is stored. A panic underneath is one failed load: it would end the process, and every mount
// with it.
func (f *Feed) read(ctx context.Context) (m *memory, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = errors.New("feed: reading what edges must know panicked")
		}
	}()
	m = &memory{
		epoch: uuid.NewString(), n: 1, revoked: map[string]apitype.SyncRevoked{}, places: map[string]Place{},
		things: map[kind]map[Named]string{groups: {}, configurations: {}}, moved: make(chan struct{}),
	}
	all, err := f.sources.Revoked(ctx)
	if err != nil {
		return nil, err
	}
	for _, r := range all {
		m.revoked[r.AgentID] = r
	}
	places, err := f.sources.Places(ctx)
	if err != nil {
		return nil, err
	}
	for _, p := range places {
		m.places[p.AgentID] = p
	}
	for k, source := range map[kind]func(context.Context) (map[Named]string, error){groups: f.sources.Groups, configurations: f.sources.Configurations} {
		if source == nil {
			continue
		}
		if m.things[k], err = source(ctx); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *memory) revision() string { return fmt.Sprintf("%s.%d", m.epoch, m.n) }

// delta answers the changes after the revision, or false when only a full snapshot will do.
func (m *memory) delta(since string) ([]change, bool) {
	epoch, text, found := strings.Cut(since, ".")
	n, err := strconv.ParseUint(text, 10, 64)
	if !found || err != nil || epoch != m.epoch || n > m.n || m.n-n > uint64(len(m.changes)) {
		return nil, false
	}
	return m.changes[uint64(len(m.changes))-(m.n-n):], true
}

// parts says which of what is replaced as a whole belongs into an answer.
type parts struct{ issuers, settings, peers bool }

// complete adds what is read after the revision was taken: it may be newer than the revision, never older.
func (f *Feed) complete(ctx context.Context, r apitype.SyncResponse, with parts) (apitype.SyncResponse, error) {
	var err error
	if with.issuers {
		if r.Issuers, err = f.sources.Issuers(ctx); err != nil {
			return apitype.SyncResponse{}, err
		}
	}
	if with.peers && f.sources.Peers != nil {
		if r.Peers, err = f.sources.Peers(ctx); err != nil {
			return apitype.SyncResponse{}, err
		}
	}
	if with.settings {
		s, err := f.sources.Settings(ctx)
		if err != nil {
			return apitype.SyncResponse{}, err
		}
		r.Settings = &s
	}
	return r, nil
}

// collect answers the changes, or nil when there is no memory.
func (f *Feed) collect(since string) (r *apitype.SyncResponse, with parts) {
	f.mu.Lock()
	defer f.mu.Unlock()
	m := f.memory
	if m == nil {
		return nil, with
	}
	now := f.sources.Now().Unix()
	changes, ok := m.delta(since)
	r = &apitype.SyncResponse{Revision: m.revision(), Full: !ok}
	if !ok {
		for id, x := range m.revoked {
			if x.NotAfter < now { // every leaf that it names has expired
				delete(m.revoked, id)
				continue
			}
			r.Revoked = append(r.Revoked, x)
		}
		for _, p := range m.places {
			p.whole(r)
		}
		return r, parts{issuers: true, settings: true, peers: true}
	}
	told := map[change]bool{}
	for _, c := range changes {
		switch c.kind {
		case issuers:
			with.issuers = true
		case settings:
			with.settings = true
		case peers:
			with.peers = true
		case groups, configurations:
			r.Configurations = true
		case reassigned:
			if !told[c] {
				r.Reassigned = append(r.Reassigned, c.agentID)
			}
		case placed:
			if !told[c] {
				m.placeOf(c.agentID).delta(r)
			}
		case revoked:
			if x, ok := m.revoked[c.agentID]; ok && !told[c] {
				r.Revoked = append(r.Revoked, x)
			}
		}
		told[c] = true
	}
	return r, with
}
