package audit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/store"
	"github.com/hashicorp/vault/sdk/logical"
)

// gated is a storage whose Puts wait at a gate, and may then fail or panic.
type gated struct {
	logical.InmemStorage
	arrived chan arrival
}

type arrival struct {
	key    string
	decide chan func() error // what to do instead of the Put, nil for the Put itself
}

func (a arrival) ids() int { return strings.Count(a.key, ".") }

func (g *gated) Put(ctx context.Context, e *logical.StorageEntry) error {
	a := arrival{e.Key, make(chan func() error)}
	g.arrived <- a
	if instead := <-a.decide; instead != nil {
		return instead()
	}
	return g.InmemStorage.Put(ctx, e)
}

// crowd has a record wait at the gate, and n more behind it.
func crowd(t *testing.T, g *gated, l *Log, n int) (records []*Record, results []error, first arrival, wait func()) {
	t.Helper()
	var wg sync.WaitGroup
	results = make([]error, n+1)
	for i := range results {
		records = append(records, NewRecord(System(), time.Now(), apitype.Event{EntityType: "test", EntityID: fmt.Sprint(i), Action: "Test.Told"}))
		wg.Go(func() {
			defer func() {
				if p := recover(); p != nil {
					results[i] = fmt.Errorf("panic: %v", p)
				}
			}()
			results[i] = l.Ensure(t.Context(), records[i])
		})
		if i == 0 {
			first = <-g.arrived
			continue
		}
		for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) { // they queue up in order
			waiting := l.writes.Waiting()
			if waiting == i {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("%d are waiting, want %d", waiting, i)
			}
		}
	}
	return records, results, first, wg.Wait
}

func newGated(t *testing.T) (*gated, *Log) {
	g := &gated{arrived: make(chan arrival, 100)}
	l := NewLog(store.New(g), time.Now, time.Hour)
	l.writes.Patience = time.Hour
	return g, l
}

// told reads all events page by page, as a fresh process would.
func told(t *testing.T, g *gated, limit int) []string {
	t.Helper()
	l := NewLog(store.New(g), time.Now, time.Hour)
	var all []string
	for cursor := ""; ; {
		events, next, err := l.Page(t.Context(), Query{Limit: limit, Cursor: cursor})
		if err != nil {
			t.Fatal(err)
		}
		if len(events) > limit {
			t.Errorf("a page of at most %d has %d events", limit, len(events))
		}
		for _, e := range events {
			all = append(all, e.EntityID)
		}
		if cursor = next; cursor == "" {
			return all
		}
	}
}

// again ensures every record once more, in this process and in a new one, and answers how many rows that wrote.
func again(t *testing.T, g *gated, l *Log, records []*Record) (rows int) {
	t.Helper()
	done := make(chan error)
	go func() {
		var errs []error
		for _, l := range []*Log{l, NewLog(store.New(g), time.Now, time.Hour)} {
			for _, r := range records {
				errs = append(errs, l.Ensure(t.Context(), r))
			}
		}
		done <- errors.Join(errs...)
	}()
	for {
		select {
		case a := <-g.arrived:
			rows++
			a.decide <- nil
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
			return rows
		}
	}
}

func TestWhatComesTogetherIsWrittenTogether(t *testing.T) {
	g, l := newGated(t)
	const n = maxTogether + maxTogether/2
	records, results, first, wait := crowd(t, g, l, n)
	first.decide <- nil
	second := <-g.arrived
	second.decide <- nil
	third := <-g.arrived
	third.decide <- nil
	wait()
	if err := errors.Join(results...); err != nil {
		t.Fatal(err)
	}
	if second.ids() != maxTogether || third.ids() != n-maxTogether || len(g.arrived) != 0 {
		t.Errorf("after the first rows came rows of %d and %d, and %d more", second.ids(), third.ids(), len(g.arrived))
	}
	want := make([]string, len(records)) // newest first
	for i := range want {
		want[i] = fmt.Sprint(len(want) - 1 - i)
	}
	for _, limit := range []int{1, 3, MaxLimit} {
		if got := told(t, g, limit); !slices.Equal(got, want) {
			t.Errorf("pages of %d: %v", limit, got)
		}
	}
	if rows := again(t, g, l, records); rows != 0 {
		t.Errorf("%d rows were stored twice", rows)
	}
}

func TestAFailedWriteFailsAllThatItHeld(t *testing.T) {
	for name, instead := range map[string]func() error{
		"fault": func() error { return errors.New("fault") },
		"panic": func() error { panic("a bug underneath") },
	} {
		t.Run(name, func(t *testing.T) {
			g, l := newGated(t)
			records, results, first, wait := crowd(t, g, l, 5)
			first.decide <- nil
			second := <-g.arrived
			second.decide <- instead
			wait()
			for i, err := range results {
				if want := i >= 1; want != (err != nil) {
					t.Errorf("record %d: %v", i, err)
				}
			}
			if rows := again(t, g, l, records); rows != 5 {
				t.Errorf("%d rows were stored afterwards, want 5", rows)
			}
			if got := told(t, g, 2); len(got) != len(records) {
				t.Errorf("told: %v", got)
			}
			if w := l.watermark(); w != l.last+1 {
				t.Error("a sequence is in flight for ever")
			}
		})
	}
}

// A row that was stored though its write got no answer is recognised for each of its records.
func TestAWriteWithoutAnAnswerIsRecognised(t *testing.T) {
	g, l := newGated(t)
	records, results, first, wait := crowd(t, g, l, 3)
	first.decide <- nil
	second := <-g.arrived
	second.decide <- func() error { return errors.New("no answer") }
	wait()
	if results[1] == nil {
		t.Fatal("a write without an answer counts as stored")
	}
	go func() { (<-g.arrived).decide <- nil }()
	if err := store.New(g).Put(t.Context(), second.key, newRow(records[1:])); err != nil { // it arrives late
		t.Fatal(err)
	}
	if rows := again(t, g, l, records); rows != 0 {
		t.Errorf("%d rows were stored twice", rows)
	}
	if got := told(t, g, MaxLimit); len(got) != len(records) {
		t.Errorf("told: %v", got)
	}
}

func TestCursor(t *testing.T) {
	for _, c := range []cursor{{1, 0}, {0x5f, 3}} {
		if got, err := parseCursor(c.String()); err != nil || got != c {
			t.Errorf("%v becomes %v, %v", c, got, err)
		}
	}
	for _, bad := range []string{"x", ".", "1.", "1.x", "1.-1", "-1", " 1"} {
		if _, err := parseCursor(bad); apitype.CodeOf(err) != apitype.FieldInvalid {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
