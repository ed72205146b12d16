package feed_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/feed"
)

// storage is what the feed loads from: it may fail, and it may be held up.
type storage struct {
	places  []feed.Place // set before the first poll
	mu      sync.Mutex
	rows    map[string]apitype.SyncRevoked
	err     error
	loads   int
	started chan struct{} // gets one value for each load, when set
	gate    chan struct{} // every load takes one value out of it, when set
}

func (s *storage) put(r apitype.SyncRevoked) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rows == nil {
		s.rows = map[string]apitype.SyncRevoked{}
	}
	s.rows[r.AgentID] = r
}

func (s *storage) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

// load reads the rows and then waits at the gate, as a load that has passed a row when that is written.
func (s *storage) load(ctx context.Context) ([]apitype.SyncRevoked, error) {
	s.mu.Lock()
	s.loads++
	all, err := slices.Collect(maps.Values(s.rows)), s.err
	s.mu.Unlock()
	if s.started != nil {
		s.started <- struct{}{}
	}
	if s.gate != nil {
		select {
		case <-s.gate:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return all, err
}

func newFeed(t *testing.T, s *storage) *feed.Feed {
	t.Helper()
	return feed.New(t.Context(), feed.Sources{
		Revoked: s.load,
		Places:  func(context.Context) ([]feed.Place, error) { return s.places, nil },
		Issuers: func(context.Context) ([]apitype.SyncIssuer, error) {
			return []apitype.SyncIssuer{{IssuerID: "i", State: "active"}}, nil
		},
		Settings: func(context.Context) (apitype.SyncSettings, error) {
			return apitype.SyncSettings{TrustDomain: "d"}, nil
		},
		Now: func() time.Time { return time.Unix(1000, 0) },
	})
}

func revoked(id string) apitype.SyncRevoked {
	return apitype.SyncRevoked{AgentID: id, Generation: 1, NotAfter: 2000}
}

func poll(t *testing.T, f *feed.Feed, since string) apitype.SyncResponse {
	t.Helper()
	r, err := f.Poll(t.Context(), since, 0)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func ids(r apitype.SyncResponse) []string {
	var all []string
	for _, x := range r.Revoked {
		all = append(all, x.AgentID)
	}
	slices.Sort(all)
	return all
}

func TestASnapshotIsWholeAndADeltaIsWhatChanged(t *testing.T) {
	s := &storage{}
	s.put(revoked("a"))
	f := newFeed(t, s)
	full := poll(t, f, "")
	if !full.Full || !slices.Equal(ids(full), []string{"a"}) || len(full.Issuers) != 1 || full.Settings == nil {
		t.Errorf("%+v", full)
	}
	f.Revoked(revoked("b"))
	f.Revoked(revoked("c"))
	again := revoked("b")
	again.Generation = 2
	f.Revoked(again)
	delta := poll(t, f, full.Revision)
	if delta.Full || !slices.Equal(ids(delta), []string{"b", "c"}) || delta.Issuers != nil || delta.Settings != nil {
		t.Errorf("%+v", delta)
	}
	for _, r := range delta.Revoked {
		if r.AgentID == "b" && r.Generation != 2 {
			t.Errorf("an old word of b: %+v", r)
		}
	}
	f.IssuersChanged()
	if d := poll(t, f, delta.Revision); d.Issuers == nil || d.Settings != nil || d.Revoked != nil {
		t.Errorf("%+v", d)
	}
	f.SettingsChanged()
	if d := poll(t, f, delta.Revision); d.Issuers == nil || d.Settings == nil || d.Revoked != nil || d.Full {
		t.Errorf("%+v", d)
	}
	if s.loads != 1 {
		t.Errorf("%d loads", s.loads)
	}
}

func TestWhoCannotBeGivenADeltaGetsASnapshot(t *testing.T) {
	f := newFeed(t, &storage{})
	at := poll(t, f, "").Revision
	f.Revoked(revoked("a"))
	epoch, _, _ := strings.Cut(at, ".")
	for name, since := range map[string]string{
		"a foreign epoch": "018f3d2c-7d4e-7b6a-9c3f-0a1b2c3d4e5f.1", "no epoch": ".1", "ahead of us": epoch + ".3", "far ahead": epoch + ".18446744073709551615",
		"before the first": epoch + ".0", "negative": epoch + ".-1", "no number": epoch + ".", "garbage": "garbage", "two dots": epoch + ".1.1",
	} {
		if r := poll(t, f, since); !r.Full || len(r.Revoked) != 1 {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

func TestWhoWasAwayForTooLongGetsASnapshot(t *testing.T) {
	f := newFeed(t, &storage{})
	first := poll(t, f, "").Revision
	const many = 20000
	marks := map[int]string{}
	for n := range many {
		f.Revoked(revoked(fmt.Sprint(n)))
		if n == many-8000 {
			marks[n] = poll(t, f, "x").Revision
		}
	}
	if r := poll(t, f, first); !r.Full || len(r.Revoked) != many {
		t.Errorf("full %v with %d", r.Full, len(r.Revoked))
	}
	if r := poll(t, f, marks[many-8000]); r.Full || len(r.Revoked) != 8000-1 {
		t.Errorf("full %v with %d", r.Full, len(r.Revoked))
	}
}

func TestAPollWithoutAChangeAnswersAfterItsWait(t *testing.T) {
	f := newFeed(t, &storage{})
	at := poll(t, f, "").Revision
	const busy = 20 * time.Second // what a busy machine may add
	for _, c := range []struct{ wait, least, most time.Duration }{
		{-time.Second, 0, busy}, {0, 0, busy}, {300 * time.Millisecond, 300 * time.Millisecond, busy}, {time.Hour, feed.MaxWait, feed.MaxWait + busy},
	} {
		begin := time.Now()
		r, err := f.Poll(t.Context(), at, c.wait)
		if took := time.Since(begin); err != nil || r.Revision != at || r.Full || took < c.least || took > c.most {
			t.Errorf("%s: %+v, %v after %s", c.wait, r, err, took)
		}
	}
}

func TestAPollEndsWithItsCaller(t *testing.T) {
	f := newFeed(t, &storage{})
	at := poll(t, f, "").Revision
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.Poll(ctx, at, feed.MaxWait); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestEveryOpenPollHearsOfAChange(t *testing.T) {
	f := newFeed(t, &storage{})
	at := poll(t, f, "").Revision
	var all sync.WaitGroup
	for range 64 {
		all.Go(func() {
			if r, err := f.Poll(t.Context(), at, feed.MaxWait); err != nil || len(r.Revoked) != 1 {
				t.Errorf("%+v, %v", r, err)
			}
		})
	}
	f.Revoked(revoked("a"))
	all.Wait()
}

// A revocation whose row the running load has passed already must be in what the load makes.
func TestARevocationDuringALoadIsNotLost(t *testing.T) {
	s := &storage{started: make(chan struct{}, 1), gate: make(chan struct{}, 1)}
	s.put(revoked("a"))
	f := newFeed(t, s)
	f.Warm()
	<-s.started // it has read the rows
	s.put(revoked("b"))
	f.Revoked(revoked("b"))
	s.gate <- struct{}{}
	if r := poll(t, f, ""); !slices.Equal(ids(r), []string{"a", "b"}) {
		t.Errorf("%v", ids(r))
	}
}

// A Put of unknown outcome during a load: what the load has read may be wrong, so it is read once more.
func TestADiscardDuringALoadLoadsAgain(t *testing.T) {
	s := &storage{started: make(chan struct{}, 2), gate: make(chan struct{}, 2)}
	f := newFeed(t, s)
	f.Warm()
	<-s.started
	s.put(revoked("a")) // applied, though the writer was told of an error
	f.Discard()
	s.gate <- struct{}{}
	s.gate <- struct{}{}
	if r := poll(t, f, ""); !slices.Equal(ids(r), []string{"a"}) {
		t.Errorf("%v", ids(r))
	}
}

func TestADiscardStartsANewEpochWithWhatIsStored(t *testing.T) {
	s := &storage{}
	f := newFeed(t, s)
	before := poll(t, f, "")
	s.put(revoked("a"))
	opened := make(chan apitype.SyncResponse)
	go func() {
		r, err := f.Poll(t.Context(), before.Revision, feed.MaxWait)
		if err != nil {
			t.Error(err)
		}
		opened <- r
	}()
	f.Discard()
	if r := <-opened; !r.Full || len(r.Revoked) != 1 || strings.Split(r.Revision, ".")[0] == strings.Split(before.Revision, ".")[0] {
		t.Errorf("%+v", r)
	}
}

func TestUntilTheSetIsWholeNobodyGetsOne(t *testing.T) {
	s := &storage{started: make(chan struct{}, 8), gate: make(chan struct{}, 8)}
	s.put(revoked("a"))
	f := newFeed(t, s)
	begin := time.Now()
	_, err := f.Poll(t.Context(), "", 0)
	if apitype.CodeOf(err) != apitype.NotReady || time.Since(begin) > feed.MaxWait+20*time.Second {
		t.Errorf("%v after %s", err, time.Since(begin))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.Poll(ctx, "", 0); apitype.CodeOf(err) != apitype.NotReady {
		t.Errorf("%v", err)
	}
	s.gate <- struct{}{}
	if r := poll(t, f, ""); len(r.Revoked) != 1 {
		t.Errorf("%+v", r)
	}
}

func TestAFailedLoadIsTriedAgain(t *testing.T) {
	s := &storage{started: make(chan struct{}, 64)}
	s.put(revoked("a"))
	s.fail(errors.New("no quorum"))
	f := newFeed(t, s)
	answered := make(chan apitype.SyncResponse)
	go func() {
		for {
			if r, err := f.Poll(t.Context(), "", 0); err == nil {
				answered <- r
				return
			} else if apitype.CodeOf(err) != apitype.NotReady {
				t.Error(err)
			}
		}
	}()
	<-s.started
	s.fail(nil)
	if r := <-answered; len(r.Revoked) != 1 {
		t.Errorf("%+v", r)
	}
}

func TestAPanickingLoadIsAFailedOne(t *testing.T) {
	broken := true
	var mu sync.Mutex
	f := feed.New(t.Context(), feed.Sources{
		Revoked: func(context.Context) ([]apitype.SyncRevoked, error) {
			mu.Lock()
			defer mu.Unlock()
			if broken {
				broken = false
				panic("broken")
			}
			r := revoked("a")
			r.NotAfter = time.Now().Add(time.Hour).Unix()
			return []apitype.SyncRevoked{r}, nil
		},
		Places:   func(context.Context) ([]feed.Place, error) { return nil, nil },
		Issuers:  func(context.Context) ([]apitype.SyncIssuer, error) { return nil, nil },
		Settings: func(context.Context) (apitype.SyncSettings, error) { return apitype.SyncSettings{}, nil },
		Now:      time.Now,
	})
	if r, err := f.Poll(t.Context(), "", 0); err != nil || len(r.Revoked) != 1 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestWhatHasExpiredIsDropped(t *testing.T) {
	s := &storage{}
	old := revoked("old")
	old.NotAfter = 999
	s.put(old)
	s.put(revoked("a"))
	f := newFeed(t, s)
	f.Warm()
	if r := poll(t, f, ""); !slices.Equal(ids(r), []string{"a"}) {
		t.Errorf("%v", ids(r))
	}
}

// Revocations come from everywhere while the memory is dropped and loaded over and over: an edge that follows has them all.
func TestNoRevocationIsEverLost(t *testing.T) {
	s := &storage{}
	f := newFeed(t, s)
	const writers, each = 8, 200
	var all sync.WaitGroup
	stop := make(chan struct{})
	var loader sync.WaitGroup
	loader.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				f.Discard()
				f.Warm()
			}
		}
	})
	for w := range writers {
		all.Go(func() {
			for n := range each {
				r := revoked(fmt.Sprintf("%d-%d", w, n))
				s.put(r) // the Put, and then the word of it
				f.Revoked(r)
			}
		})
	}
	follower := map[string]bool{}
	since := ""
	follow := func() {
		r := poll(t, f, since)
		if r.Full {
			clear(follower)
		}
		for _, x := range r.Revoked {
			follower[x.AgentID] = true
		}
		since = r.Revision
	}
	done := make(chan struct{})
	go func() { all.Wait(); close(done) }()
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
			follow()
		}
	}
	close(stop)
	loader.Wait()
	follow()
	if len(follower) != writers*each {
		t.Errorf("the edge knows %d of %d", len(follower), writers*each)
	}
}

func TestPlacesAreToldWholeAndAsChanges(t *testing.T) {
	move := &apitype.SyncMove{AgentID: "a", Fingerprint: "f", Peer: "west"}
	guest := &apitype.SyncGuest{AgentID: "b", Peer: "west", State: "awaiting_reconnect"}
	s := &storage{places: []feed.Place{{AgentID: "a", Move: move}, {AgentID: "b", Guest: guest}}}
	f := newFeed(t, s)
	poll := func(since string) apitype.SyncResponse {
		t.Helper()
		r, err := f.Poll(t.Context(), since, 0)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	whole := poll("")
	if len(whole.Moves) != 1 || whole.Moves[0] != *move || len(whole.Guests) != 1 || whole.Guests[0] != *guest {
		t.Fatalf("got %+v", whole)
	}
	f.Placed(feed.Place{AgentID: "a", Move: move}) // as before
	if r := poll(whole.Revision); r.Revision != whole.Revision {
		t.Fatalf("nothing has changed, and the revision went on: %+v", r)
	}
	came := *guest
	came.State = "active"
	f.Placed(feed.Place{AgentID: "a"})
	f.Placed(feed.Place{AgentID: "b", Guest: &came})
	f.Placed(feed.Place{AgentID: "c", Move: &apitype.SyncMove{AgentID: "c"}, Guest: &apitype.SyncGuest{AgentID: "c"}})
	r := poll(whole.Revision)
	wantMoves := []apitype.SyncMove{{AgentID: "a", Over: true}, {AgentID: "b", Over: true}, {AgentID: "c"}}
	wantGuests := []apitype.SyncGuest{{AgentID: "a", Over: true}, came, {AgentID: "c"}}
	if r.Full || !slices.Equal(r.Moves, wantMoves) || !slices.Equal(r.Guests, wantGuests) {
		t.Fatalf("got %+v", r)
	}
	if again := poll(""); len(again.Moves) != 1 || len(again.Guests) != 2 {
		t.Fatalf("the snapshot has %+v", again)
	}
}
