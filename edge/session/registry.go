package session

import (
	"iter"
	"sync"
	"time"

	"github.com/ampora/ampora/edge/trust"
	"github.com/google/uuid"
)

// registry knows the live sessions of known agents.
type registry struct {
	mu      sync.Mutex
	byAgent map[[16]byte]*member // the newest of a list linked by sibling
	count   int
}

func newRegistry() *registry { return &registry{byAgent: make(map[[16]byte]*member)} }

// add answers how many other sessions of the same leaf were live already.
func (r *registry) add(m *member) (others int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := m.agentKey()
	for s := r.byAgent[key]; s != nil; s = s.sibling {
		if s.serial == m.serial {
			others++
		}
	}
	m.sibling = r.byAgent[key]
	r.byAgent[key] = m
	r.count++
	return others
}

func (r *registry) remove(m *member) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := m.agentKey()
	if first := r.byAgent[key]; first == m {
		r.byAgent[key] = m.sibling
	} else {
		for first != nil && first.sibling != m {
			first = first.sibling
		}
		if first == nil {
			return
		}
		first.sibling = m.sibling
	}
	r.count--
	m.sibling = nil
	if r.byAgent[key] == nil {
		delete(r.byAgent, key)
	}
}

func (r *registry) len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.count
}

// matching collects the sessions that want answers true for. What is done with them is done without the lock.
func (r *registry) matching(want func(*member) bool) []*member {
	r.mu.Lock()
	defer r.mu.Unlock()
	var found []*member
	for _, first := range r.byAgent {
		for s := first; s != nil; s = s.sibling {
			if want(s) {
				found = append(found, s)
			}
		}
	}
	return found
}

// of are the live sessions of an agent, the newest first.
func (r *registry) of(agent [16]byte) []*member {
	r.mu.Lock()
	defer r.mu.Unlock()
	var found []*member
	for s := r.byAgent[agent]; s != nil; s = s.sibling {
		found = append(found, s)
	}
	return found
}

// Changed closes the sessions that a change of the snapshot has ended, and sends off the agents that have gone to a peer. It is
// a listener of the trust feed.
func (d *Desk) Changed(c trust.Change) {
	d.news.tell()
	d.guard("restore", func() { d.restored(c.Snapshot.Settings.RestoreCount) })
	d.guard("reassigned", func() { d.reassigned(c) })
	d.guard("revocation", func() { d.endChanged(c) })
	d.guard("handover", func() { d.moved(c) })
}

func (d *Desk) endChanged(c trust.Change) {
	now := time.Now()
	if c.Whole {
		d.endDoomed(c.Snapshot, now)
		return
	}
	for agent := range touched(c) {
		for _, m := range d.live.of(agent) {
			if code := m.fate(c.Snapshot, now); code != "" {
				m.shut(code)
			}
		}
	}
}

// touched are the agents that a change of parts is about.
func touched(c trust.Change) iter.Seq[[16]byte] {
	return func(yield func([16]byte) bool) {
		each := func(id string) bool {
			agent, err := uuid.Parse(id)
			return err != nil || yield(agent) // one that is no UUID the snapshot has refused
		}
		for _, r := range c.Revoked {
			if !each(r.AgentID) {
				return
			}
		}
		for _, m := range c.Moves {
			if !each(m.AgentID) {
				return
			}
		}
		for _, g := range c.Guests {
			if !each(g.AgentID) {
				return
			}
		}
	}
}

// sweep ends what time has ended: leaves, an old snapshot, agents that have stopped polling.
func (d *Desk) sweep(now time.Time) {
	if s := d.Trust.Current(); s != nil {
		d.endDoomed(s, now)
	}
	d.polls.sweep(now)
}

func (d *Desk) endDoomed(s *trust.Snapshot, now time.Time) {
	for _, m := range d.live.matching(func(m *member) bool { return m.fate(s, now) != "" }) {
		m.shut(m.fate(s, now))
	}
}
