// Package federation is how this installation's edges and those of its peers speak with each other (DESIGN.md section 9).
//
// Anybody may ask, over TLS and without a certificate:
//
//	GET  /federation/bundle     our card as JSON (apitype.FederationBundle): what the other side writes to its peers/<name>
//	GET  /federation/crls       the lists of revoked certificates of all our issuers, as PEM blocks 'X509 CRL'
//	POST /federation/receipts   a receipt of a peer (application/jose, RFC 7515 section 3.1); 200 with the answer, as
//	                            application/jose, or 204 when there is none (a receipt that is itself an answer)
//
// Refusals are problem documents (RFC 9457) whose type ends in the code of the error catalogue.
//
// For its own side an edge carries the receipts that wait in Vault's outbox to the peer and the answer back, follows the
// peer's bundle, holds the peer's lists of revoked certificates while agents with its certificates are here, and tells how it
// found the peer. Every edge does all of that: each step can be done twice without harm, so nobody has to agree on who does
// it.
//
// # What is believed
//
// TLS says that the other end is who the peer's row says (endpoint_ca_bundle or the system's roots, the host of
// federation_url); that is for privacy and for knowing whom one has reached. What is said counts by its own signature: Vault
// judges receipts and bundles, and a list counts when a pinned certificate has signed it. What a peer says of errors is
// shown only as far as it is a code of the catalogue.
package federation

import (
	"context"
	"crypto/x509"
	"net/http"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ampora/ampora/edge/metrics"
	"github.com/ampora/ampora/edge/problem"
	"github.com/ampora/ampora/edge/refused"
	"github.com/ampora/ampora/edge/trust"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/hashicorp/go-hclog"
)

// Prefix begins every path of this package.
const Prefix = "/federation/"

// The paths below it.
const (
	pathBundle   = "bundle"
	pathCRLs     = "crls"
	pathReceipts = "receipts"
)

// Engine is the secrets engine. Refusals are *apitype.Error in the chain; whatever means that Vault could not answer has a
// code with which the edge answers 503. All calls may be repeated. It must be safe for concurrent use.
type Engine interface {
	FederationBundle(ctx context.Context) (*apitype.FederationBundle, error)
	// UpdatePeerBundle brings a peer's newer bundle.
	UpdatePeerBundle(ctx context.Context, name string, in apitype.PeerBundleRequest) (*apitype.Peer, error)
	// Receipt brings what a peer has sent, Answer what it has answered.
	Receipt(ctx context.Context, in apitype.ReceiptRequest) (*apitype.ReceiptResponse, error)
	Answer(ctx context.Context, in apitype.ReceiptRequest) (*apitype.ReceiptResponse, error)
	Outbox(ctx context.Context) (*apitype.Outbox, error)
}

// View is what of the trust snapshot counts here. It never changes.
type View struct {
	Peers []Peer
	// CRLExpiry is how long our own lists are good, which is how fresh those of others are to be, too.
	CRLExpiry time.Duration
}

// Peer is a peer of the trust snapshot.
type Peer struct {
	Name   string
	PeerID string
	URL    string // of its edges' /federation; empty: there is no way to them, and people carry the receipts
	Roots  string // PEM that verifies them; empty: the system's
	// Pinned are its issuers, and Sequence is that of the bundle that they are from.
	Pinned    []*x509.Certificate
	Sequence  uint64
	Suspended bool
	// Waiting says that an agent of the peer waits for its release, so the outbox is not empty.
	Waiting bool
	// Guests says that agents with certificates of the peer are let in.
	Guests bool
}

// Lists serves the lists of revoked certificates of all our issuers, and says for the metrics how that ended.
type Lists interface {
	ServeAll(w http.ResponseWriter, r *http.Request) (outcome string)
}

// Timing holds how long things may take, and how often they are done. Zero fields mean the defaults.
type Timing struct {
	Bundle    time.Duration // between two looks at a peer's bundle; default 5 min
	Outbox    time.Duration // between two looks into an outbox of which nothing is known; default 5 min
	Expect    time.Duration // the same while an agent waits for its release; default 3 s
	Spread    time.Duration // within which the edges take up what the feed tells them all at once; default 100 ms
	Retry     time.Duration // the first pause after a failure; default 1 s
	LastRetry time.Duration // and the longest; default 1 min
	CRL       time.Duration // between two looks at a peer's lists; default a third of View.CRLExpiry
	Call      time.Duration // for a call to a peer; default 10 s
	Card      time.Duration // for which our own card is served without asking Vault again; default 5 s
}

func (t Timing) withDefaults() Timing {
	for field, d := range map[*time.Duration]time.Duration{
		&t.Bundle: 5 * time.Minute, &t.Outbox: 5 * time.Minute, &t.Expect: 3 * time.Second, &t.Spread: 100 * time.Millisecond,
		&t.Retry: time.Second, &t.LastRetry: time.Minute, &t.Call: 10 * time.Second, &t.Card: 5 * time.Second,
	} {
		if *field <= 0 {
			*field = d
		}
	}
	return t
}

