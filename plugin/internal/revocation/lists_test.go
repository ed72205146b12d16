package revocation_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/identity"
	"github.com/ampora/ampora/plugin/internal/ca"
	"github.com/ampora/ampora/plugin/internal/revocation"
	"github.com/google/uuid"
)

func TestEachIssuerNamesItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		one, other := w.newIssuer(), w.newIssuer()
		moved := uuid.NewString() // has dead leaves of both
		first, second := w.leaf(one, moved, 1), w.leaf(other, moved, 2)
		second.Reason, second.Time = "superseded", w.clock().Add(-time.Hour)
		w.put(moved, first, second)
		id, single := w.dead(one)
		w.put(id, single)
		if got := w.named(one); !slices.Equal(got, sorted([]identity.Serial{first.Serial, single.Serial})) {
			t.Errorf("%v", got)
		}
		entries := parsed(t, other, w.crl(other)).RevokedCertificateEntries
		if len(entries) != 1 || entries[0].SerialNumber.Cmp(second.Serial.Big()) != 0 || entries[0].ReasonCode != 4 || !entries[0].RevocationTime.Equal(second.Time) {
			t.Errorf("%+v", entries)
		}
		if w.loads != 1 {
			t.Errorf("%d loads", w.loads)
		}
	})
}

func TestAnIssuerThatCannotSignHasNoList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		if _, err := w.lists.CRL(t.Context(), "none"); apitype.CodeOf(err) != apitype.IssuerUnknown {
			t.Errorf("%v", err)
		}
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		w.issuers["draft"] = &ca.Issuer{ID: "draft", Key: key}
		if _, err := w.lists.CRL(t.Context(), "draft"); apitype.CodeOf(err) != apitype.IssuerInvalid {
			t.Errorf("%v", err)
		}
	})
}

func TestAChangeMakesANewList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		issuer, other := w.newIssuer(), w.newIssuer()
		w.names(issuer)
		before, untouched := w.crl(issuer), w.crl(other)
		id, leaf := w.dead(issuer)
		w.revoke(id, leaf)
		w.names(issuer, leaf.Serial)
		if after := w.crl(issuer); after.Number.Cmp(before.Number) <= 0 {
			t.Errorf("number %s after %s", after.Number, before.Number)
		}
		next := w.leaf(issuer, id, 2)
		w.revoke(id, leaf, next) // all that the agent has
		w.names(issuer, leaf.Serial, next.Serial)
		same := w.crl(issuer)
		w.revoke(id, leaf, next) // told again
		w.revoke(id, next)
		w.names(issuer, next.Serial)
		w.revoke(id)
		w.names(issuer)
		if again := w.crl(issuer); again.Number.Cmp(same.Number) <= 0 {
			t.Errorf("number %s after %s", again.Number, same.Number)
		}
		if now := w.crl(other); now.Number.Cmp(untouched.Number) != 0 {
			t.Error("another issuer's list was made again")
		}
	})
}

func TestWhatIsToldAgainMakesNoNewList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		issuer := w.newIssuer()
		id, leaf := w.dead(issuer)
		w.put(id, leaf)
		var signatures atomic.Int64
		w.beforeSigning(func() { signatures.Add(1) })
		w.names(issuer, leaf.Serial)
		w.revoke(id, leaf)
		w.lists.Tick()
		// What would sign has been started by now, if anything: a change that counts is signed after it.
		other, second := w.dead(issuer)
		w.revoke(other, second)
		w.names(issuer, leaf.Serial, second.Serial)
		if n := signatures.Load(); n != 2 {
			t.Errorf("%d signatures", n)
		}
	})
}

