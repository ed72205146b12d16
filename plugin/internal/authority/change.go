package authority

import (
	"context"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/audit"
	"github.com/ampora/ampora/plugin/internal/ca"
	"github.com/ampora/ampora/plugin/internal/name"
	"github.com/ampora/ampora/plugin/internal/store"
)

func parse(in apitype.CARootRequest) (ca.KeySpec, error) {
	if err := name.Text("common_name", in.CommonName, name.MaxLabel); err != nil {
		return ca.KeySpec{}, err
	}
	return ca.ParseKeySpec(in.KeyType, in.KeyBits)
}

// NewRoot makes a self-signed issuer. The first issuer of a mount becomes active at once; a later one waits as a draft.
func (a *Authority) NewRoot(ctx context.Context, origin audit.Origin, in apitype.CARootRequest) (apitype.CAIssuer, error) {
	spec, err := parse(in)
	if err != nil {
		return apitype.CAIssuer{}, err
	}
	a.change.Lock()
	defer a.change.Unlock()
	set, err := a.settled(ctx)
	if err != nil {
		return apitype.CAIssuer{}, err
	}
	issuer, err := ca.NewRoot(a.now(), in.CommonName, spec, time.Duration(in.TTL)*time.Second)
	if err != nil {
		return apitype.CAIssuer{}, err
	}
	row, err := newIssuerRow(issuer)
	if err != nil {
		return apitype.CAIssuer{}, err
	}
	// A row that ca/state does not name does not exist, so a crash between the two Puts leaves nothing behind but bytes.
	if err := a.store.Put(ctx, store.IssuerPrefix+issuer.ID, row); err != nil {
		return apitype.CAIssuer{}, err
	}
	next := set.row.with(issuer.ID)
	events := []apitype.Event{event(apitype.ActionIssuerCreated, issuer.ID)}
	place := len(next.Issuers) - 1
	if _, err := set.Active(); err != nil {
		next.activate(place, a.now())
		events = append(events, event(apitype.ActionIssuerActivated, issuer.ID))
	}
	if err := a.commit(ctx, origin, set, next, events...); err != nil {
		return apitype.CAIssuer{}, err
	}
	return Issuer{Issuer: issuer, State: next.Issuers[place].State, CommonName: row.CommonName}.describe(), nil
}

// NewIntermediate makes a draft issuer and answers the CSR for its key.
func (a *Authority) NewIntermediate(ctx context.Context, origin audit.Origin, in apitype.CARootRequest) (apitype.CAIntermediateResponse, error) {
	var none apitype.CAIntermediateResponse
	spec, err := parse(in)
	if err != nil {
		return none, err
	}
	id := ca.NewIssuerID()
	key, csr, err := ca.NewIntermediateCSR(id, in.CommonName, spec)
	if err != nil {
		return none, err
	}
	text, err := ca.MarshalKey(key)
	if err != nil {
		return none, err
	}
	a.change.Lock()
	defer a.change.Unlock()
	set, err := a.settled(ctx)
	if err != nil {
		return none, err
	}
	if err := a.store.Put(ctx, store.IssuerPrefix+id, &issuerRow{Key: text, CommonName: in.CommonName}); err != nil {
		return none, err
	}
	if err := a.commit(ctx, origin, set, set.row.with(id), event(apitype.ActionIssuerCreated, id)); err != nil {
		return none, err
	}
	return apitype.CAIntermediateResponse{IssuerID: id, CSR: csr}, nil
}

// SetSigned brings the signed chain of a draft issuer back; its key tells which one. It becomes active when none is. Doing
// it again with the same chain changes nothing.
func (a *Authority) SetSigned(ctx context.Context, origin audit.Origin, in apitype.CASetSignedRequest) (apitype.CAIssuer, error) {
	a.change.Lock()
	defer a.change.Unlock()
	set, err := a.settled(ctx)
	if err != nil {
		return apitype.CAIssuer{}, err
	}
	var signed *ca.Issuer
	var place int
	failure := error(apitype.Errorf(apitype.IssuerInvalid, "no issuer waits for a certificate"))
	for n, i := range set.all {
		if i.State != Draft {
			continue
		}
		if signed, err = ca.AcceptSigned(i.ID, i.Key, in.Certificate, a.now()); err == nil {
			place = n
			break
		}
		failure = err
		if ca.HoldsKey(in.Certificate, i.Key.Public()) {
			break // what is wrong with this draft's chain is what matters, not that the others' keys are others
		}
	}
	if signed == nil {
		if again := set.signedAlready(in.Certificate, a.now()); again != nil {
			return again.describe(), nil
		}
		return apitype.CAIssuer{}, failure
	}
	row, err := newIssuerRow(signed)
	if err != nil {
		return apitype.CAIssuer{}, err
	}
	defer a.Forget()
	if err := a.store.Put(ctx, store.IssuerPrefix+signed.ID, row); err != nil {
		return apitype.CAIssuer{}, err
	}
	issuer := Issuer{Issuer: signed, State: Draft, CommonName: row.CommonName}
	if _, err := set.Active(); err != nil {
		issuer.State = Active
		next := set.row.copy()
		next.activate(place, a.now())
		if err := a.commit(ctx, origin, set, next, event(apitype.ActionIssuerActivated, signed.ID)); err != nil {
			return apitype.CAIssuer{}, err
		}
	}
	return issuer.describe(), nil
}

