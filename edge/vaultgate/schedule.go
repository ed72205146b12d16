package vaultgate

import (
	"math/rand/v2"
	"time"
)

// step is what to do next about a token, and when.
type step struct {
	after time.Duration
	login bool // else renew
}

// never is longer than any process lives.
const never = 100 * 365 * 24 * time.Hour

// minStep keeps tokens of seconds from being renewed in a busy loop.
const minStep = 500 * time.Millisecond

// plan says what to do about a token with the given life left. whole is its ttl when it was new: one that Vault grants
// less than half of is near its maximum, and renewing it further only cuts the rest into ever smaller pieces.
func plan(left, whole time.Duration, renewable bool, t traits) step {
	switch {
	case whole == 0:
		return step{after: never}
	case left <= 0:
		return step{login: true}
	case t.minted && (!renewable || left < whole/2):
		return step{after: portion(left, 1, 2), login: true}
	case renewable:
		return step{after: portion(left, 2, 3)}
	default:
		// Nothing can be done for it. At its end somebody may have put another into the file.
		return step{after: max(left, minStep), login: true}
	}
}

// portion is n/d of the time left, up to a tenth of it earlier, so that edges that were started together do not renew
// together.
func portion(left time.Duration, n, d int) time.Duration {
	after := left * time.Duration(n) / time.Duration(d)
	if spread := int64(left / 10); spread > 0 {
		after -= time.Duration(rand.Int64N(spread))
	}
	return max(after, minStep)
}
