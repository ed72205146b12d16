package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/store"
	"github.com/hashicorp/vault/sdk/logical"
)

// clock is a time that tests move.
type clock struct{ now atomic.Int64 } // Unix microseconds

func newClock() *clock {
	c := &clock{}
	c.now.Store(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).UnixMicro())
	return c
}

func (c *clock) time() time.Time         { return time.UnixMicro(c.now.Load()) }
func (c *clock) advance(d time.Duration) { c.now.Add(d.Microseconds()) }

// pick chooses one of n values with a name; few of them are common and most are rare.
func pick(r *rand.Rand, kind string, n int) string {
	i := r.IntN(1 + r.IntN(n))
	if i == 0 {
		return ""
	}
	return fmt.Sprintf("%s-%d", kind, i)
}

func randomEvents(r *rand.Rand) []apitype.Event {
	events := make([]apitype.Event, 1+r.IntN(3))
	for i := range events {
		events[i] = apitype.Event{
			EntityType: pick(r, "type", 4), EntityID: pick(r, "entity", 200), Action: pick(r, "action", 8), Tenant: pick(r, "tenant", 4),
			AgentID: pick(r, "agent", 200), SourceIP: pick(r, "source", 20),
		}
		if pool := pick(r, "pool", 5); pool != "" {
			events[i].Details = map[string]any{"pool": pool, "pool_id": pool + "-id", "count": 1}
		}
	}
	return events
}

func randomQuery(r *rand.Rand, from, to time.Time) Query {
	var q Query
	for field, value := range map[*string]string{
		&q.EntityType: pick(r, "type", 4), &q.EntityID: pick(r, "entity", 200), &q.Action: pick(r, "action", 8),
		&q.AgentID: pick(r, "agent", 200), &q.SourceIP: pick(r, "source", 20), &q.Pool: pick(r, "pool", 5),
	} {
		if r.IntN(4) == 0 {
			*field = value
		}
	}
	if r.IntN(4) == 0 && q.Pool != "" {
		q.Pool += "-id"
	}
	if r.IntN(3) == 0 {
		tenant := pick(r, "tenant", 4)
		q.Tenant = &tenant
	}
	between := func() time.Time {
		return from.Add(time.Duration(r.Int64N(int64(to.Sub(from))))).Truncate(time.Duration(1+r.IntN(2)*999) * time.Microsecond)
	}
	if r.IntN(3) == 0 {
		q.Since = between()
	}
	if r.IntN(3) == 0 {
		q.Until = between()
	}
	q.Limit = []int{0, 7, 50, MaxLimit}[r.IntN(4)]
	if r.IntN(20) == 0 {
		q.Limit = 1
	}
	return q
}

// allPages follows a query to its end.
func allPages(t *testing.T, l *Log, q Query) (pages [][]apitype.Event) {
	t.Helper()
	for {
		events, next, err := l.Page(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		pages = append(pages, events)
		if q.Cursor = next; next == "" {
			return pages
		}
	}
}

// Whatever part of the events the index holds, a query has the answer that looking at every event gives, page by page.
func TestTheIndexAnswersAsLookingAtEveryEventDoes(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			storage, c := &logical.InmemStorage{}, newClock()
			begin := c.time()
			writer := NewLog(store.New(storage), c.time, time.Hour*24*365)
			half := NewLog(store.New(storage), c.time, time.Hour*24*365)
			half.index.max = 120
			told := []*Record{} // in the order of telling
			for n := range 160 {
				c.advance(time.Duration(r.IntN(int(time.Hour))))
				l := writer
				if n >= 80 {
					l = half // a later process, which finds 80 records and has no room for all
				}
				record := NewRecord(System(), c.time().Add(-time.Duration(r.IntN(3)*r.IntN(5000))*time.Millisecond), randomEvents(r)...)
				if seed%2 == 1 && r.IntN(50) == 0 {
					record.ID = "not-of-ours-" + record.ID
				}
				if err := l.Ensure(t.Context(), record); err != nil {
					t.Fatal(err)
				}
				told = append(told, record)
				if n == 90 {
					if err := half.Load(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
			}
			loaded, late := NewLog(store.New(storage), c.time, time.Hour*24*365), NewLog(store.New(storage), c.time, time.Hour*24*365)
			for _, l := range []*Log{loaded, late} {
				if err := l.Load(t.Context()); err != nil || !l.Indexed() {
					t.Fatal(err)
				}
			}
			late.Forget()
			if half.index.size > 120 || late.Indexed() || seed%2 == 0 && (half.index.size < 60 || loaded.index.size < 160) {
				t.Fatalf("the indexes hold %d and %d events", half.index.size, loaded.index.size)
			}
			logs := map[string]*Log{"without an index": NewLog(store.New(storage), c.time, time.Hour*24*365), "loaded": loaded, "in part": half, "dropped": late}
			for range 25 {
				q := randomQuery(r, begin, c.time())
				want := []apitype.Event{}
				for _, record := range slices.Backward(told) {
					for _, e := range slices.Backward(record.Events) {
						if q.matches(record.Time, e) {
							want = append(want, e)
						}
					}
				}
				first := [][]apitype.Event(nil)
				for name, l := range logs {
					pages := allPages(t, l, q)
					if got := slices.Concat(pages...); asText(t, got) != asText(t, want) {
						t.Fatalf("%s: %+v: %d events instead of %d", name, q, len(got), len(want))
					}
					if first == nil {
						first = pages
					}
					if asText(t, first) != asText(t, pages) {
						t.Fatalf("%s: %+v: the pages are cut in other places", name, q)
					}
				}
			}
		})
	}
}

