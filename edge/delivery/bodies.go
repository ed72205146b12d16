package delivery

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/ampora/ampora/edge/recent"
	"github.com/hashicorp/golang-lru/v2/simplelru"
)

const (
	maxBodies  = 1 << 16 // that are remembered, however small they are
	rememberBy = 256     // bytes that each costs besides its body
	// failedFor is how long a failure is everybody's.
	failedFor = time.Second
)

var errAbandoned = errors.New("delivery: reading the configuration did not end")

// bodies remembers those that were used last, up to a number of bytes, and reads each of the others once at a time.
type bodies struct {
	read     func(Target) (*Configuration, error)
	maxBytes int
	failed   *recent.Map[Target, error]

	mu      sync.Mutex
	lru     *simplelru.LRU[Target, *Configuration]
	bytes   int
	flights map[Target]*flight
}

// flight is one read, for which the others wait.
type flight struct {
	done chan struct{}
	c    *Configuration
	err  error
}

func newBodies(maxBytes int, read func(Target) (*Configuration, error)) *bodies {
	b := &bodies{read: read, maxBytes: maxBytes, failed: recent.NewMap[Target, error](maxBodies), flights: map[Target]*flight{}}
	lru, err := simplelru.NewLRU(maxBodies, func(_ Target, c *Configuration) { b.bytes -= c.size() })
	if err != nil { // only for a size below one
		panic(err)
	}
	b.lru = lru
	return b
}

func (c *Configuration) size() int { return len(c.Body) + rememberBy }

func (b *bodies) get(ctx context.Context, t Target) (*Configuration, error) {
	b.mu.Lock()
	if c, found := b.lru.Get(t); found {
		b.mu.Unlock()
		return c, nil
	}
	if err, found := b.failed.Get(t); found {
		b.mu.Unlock()
		return nil, err
	}
	f, flying := b.flights[t]
	if !flying {
		f = &flight{done: make(chan struct{}), err: errAbandoned}
		b.flights[t] = f
		go b.fly(t, f)
	}
	b.mu.Unlock()
	select {
	case <-f.done:
		return f.c, f.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (b *bodies) fly(t Target, f *flight) {
	defer b.land(t, f)
	f.c, f.err = b.read(t)
}

// land hands out what was read. A panic underneath is a failed read: here it would end the process.
func (b *bodies) land(t Target, f *flight) {
	_ = recover()
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.flights, t)
	close(f.done)
	if f.err != nil {
		b.failed.Put(t, f.err, failedFor)
		return
	}
	b.lru.Add(t, f.c)
	for b.bytes += f.c.size(); b.bytes > b.maxBytes && b.lru.Len() > 1; {
		b.lru.RemoveOldest()
	}
}
