package pki

import (
	"context"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/ampora/ampora/edge/vaultgate"
	"github.com/ampora/ampora/plugin/apitype"
	"golang.org/x/time/rate"
)

// list is one issuer's list of revoked certificates. It never changes.
type list struct {
	issuer     string
	number     string // decimal
	der, pem   []byte
	entries    int
	thisUpdate time.Time // by Vault's clock
	// By this edge's clock:
	confirmed time.Time // when Vault last said that it is the newest
	refresh   time.Time // when Vault is asked again
	expires   time.Time // its next update
}

// Pace of the fetching.
const (
	roundsPerChange = 5           // the engine answers with the list that it has, and signs the one with the change meanwhile
	leastGap        = time.Second // between two rounds, however many revocations there are; doubled from one to the next
	longestGap      = 30 * time.Second
	gapPerFetch     = 5 // and the rounds take at most a sixth of the time, since a list may have megabytes
	retryFirst      = time.Second
	retryLast       = 30 * time.Second
)

// lists holds the newest list of each issuer in the trust snapshot.
type lists struct {
	Options
	guard func(string, func()) error
	held  atomic.Pointer[map[string]*list] // by issuer; the map never changes
	whole atomic.Pointer[whole]            // see ServeAll
	wake  chan struct{}                    // holds one when something has changed

	// Of run's goroutine alone:
	retries map[string]retry
	clocks  rate.Sometimes // warnings about them
}

// retry is when a list that could not be fetched is asked for again.
type retry struct {
	at    time.Time
	pause time.Duration
	why   string
}

func newLists(o Options, guard func(string, func()) error) *lists {
	l := &lists{
		Options: o, guard: guard, wake: make(chan struct{}, 1), retries: map[string]retry{}, clocks: rate.Sometimes{Interval: time.Hour},
	}
	l.held.Store(&map[string]*list{})
	return l
}

// hurry has the lists fetched now.
func (l *lists) hurry() {
	select {
	case l.wake <- struct{}{}:
	default: // it is known already
	}
}

// run fetches until ctx ends: a few times from when something has changed, and each list at half of its life.
func (l *lists) run(ctx context.Context) {
	for rounds := 0; ctx.Err() == nil; {
		began := time.Now()
		next, fetched := l.round(ctx, rounds > 0)
		if fetched {
			sleep(ctx, min(max(gapPerFetch*time.Since(began), leastGap), longestGap))
		}
		if rounds = max(rounds-1, 0); rounds > 0 {
			next = earlier(next, began.Add(leastGap<<(roundsPerChange-1-rounds)))
		}
		due := time.NewTimer(time.Until(next))
		select {
		case <-ctx.Done():
		case <-due.C:
		case <-l.wake:
			rounds = roundsPerChange
		}
		due.Stop()
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// round fetches the lists that are due, or all of them, and says when the next one is.
func (l *lists) round(ctx context.Context, all bool) (next time.Time, fetched bool) {
	next = time.Now().Add(time.Hour)
	s := l.Trust.Current()
	if s == nil {
		return next, false // the first snapshot wakes us
	}
	l.keepOnly(s.IssuerIDs)
	for _, issuer := range s.IssuerIDs {
		if all || !time.Now().Before(l.dueAt(issuer)) {
			l.try(ctx, issuer)
			fetched = true
		}
		next = earlier(next, l.dueAt(issuer))
	}
	return next, fetched
}

// keepOnly forgets the lists of issuers that are no longer trusted.
func (l *lists) keepOnly(issuers []string) {
	gone := func(id string) bool { return !slices.Contains(issuers, id) }
	maps.DeleteFunc(l.retries, func(id string, _ retry) bool { return gone(id) })
	kept := maps.Clone(*l.held.Load())
	maps.DeleteFunc(kept, func(id string, _ *list) bool { return gone(id) })
	l.held.Store(&kept)
}

func (l *lists) dueAt(issuer string) time.Time {
	if r, failing := l.retries[issuer]; failing {
		return r.at
	}
	if held := (*l.held.Load())[issuer]; held != nil {
		return held.refresh
	}
	return time.Time{}
}

// try fetches one list; a failure leaves the one that is there.
func (l *lists) try(ctx context.Context, issuer string) {
	var got *list
	var err error
	if panicked := l.guard("fetching a list", func() { got, err = l.fetch(ctx, issuer) }); panicked != nil {
		err = panicked
	}
	if err != nil {
		if ctx.Err() == nil {
			l.failed(issuer, err)
		}
		return
	}
	if _, failing := l.retries[issuer]; failing {
		l.Logger.Info("the list of revoked certificates comes again", "issuer", issuer)
		delete(l.retries, issuer)
	}
	all := maps.Clone(*l.held.Load())
	all[issuer] = got
	l.held.Store(&all)
}

// failed puts the issuer off for a while that grows, and logs why, once.
func (l *lists) failed(issuer string, err error) {
	before, why := l.retries[issuer], vaultgate.Cause(err)
	pause := min(max(2*before.pause, retryFirst), retryLast)
	l.retries[issuer] = retry{at: time.Now().Add(pause/2 + rand.N(pause)), pause: pause, why: why}
	if why != before.why {
		l.Logger.Warn("no newer list of revoked certificates", "issuer", issuer, "error", why)
	}
}

// fetch asks for a list, which Vault leaves out when it is the one that is here.
func (l *lists) fetch(ctx context.Context, issuer string) (*list, error) {
	old := (*l.held.Load())[issuer]
	request := apitype.CRLRequest{IssuerID: issuer}
	if old != nil {
		request.Number = old.number
	}
	answer, err := l.Engine.CRL(ctx, request)
	if err != nil {
		return nil, err
	}
	if answer.IssuerID != issuer {
		return nil, errors.New("pki: Vault sent the list of another issuer")
	}
	if n, ok := new(big.Int).SetString(answer.Number, 10); !ok || n.Sign() < 0 {
		return nil, errors.New("pki: the list's number is none")
	}
	next := &list{issuer: issuer, number: answer.Number, entries: answer.Entries, thisUpdate: time.Unix(answer.ThisUpdate, 0)}
	switch {
	case answer.CRL != "":
		if next.der, err = base64.StdEncoding.DecodeString(answer.CRL); err != nil {
			return nil, fmt.Errorf("pki: the list is no base64: %w", err)
		}
		next.pem = pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: next.der})
	case old != nil && old.number == answer.Number:
		next.der, next.pem = old.der, old.pem
	default:
		return nil, errors.New("pki: Vault left out a list that is not here")
	}
	return next, l.date(next, time.Unix(answer.NextUpdate, 0))
}

