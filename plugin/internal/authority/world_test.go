package authority_test

import (
	"context"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/audit"
	"github.com/ampora/ampora/plugin/internal/authority"
	"github.com/ampora/ampora/plugin/internal/store"
	"github.com/ampora/ampora/plugin/internal/storetest"
	"github.com/hashicorp/vault/sdk/logical"
)

// world is one process of the engine, as far as its issuers go, over a storage that outlives it.
type world struct {
	*testing.T
	*authority.Authority
	log     *audit.Log
	storage *storetest.Faulty
	clock   *time.Duration // how far it is ahead
	leaves  int            // that are still good, of every issuer
}

func newWorld(t *testing.T) *world {
	return process(t, &storetest.Faulty{Storage: &logical.InmemStorage{}}, new(time.Duration))
}

func process(t *testing.T, storage *storetest.Faulty, clock *time.Duration) *world {
	rows := store.New(store.NewCache(storage))
	now := func() time.Time { return time.Now().Add(*clock) }
	log := audit.NewLog(rows, now, 90*24*time.Hour)
	return &world{T: t, Authority: authority.New(rows, log, now), log: log, storage: storage, clock: clock}
}

// restart is a new process over the same storage, after its recovery.
func (w *world) restart() *world {
	w.Helper()
	next := process(w.T, w.storage, w.clock)
	next.leaves = w.leaves
	next.recover()
	return next
}

func (w *world) recover() {
	w.Helper()
	w.must(w.log.Retell(w.Context()))
	w.must(w.Settle(w.Context()))
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) no(code apitype.Code, err error) {
	w.Helper()
	if got := apitype.CodeOf(err); got != code {
		w.Fatalf("code %q (%v), want %q", got, err, code)
	}
}

var operator = audit.Origin{Actor: apitype.Actor{DisplayName: "operator"}, RequestID: "request"}

// root makes a self-signed issuer and answers its id.
func (w *world) root(ttl time.Duration) string {
	w.Helper()
	issuer, err := w.NewRoot(w.Context(), operator, apitype.CARootRequest{TTL: int64(ttl / time.Second)})
	w.must(err)
	return issuer.IssuerID
}

func (w *world) activate(id string) {
	w.Helper()
	_, err := w.Activate(w.Context(), operator, id)
	w.must(err)
}

func (w *world) retire(id string, force bool) error {
	_, err := w.Retire(w.Context(), operator, id, force, w.live)
	return err
}

func (w *world) live(context.Context, string) (int, time.Time, error) {
	return w.leaves, time.Now().Add(time.Hour), nil
}

func (w *world) state(id string) string {
	w.Helper()
	issuer, err := w.set().Get(id)
	w.must(err)
	return issuer.State
}

func (w *world) set() *authority.Set {
	w.Helper()
	set, err := w.Set(w.Context())
	w.must(err)
	return set
}

func (w *world) events() []apitype.Event {
	w.Helper()
	page, _, err := w.log.Page(w.Context(), audit.Query{Limit: audit.MaxLimit})
	w.must(err)
	return page
}

func (w *world) told(action string) int {
	w.Helper()
	count := 0
	for _, e := range w.events() {
		if e.Action == action {
			count++
		}
	}
	return count
}
