package audit_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/audit"
	"github.com/ampora/ampora/plugin/internal/store"
	"github.com/hashicorp/vault/sdk/logical"
)

// raw is a storage whose Put may do something else.
type raw struct {
	logical.InmemStorage
	put func(ctx context.Context, e *logical.StorageEntry, apply func() error) error
}

func (r *raw) Put(ctx context.Context, e *logical.StorageEntry) error {
	apply := func() error { return r.InmemStorage.Put(context.WithoutCancel(ctx), e) }
	if r.put == nil {
		return apply()
	}
	return r.put(ctx, e, apply)
}

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

const retention = 90 * 24 * time.Hour

func record(action string) *audit.Record { return recordAt(start, action) }

func recordAt(at time.Time, action string) *audit.Record {
	return audit.NewRecord(audit.System(), at, apitype.Event{EntityType: "x", EntityID: "x", Action: action})
}

func shown(t *testing.T, l *audit.Log, q audit.Query) string {
	t.Helper()
	events, _, err := l.Page(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range events {
		all = append(all, e.Action)
	}
	return strings.Join(all, " ")
}

func ensure(t *testing.T, l *audit.Log, r *audit.Record) {
	t.Helper()
	if err := l.Ensure(t.Context(), r); err != nil {
		t.Fatal(err)
	}
}

func TestStoringTwiceIsStoringOnce(t *testing.T) {
	s := &raw{}
	l := audit.NewLog(store.New(s), func() time.Time { return start }, retention)
	r := record("A")
	ensure(t, l, r)
	ensure(t, l, r)
	ensure(t, l, nil)
	// So it is for a later process, which finds the row with its record and knows nothing else.
	l = audit.NewLog(store.New(s), func() time.Time { return start.Add(time.Hour) }, retention)
	ensure(t, l, r)
	if got := shown(t, l, audit.Query{}); got != "A" {
		t.Error(got)
	}
}

func TestAWriteThatWasAppliedThoughItFailedIsNotRepeated(t *testing.T) {
	s := &raw{}
	puts := 0
	s.put = func(_ context.Context, _ *logical.StorageEntry, apply func() error) error {
		puts++
		_ = apply()
		return errors.New("connection lost")
	}
	l := audit.NewLog(store.New(s), func() time.Time { return start }, retention)
	r := record("A")
	ensure(t, l, r) // read back, and found
	ensure(t, l, r)
	if got := shown(t, l, audit.Query{}); got != "A" || puts != 1 {
		t.Errorf("%s after %d puts", got, puts)
	}
}

// The write comes through only after its error: the record is found under the key of the first try.
func TestAWriteThatIsAppliedLateIsFoundUnderItsKey(t *testing.T) {
	s := &raw{}
	var late func() error
	s.put = func(_ context.Context, _ *logical.StorageEntry, apply func() error) error {
		late = apply
		return errors.New("timeout")
	}
	l := audit.NewLog(store.New(s), func() time.Time { return start }, retention)
	r := record("A")
	if err := l.Ensure(t.Context(), r); apitype.CodeOf(err) != apitype.OutcomeUnknown {
		t.Fatalf("%v", err)
	}
	if got := shown(t, l, audit.Query{}); got != "" {
		t.Error(got)
	}
	if err := late(); err != nil {
		t.Fatal(err)
	}
	s.put = nil
	ensure(t, l, r)
	ensure(t, l, record("B"))
	if got := shown(t, l, audit.Query{}); got != "B A" {
		t.Error(got)
	}
}

func TestAFailedWriteIsRepeated(t *testing.T) {
	s := &raw{put: func(context.Context, *logical.StorageEntry, func() error) error { return errors.New("no quorum") }}
	l := audit.NewLog(store.New(s), func() time.Time { return start }, retention)
	r := record("A")
	if err := l.Ensure(t.Context(), r); err == nil {
		t.Fatal("no error")
	}
	s.put = nil
	ensure(t, l, r)
	if got := shown(t, l, audit.Query{}); got != "A" {
		t.Error(got)
	}
}

// While a write is under way nothing newer is shown, or a reader who pages on would never see it.
func TestNothingNewerIsShownThanAWriteUnderWay(t *testing.T) {
	s := &raw{}
	l := audit.NewLog(store.New(s), func() time.Time { return start }, retention)
	ensure(t, l, record("A"))
	begun, free := make(chan struct{}), make(chan struct{})
	s.put = func(_ context.Context, e *logical.StorageEntry, apply func() error) error {
		if strings.Contains(string(e.Value), "Slow") {
			close(begun)
			<-free
		}
		return apply()
	}
	var writers sync.WaitGroup
	tell := func(action string) {
		writers.Go(func() {
			if err := l.Ensure(context.Background(), record(action)); err != nil {
				t.Error(err)
			}
		})
	}
	tell("Slow")
	<-begun
	tell("B") // stored meanwhile or not: it is not shown
	if got := shown(t, l, audit.Query{}); got != "A" {
		t.Errorf("meanwhile: %s", got)
	}
	close(free)
	writers.Wait()
	if got := shown(t, l, audit.Query{}); got != "B Slow A" {
		t.Errorf("afterwards: %s", got)
	}
}

func TestAWriteThatPanicsHidesNothing(t *testing.T) {
	s := &raw{}
	l := audit.NewLog(store.New(s), func() time.Time { return start }, retention)
	s.put = func(context.Context, *logical.StorageEntry, func() error) error { panic("broken") }
	r := record("A")
	func() {
		defer func() { _ = recover() }()
		_ = l.Ensure(t.Context(), r)
	}()
	s.put = nil
	ensure(t, l, record("B"))
	ensure(t, l, r)
	if got := shown(t, l, audit.Query{}); got != "A B" {
		t.Error(got)
	}
}

// Events are in the order in which they were told, also when the clock goes back, and by several at once.
func TestTheOrderIsThatOfTelling(t *testing.T) {
	s := &raw{}
	now := start
	l := audit.NewLog(store.New(s), func() time.Time { return now }, retention)
	for n, step := range []time.Duration{0, 0, time.Hour, -3 * time.Hour, 24 * time.Hour} {
		now = now.Add(step)
		ensure(t, l, recordAt(now, string(rune('A'+n))))
	}
	if got := shown(t, l, audit.Query{}); got != "E D C B A" {
		t.Error(got)
	}
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() { ensure(t, l, recordAt(now, "X")) })
	}
	all.Wait()
	ensure(t, l, recordAt(now, "Z"))
	if got := shown(t, l, audit.Query{}); got != "Z"+strings.Repeat(" X", 50)+" E D C B A" {
		t.Error(got)
	}
}