// date says how long the list is good. It is the newest at this moment, so a life that is over by this edge's clock means
// that the clock is ahead of Vault's: then the list is good for as long as it lives.
func (l *lists) date(n *list, nextUpdate time.Time) error {
	n.confirmed = time.Now()
	life := left(n.thisUpdate, nextUpdate, n.confirmed)
	if life <= 0 {
		life = nextUpdate.Sub(n.thisUpdate)
		l.clocks.Do(func() {
			l.Logger.Warn("the newest list of revoked certificates has expired already, so this machine's clock is ahead of Vault's",
				"by_at_least", n.confirmed.Sub(nextUpdate).Round(time.Second))
		})
	}
	if life <= 0 {
		return errors.New("pki: the list's next update is not after its making")
	}
	n.expires = n.confirmed.Add(life)
	// A little after the half, since that is when the engine signs the next one; and not all edges together.
	n.refresh = n.confirmed.Add(max(life/2+rand.N(life/20+1), leastGap))
	return nil
}

// of is the list of the issuer, or of the active one for "".
func (l *lists) of(issuer string) (*list, *apitype.Error) {
	s := l.Trust.Current()
	switch {
	case s == nil:
		return nil, errNoSnapshot
	case issuer == "" && len(s.IssuerIDs) == 0:
		return nil, errNoIssuer
	case issuer == "":
		issuer = s.IssuerIDs[0]
	case !slices.Contains(s.IssuerIDs, issuer):
		return nil, errUnknownIssuer
	}
	held := (*l.held.Load())[issuer]
	if held == nil {
		return nil, errNoList
	}
	if !time.Now().Before(held.expires) {
		return nil, errListExpired
	}
	return held, nil
}

// list serves one.
func (h *Handler) list(w http.ResponseWriter, r *http.Request, issuer string, asPEM bool) (outcome string) {
	if readsOnly(w, r) {
		return outcomeWrongMethod
	}
	l, refusal := h.lists.of(issuer)
	if refusal != nil {
		return refuse(w, refusal)
	}
	d := document{
		body: l.der, contentType: "application/pkix-crl", etag: l.issuer + "." + l.number, modified: l.thisUpdate,
		fresh: freshFor(l.refresh, l.expires, time.Now()), expires: l.expires,
	}
	if asPEM {
		d.body, d.contentType = l.pem, pemType
	}
	return d.write(w, r)
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
