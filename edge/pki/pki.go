// Package pki serves what anybody may know of the PKI: lists of revoked certificates, answers about single certificates
// (OCSP, RFC 6960 and RFC 5019), and the issuers to trust (DESIGN.md sections 6 and 7).
//
//	/pki/crl.der, /pki/crl.pem                          the list of the active issuer
//	/pki/<issuer_id>/crl.der, /pki/<issuer_id>/crl.pem  the list of an issuer that is active or trusted
//	/pki/trust-bundle.pem                               the certificates of these issuers
//	/pki/ocsp                                           OCSP by POST
//	/pki/ocsp/<base64>                                  OCSP by GET
//
// # While Vault is away
//
// A list is served until its own next update, and an OCSP answer is repeated until its own; then 503 and 'try later' take
// their place. Nothing is signed here, so nothing can be made up: an edge that has not heard of a list yet has none, and
// never an empty one. What the trust snapshot calls revoked is never called good from memory.
package pki

import (
	"context"
	"net/http"
	"runtime/debug"
	"strings"
	"sync/atomic"

	"github.com/ampora/ampora/edge/metrics"
	"github.com/ampora/ampora/edge/problem"
	"github.com/ampora/ampora/edge/trust"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/hashicorp/go-hclog"
)

// Prefix begins every path of this package.
const Prefix = "/pki/"

// Engine signs lists and answers. Whatever goes wrong is an error; it must be safe for concurrent use.
type Engine interface {
	CRL(ctx context.Context, in apitype.CRLRequest) (*apitype.CRL, error)
	OCSP(ctx context.Context, in apitype.OCSPRequest) (*apitype.OCSPResponse, error)
}

// Trust has the newest trust snapshot, nil before the first.
type Trust interface{ Current() *trust.Snapshot }

// Options are what a Handler needs; all must be set.
type Options struct {
	Engine  Engine
	Trust   Trust
	Metrics *metrics.Metrics
	Logger  hclog.Logger
}

// Handler serves the paths. It is safe for concurrent use.
type Handler struct {
	Options

	counts   *metrics.PKI
	lists    *lists
	answers  *responder
	draining atomic.Bool
}

// New makes a Handler, which has no list before Run, and registers its metrics.
func New(o Options) (*Handler, error) {
	h := &Handler{Options: o}
	var err error
	if h.counts, err = o.Metrics.PKI(); err != nil {
		return nil, err
	}
	h.lists = newLists(o, h.guard)
	h.answers = newResponder(o, h.counts, h.guard)
	return h, h.registerGauges()
}

// Run keeps the lists fresh until ctx ends.
func (h *Handler) Run(ctx context.Context) { h.lists.run(ctx) }

// Changed hears of a change of the trust snapshot.
func (h *Handler) Changed(c trust.Change) {
	if c.Whole || len(c.Revoked) > 0 {
		h.answers.forget()
	}
	h.lists.hurry()
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
	about, outcome := metrics.PKIOther, string(apitype.Internal)
	defer func() { h.counts.Requests.WithLabelValues(about, outcome).Inc() }()
	if err := h.guard("an answer", func() { about, outcome = h.serve(w, r) }); err != nil {
		problem.Write(w, apitype.Errorf(apitype.Internal, ""), 0)
	}
}

// serve answers, and says for the metrics what it was about and how it ended.
func (h *Handler) serve(w http.ResponseWriter, r *http.Request) (about, outcome string) {
	path := strings.TrimPrefix(r.URL.Path, Prefix)
	asked, isOCSP := strings.CutPrefix(path, "ocsp/")
	issuer, file, below := strings.Cut(path, "/")
	if !below {
		issuer, file = "", path
	}
	switch {
	case path == "ocsp" || isOCSP && asked == "":
		return metrics.PKIOCSP, h.answers.post(w, r)
	case isOCSP:
		return metrics.PKIOCSP, h.answers.get(w, r, asked)
	case path == "trust-bundle.pem":
		return metrics.PKIBundle, h.bundle(w, r)
	case (file == "crl.der" || file == "crl.pem") && below == (issuer != ""):
		return metrics.PKICRL, h.list(w, r, issuer, file == "crl.pem")
	}
	problem.WriteStatus(w, http.StatusNotFound, "there are /pki/crl.der, /pki/crl.pem, the same below /pki/<issuer_id>/, /pki/trust-bundle.pem and /pki/ocsp")
	return metrics.PKIOther, "not_found"
}

// readsOnly refuses what does not only read, and reports whether it did.
func readsOnly(w http.ResponseWriter, r *http.Request) (refused bool) {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return false
	}
	return wrongMethod(w, "GET, HEAD")
}

func wrongMethod(w http.ResponseWriter, allowed string) (refused bool) {
	w.Header().Set("Allow", allowed)
	problem.WriteStatus(w, http.StatusMethodNotAllowed, "only "+allowed+" is served here")
	return true
}

// Outcomes beside the codes of the catalogue and the states of a certificate.
const (
	served             = "ok"
	notModified        = "not_modified"
	outcomeWrongMethod = "method_not_allowed"
)

// refuse answers with the problem document for e.
func refuse(w http.ResponseWriter, e *apitype.Error) (outcome string) {
	problem.Write(w, e, problem.RetryAfter(e.Code))
	return string(e.Code)
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
