package revocation

import (
	"context"
	"time"

	"github.com/ampora/ampora/plugin/identity"
	"github.com/ampora/ampora/plugin/internal/ca"
	"github.com/ampora/ampora/plugin/internal/store"
)

// MaxRequest is how many bytes of DER an OCSP request may have. One about a single certificate has about 100.
const MaxRequest = 4096

// OCSP statuses of an Answer. The last three stand in responses that nobody has signed.
const (
	Good         = "good"
	Revoked      = "revoked"
	Unknown      = "unknown"
	Malformed    = "malformed"
	Unauthorized = "unauthorized" // the certificate is of no issuer of ours
	TryLater     = "try_later"
)

// Answer is an OCSP response.
type Answer struct {
	DER        []byte
	Status     string
	ThisUpdate time.Time // zero: not to be kept
	NextUpdate time.Time // zero: not to be kept
}

// Responder answers OCSP requests (RFC 6960, in the profile of RFC 5019) from the rows of the agents. It keeps nothing.
type Responder struct {
	// Issuers are those that have a certificate, whatever their state.
	Issuers func(context.Context) ([]*ca.Issuer, error)
	// Standing says whether a leaf was ever given, which issuer signed it, and, when it counts no longer, why.
	Standing func(context.Context, identity.Serial) (known bool, issuerID string, dead *Leaf, err error)
	// Expiry is how long an answer may be kept.
	Expiry func(context.Context) (time.Duration, error)
	// Failed hears why a client was told to try later.
	Failed func(what string, err error)
	Now    func() time.Time
}

// Answer answers a request in DER. What cannot be answered gets an OCSP response, too.
func (r *Responder) Answer(ctx context.Context, der []byte) Answer {
	if len(der) > MaxRequest {
		return Answer{DER: ca.OCSPMalformed, Status: Malformed}
	}
	request, err := ca.ParseOCSPRequest(der)
	if err != nil {
		return Answer{DER: ca.OCSPMalformed, Status: Malformed}
	}
	a, err := r.answer(store.InPassing(ctx), request) // anybody may ask about anything, and crowds no row out of the cache
	if err != nil {
		r.Failed("answering an OCSP request", err)
		return Answer{DER: ca.OCSPTryLater, Status: TryLater}
	}
	return a
}

func (r *Responder) answer(ctx context.Context, request *ca.OCSPRequest) (Answer, error) {
	issuer, err := r.named(ctx, request)
	if err != nil {
		return Answer{}, err
	}
	if issuer == nil {
		return Answer{DER: ca.OCSPUnauthorized, Status: Unauthorized}, nil
	}
	life, err := r.Expiry(ctx)
	if err != nil {
		return Answer{}, err
	}
	status, err := r.status(ctx, request, issuer)
	if err != nil {
		return Answer{}, err
	}
	now := r.Now()
	der, err := issuer.SignOCSP(request, status, now, life)
	if err != nil {
		return Answer{}, err
	}
	a := Answer{DER: der, Status: Good, ThisUpdate: now, NextUpdate: now.Add(life)}
	switch {
	case !status.Known:
		a = Answer{DER: der, Status: Unknown}
	case status.Revoked != nil:
		a.Status = Revoked
	}
	return a, nil
}

// named is the issuer that the request is about, or nil.
func (r *Responder) named(ctx context.Context, request *ca.OCSPRequest) (*ca.Issuer, error) {
	issuers, err := r.Issuers(ctx)
	if err != nil {
		return nil, err
	}
	for _, i := range issuers {
		if request.Names(i) {
			return i, nil
		}
	}
	return nil, nil
}

// status is what the rows say. A leaf that another issuer has signed is unknown to this one.
func (r *Responder) status(ctx context.Context, request *ca.OCSPRequest, issuer *ca.Issuer) (ca.OCSPStatus, error) {
	if !request.Ours {
		return ca.OCSPStatus{}, nil
	}
	known, issuerID, dead, err := r.Standing(ctx, request.Serial)
	if err != nil || !known || issuerID != issuer.ID {
		return ca.OCSPStatus{}, err
	}
	status := ca.OCSPStatus{Known: true}
	if dead != nil {
		status.Revoked = &ca.Revoked{Serial: dead.Serial, Time: dead.Time, Reason: dead.Reason}
	}
	return status, nil
}
