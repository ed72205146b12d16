package vaultgate

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestSlotsBoundCallsAndQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlots(2, 1)
		first, err := s.take(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err = s.take(t.Context()); err != nil {
			t.Fatal(err)
		}
		third := make(chan error, 1)
		go func() {
			_, err := s.take(t.Context())
			third <- err
		}()
		synctest.Wait()
		if _, err := s.take(t.Context()); !errors.Is(err, errBusy) {
			t.Fatalf("with a full queue: %v", err)
		}
		first()
		if err := <-third; err != nil {
			t.Fatalf("the one that waited: %v", err)
		}
		if n := s.waiting.Load(); n != 0 {
			t.Fatalf("%d still wait", n)
		}
	})
}

func TestWaitingForASlotEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlots(1, 10)
		if _, err := s.take(t.Context()); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if _, err := s.take(t.Context()); !errors.Is(err, errBusy) || time.Since(began) != slotPatience {
			t.Fatalf("%v after %s", err, time.Since(began))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := s.take(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("%v", err)
		}
	})
}