// signedAlready answers the issuer that has this very certificate.
func (s *Set) signedAlready(chain string, now time.Time) *Issuer {
	for _, i := range s.all {
		if i.Certificate == nil {
			continue
		}
		if signed, err := ca.AcceptSigned(i.ID, i.Key, chain, now); err == nil && signed.Certificate.Equal(i.Certificate) {
			return &i
		}
	}
	return nil
}

// Activate makes the issuer the one that signs. The one that did so far stays trusted.
func (a *Authority) Activate(ctx context.Context, origin audit.Origin, id string) (apitype.CAIssuer, error) {
	a.change.Lock()
	defer a.change.Unlock()
	set, err := a.settled(ctx)
	if err != nil {
		return apitype.CAIssuer{}, err
	}
	issuer, place, err := set.find(id)
	switch {
	case err != nil:
		return apitype.CAIssuer{}, err
	case issuer.State == Active:
		return issuer.describe(), nil
	case issuer.State == Retired:
		return apitype.CAIssuer{}, apitype.Errorf(apitype.IssuerInvalid, "the issuer is retired, for good")
	case issuer.Certificate == nil:
		return apitype.CAIssuer{}, apitype.Errorf(apitype.IssuerInvalid, "the issuer's CSR has not been signed yet")
	case !issuer.CanSign(a.now()):
		return apitype.CAIssuer{}, apitype.Errorf(apitype.IssuerInvalid, "the issuer has expired")
	}
	next := set.row.copy()
	next.activate(place, a.now())
	if err := a.commit(ctx, origin, set, next, event(apitype.ActionIssuerActivated, id)); err != nil {
		return apitype.CAIssuer{}, err
	}
	issuer.State = Active
	return issuer.describe(), nil
}

// Settle stores the event of a change that a crash cut short.
func (a *Authority) Settle(ctx context.Context) error {
	a.change.Lock()
	defer a.change.Unlock()
	_, err := a.settled(ctx)
	return err
}

// settled is the current set with nothing left to tell. The caller holds change.
func (a *Authority) settled(ctx context.Context) (*Set, error) {
	set, err := a.Set(ctx)
	if err != nil {
		return nil, err
	}
	return set, a.log.Ensure(ctx, set.row.Record)
}

// commit is the one Put of a change of the set. Memory is dropped whatever comes of it. The caller holds change.
func (a *Authority) commit(ctx context.Context, origin audit.Origin, set *Set, next stateRow, events ...apitype.Event) error {
	next.number(set.row, a.now())
	next.Record = audit.NewRecord(origin, a.now(), events...)
	defer a.Forget()
	if err := a.store.Put(ctx, store.CAStateKey, &next); err != nil {
		return err
	}
	a.log.Tell(ctx, next.Record)
	return nil
}

func (r stateRow) copy() stateRow {
	r.Issuers = append([]issuerState{}, r.Issuers...)
	return r
}

// with is the row with one draft more.
func (r stateRow) with(id string) stateRow {
	r = r.copy()
	r.Issuers = append(r.Issuers, issuerState{ID: id, State: Draft})
	return r
}

// activate makes the issuer at that place the one that signs.
func (r stateRow) activate(place int, now time.Time) {
	for n := range r.Issuers {
		if r.Issuers[n].State == Active {
			r.Issuers[n].State = Trusted
		}
	}
	r.Issuers[place].State = Active
	if r.Issuers[place].Since.IsZero() {
		r.Issuers[place].Since = now.UTC()
	}
}

func event(action, id string) apitype.Event {
	return apitype.Event{EntityType: "issuer", EntityID: id, Action: action}
}
