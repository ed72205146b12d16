package federation

import "sync"

// memory holds the peers as they were last read, because each document that comes is checked with one.
//
// A change drops it before its Put and once more afterwards, and what is read in between is not remembered: so whoever holds a
// peer (see Hold) never sees it as it was before a change.
type memory struct {
	mu       sync.Mutex
	changing int
	changes  uint64
	peers    map[string]*Peer // nil: to be read
}

// get is what is remembered, nil for nothing, and the number of changes to remember with.
func (m *memory) get() (map[string]*Peer, uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.peers, m.changes
}

// put remembers what was read after get answered that number, unless something has changed since.
func (m *memory) put(peers map[string]*Peer, changes uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.changing == 0 && m.changes == changes {
		m.peers = peers
	}
}

// change drops what is remembered, until the answer is called.
func (m *memory) change() (end func()) {
	m.step(1)
	return func() { m.step(-1) }
}

func (m *memory) step(by int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.changing += by
	m.changes++
	m.peers = nil
}
