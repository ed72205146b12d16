package revocation_test

import (
	"context"
	"fmt"
	"math/big"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/revocation"
	"github.com/ampora/ampora/plugin/internal/store"
	"github.com/ampora/ampora/plugin/internal/storetest"
	"github.com/hashicorp/vault/sdk/logical"
)

func newRows() *store.Store { return store.New(&logical.InmemStorage{}) }

func TestNumbersGoUpOverRestartsAndClocksThatAreBehind(t *testing.T) {
	t.Parallel()
	rows, now := newRows(), time.Now()
	last := map[string]*big.Int{}
	n := revocation.NewNumbers(rows)
	step := func(what, issuer string, at time.Time) *big.Int {
		t.Helper()
		number, err := n.Next(t.Context(), issuer, at)
		if err != nil {
			t.Fatal(err)
		}
		if before := last[issuer]; before != nil && number.Cmp(before) <= 0 {
			t.Errorf("%s: %s after %s", what, number, before)
		}
		last[issuer] = number
		return number
	}
	if got := step("the first", "one", now); got.Int64() != now.UnixMilli() {
		t.Errorf("the first is %s at %d", got, now.UnixMilli())
	}
	step("in the same millisecond", "one", now)
	if got := step("later", "one", now.Add(time.Minute)); got.Int64() != now.Add(time.Minute).UnixMilli() {
		t.Errorf("%s", got)
	}
	step("the clock was put back", "one", now.Add(-time.Hour))
	if got := step("another issuer", "two", now); got.Int64() != now.UnixMilli() {
		t.Errorf("%s", got)
	}
	n = revocation.NewNumbers(rows)
	step("after a restart", "one", now)
	step("once more", "one", now)
	n = revocation.NewNumbers(rows)
	step("a node whose clock is an hour behind", "one", now.Add(-time.Hour))
	n.Forget()
	step("after the row was forgotten", "one", now.Add(-time.Hour))
	step("an hour ahead", "one", now.Add(time.Hour))
	n = revocation.NewNumbers(rows)
	step("the clock is right again", "one", now)
}

// A list a second costs one small Put in ten minutes.
func TestANumberSeldomCostsAWrite(t *testing.T) {
	t.Parallel()
	storage := &counting{Storage: &logical.InmemStorage{}}
	n := revocation.NewNumbers(store.New(storage))
	now := time.Now()
	for range 600 {
		now = now.Add(time.Second)
		if _, err := n.Next(t.Context(), "one", now); err != nil {
			t.Fatal(err)
		}
	}
	if storage.puts != 1 || storage.gets != 1 {
		t.Errorf("%d reads, %d writes", storage.gets, storage.puts)
	}
}

// Wherever storage fails, and whether or not the write was carried out, a number comes once.
func TestNoFaultMakesANumberComeTwice(t *testing.T) {
	t.Parallel()
	for _, mode := range []int{storetest.Refuse, storetest.Apply} {
		for _, length := range []int{1, 2, storetest.Dead} {
			fired := true
			for at := 1; fired; at++ {
				t.Run(fmt.Sprintf("mode %d, %d from operation %d", mode, length, at), func(t *testing.T) {
					storage := &storetest.Faulty{Storage: &logical.InmemStorage{}}
					n := revocation.NewNumbers(store.New(storage))
					now := time.Now()
					var last *big.Int
					given := 0
					step := func() {
						number, err := n.Next(t.Context(), "one", now)
						if err != nil {
							if apitype.CodeOf(err) != apitype.OutcomeUnknown {
								t.Errorf("%v", err)
							}
							return
						}
						given++
						if last != nil && number.Cmp(last) <= 0 {
							t.Errorf("%s after %s", number, last)
						}
						last = number
					}
					storage.Arm(at, mode, length)
					for range 3 {
						step()
						now = now.Add(11 * time.Minute) // beyond the ceiling
					}
					fired = storage.Disarm()
					n = revocation.NewNumbers(store.New(storage)) // the process died
					now = now.Add(-time.Hour)
					for range 3 {
						step()
					}
					if given < 3 {
						t.Errorf("%d numbers after the fault was over", given)
					}
				})
			}
		}
	}
}

// The list that is there goes on being served while no new number can be had, and never beyond its time.
func TestAListOutlivesAStorageThatIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		issuer := w.newIssuer()
		first := w.crl(issuer)
		w.lists.Forget()
		w.numbers.Arm(1, storetest.Refuse, storetest.Dead)
		id, leaf := w.dead(issuer)
		w.revoke(id, leaf)
		eventually(t, "signing fails", func() bool { return w.failed() > 0 })
		if s := w.crl(issuer); s.Number.Cmp(first.Number) != 0 {
			t.Error("another list")
		}
		w.advance(expiry)
		if _, err := w.lists.CRL(t.Context(), issuer.ID); apitype.CodeOf(err) != apitype.NotReady {
			t.Errorf("%v", err)
		}
		w.numbers.Disarm()
		w.names(issuer, leaf.Serial)
	})
}

// counting is a storage that counts.
type counting struct {
	logical.Storage
	gets, puts int
}

func (c *counting) Get(ctx context.Context, key string) (*logical.StorageEntry, error) {
	c.gets++
	return c.Storage.Get(ctx, key)
}

func (c *counting) Put(ctx context.Context, e *logical.StorageEntry) error {
	c.puts++
	return c.Storage.Put(ctx, e)
}