func TestWhatRetentionHasOutlivedIsNotStoredAnyMore(t *testing.T) {
	s := &raw{}
	l := audit.NewLog(store.New(s), func() time.Time { return start.Add(retention + time.Second) }, retention)
	ensure(t, l, record("A"))
	if got := shown(t, l, audit.Query{}); got != "" {
		t.Error(got)
	}
}

func TestTidyRemovesWholeDays(t *testing.T) {
	s := &raw{}
	now := start
	l := audit.NewLog(store.New(s), func() time.Time { return now }, 48*time.Hour)
	for day := range 6 {
		now = start.Add(time.Duration(day) * 24 * time.Hour)
		ensure(t, l, recordAt(now, string(rune('A'+day))))
	}
	removed, err := l.Tidy(t.Context())
	if err != nil || removed != 3 {
		t.Errorf("%d, %v", removed, err)
	}
	if got := shown(t, l, audit.Query{}); got != "F E D" {
		t.Error(got)
	}
	if removed, err := l.Tidy(t.Context()); err != nil || removed != 0 {
		t.Errorf("again: %d, %v", removed, err)
	}
	l.SetRetention(24 * time.Hour)
	if removed, _ := l.Tidy(t.Context()); removed != 1 {
		t.Errorf("with a shorter retention: %d", removed)
	}
}
