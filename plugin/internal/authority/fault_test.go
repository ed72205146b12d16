package authority_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/authority"
	"github.com/ampora/ampora/plugin/internal/storetest"
)

// transition is one change of an issuer and how to tell that it happened.
type transition struct {
	name     string
	run      func(*world, ids) error
	happened func(*world, ids) bool
	action   string // that it tells once
}

// ids are the issuers that transitions work on.
type ids struct{ active, trusted, draft string }

func transitions() []transition {
	state := func(which func(ids) string, want string) func(*world, ids) bool {
		return func(w *world, i ids) bool { return w.state(which(i)) == want }
	}
	trusted, draft := func(i ids) string { return i.trusted }, func(i ids) string { return i.draft }
	return []transition{
		{
			name:     "retire a trusted issuer whose certificates have ended",
			run:      func(w *world, i ids) error { return w.retire(i.trusted, false) },
			happened: state(trusted, authority.Retired), action: apitype.ActionIssuerRetired,
		},
		{
			name:     "retire a draft",
			run:      func(w *world, i ids) error { return w.retire(i.draft, false) },
			happened: state(draft, authority.Retired), action: apitype.ActionIssuerRetired,
		},
		{
			name: "retire by force",
			run: func(w *world, i ids) error {
				w.leaves = 7
				return w.retire(i.trusted, true)
			},
			happened: state(trusted, authority.Retired), action: apitype.ActionIssuerRetired,
		},
		{
			name: "activate",
			run: func(w *world, i ids) error {
				_, err := w.Activate(w.Context(), operator, i.draft)
				return err
			},
			happened: func(w *world, i ids) bool {
				return w.state(i.draft) == authority.Active && w.state(i.active) == authority.Trusted
			},
			action: apitype.ActionIssuerActivated,
		},
	}
}

// Every change of state, with a fault at its n-th storage operation for every n: applied or not, passing after one or two
// operations or deadly. Afterwards, in the same process or after a restart, it has happened with its event told once, or not at
// all; asked again it happens. At no time are there two issuers that sign, or none.
func TestEveryChangeOfStateSurvivesAFaultAtEveryStorageOperation(t *testing.T) {
	for _, tr := range transitions() {
		for _, mode := range []int{storetest.Refuse, storetest.Apply} {
			for _, length := range []int{1, 2, storetest.Dead} {
				t.Run(fmt.Sprintf("%s, applied %v, %d failing", tr.name, mode == storetest.Apply, length), func(t *testing.T) {
					n := 1
					for faultAt(t, tr, n, mode, length) {
						n++
					}
					if n < 3 {
						t.Fatalf("only %d operations seen", n-1)
					}
				})
			}
		}
	}
}

// faultAt runs the transition with a fault at operation n, and reports whether it came that far.
func faultAt(t *testing.T, tr transition, n, mode, length int) bool {
	w := newWorld(t)
	i := ids{trusted: w.root(time.Hour), active: w.root(time.Hour)}
	w.activate(i.active)
	i.draft = w.root(time.Hour)
	before := w.told(tr.action)
	if n%2 == 0 { // half the runs meet a process that must read first
		w = w.restart()
	}
	check := func(happened bool) {
		t.Helper()
		want := before
		if happened {
			want++
		}
		signing := 0
		for _, issuer := range w.set().Describe() {
			if issuer.State == authority.Active {
				signing++
			}
		}
		if told := w.told(tr.action); told != want || signing != 1 {
			t.Fatalf("operation %d: happened %v, told %d times instead of %d, %d issuers sign", n, happened, told, want, signing)
		}
	}
	w.storage.Arm(n, mode, length)
	err := tr.run(w, i)
	fired := w.storage.Disarm()
	if !fired && err != nil {
		t.Fatalf("without a fault: %v", err)
	}
	if length == storetest.Dead {
		w = w.restart()
	} else {
		w.recover()
	}
	happened := tr.happened(w, i)
	if err == nil && !happened {
		t.Fatalf("operation %d: success was answered and nothing happened", n)
	}
	check(happened)
	if !happened {
		if err := tr.run(w, i); err != nil || !tr.happened(w, i) {
			t.Fatalf("operation %d: asked again: %v", n, err)
		}
	}
	w = w.restart()
	check(true)
	return fired
}