func asText(t *testing.T, v any) string {
	t.Helper()
	if events, ok := v.([]apitype.Event); ok && len(events) == 0 {
		return "[]"
	}
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// reading is a storage that tells of reads of rows, and may refuse them.
type reading struct {
	logical.InmemStorage
	gets   atomic.Int64
	lists  atomic.Int64
	onGet  func(n int64) // of the n-th
	refuse atomic.Bool
}

func (s *reading) Get(ctx context.Context, key string) (*logical.StorageEntry, error) {
	n := s.gets.Add(1)
	if s.refuse.Load() {
		return nil, errors.New("no quorum")
	}
	if s.onGet != nil {
		s.onGet(n)
	}
	return s.InmemStorage.Get(ctx, key)
}

func (s *reading) List(ctx context.Context, prefix string) ([]string, error) {
	s.lists.Add(1)
	return s.InmemStorage.List(ctx, prefix)
}

// fill tells n records, over as many hours.
func fill(t *testing.T, l *Log, c *clock, n int) {
	t.Helper()
	for i := range n {
		c.advance(time.Hour)
		e := apitype.Event{EntityType: "test", EntityID: fmt.Sprint(i), Action: "Test.Told"}
		if err := l.Ensure(t.Context(), NewRecord(System(), c.time(), e)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAQueryReadsOnlyWhatMayMatch(t *testing.T) {
	s, c := &reading{}, newClock()
	fill(t, NewLog(store.New(s), c.time, time.Hour*24*90), c, 200)
	l := NewLog(store.New(s), c.time, time.Hour*24*90)
	if err := l.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, q := range []Query{{EntityID: "7"}, {EntityID: "7", Action: "Test.Told"}, {EntityID: "nobody"}} {
		s.gets.Store(0)
		s.lists.Store(0)
		events, _, err := l.Page(t.Context(), q)
		if err != nil || int64(len(events)) != s.gets.Load() || s.lists.Load() != 0 {
			t.Errorf("%+v: %d events, %d rows were read and %d lists, %v", q, len(events), s.gets.Load(), s.lists.Load(), err)
		}
	}
}

// What is told while the index is being loaded is in it, once; a load that fails is begun again where it was.
func TestTheIndexIsWholeThoughEventsAreToldAndReadsFailMeanwhile(t *testing.T) {
	s, c := &reading{}, newClock()
	fill(t, NewLog(store.New(s), c.time, time.Hour*24*90), c, 100)
	l := NewLog(store.New(s), c.time, time.Hour*24*90)
	before := s.gets.Load()
	s.onGet = func(n int64) {
		if n == before+5 {
			fill(t, l, c, 3) // in this process, while rows are being read in
			s.refuse.Store(true)
		}
	}
	if err := l.Load(t.Context()); err == nil || l.Indexed() {
		t.Fatal("a storage that is down was read")
	}
	s.refuse.Store(false)
	if err := l.Load(t.Context()); err != nil || !l.Indexed() {
		t.Fatal(err)
	}
	if l.index.size != 103 {
		t.Errorf("%d events instead of 103", l.index.size)
	}
	if events, _, err := l.Page(t.Context(), Query{Limit: MaxLimit}); err != nil || len(events) != 103 {
		t.Errorf("%d events, %v", len(events), err)
	}
	gets := s.gets.Load()
	if err := l.Load(t.Context()); err != nil || s.gets.Load() != gets {
		t.Error("what is in the index is read again")
	}
}

func TestWhatIsTidiedLeavesTheIndex(t *testing.T) {
	s, c := &reading{}, newClock()
	l := NewLog(store.New(s), c.time, 48*time.Hour)
	fill(t, l, c, 24*6)
	if _, err := l.Tidy(t.Context()); err != nil {
		t.Fatal(err)
	}
	if events, _, err := l.Page(t.Context(), Query{Limit: MaxLimit}); err != nil || len(events) != l.index.size || len(events) > 72 {
		t.Errorf("%d events of which the index has %d, %v", len(events), l.index.size, err)
	}
}
