package revocation_test

import (
	"context"
	"crypto/x509"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/identity"
	"github.com/ampora/ampora/plugin/internal/ca"
	"github.com/ampora/ampora/plugin/internal/revocation"
	"github.com/ampora/ampora/plugin/internal/store"
	"github.com/ampora/ampora/plugin/internal/storetest"
	"github.com/google/uuid"
	"github.com/hashicorp/vault/sdk/logical"
)

// expiry is crl_expiry in these tests.
const expiry = 15 * time.Minute

// world is one process's lists over rows that outlive it. Reading the rows may fail, and may be held up.
type world struct {
	t       testing.TB
	lists   *revocation.Lists
	numbers *storetest.Faulty
	issuers map[string]*ca.Issuer

	mu       sync.Mutex
	now      time.Time
	rows     map[string][]revocation.Leaf
	err      error
	loads    int
	failures int
	started  chan struct{} // gets one value for each load, when set
	gate     chan struct{} // every load takes one value out of it, when set
	signing  func()        // runs before each signature, when set
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{
		t: t, now: time.Now().Truncate(time.Second), rows: map[string][]revocation.Leaf{}, issuers: map[string]*ca.Issuer{},
		numbers: &storetest.Faulty{Storage: &logical.InmemStorage{}},
	}
	w.restart()
	return w
}

// restart is a new process over the same rows.
func (w *world) restart() {
	life, end := context.WithCancel(context.Background())
	w.t.Cleanup(end)
	w.lists = revocation.NewLists(life, store.New(w.numbers), revocation.Sources{
		Leaves: w.load, Issuer: w.issuer, Now: w.clock,
		Expiry: func(context.Context) (time.Duration, error) { return expiry, nil },
		Failed: func(string, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.failures++
		},
	})
}

func (w *world) newIssuer() *ca.Issuer {
	w.t.Helper()
	spec, err := ca.ParseKeySpec("", 0)
	if err != nil {
		w.t.Fatal(err)
	}
	i, err := ca.NewRoot(w.clock(), "", spec, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	w.issuers[i.ID] = i
	return i
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) advance(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

func (w *world) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.err = err
}

// beforeSigning has f run before each signature from now on.
func (w *world) beforeSigning(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.signing = f
}

func (w *world) failed() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.failures
}

func (w *world) issuer(ctx context.Context, id string) (*ca.Issuer, error) {
	w.mu.Lock()
	f := w.signing
	w.mu.Unlock()
	if _, inBackground := ctx.Deadline(); inBackground && f != nil {
		f()
	}
	if i := w.issuers[id]; i != nil {
		return i, nil
	}
	return nil, apitype.Errorf(apitype.IssuerUnknown, "no issuer has this id")
}

// load reads the rows and then waits at the gate, as a load that has passed a row when that is written.
func (w *world) load(ctx context.Context, visit func(string, []revocation.Leaf)) error {
	w.mu.Lock()
	w.loads++
	all, err := maps.Clone(w.rows), w.err
	w.mu.Unlock()
	if w.started != nil {
		w.started <- struct{}{}
	}
	if w.gate != nil {
		select {
		case <-w.gate:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	for id, leaves := range all {
		visit(id, leaves)
	}
	return err
}

// put is the Put of an agent's row, of which nobody is told.
func (w *world) put(agentID string, leaves ...revocation.Leaf) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rows[agentID] = leaves
}

// revoke is the Put of an agent's row and the word of it.
func (w *world) revoke(agentID string, leaves ...revocation.Leaf) {
	w.put(agentID, leaves...)
	w.lists.Changed(agentID, leaves)
}

// leaf is a dead leaf of the agent, which expires in an hour.
func (w *world) leaf(issuer *ca.Issuer, agentID string, generation uint32) revocation.Leaf {
	w.t.Helper()
	serial, err := identity.LeafSerial(agentID, generation)
	if err != nil {
		w.t.Fatal(err)
	}
	now := w.clock()
	return revocation.Leaf{Serial: serial, IssuerID: issuer.ID, Time: now.Add(-time.Minute), Reason: "keyCompromise", NotAfter: now.Add(time.Hour)}
}

// dead makes an agent with a dead leaf.
func (w *world) dead(issuer *ca.Issuer) (agentID string, l revocation.Leaf) {
	w.t.Helper()
	agentID = uuid.NewString()
	return agentID, w.leaf(issuer, agentID, 1)
}

func (w *world) crl(issuer *ca.Issuer) revocation.Signed {
	w.t.Helper()
	signed, err := w.lists.CRL(w.t.Context(), issuer.ID)
	if err != nil {
		w.t.Fatal(err)
	}
	return signed
}

// parsed is a list as its readers see it: of the issuer, and with what is said of it.
func parsed(t testing.TB, issuer *ca.Issuer, s revocation.Signed) *x509.RevocationList {
	t.Helper()
	list, err := x509.ParseRevocationList(s.DER)
	if err != nil {
		t.Fatal(err)
	}
	if err := list.CheckSignatureFrom(issuer.Certificate); err != nil {
		t.Fatal(err)
	}
	if list.Number.Cmp(s.Number) != 0 || len(list.RevokedCertificateEntries) != s.Entries ||
		list.ThisUpdate.Unix() != s.ThisUpdate.Unix() || list.NextUpdate.Unix() != s.NextUpdate.Unix() {
		t.Fatalf("number %s, %d entries, %s to %s; said of it: %+v", list.Number, len(list.RevokedCertificateEntries), list.ThisUpdate, list.NextUpdate, s)
	}
	return list
}

// named is the serials that the issuer's list names now.
func (w *world) named(issuer *ca.Issuer) []identity.Serial {
	w.t.Helper()
	var all []identity.Serial
	for _, e := range parsed(w.t, issuer, w.crl(issuer)).RevokedCertificateEntries {
		s, ok := identity.ParseSerial(e.SerialNumber)
		if !ok {
			w.t.Fatalf("%s is no serial of ours", e.SerialNumber)
		}
		all = append(all, s)
	}
	return sorted(all)
}

func sorted(all []identity.Serial) []identity.Serial {
	slices.SortFunc(all, func(a, b identity.Serial) int { return slices.Compare(a[:], b[:]) })
	return all
}

// names waits until the issuer's list names these and no others.
func (w *world) names(issuer *ca.Issuer, want ...identity.Serial) {
	w.t.Helper()
	sorted(want)
	eventually(w.t, "the list names what is dead", func() bool { return slices.Equal(w.named(issuer), want) })
}

func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("in vain: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}
