package together

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"
)

// gated are Writes whose write waits until it is told how to end.
type gated struct {
	*Writes[int]
	t       *testing.T
	arrived chan write
	mu      sync.Mutex
	after   [][]int
}

type write struct {
	items []int
	end   chan func() error
}

func newGated(t *testing.T, most int) *gated {
	g := &gated{t: t, arrived: make(chan write, 100)}
	g.Writes = New(most, func(_ context.Context, items []int) error {
		w := write{items, make(chan func() error)}
		g.arrived <- w
		return (<-w.end)()
	}, func(_ context.Context, items []int) {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.after = append(g.after, items)
	})
	g.Patience = time.Hour
	return g
}

// crowd has the first of n items be written, and the others wait behind it.
func (g *gated) crowd(n int) (first write, results []error, wait func()) {
	g.t.Helper()
	results = make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			defer func() {
				if p := recover(); p != nil {
					results[i] = fmt.Errorf("panic: %v", p)
				}
			}()
			results[i] = g.Do(g.t.Context(), i)
		})
		if i == 0 {
			first = <-g.arrived
			continue
		}
		for end := time.Now().Add(10 * time.Second); g.Waiting() != i; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				g.t.Fatalf("%d wait, want %d", g.Waiting(), i)
			}
		}
	}
	return first, results, wg.Wait
}

func worked() error { return nil }

func TestWhatComesMeanwhileIsWrittenTogether(t *testing.T) {
	g := newGated(t, 4)
	w, results, wait := g.crowd(7)
	for _, want := range [][]int{{0}, {1, 2, 3, 4}, {5, 6}} {
		if !slices.Equal(w.items, want) {
			t.Fatalf("written are %v, want %v", w.items, want)
		}
		w.end <- worked
		if want[0] != 5 {
			w = <-g.arrived
		}
	}
	wait()
	if err := errors.Join(results...); err != nil || len(g.after) != 3 {
		t.Errorf("%v; %d writes were followed up", err, len(g.after))
	}
	go func() { (<-g.arrived).end <- worked }()
	if err := g.Do(t.Context(), 7); err != nil || g.writers != 0 {
		t.Errorf("afterwards: %v, %d writers", err, g.writers)
	}
}

func TestAWriteThatFailsFailsAllThatItHeld(t *testing.T) {
	for name, end := range map[string]func() error{
		"fault": func() error { return errors.New("fault") },
		"panic": func() error { panic("a bug underneath") },
	} {
		t.Run(name, func(t *testing.T) {
			g := newGated(t, 3)
			w, results, wait := g.crowd(5)
			w.end <- worked
			(<-g.arrived).end <- end
			(<-g.arrived).end <- worked
			wait()
			for i, err := range results {
				if failed := i >= 1 && i <= 3; failed != (err != nil) {
					t.Errorf("item %d: %v", i, err)
				}
			}
			if g.writers != 0 || len(g.after) != 2 {
				t.Errorf("%d writers are left, %d writes were followed up", g.writers, len(g.after))
			}
		})
	}
}

func TestAWriteThatHangsHoldsUpNobodyForLong(t *testing.T) {
	g := newGated(t, 100)
	g.Patience = 10 * time.Millisecond
	results := make(chan error, maxWriters)
	do := func(i int) { results <- g.Do(t.Context(), i) }
	go do(0)
	hangs := <-g.arrived
	go do(1)
	(<-g.arrived).end <- worked
	if err := <-results; err != nil {
		t.Error(err)
	}
	hangs.end <- func() error { return errors.New("no answer") }
	if err := <-results; err == nil {
		t.Error("the one that hung is well")
	}
	if g.writers != 0 {
		t.Errorf("%d writers are left", g.writers)
	}
}
