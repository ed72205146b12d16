// Package pace keeps long work in the background from crowding out requests: it works for a moment and then rests for a
// longer one. Since the rest follows from how long the work took, it gives way when the machine or the storage is busy.
package pace

import (
	"context"
	"time"
)

const (
	stretch = 10 * time.Millisecond // of work before a rest
	share   = 9                     // a rest is so many times as long as the work before it, unless somebody waits for it
	longest = time.Second           // rest, whatever the work took
)

// Pace is that of one piece of work. The zero value is ready; it is for one goroutine.
type Pace struct {
	// Awaited is for work that somebody waits for: it takes half of the time, and not a tenth.
	Awaited bool
	since   time.Time
}

// Step is called before every small step of the work, such as one row. It rests when it is time to, and answers ctx's error
// when that has ended.
func (p *Pace) Step(ctx context.Context) error {
	if p.since.IsZero() {
		p.since = time.Now()
	}
	worked := time.Since(p.since)
	if worked < stretch {
		return ctx.Err()
	}
	pause := share * worked
	if p.Awaited {
		pause = worked
	}
	rest := time.NewTimer(min(pause, longest))
	defer rest.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-rest.C:
	}
	p.since = time.Now()
	return nil
}
