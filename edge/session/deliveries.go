package session

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	// deliverers is how many agents are sent a configuration at a time.
	deliverers = 32
	// undelivered is how long an agent waits whose configuration could not be had, half of it or half more.
	undelivered = time.Second
)

// deliveries are the sessions whose agents are to be sent a configuration: a bounded number at a time.
type deliveries struct {
	desk *Desk
	wake chan struct{}

	mu      sync.Mutex
	queue   []*member
	later   []*member // whose configuration could not be had
	resume  time.Time // of those
	running int
	workers sync.WaitGroup
}

func newDeliveries(d *Desk) *deliveries { return &deliveries{desk: d, wake: make(chan struct{}, 1)} }

func (q *deliveries) add(m *member) {
	q.mu.Lock()
	q.queue = append(q.queue, m)
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// run sends until ctx ends.
func (q *deliveries) run(ctx context.Context) {
	defer q.workers.Wait()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-q.wake:
		case <-tick.C:
		}
		q.start(ctx, time.Now())
	}
}

// start puts back those that have waited long enough, and sees to it that there are workers.
func (q *deliveries) start(ctx context.Context, now time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.later) > 0 && !now.Before(q.resume) {
		q.queue, q.later = append(q.queue, q.later...), nil
	}
	for n := min(len(q.queue), deliverers-q.running); n > 0; n-- {
		q.running++
		q.workers.Go(func() { q.work(ctx) })
	}
}

func (q *deliveries) work(ctx context.Context) {
	for m := q.next(ctx); m != nil; m = q.next(ctx) {
		delivered := false
		q.desk.guard("delivery", func() { delivered = m.deliver(ctx) })
		if !delivered {
			q.putOff(m, time.Now())
		}
	}
}

func (q *deliveries) next(ctx context.Context) *member {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.queue) == 0 || ctx.Err() != nil || q.desk.draining.Load() {
		q.running--
		return nil
	}
	m := q.queue[0]
	q.queue = q.queue[1:]
	return m
}

func (q *deliveries) putOff(m *member, now time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.later) == 0 {
		q.resume = now.Add(undelivered/2 + rand.N(undelivered))
	}
	q.later = append(q.later, m)
}

// Reconfigured looks at every session once more, because what agents are to run may have changed. It is a listener of the
// delivery.
func (d *Desk) Reconfigured() {
	d.guard("configurations", func() {
		for _, m := range d.live.matching(func(*member) bool { return true }) {
			m.mu.Lock()
			m.review()
			m.mu.Unlock()
		}
	})
}
