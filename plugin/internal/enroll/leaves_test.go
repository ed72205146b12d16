package enroll_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/store"
	"github.com/ampora/ampora/plugin/internal/storetest"
	"github.com/hashicorp/vault/sdk/logical"
)

// enrolled is a fresh agent.
func (w *world) enrolled() *apitype.Identity {
	w.t.Helper()
	issued, err := w.Issue(w.t.Context(), operator, apitype.TokenIssueRequest{})
	w.must(err)
	id, err := w.Redeem(w.t.Context(), operator, "", apitype.RedeemRequest{Token: issued.Token, CSR: newCSR(w.t)})
	w.must(err)
	return id
}

// signing is the id of the issuer that signs.
func (w *world) signing() string {
	w.t.Helper()
	set, err := w.Authority.Set(w.t.Context())
	w.must(err)
	issuer, err := set.Active()
	w.must(err)
	return issuer.ID
}

// successor is another issuer, which is not active yet.
func (w *world) successor() string {
	w.t.Helper()
	issuer, err := w.Authority.NewRoot(w.t.Context(), operator, apitype.CARootRequest{})
	w.must(err)
	return issuer.IssuerID
}

func (w *world) activate(id string) {
	w.t.Helper()
	_, err := w.Authority.Activate(w.t.Context(), operator, id)
	w.must(err)
}

func TestTheLeavesOfAnIssuerAreCountedWhileTheyAreGood(t *testing.T) {
	w := newWorld(t, &storetest.Faulty{Storage: &logical.InmemStorage{}})
	now := time.Now()
	w.Now = func() time.Time { return now }
	w.configure()
	first := w.signing()
	counts := func(want int, issuer string, until int64) {
		t.Helper()
		n, last, err := w.LiveLeaves(t.Context(), issuer)
		if err != nil || n != want || until > 0 && last.Unix() != until {
			t.Fatalf("%d leaves until %v, %v; want %d until %v", n, last, err, want, time.Unix(until, 0))
		}
	}
	counts(0, first, 0)
	one, two, three := w.enrolled(), w.enrolled(), w.enrolled()
	counts(3, first, three.Expiration)
	_, err := w.RevokeAgent(t.Context(), operator, "", one.AgentID, "")
	w.must(err)
	w.must(w.DeleteAgent(t.Context(), operator, "", two.AgentID))
	counts(1, first, three.Expiration)

	second := w.successor()
	w.activate(second)
	now = now.Add(time.Hour)
	next, err := w.Renew(t.Context(), operator, "", three.AgentID, apitype.RenewRequest{Fingerprint: three.Fingerprint})
	w.must(err)
	counts(1, first, three.Expiration) // the current one
	counts(1, second, next.Expiration) // the next one
	_, err = w.Authority.Retire(t.Context(), operator, first, false, w.LiveLeaves)
	if apitype.CodeOf(err) != apitype.InUse || !strings.Contains(err.Error(), "1 certificate of") {
		t.Fatalf("%v", err)
	}
	now = time.Unix(three.Expiration, 0)
	counts(0, first, 0)
	counts(1, second, next.Expiration)
}

func TestALeafOfARetiredIssuerIsNotRenewed(t *testing.T) {
	w := newWorld(t, &storetest.Faulty{Storage: &logical.InmemStorage{}})
	w.configure()
	first, agent := w.signing(), w.enrolled()
	w.activate(w.successor())
	_, err := w.Authority.Retire(t.Context(), operator, first, true, w.LiveLeaves)
	w.must(err)
	if _, err := w.Renew(t.Context(), operator, "", agent.AgentID, apitype.RenewRequest{Fingerprint: agent.Fingerprint}); apitype.CodeOf(err) != apitype.CertificateUntrusted {
		t.Errorf("%v", err)
	}
}

// A redemption that has signed, and has not stored its agent yet, is waited for: its leaf is counted.
func TestRetiringWaitsForWhoeverIsSigning(t *testing.T) {
	slow := &slowPut{Storage: &logical.InmemStorage{}, entered: make(chan struct{}), open: make(chan struct{})}
	w := newWorld(t, &storetest.Faulty{Storage: slow})
	f := prepare(w, false)
	first, second := w.signing(), w.successor()
	slow.prefix = store.AgentPrefix
	redeemed, retired := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := w.Redeem(t.Context(), operator, "", f.redeem)
		redeemed <- err
	}()
	<-slow.entered
	w.activate(second)
	go func() {
		_, err := w.Authority.Retire(t.Context(), operator, first, false, w.LiveLeaves)
		retired <- err
	}()
	select {
	case err := <-retired:
		retired <- err
		t.Error("retiring did not wait")
	case <-time.After(300 * time.Millisecond):
	}
	close(slow.open)
	w.must(<-redeemed)
	if err := <-retired; apitype.CodeOf(err) != apitype.InUse {
		t.Errorf("the redeemed leaf was not counted: %v", err)
	}
}

// A redemption that comes while the issuer changes chooses it when nothing can come between that and storing its agent.
func TestTheIssuerIsChosenUnderTheLock(t *testing.T) {
	w := newWorld(t, &storetest.Faulty{Storage: &logical.InmemStorage{}})
	f := prepare(w, false)
	second := w.successor()
	release := w.Locks.Mount()
	redeemed := make(chan *apitype.Identity, 1)
	go func() {
		id, err := w.Redeem(t.Context(), operator, "", f.redeem)
		if err != nil {
			t.Error(err)
		}
		redeemed <- id
	}()
	time.Sleep(100 * time.Millisecond) // so that it waits for the lock, most likely
	w.activate(second)
	release()
	id := <-redeemed
	set, err := w.Authority.Set(t.Context())
	w.must(err)
	if issuer, err := set.Get(second); err != nil || id == nil || id.IssuingCA != issuer.Certificate {
		t.Error("the issuer of before has signed")
	}
}

// slowPut is a storage whose first Put below a prefix says that it has come, and waits.
type slowPut struct {
	logical.Storage
	prefix        string
	entered, open chan struct{}
	once          sync.Once
}

func (g *slowPut) Put(ctx context.Context, e *logical.StorageEntry) error {
	if g.prefix != "" && strings.HasPrefix(e.Key, g.prefix) {
		g.once.Do(func() {
			close(g.entered)
			<-g.open
		})
	}
	return g.Storage.Put(ctx, e)
}
