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
