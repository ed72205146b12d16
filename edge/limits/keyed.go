// Package limits holds the edge's rate limits: token buckets per key in bounded memory.
//
// They slow down what has been found wrong. Whoever holds a right credential is never refused because of others behind
// the same address (DESIGN.md section 7), so a caller judges first and counts afterwards.
package limits

import (
	"context"
	"net/netip"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"golang.org/x/time/rate"
)

// Keyed is a token bucket per key. It remembers the keys used last and forgets the others, which fills their buckets. It is
// safe for concurrent use.
type Keyed[K comparable] struct {
	limit rate.Limit
	burst int

	mu      sync.Mutex
	buckets *simplelru.LRU[K, *rate.Limiter]
}

// NewKeyed makes buckets that refill at perSecond and hold burst, for at most size keys (at least one).
func NewKeyed[K comparable](perSecond float64, burst, size int) *Keyed[K] {
	buckets, err := simplelru.NewLRU[K, *rate.Limiter](max(size, 1), nil)
	if err != nil { // only for a size below one
		panic(err)
	}
	return &Keyed[K]{limit: rate.Limit(perSecond), burst: burst, buckets: buckets}
}

// Allow takes one from the key's bucket and reports whether there was one.
func (k *Keyed[K]) Allow(key K) bool { return k.bucket(key).Allow() }

// Spent reports whether the key's bucket is empty now. It takes nothing, and an unknown key costs no memory.
func (k *Keyed[K]) Spent(key K) bool {
	k.mu.Lock()
	b, found := k.buckets.Peek(key)
	k.mu.Unlock()
	return found && b.Tokens() < 1
}

// Wait takes one from the key's bucket as soon as there is one. It fails at once when ctx would end first.
func (k *Keyed[K]) Wait(ctx context.Context, key K) error { return k.bucket(key).Wait(ctx) }

func (k *Keyed[K]) bucket(key K) *rate.Limiter {
	k.mu.Lock()
	defer k.mu.Unlock()
	b, found := k.buckets.Get(key)
	if !found {
		b = rate.NewLimiter(k.limit, k.burst)
		k.buckets.Add(key, b)
	}
	return b
}

// Source is the unit in which addresses are counted: one IPv4 address, or one IPv6 /64, which is what a single customer
// holds. The zero value stands for an unknown address.
type Source netip.Prefix

// SourceOf is the source of an address.
func SourceOf(addr netip.Addr) Source {
	addr = addr.Unmap().WithZone("")
	bits := 32
	if addr.Is6() {
		bits = 64
	}
	prefix, err := addr.Prefix(bits)
	if err != nil {
		return Source{}
	}
	return Source(prefix)
}
