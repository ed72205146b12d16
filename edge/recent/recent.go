// Package recent remembers what was learnt a moment ago, in bounded memory.
package recent

import (
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// Map remembers values for a while, the ones used last when there are too many. It is safe for concurrent use.
type Map[K comparable, V any] struct {
	mu  sync.Mutex
	lru *simplelru.LRU[K, entry[V]]
}

type entry[V any] struct {
	value V
	until time.Time
}

// NewMap makes a Map of at most size values (at least one).
func NewMap[K comparable, V any](size int) *Map[K, V] {
	lru, err := simplelru.NewLRU[K, entry[V]](max(size, 1), nil)
	if err != nil { // only for a size below one
		panic(err)
	}
	return &Map[K, V]{lru: lru}
}

// Put remembers the value for ttl, in the place of an earlier one.
func (m *Map[K, V]) Put(key K, value V, ttl time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lru.Add(key, entry[V]{value, time.Now().Add(ttl)})
}

// Get is the value, if it is still remembered.
func (m *Map[K, V]) Get(key K) (V, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, found := m.lru.Get(key)
	if found && time.Now().After(e.until) {
		m.lru.Remove(key)
		found = false
	}
	if !found {
		var none V
		return none, false
	}
	return e.value, true
}

// Forget drops the value.
func (m *Map[K, V]) Forget(key K) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lru.Remove(key)
}
