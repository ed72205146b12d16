package pace

import (
	"context"
	"testing"
	"time"
)

func TestATenthOfTheTimeIsWorked(t *testing.T) {
	var p Pace
	var worked time.Duration
	begun := time.Now()
	for range 25 {
		if err := p.Step(t.Context()); err != nil {
			t.Fatal(err)
		}
		step := time.Now()
		time.Sleep(2 * time.Millisecond)
		worked += time.Since(step)
	}
	// The work since the last rest has not been rested for.
	if took := time.Since(begun); took < share*(worked-2*stretch) {
		t.Errorf("%v of work took %v", worked, took)
	}
}

func TestTheEndOfTheContextEndsTheWork(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	p := Pace{since: time.Now().Add(-time.Hour)} // the longest rest is due
	time.AfterFunc(10*time.Millisecond, cancel)
	if err := p.Step(ctx); err != context.Canceled {
		t.Errorf("during a rest: %v", err)
	}
	if err := p.Step(ctx); err != context.Canceled {
		t.Errorf("afterwards: %v", err)
	}
	if err := new(Pace).Step(ctx); err != context.Canceled {
		t.Errorf("before any work: %v", err)
	}
}