// Whatever happens while a list is being made is in the one after it, however much it is.
func TestChangesDuringASignatureMakeOneMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		issuer := w.newIssuer()
		w.names(issuer)
		var signatures atomic.Int64
		begun, gate := make(chan struct{}, 8), make(chan struct{})
		w.beforeSigning(func() { signatures.Add(1); begun <- struct{}{}; <-gate })
		id, leaf := w.dead(issuer)
		w.revoke(id, leaf)
		<-begun
		before := w.crl(issuer) // the old one is served meanwhile
		want := []identity.Serial{leaf.Serial}
		var all sync.WaitGroup
		for range 50 {
			id, l := w.dead(issuer)
			want = append(want, l.Serial)
			all.Go(func() { w.revoke(id, l) })
		}
		all.Wait()
		if got := w.crl(issuer); got.Number.Cmp(before.Number) != 0 || got.Entries != 0 {
			t.Errorf("%d entries while the next list is being made", got.Entries)
		}
		close(gate)
		w.names(issuer, want...)
		if n := signatures.Load(); n > 2 {
			t.Errorf("%d signatures", n)
		}
	})
}

func TestAListIsMadeAgainAtHalfOfItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		issuer := w.newIssuer()
		first := w.crl(issuer)
		if life := first.NextUpdate.Sub(w.clock()); life != expiry {
			t.Errorf("good for %s", life)
		}
		w.advance(expiry/2 - time.Second)
		w.lists.Tick()
		if s := w.crl(issuer); s.Number.Cmp(first.Number) != 0 {
			t.Error("made again before half of its time")
		}
		w.advance(time.Second)
		var second revocation.Signed
		eventually(t, "a new list", func() bool { second = w.crl(issuer); return second.Number.Cmp(first.Number) > 0 })
		w.advance(expiry / 2)
		w.lists.Tick()
		w.advance(expiry) // over: what is asked now is not answered with it
		if s := w.crl(issuer); s.Number.Cmp(second.Number) <= 0 || !s.NextUpdate.After(w.clock()) {
			t.Errorf("a list of %s at %s", s.NextUpdate, w.clock())
		}
		last := w.crl(issuer)
		w.advance(-2 * time.Hour) // the clock was put right
		if s := w.crl(issuer); s.ThisUpdate.After(w.clock()) || s.Number.Cmp(last.Number) <= 0 {
			t.Errorf("a list from the future: %s at %s", s.ThisUpdate, w.clock())
		}
	})
}

// A list that was asked for once is not signed for ever, and whoever comes back gets the newest.
func TestAListThatNobodyAsksForIsNotMade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		issuer := w.newIssuer()
		var signatures atomic.Int64
		w.beforeSigning(func() { signatures.Add(1) })
		w.names(issuer)
		w.advance(expiry)
		id, leaf := w.dead(issuer)
		w.revoke(id, leaf)
		w.lists.Tick()
		time.Sleep(time.Minute)
		if n := signatures.Load(); n != 1 {
			t.Errorf("%d signatures", n)
		}
		if got := w.named(issuer); !slices.Equal(got, []identity.Serial{leaf.Serial}) {
			t.Errorf("%v", got)
		}
	})
}

func TestWhatHasExpiredIsNotNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		issuer := w.newIssuer()
		id, leaf := w.dead(issuer)
		next := w.leaf(issuer, id, 2)
		next.NotAfter = leaf.NotAfter.Add(time.Hour)
		w.put(id, leaf, next)
		gone, old := w.dead(issuer)
		w.put(gone, old)
		w.names(issuer, leaf.Serial, next.Serial, old.Serial)
		w.advance(time.Hour)
		w.names(issuer, next.Serial)
		w.advance(time.Hour)
		w.names(issuer)
	})
}

// A row that the running load has passed already must be in what the load makes.
func TestAChangeDuringALoadIsNotLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		issuer := w.newIssuer()
		w.started, w.gate = make(chan struct{}, 1), make(chan struct{}, 1)
		id, leaf := w.dead(issuer)
		w.put(id, leaf)
		w.lists.Warm()
		<-w.started // it has read the rows
		other, second := w.dead(issuer)
		w.revoke(other, second)
		next := w.leaf(issuer, id, 2)
		w.revoke(id, next) // and the last word of an agent counts
		w.gate <- struct{}{}
		w.names(issuer, second.Serial, next.Serial)
	})
}

