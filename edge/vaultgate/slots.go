package vaultgate

import (
	"context"
	"sync/atomic"
	"time"
)

// slotPatience is how long a call waits for a slot at most.
const slotPatience = 10 * time.Second

// slots bound how many calls of one kind are with Vault at a time, how many more wait for that, and for how long.
type slots struct {
	taken   chan struct{}
	waiting atomic.Int64
	queue   int64
}

func newSlots(size, queue int) *slots {
	return &slots{taken: make(chan struct{}, size), queue: int64(queue)}
}

// take waits for a slot, first come first served; the caller gives it back. It answers errBusy when too many wait already,
// or it has waited too long, and ctx's error when that ends first.
func (s *slots) take(ctx context.Context) (giveBack func(), err error) {
	giveBack = func() { <-s.taken }
	select {
	case s.taken <- struct{}{}: // only without a queue: a slot given back goes to whoever waits
		return giveBack, nil
	default:
	}
	defer s.waiting.Add(-1)
	if s.waiting.Add(1) > s.queue {
		return nil, errBusy
	}
	patience := time.NewTimer(slotPatience)
	defer patience.Stop()
	select {
	case s.taken <- struct{}{}:
		return giveBack, nil
	case <-patience.C:
		return nil, errBusy
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
