package audit

import (
	"fmt"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/store"
	"github.com/ampora/ampora/plugin/internal/storetest"
	"github.com/hashicorp/vault/sdk/logical"
)

// toldRefusals are the sums of all events of refusals, by source.
func toldRefusals(t *testing.T, l *Log) (sums map[string]int, events int) {
	t.Helper()
	all, next, err := l.Page(t.Context(), Query{Action: apitype.ActionAccessRefused, Limit: MaxLimit})
	if err != nil || next != "" {
		t.Fatal(next, err)
	}
	sums = map[string]int{}
	for _, e := range all {
		sums[e.Tenant+" "+e.EntityID] += int(e.Details["count"].(float64))
	}
	return sums, len(all)
}

// Whichever write of a Tell fails, nothing is lost or told twice, and while storage is down memory stays bounded.
func TestNoRefusalIsLostOrToldTwiceWhenStorageFails(t *testing.T) {
	const sources, rows = 30, 4 // so many sources make so many rows
	for n := 1; n <= rows+1; n++ {
		for _, mode := range []int{storetest.Refuse, storetest.Apply} {
			faulty := &storetest.Faulty{Storage: &logical.InmemStorage{}}
			l := NewLog(store.New(faulty), time.Now, time.Hour)
			if _, _, err := l.Page(t.Context(), Query{}); err != nil {
				t.Fatal(err)
			}
			r := NewRefusals(l, time.Now)
			refuse := func() {
				for i := range sources {
					r.Add("", Source(fmt.Sprintf("10.0.0.%d", i)), apitype.TokenUnknown, 1)
				}
			}
			refuse()
			faulty.Arm(n, mode, storetest.Dead)
			r.Tell(t.Context())
			fired := faulty.Disarm()
			if fired != (n <= rows) {
				t.Errorf("operation %d: reached %v", n, fired)
			}
			refuse()
			for range 3 { // minutes
				if err := l.Retell(t.Context()); err != nil {
					t.Fatal(err)
				}
				r.Tell(t.Context())
			}
			sums, _ := toldRefusals(t, l)
			for source, count := range sums {
				if count != 2 {
					t.Errorf("operation %d, mode %d: %s was refused %d times", n, mode, source, count)
				}
			}
			if len(sums) != sources {
				t.Errorf("operation %d, mode %d: %d sources", n, mode, len(sums))
			}
		}
	}
}

func TestNoFloodFillsTheMemory(t *testing.T) {
	l := NewLog(store.New(&logical.InmemStorage{}), time.Now, time.Hour)
	r, n := NewRefusals(l, time.Now), 0
	for tenant := range 300 {
		for source := range 20 {
			for _, s := range []string{fmt.Sprintf("10.%d.%d.1", tenant/250, source), SourceOther} {
				r.Add(fmt.Sprintf("tenant-%d", tenant), Source(s), apitype.TokenUnknown, 1)
				n++
			}
		}
	}
	if len(r.sums) > 2*maxSources+1 {
		t.Errorf("%d sums", len(r.sums))
	}
	r.Tell(t.Context())
	sums, events := toldRefusals(t, l)
	for _, count := range sums {
		n -= count
	}
	if n != 0 || events > 2*maxSources+1 {
		t.Errorf("%d events, and %d refusals were lost", events, n)
	}
}

func TestSource(t *testing.T) {
	for text, want := range map[string]string{
		"192.0.2.1": "192.0.2.1", "::ffff:192.0.2.1": "192.0.2.1", "2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64", "fe80::1%eth0": "fe80::/64",
		"2001:db8:1:2::/64": "2001:db8:1:2::/64", "2001:db8::/32": "unknown", "10.0.0.0/8": "unknown", "other": "other", "": "unknown", "amp-bs.x": "unknown",
	} {
		if got := Source(text); got != want {
			t.Errorf("%q is %q instead of %q", text, got, want)
		}
	}
}
