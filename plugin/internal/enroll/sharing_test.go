package enroll_test

import (
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
)

// Two agents with one certificate: seen by the edge that has both, or by two edges when the older session goes on.
func TestTwoLiveSessionsOfOneLeafAreToldOnce(t *testing.T) {
	for name, c := range map[string]struct {
		run  func(seen func(edge string, since int64, shared bool), wait func(time.Duration))
		told int
	}{
		"both on one edge": {told: 1, run: func(seen func(string, int64, bool), _ func(time.Duration)) {
			seen("one", 1, false)
			seen("one", 2, true)
			seen("one", 2, true)
		}},
		"on two edges": {told: 1, run: func(seen func(string, int64, bool), wait func(time.Duration)) {
			for range 3 {
				seen("one", 1, false)
				seen("two", 2, false)
				wait(time.Hour)
			}
		}},
		"it has moved": {run: func(seen func(string, int64, bool), wait func(time.Duration)) {
			seen("one", 1, false)
			wait(time.Hour)
			seen("two", 3601, false)
			wait(time.Minute)
			seen("one", 1, false) // half open, or told late
			wait(time.Hour)
			seen("two", 3601, false)
		}},
		"it moves back and forth": {run: func(seen func(string, int64, bool), wait func(time.Duration)) {
			for n := range int64(8) {
				seen("one", 2*n, false)
				wait(time.Hour)
				seen("two", 2*n+1, false)
				wait(time.Hour)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRenewing(t, false)
			c.run(func(edge string, since int64, shared bool) {
				a, err := r.Seen(t.Context(), operator, "", edge, apitype.SessionReport{
					AgentID: r.first.AgentID, SerialNumber: r.first.SerialNumber, Since: since, Shared: shared})
				r.must(err)
				if a.Leaf != apitype.LeafCurrent {
					t.Errorf("a session is not served: %s", a.Leaf)
				}
			}, func(d time.Duration) { r.at = r.at.Add(d) })
			if n := r.events()[apitype.ActionCertificateSuspected]; n != c.told {
				t.Errorf("told %d times", n)
			}
		})
	}
}

// A session that another edge still has of a leaf which was replaced meanwhile is ended and is no suspicion; one that begins
// after that is.
func TestASessionThatWasLeftBehindIsNoClone(t *testing.T) {
	r := newRenewing(t, false)
	began := r.at.Unix()
	r.at = r.at.Add(time.Hour)
	next, err := r.renew(apitype.RenewRequest{})
	r.must(err)
	r.seen(next, next.Fingerprint)
	r.at = r.at.Add(time.Hour)
	r.wantSuperseded(began, 0)
	r.wantSuperseded(r.at.Unix(), 1)
}

func (r *renewing) wantSuperseded(since int64, told int) {
	r.t.Helper()
	a, err := r.Seen(r.t.Context(), operator, "", "two", apitype.SessionReport{AgentID: r.first.AgentID, SerialNumber: r.first.SerialNumber, Since: since})
	r.must(err)
	if a.Leaf != apitype.LeafSuperseded {
		r.t.Errorf("the replaced leaf is %s", a.Leaf)
	}
	if n := r.events()[apitype.ActionCertificateSuspected]; n != told {
		r.t.Errorf("a session that began at %d: told %d times, want %d", since, n, told)
	}
}
