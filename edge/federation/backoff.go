package federation

import (
	"math/rand/v2"
	"time"
)

// retry is when something that failed is tried again. The zero value has not failed.
type retry struct {
	at    time.Time
	pause time.Duration
	why   string
}

// after is the next one, at least wait from now. The pauses double, and are spread so that edges do not come together.
func (r retry) after(why string, t Timing, wait time.Duration) retry {
	pause := min(max(2*r.pause, t.Retry), max(t.LastRetry, t.Retry))
	return retry{at: time.Now().Add(max(pause/2+rand.N(pause), wait)), pause: pause, why: why}
}

// around is d, a tenth more or less.
func around(d time.Duration) time.Duration { return d*9/10 + rand.N(d/5+1) }

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
