package enroll

import (
	"context"
	"errors"
	"time"
)

// Times of a connection that tries an identity.
const (
	answerTimeout = 15 * time.Second // from connecting to the first answer
	firstPause    = 250 * time.Millisecond
	lastPause     = 5 * time.Second
	// refusedFor is how long an edge may refuse a certificate that was issued just now: it decides by a snapshot, and a new
	// issuer takes a moment to reach it.
	refusedFor = 5 * time.Second
)

// verify tries an offer until it works, the edge refuses it, or time is over. The connection is the caller's to end.
func (k *keeper) verify(ctx context.Context, o *offer) (*trial, error) {
	begin := time.Now()
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		t, err := try(ctx, &o.id, k.says)
		if err == nil {
			return t, nil
		}
		r, refused := isRefusal(err)
		if refused && r.Identity() && time.Since(begin) > refusedFor {
			return nil, err
		}
		wait := pause
		if refused && r.RetryAfter > 0 {
			wait = r.RetryAfter
		}
		if !sleep(ctx, wait) {
			return nil, errors.Join(err, context.Cause(ctx))
		}
	}
}

// sleep waits, and reports false when the context ends before or would end during the wait.
func sleep(ctx context.Context, d time.Duration) bool {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= d {
		return false
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
