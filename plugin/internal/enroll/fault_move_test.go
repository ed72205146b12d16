package enroll_test

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/storetest"
)

// issueAgain begins a handover. Whoever lost the answer takes the token back first.
func (p *pair) issueAgain(from *world, agentID, peer string) error {
	a, err := from.Agent(p.t.Context(), "", agentID)
	if err != nil {
		return err
	}
	if a.State == apitype.AgentStateHandoverPending {
		all, err := from.Handovers(p.t.Context(), "", apitype.Page{State: a.State})
		if err != nil {
			return err
		}
		for _, id := range all.Keys {
			if _, err := from.EndHandover(p.t.Context(), operator, "", id, false); err != nil {
				return err
			}
		}
	}
	return p.issue(from, agentID, peer)
}

// thereAndBack is a whole move, and the way home, as steps that can be taken again.
func (p *pair) thereAndBack() []func() error {
	return []func() error{
		func() error { return p.issueAgain(p.eu, p.agent.AgentID, "west") },
		func() error { return p.take(p.west) },
		func() error { return p.carry(p.west, p.eu) },
		func() error { return p.comes(p.west, p.there) },
		func() error { return p.carry(p.west, p.eu) },
		func() error { return p.settles(p.west, p.there) },
		func() error { return p.issueAgain(p.west, p.there, "eu") },
		func() error { return p.take(p.eu) },
		func() error { return p.carry(p.eu, p.west) },
		func() error { return p.comes(p.eu, p.agent.AgentID) },
		func() error { return p.carry(p.eu, p.west) },
		func() error { return p.settles(p.eu, p.agent.AgentID) },
	}
}

// A whole move there and back in which either side's storage dies at its n-th operation, for every n, applied or not. The process
// is killed there and begins anew, and whoever asked asks again. The agent arrives, comes home to its own row, and each step of
// both handovers is told once.
func TestAMoveThereAndBackSurvivesADeathOfEitherSideAtEveryOperation(t *testing.T) {
	start := newPair(t)
	whole := start.again()
	for n, step := range whole.thereAndBack() {
		if err := step(); err != nil {
			t.Fatalf("step %d: %v", n, err)
		}
	}
	want := map[string]map[string]int{"eu": whole.eu.steps(), "west": whole.west.steps()}
	for _, side := range []string{"eu", "west"} {
		for _, mode := range []int{storetest.Refuse, storetest.Apply} {
			t.Run(fmt.Sprintf("%s, applied %v", side, mode == storetest.Apply), func(t *testing.T) {
				t.Parallel()
				for n := 1; start.dies(t, side, n, mode, want); n++ {
				}
			})
		}
	}
}

// dies goes all the way with one death, and reports whether it came that far.
func (p *pair) dies(t *testing.T, side string, n, mode int, want map[string]map[string]int) (fired bool) {
	t.Helper()
	q := p.again()
	w := q.side(side)
	(*w).storage.Arm(n, mode, storetest.Dead)
	steps := q.thereAndBack()
	for at := range steps {
		err := steps[at]()
		if err == nil {
			continue
		}
		if fired = (*w).storage.Disarm(); !fired {
			t.Fatalf("operation %d, step %d: %v", n, at, err)
		}
		q.restart(w)
		if err := steps[at](); err != nil {
			t.Fatalf("operation %d, step %d, asked again: %v", n, at, err)
		}
	}
	fired = (*w).storage.Disarm() || fired
	q.restart(w)
	if !q.eu.serves() || q.west.serves() {
		t.Fatalf("operation %d: at home\n%s\nthere\n%s", n, q.eu.view(), q.west.view())
	}
	for name, w := range map[string]*world{"eu": q.eu, "west": q.west} {
		w.view()
		w.orphans()
		if got := w.steps(); !maps.Equal(got, want[name]) {
			t.Fatalf("operation %d: %s tells %v instead of %v", n, name, got, want[name])
		}
	}
	return fired
}

// steps counts the events of handovers, without tokens that were taken back because nobody had them.
func (w *world) steps() map[string]int {
	w.t.Helper()
	all := w.events()
	all[apitype.ActionHandoverIssued] -= all[apitype.ActionHandoverCancelled]
	maps.DeleteFunc(all, func(action string, _ int) bool {
		return !strings.HasPrefix(action, "Handover.") || action == apitype.ActionHandoverCancelled
	})
	return all
}