// Options are what a Handler needs. All but Refused, Ended and Timing must be set.
type Options struct {
	Engine Engine
	// View is the newest view, nil before the first trust snapshot.
	View  func() *View
	Lists Lists
	// Ended hears that certificates of the peer have been revoked. It must not block.
	Ended   func(peer string)
	Refused *refused.Table // counts what is refused here, for the audit trail; may be nil
	Metrics *metrics.Metrics
	Logger  hclog.Logger
	Timing  Timing
}

// Handler serves the paths and speaks with peers. It is safe for concurrent use.
type Handler struct {
	Options

	counts   *metrics.Federation
	card     *card
	judge    *judge
	outbox   *outbox
	draining atomic.Bool
	wake     chan struct{} // holds one when the view may have changed

	mu    sync.Mutex
	peers map[string]*peer // by name
}

// New makes a Handler, which speaks with nobody before Run, and registers its metrics.
func New(o Options) (*Handler, error) {
	o.Timing = o.Timing.withDefaults()
	h := &Handler{Options: o, wake: make(chan struct{}, 1), peers: map[string]*peer{}}
	var err error
	if h.counts, err = o.Metrics.Federation(h.states); err != nil {
		return nil, err
	}
	h.card = &card{Options: o}
	h.judge = newJudge()
	h.outbox = newOutbox(h)
	return h, nil
}

// Changed hears of a change of the trust snapshot.
func (h *Handler) Changed(c trust.Change) {
	if c.Whole || len(c.Revoked)+len(c.Moves)+len(c.Guests) == 0 { // issuers, peers or settings
		h.card.stale()
	}
	poke(h.wake)
	if c.Whole || len(c.Guests) > 0 {
		h.outbox.hurry()
	}
}

// Run speaks with the peers until ctx ends.
func (h *Handler) Run(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() { h.outbox.run(ctx) })
	for {
		h.guard("peers", func() { h.meet(ctx, &running) })
		select {
		case <-ctx.Done():
			return
		case <-h.wake:
		}
	}
}

// Drain has clients turn to another edge with their next request. What is asked until then is still answered.
func (h *Handler) Drain() { h.draining.Store(true) }

// Serves reports whether a request's path is for this package.
func Serves(path string) bool { return strings.HasPrefix(path, Prefix) }

// ServeHTTP answers a request that Serves has said yes to.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h.draining.Load() {
		w.Header().Set("Connection", "close")
	}
	about, outcome := metrics.FederationOther, string(apitype.Internal)
	defer func() { h.counts.Requests.WithLabelValues(about, outcome).Inc() }()
	if err := h.guard("an answer", func() { about, outcome = h.serve(w, r) }); err != nil {
		problem.Write(w, apitype.Errorf(apitype.Internal, ""), 0)
	}
}

// serve answers, and says for the metrics what it was about and how it ended.
func (h *Handler) serve(w http.ResponseWriter, r *http.Request) (about, outcome string) {
	switch strings.TrimPrefix(r.URL.Path, Prefix) {
	case pathBundle:
		return metrics.FederationBundle, h.card.serve(w, r)
	case pathCRLs:
		return metrics.FederationCRLs, h.Lists.ServeAll(w, r)
	case pathReceipts:
		return metrics.FederationReceipts, h.receipt(w, r)
	}
	problem.WriteStatus(w, http.StatusNotFound, "there are /federation/bundle, /federation/crls and /federation/receipts")
	return metrics.FederationOther, "not_found"
}

// Outcomes beside the codes of the catalogue.
const (
	served             = "ok"
	outcomeWrongMethod = "method_not_allowed"
)

// refuse answers with the problem document for e.
func refuse(w http.ResponseWriter, e *apitype.Error) (outcome string) {
	problem.Write(w, e, problem.RetryAfter(e.Code))
	return string(e.Code)
}

func wrongMethod(w http.ResponseWriter, allowed string) (outcome string) {
	w.Header().Set("Allow", allowed)
	problem.WriteStatus(w, http.StatusMethodNotAllowed, "only "+allowed+" is served here")
	return outcomeWrongMethod
}

// guard keeps a panic from ending more than f, and makes an error of it.
func (h *Handler) guard(what string, f func()) (err error) {
	defer func() {
		if r := recover(); r != nil {
			h.Metrics.Panics.Inc()
			h.Logger.Error("panic", "in", what, "panic", r, "stack", string(debug.Stack()))
			err = apitype.Errorf(apitype.Internal, "")
		}
	}()
	f()
	return nil
}

// poke wakes who waits on c, once however often it is called.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