// A Put of unknown outcome during a load: what the load has read may be wrong, so it is read once more.
func TestADiscardDuringALoadLoadsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		issuer := w.newIssuer()
		w.started, w.gate = make(chan struct{}, 2), make(chan struct{}, 2)
		w.lists.Warm()
		<-w.started
		id, leaf := w.dead(issuer)
		w.put(id, leaf) // applied, though the writer was told of an error
		w.lists.Discard()
		w.gate <- struct{}{}
		w.gate <- struct{}{}
		w.names(issuer, leaf.Serial)
	})
}

func TestADiscardDropsTheListsToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		issuer := w.newIssuer()
		first := w.crl(issuer)
		w.started, w.gate = make(chan struct{}, 2), make(chan struct{}, 2)
		id, leaf := w.dead(issuer)
		w.put(id, leaf)
		w.lists.Discard()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if s, err := w.lists.CRL(ctx, issuer.ID); apitype.CodeOf(err) != apitype.NotReady {
			t.Errorf("%d entries, %v", s.Entries, err)
		}
		w.gate <- struct{}{}
		w.names(issuer, leaf.Serial)
		if s := w.crl(issuer); s.Number.Cmp(first.Number) <= 0 {
			t.Errorf("number %s after %s", s.Number, first.Number)
		}
	})
}

// A list that was being made of a memory that was dropped meanwhile is not served.
func TestADiscardDuringASignatureDropsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		issuer := w.newIssuer()
		begun, gate := make(chan struct{}, 8), make(chan struct{})
		w.beforeSigning(func() { begun <- struct{}{}; <-gate })
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		w.lists.Warm()
		eventually(t, "the first list is begun", func() bool {
			_, err := w.lists.CRL(ctx, issuer.ID)
			return err != nil && len(begun) > 0
		})
		id, leaf := w.dead(issuer)
		w.put(id, leaf)
		w.lists.Discard()
		close(gate)
		if got := w.named(issuer); !slices.Equal(got, []identity.Serial{leaf.Serial}) {
			t.Errorf("%v", got)
		}
		if n := w.failed(); n != 0 {
			t.Errorf("%d failures", n)
		}
	})
}

func TestUntilMemoryIsWholeNobodyGetsAList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		issuer := w.newIssuer()
		w.started, w.gate = make(chan struct{}, 8), make(chan struct{}, 8)
		id, leaf := w.dead(issuer)
		w.put(id, leaf)
		begin := time.Now()
		s, err := w.lists.CRL(t.Context(), issuer.ID)
		if apitype.CodeOf(err) != apitype.NotReady || s.DER != nil || time.Since(begin) > revocation.MaxWait+20*time.Second {
			t.Errorf("%v after %s", err, time.Since(begin))
		}
		w.gate <- struct{}{}
		w.names(issuer, leaf.Serial)
	})
}

func TestAFailedLoadIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		issuer := w.newIssuer()
		w.started = make(chan struct{}, 64)
		id, leaf := w.dead(issuer)
		w.put(id, leaf)
		w.fail(errors.New("no quorum"))
		w.lists.Warm()
		<-w.started
		eventually(t, "the failure is told", func() bool { return w.failed() > 0 })
		w.fail(nil)
		w.names(issuer, leaf.Serial)
	})
}

func TestARowOfNobodyFailsTheLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		issuer := w.newIssuer()
		w.put("nobody", w.leaf(issuer, uuid.NewString(), 1))
		w.lists.Warm()
		eventually(t, "the failure is told", func() bool { return w.failed() > 0 })
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := w.lists.CRL(ctx, issuer.ID); apitype.CodeOf(err) != apitype.NotReady {
			t.Errorf("%v", err)
		}
	})
}

func TestAPanicIsOneFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		issuer := w.newIssuer()
		id, leaf := w.dead(issuer)
		w.put(id, leaf)
		var loads, signatures atomic.Int64
		lists := revocation.NewLists(t.Context(), newRows(), revocation.Sources{
			Leaves: func(ctx context.Context, visit func(string, []revocation.Leaf)) error {
				if loads.Add(1) == 1 {
					visit(id, nil)
					panic("broken")
				}
				return w.load(ctx, visit)
			},
			Issuer: w.issuer,
			Expiry: func(context.Context) (time.Duration, error) {
				if signatures.Add(1) == 1 {
					panic("broken")
				}
				return expiry, nil
			},
			Failed: func(string, error) {}, Now: w.clock,
		})
		eventually(t, "a list after two panics", func() bool {
			s, err := lists.CRL(t.Context(), issuer.ID)
			return err == nil && s.Entries == 1
		})
	})
}

// Changes come from everywhere while the memory is dropped and loaded over and over: none is lost, and no number comes twice.
func TestNoChangeIsEverLost(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	issuer := w.newIssuer()
	const writers, each = 4, 500
	var all, others sync.WaitGroup
	stop := make(chan struct{})
	during := func(step func()) {
		others.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					step()
					time.Sleep(time.Millisecond)
				}
			}
		})
	}
	during(func() { w.lists.Discard(); w.lists.Warm() })
	during(func() { w.lists.Tick(); w.lists.Forget() })
	ctx, cancel := context.WithCancel(t.Context())
	during(func() { _, _ = w.lists.CRL(ctx, issuer.ID) })
	var mu sync.Mutex
	var want []identity.Serial
	for range writers {
		all.Go(func() {
			for range each {
				id, leaf := w.dead(issuer)
				w.revoke(id, leaf)
				mu.Lock()
				want = append(want, leaf.Serial)
				mu.Unlock()
			}
		})
	}
	all.Wait()
	cancel()
	close(stop)
	others.Wait()
	w.names(issuer, want...)
}

// many is a world with 100,000 agents, each with a dead leaf, and the issuer of them all.
func many(b *testing.B) (*world, *ca.Issuer) {
	w := newWorld(b)
	issuer := w.newIssuer()
	for range 100_000 {
		id, leaf := w.dead(issuer)
		w.put(id, leaf)
	}
	return w, issuer
}

func BenchmarkListOf100000(b *testing.B) {
	w, issuer := many(b)
	eventually(b, "the first list", func() bool { _, err := w.lists.CRL(b.Context(), issuer.ID); return err == nil })
	b.Run("served", func(b *testing.B) {
		for b.Loop() {
			if s, err := w.lists.CRL(b.Context(), issuer.ID); err != nil || s.Entries < 100_000 {
				b.Fatal(fmt.Errorf("%d entries: %w", s.Entries, err))
			}
		}
	})
	b.Run("one more", func(b *testing.B) {
		for b.Loop() {
			id, leaf := w.dead(issuer)
			w.lists.Changed(id, []revocation.Leaf{leaf})
		}
	})
}

// BenchmarkMemoryOf100000 reports what the memory takes, and what the list beside it.
func BenchmarkMemoryOf100000(b *testing.B) {
	w, issuer := many(b)
	heap := func() float64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc)
	}
	for b.Loop() {
		before := heap()
		w.lists.Warm()
		eventually(b, "memory is whole", func() bool { return !w.lists.Loading() })
		whole := heap()
		var signed revocation.Signed
		eventually(b, "the first list", func() (ok bool) {
			var err error
			signed, err = w.lists.CRL(b.Context(), issuer.ID)
			return err == nil
		})
		b.ReportMetric((whole-before)/1e6, "MB/memory")
		b.ReportMetric(float64(len(signed.DER))/1e6, "MB/list")
		w.lists.Discard()
	}
}
