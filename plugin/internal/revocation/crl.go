package revocation

import (
	"context"
	"errors"
	"math/big"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/ca"
)

// A signature is followed by a rest: at least the shortest, and so many times as long as the signature took, so that a
// storm of revocations keeps the processor busy for a quarter of the time at most.
const (
	shortestRest = time.Second
	restShare    = 3
)

// signTimeout bounds what a signature needs of storage.
const signTimeout = time.Minute

// Signed is an issuer's list (RFC 5280 section 5). It never changes.
type Signed struct {
	DER        []byte
	Number     *big.Int
	Entries    int
	ThisUpdate time.Time
	NextUpdate time.Time

	made time.Time
}

// list is what there is of one issuer's list. It is guarded by Lists.mu.
type list struct {
	signed   *Signed       // the newest; nil before the first
	asked    time.Time     // for it, the last time
	stale    bool          // something has changed since
	building chan struct{} // closed when the next one is there, or has failed; nil when none is being made
	rest     time.Time     // when the next one may be begun, by the process's own clock
}

// due reports whether a new one should be made: there is none, something has changed, or half of its time is over (also when
// the clock was put back).
func (c *list) due(now time.Time) bool {
	if c.signed == nil || c.stale {
		return true
	}
	age := now.Sub(c.signed.made)
	return age < 0 || age >= c.signed.NextUpdate.Sub(c.signed.made)/2
}

// wanted reports whether somebody has asked in as much time as the list is good for. What nobody asks for is made again when
// somebody does.
func (c *list) wanted(now time.Time) bool {
	return c.signed != nil && now.Sub(c.asked) < c.signed.NextUpdate.Sub(c.signed.made)
}

// good reports whether the list may still be served.
func (s *Signed) good(now time.Time) bool {
	return s != nil && !now.Before(s.ThisUpdate) && now.Before(s.NextUpdate)
}

// CRL is the issuer's list. The one that is there is answered at once; the first is waited for. It is issuer_unknown,
// issuer_invalid for one that has no certificate yet, and not_ready while the memory is not whole.
func (l *Lists) CRL(ctx context.Context, issuerID string) (Signed, error) {
	if _, err := l.issuer(ctx, issuerID); err != nil {
		return Signed{}, err
	}
	patience := time.NewTimer(MaxWait)
	defer patience.Stop()
	for {
		signed, ready := l.look(issuerID)
		if signed != nil {
			return *signed, nil
		}
		select {
		case <-ready:
			continue
		case <-ctx.Done():
		case <-l.life.Done():
		case <-patience.C:
		}
		return Signed{}, errNotMade
	}
}

// issuer is one that can sign.
func (l *Lists) issuer(ctx context.Context, id string) (*ca.Issuer, error) {
	issuer, err := l.sources.Issuer(ctx, id)
	if err == nil && issuer.Certificate == nil {
		err = apitype.Errorf(apitype.IssuerInvalid, "the issuer's CSR has not been signed yet")
	}
	return issuer, err
}

// look answers the list that may be served, or what to wait for. It begins what is due.
func (l *Lists) look(issuerID string) (*Signed, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.memory == nil {
		return nil, l.begin()
	}
	made := l.memory.lists[issuerID]
	if made == nil {
		made = &list{}
		l.memory.lists[issuerID] = made
	}
	now := l.sources.Now()
	made.asked = now
	good := made.signed.good(now)
	if !good || made.due(now) {
		l.renew(issuerID, made)
	}
	if good {
		return made.signed, nil
	}
	return nil, made.building
}

// Tick makes new lists in the place of those in use that have half of their time behind them. Call it now and then; it does
// not wait.
func (l *Lists) Tick() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.memory == nil {
		return
	}
	now := l.sources.Now()
	for id, made := range l.memory.lists {
		if made.due(now) && made.wanted(now) {
			l.renew(id, made)
		}
	}
}

// SettingsChanged has every list made again, since Expiry may be another.
func (l *Lists) SettingsChanged() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.memory == nil {
		return
	}
	for id, made := range l.memory.lists {
		l.outdate(id, made)
	}
}

// outdate notes that a list is no longer right, and begins to make the next if somebody wants it. The caller holds mu.
func (l *Lists) outdate(issuerID string, made *list) {
	made.stale = true
	if made.wanted(l.sources.Now()) {
		l.renew(issuerID, made)
	}
}

// renew begins to make the next list, unless that is under way. The caller holds mu.
func (l *Lists) renew(issuerID string, made *list) {
	if made.building == nil {
		made.building = make(chan struct{})
		go l.build(l.memory, issuerID, made, made.building, time.Until(made.rest))
	}
}

func (l *Lists) build(m *memory, issuerID string, made *list, done chan struct{}, rest time.Duration) {
	l.pause(rest)
	begun := time.Now()
	signed, err := l.sign(m, issuerID, made)
	took := time.Since(begun)
	if err != nil && !errors.Is(err, errDropped) {
		l.failed("signing the CRL of issuer "+issuerID, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	defer close(done)
	made.building = nil
	if err != nil {
		made.stale, made.rest = true, time.Now().Add(retry)
		return
	}
	made.signed, made.rest = signed, time.Now().Add(max(shortestRest, restShare*took))
	if made.stale && l.memory == m && made.wanted(l.sources.Now()) {
		l.renew(issuerID, made)
	}
}

// errDropped means that the memory which a list was to be made of counts no longer.
var errDropped = errors.New("the memory was dropped")

// sign makes one list of what memory knows now. A panic underneath is one failed list.
func (l *Lists) sign(m *memory, issuerID string, made *list) (signed *Signed, err error) {
	defer func() {
		if p := recover(); p != nil {
			signed, err = nil, errors.New("it panicked")
		}
	}()
	l.signing.Lock()
	defer l.signing.Unlock()
	ctx, cancel := context.WithTimeout(l.life, signTimeout)
	defer cancel()
	issuer, err := l.issuer(ctx, issuerID)
	if err != nil {
		return nil, err
	}
	life, err := l.sources.Expiry(ctx)
	if err != nil {
		return nil, err
	}
	now := l.sources.Now()
	number, err := l.numbers.next(ctx, issuerID, now)
	if err != nil {
		return nil, err
	}
	entries, err := l.entries(m, issuerID, made, now)
	if err != nil {
		return nil, err
	}
	der, err := issuer.SignCRL(entries, number, now, life)
	if err != nil {
		return nil, err
	}
	return &Signed{
		DER: der, Number: number, Entries: len(entries), ThisUpdate: now.Add(-ca.CRLBackdate), NextUpdate: now.Add(life), made: now,
	}, nil
}

// entries copies what the list is to name. What changes from here on makes the list stale.
func (l *Lists) entries(m *memory, issuerID string, made *list, now time.Time) ([]ca.Revoked, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.memory != m {
		return nil, errDropped
	}
	made.stale = false
	return m.of(issuerID, now), nil
}
