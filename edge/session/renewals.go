package session

import (
	"cmp"
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// Bounds of the renewals that the edge asks for by itself.
const (
	renewalWorkers  = 16
	shortestAwayFor = 5 * time.Second
	longestAwayFor  = time.Minute
)

// renewals are those that the edge asks for by itself: a bounded number at a time, the leaf that ends first before the
// others, and none for a while when Vault is away.
type renewals struct {
	desk *Desk

	mu      sync.Mutex
	queue   []*member
	running int
	awayFor time.Duration // the last pause; 0 while Vault answers
	resume  time.Time
	workers sync.WaitGroup
}

// attend does for every session what is due.
func (d *Desk) attend(ctx context.Context, now time.Time) {
	due := d.live.matching(func(m *member) bool {
		at := m.wake.Load()
		return at != 0 && at <= now.Unix()
	})
	if len(due) == 0 || d.draining.Load() {
		return
	}
	away := d.renewals.away(now)
	var wanting []*member
	var leaving []farewell
	for _, m := range due {
		wanted, home := m.attend(now, !away)
		if wanted {
			wanting = append(wanting, m)
		}
		if home != nil {
			leaving = append(leaving, farewell{m, home})
		}
	}
	d.renewals.add(ctx, wanting)
	d.renewals.send(leaving)
}

// farewell is the offer of its new home for an agent that has gone.
type farewell struct {
	member *member
	offer  *Offer
}

// send sends off agents, several at a time: one that does not read holds up few others.
func (q *renewals) send(all []farewell) {
	if len(all) == 0 {
		return
	}
	for some := range slices.Chunk(all, (len(all)+renewalWorkers-1)/renewalWorkers) {
		q.workers.Go(func() {
			for _, f := range some {
				q.desk.guard("handover", func() { f.member.push(f.offer) })
			}
		})
	}
}

// away reports whether Vault is to be left alone for now.
func (q *renewals) away(now time.Time) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return now.Before(q.resume)
}

func (q *renewals) add(ctx context.Context, all []*member) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.queue = append(q.queue, all...)
	if len(all) > 0 {
		slices.SortStableFunc(q.queue, func(a, b *member) int { return cmp.Compare(a.notAfter, b.notAfter) })
	}
	for n := len(all); n > 0 && q.running < renewalWorkers; n-- {
		q.running++
		q.workers.Go(func() { q.work(ctx) })
	}
}

// work renews until nothing is left to do.
func (q *renewals) work(ctx context.Context) {
	for m := q.next(); m != nil; m = q.next() {
		answered := true
		q.desk.guard("renewal", func() { answered = m.renew(ctx) })
		q.note(answered, time.Now())
	}
}

func (q *renewals) next() *member {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.queue) == 0 {
		q.running--
		return nil
	}
	m := q.queue[0]
	q.queue = q.queue[1:]
	return m
}

// note draws the conclusion from one call. While Vault is away the queue is let go of: its sessions are still due when the
// pause is over.
func (q *renewals) note(answered bool, now time.Time) {
	q.mu.Lock()
	if answered {
		q.awayFor, q.resume = 0, time.Time{}
		q.mu.Unlock()
		return
	}
	if !now.Before(q.resume) { // one of many that failed together counts
		q.awayFor = min(max(2*q.awayFor, shortestAwayFor), longestAwayFor)
		q.resume = now.Add(q.awayFor/2 + rand.N(q.awayFor))
	}
	dropped := q.queue
	q.queue = nil
	q.mu.Unlock()
	for _, m := range dropped {
		m.letGo()
	}
}

// letGo puts a session back that nobody has got round to.
func (m *member) letGo() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asking = false
	m.plan()
}

// wait waits until nobody is asking any more. No more are added then.
func (q *renewals) wait() { q.workers.Wait() }
