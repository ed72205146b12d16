package session

import (
	"crypto/x509"
	"sync"
	"time"

	"github.com/ampora/ampora/plugin/identity"
	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// polling remembers the agents that speak plain HTTP from one poll to the next, so that each is asked for its full state
// once and reported once, and not with every poll.
type polling struct {
	desk *Desk

	mu  sync.Mutex
	lru *simplelru.LRU[identity.Serial, *member]
}

func newPolling(d *Desk) *polling {
	lru, err := simplelru.NewLRU[identity.Serial, *member](rememberedAgents, nil)
	if err != nil { // only for a size below one
		panic(err)
	}
	return &polling{desk: d, lru: lru}
}

// resume is the session that the leaf has already, or fresh, made live.
func (p *polling) resume(fresh *member) *member {
	p.mu.Lock()
	known, found := p.lru.Get(fresh.serial)
	if found {
		p.mu.Unlock()
		known.keep(fresh.cert)
		return known
	}
	fresh.polled = time.Now().Unix()
	var pushedOut *member
	if p.lru.Len() >= rememberedAgents {
		_, pushedOut, _ = p.lru.RemoveOldest()
	}
	p.lru.Add(fresh.serial, fresh)
	p.mu.Unlock()
	if pushedOut != nil {
		pushedOut.end()
	}
	fresh.begin()
	return fresh
}

// keep keeps the leaf that the agent has just presented, nil when it is not needed.
func (m *member) keep(cert *x509.Certificate) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.cert == nil {
		m.cert = cert
	}
}

func (p *polling) forget(m *member) {
	p.mu.Lock()
	if known, found := p.lru.Peek(m.serial); found && known == m {
		p.lru.Remove(m.serial)
	}
	p.mu.Unlock()
	m.end()
}

// sweep forgets those that have not polled for as long as a WebSocket may be silent.
func (p *polling) sweep(now time.Time) {
	for {
		p.mu.Lock()
		_, oldest, found := p.lru.GetOldest()
		p.mu.Unlock()
		if !found || !oldest.quietSince(now) {
			return
		}
		p.forget(oldest)
	}
}

func (m *member) quietSince(now time.Time) bool {
	m.mu.Lock()
	polled := m.polled
	m.mu.Unlock()
	return now.Sub(time.Unix(polled, 0)) > max(3*heartbeat(m.desk.Trust.Current()), leastSilence)
}
