package session

import (
	"runtime/debug"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// memory remembers values for a while, the most recent ones when there are too many.
type memory[K comparable, V any] struct {
	mu  sync.Mutex
	lru *simplelru.LRU[K, remembered[V]]
}

type remembered[V any] struct {
	value V
	until time.Time
}

func newMemory[K comparable, V any](size int) *memory[K, V] {
	lru, err := simplelru.NewLRU[K, remembered[V]](size, nil)
	if err != nil { // only for a size below one
		panic(err)
	}
	return &memory[K, V]{lru: lru}
}

func (m *memory[K, V]) put(key K, value V, ttl time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lru.Add(key, remembered[V]{value, time.Now().Add(ttl)})
}

func (m *memory[K, V]) get(key K) (V, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, found := m.lru.Get(key)
	if found && time.Now().After(r.until) {
		m.lru.Remove(key)
		found = false
	}
	if !found {
		var none V
		return none, false
	}
	return r.value, true
}

func (m *memory[K, V]) forget(key K) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lru.Remove(key)
}

func stack() string { return string(debug.Stack()) }
