package named_test

import (
	"fmt"
	"testing"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/storetest"
	"github.com/hashicorp/vault/sdk/logical"
)

// transition is one change of a group or configuration and how to tell that it happened.
type transition struct {
	name     string
	run      func(*world) error
	happened func(*world) bool
	action   string // that it tells
}

// prepare makes what transitions work on.
func prepare(w *world) {
	w.configuration("acme", "base", "one")
	w.configuration("acme", "spare", "one")
	w.group("acme", "web", apitype.GroupRequest{Configuration: ptr("base")})
}

func transitions() []transition {
	group := func(w *world, name string) apitype.Group {
		g, err := w.groups.Read(w.Context(), "acme", name)
		if apitype.CodeOf(err) != apitype.GroupUnknown {
			w.must(err)
		}
		return g
	}
	configuration := func(w *world, name string) apitype.Configuration {
		c, err := w.configurations.Read(w.Context(), "acme", name)
		if apitype.CodeOf(err) != apitype.ConfigurationUnknown {
			w.must(err)
		}
		return c
	}
	return []transition{
		{
			name: "make a group",
			run: func(w *world) error {
				_, err := w.groups.Write(w.Context(), operator, "acme", "new", apitype.GroupRequest{Configuration: ptr("spare")})
				return err
			},
			happened: func(w *world) bool { return group(w, "new").Configuration == "spare" },
			action:   apitype.ActionGroupCreated,
		},
		{
			name: "change a group",
			run: func(w *world) error {
				_, err := w.groups.Write(w.Context(), operator, "acme", "web", apitype.GroupRequest{Configuration: ptr("spare")})
				return err
			},
			happened: func(w *world) bool { return group(w, "web").Configuration == "spare" },
			action:   apitype.ActionGroupUpdated,
		},
		{
			name:     "delete a group",
			run:      func(w *world) error { return w.groups.Delete(w.Context(), operator, "acme", "web") },
			happened: func(w *world) bool { return group(w, "web").Name == "" },
			action:   apitype.ActionGroupDeleted,
		},
		{
			name: "make a configuration",
			run: func(w *world) error {
				_, err := w.configurations.Write(w.Context(), operator, "acme", "new", apitype.ConfigurationRequest{Body: ptr("two")})
				return err
			},
			happened: func(w *world) bool { return configuration(w, "new").Body == "two" },
			action:   apitype.ActionConfigurationCreated,
		},
		{
			name: "change a configuration",
			run: func(w *world) error {
				_, err := w.configurations.Write(w.Context(), operator, "acme", "base", apitype.ConfigurationRequest{Body: ptr("two")})
				return err
			},
			happened: func(w *world) bool {
				c := configuration(w, "base")
				if (c.Version == 2) != (c.Body == "two") {
					w.Fatalf("half changed: %+v", c)
				}
				return c.Version == 2
			},
			action: apitype.ActionConfigurationUpdated,
		},
		{
			name:     "delete a configuration",
			run:      func(w *world) error { return w.configurations.Delete(w.Context(), operator, "acme", "spare") },
			happened: func(w *world) bool { return configuration(w, "spare").Name == "" },
			action:   apitype.ActionConfigurationDeleted,
		},
	}
}

// Every transition, with a fault at its n-th storage operation for every n: applied or not, passing or deadly. Afterwards it
// has happened with its event told once, or not at all; asked again it happens; and nothing is left over.
func TestEveryTransitionSurvivesAFaultAtEveryStorageOperation(t *testing.T) {
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
	w := newWorld(t, &storetest.Faulty{Storage: &logical.InmemStorage{}})
	prepare(w)
	if n%2 == 0 { // half the runs meet a process that has nothing in memory
		w = newWorld(t, w.storage)
	}
	before := w.events()
	w.storage.Arm(n, mode, length)
	err := tr.run(w)
	fired := w.storage.Disarm()
	if !fired && err != nil {
		t.Fatalf("without a fault: %v", err)
	}
	if length == storetest.Dead {
		w = newWorld(t, w.storage)
	}
	happened := tr.happened(w) // also before anybody has recovered
	w.sweep()
	if tr.happened(w) != happened {
		t.Fatalf("operation %d: recovery changed what happened", n)
	}
	if err == nil && !happened {
		t.Fatalf("operation %d: success was answered and nothing happened", n)
	}
	checkEvents(t, tr, n, before, w.events(), happened)
	if err := tr.run(w); err != nil || !tr.happened(w) {
		t.Fatalf("operation %d: asked again: %v", n, err)
	}
	w = newWorld(t, w.storage)
	w.sweep()
	checkEvents(t, tr, n, before, w.events(), true)
	for _, prefix := range []string{"group/acme/", "configuration/acme/"} {
		for _, key := range w.keys(prefix) {
			if entry, err := w.storage.Get(t.Context(), key); err != nil || deleted(entry.Value) {
				t.Fatalf("operation %d: a tombstone is left at %s (%v)", n, key, err)
			}
		}
	}
	return fired
}

func checkEvents(t *testing.T, tr transition, n int, before, after map[string]int, happened bool) {
	t.Helper()
	for _, action := range []string{
		apitype.ActionGroupCreated, apitype.ActionGroupUpdated, apitype.ActionGroupDeleted,
		apitype.ActionConfigurationCreated, apitype.ActionConfigurationUpdated, apitype.ActionConfigurationDeleted,
	} {
		want := before[action]
		if happened && action == tr.action {
			want++
		}
		if after[action] != want {
			t.Fatalf("operation %d: happened %v, %s told %d times instead of %d", n, happened, action, after[action], want)
		}
	}
}
