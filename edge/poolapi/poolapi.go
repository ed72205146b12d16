// Package poolapi serves the pool API: whoever holds a pool's admin secret issues bootstrap tokens, with nothing but curl.
//
//	POST /api/tokens/pools/{pool}/issue
//	Authorization: Bearer amp-ps...
//	Content-Type: application/json
//
//	{"ttlMinutes": 15, "label": "web-17", "count": 3}     ; each field, and the whole body, may be left out
//
// {pool} is the pool's id, or its name in the edge's tenant. The answer is 201 with
//
//	{"token": "amp-bs...", "tokenId": UUID, "expiresAt": RFC 3339}          ; without count
//	{"tokens": [{"token": ...}, ...], "batchId": UUID}                      ; with count, also of one, which has no batchId
//
// or a problem document (RFC 9457) whose type ends in the code of the error catalogue.
//
// Everything that can be judged here is, before Vault is asked. Wrong secrets are counted per source, never per pool, so
// that nobody can lock a pool's owner out.
package poolapi

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/ampora/ampora/edge/limits"
	"github.com/ampora/ampora/edge/listen"
	"github.com/ampora/ampora/edge/metrics"
	"github.com/ampora/ampora/edge/problem"
	"github.com/ampora/ampora/edge/recent"
	"github.com/ampora/ampora/edge/refused"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/hashicorp/go-hclog"
)

// Path is where tokens are issued; the pool stands for the star.
const Path = prefix + "*" + suffix

const prefix, suffix = "/api/tokens/pools/", "/issue"

// Options are what a Handler needs; all must be set.
type Options struct {
	Issuer  Issuer
	Refused *refused.Table // counts what is refused here, for the audit trail; may be nil
	Metrics *metrics.Metrics
	Logger  hclog.Logger
}

// Handler serves the pool API. It is safe for concurrent use.
type Handler struct {
	Options

	wrong    *limits.Keyed[limits.Source]       // wrong secrets
	unproven *limits.Keyed[limits.Source]       // well-formed secrets that Vault has to judge
	verdicts *recent.Map[claim, *apitype.Error] // what Vault said of a secret last: why not, or nil for a right one
	judged   chan struct{}                      // places of the secrets that Vault is judging
	draining atomic.Bool
}

// New makes a Handler.
func New(o Options) *Handler {
	return &Handler{
		Options:  o,
		wrong:    limits.NewKeyed[limits.Source](wrongPerSecond, wrongBurst, rememberedSources),
		unproven: limits.NewKeyed[limits.Source](unprovenPerSecond, unprovenBurst, rememberedSources),
		verdicts: recent.NewMap[claim, *apitype.Error](rememberedVerdicts),
		judged:   make(chan struct{}, unprovenAtOnce),
	}
}

// Drain refuses everybody from now on. What is being issued already is answered.
func (h *Handler) Drain() { h.draining.Store(true) }

// Serves reports whether a request's path is one of the pool API.
func Serves(path string) bool { _, found := poolOf(path); return found }

// poolOf is what stands in the path where the pool belongs.
func poolOf(path string) (pool string, found bool) {
	rest, found := strings.CutPrefix(path, prefix)
	pool, whole := strings.CutSuffix(rest, suffix)
	return pool, found && whole && !strings.Contains(pool, "/")
}

// ServeHTTP answers a request that Serves has said yes to.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		h.Metrics.PoolRequests.WithLabelValues(metrics.PoolWrongMethod).Inc()
		w.Header().Set("Allow", http.MethodPost)
		problem.WriteStatus(w, http.StatusMethodNotAllowed, "tokens are issued with POST")
		return
	}
	from := listen.Remote(r)
	a, err := h.read(w, r)
	if err == nil {
		a.from = from
		var issued *apitype.PoolIssueResponse
		if issued, err = h.issue(r.Context(), a); err == nil {
			h.answer(w, a, issued)
			return
		}
	}
	h.refuse(w, from, a, err)
}

// answer shows the tokens. This is the only place that ever does.
func (h *Handler) answer(w http.ResponseWriter, a asked, issued *apitype.PoolIssueResponse) {
	out := answer(issued)
	body, err := json.Marshal(out)
	if err != nil { // strings: cannot happen
		h.refuse(w, a.from, a, err)
		return
	}
	h.Metrics.PoolRequests.WithLabelValues(metrics.PoolIssued).Inc()
	h.Metrics.PoolTokens.Add(float64(max(len(out.Tokens), 1)))
	fields := []any{"pool", a.pool, "remote", a.from}
	switch {
	case a.count == nil:
		h.Logger.Info("token issued", append(fields, "token_id", out.TokenID)...)
	case out.BatchID == "":
		h.Logger.Info("token issued", append(fields, "token_id", out.Tokens[0].TokenID)...)
	default:
		h.Logger.Info("tokens issued", append(fields, "batch_id", out.BatchID, "count", len(out.Tokens), "token_ids", out.ids())...)
	}
	header := w.Header()
	header.Set("Content-Type", "application/json")
	header.Set("Cache-Control", "no-store")
	header.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(http.StatusCreated)
	_, _ = w.Write(body) // the peer may be gone: nobody is left to tell
}

// refuse answers with the problem document for an error. One without a code of ours is a fault of the edge.
func (h *Handler) refuse(w http.ResponseWriter, from netip.Addr, a asked, err error) {
	var e *apitype.Error
	if !errors.As(err, &e) {
		h.Logger.Error("unexpected error", "error", err)
		e = apitype.Errorf(apitype.Internal, "")
	}
	if e.Code == apitype.OutcomeUnknown { // there is no idempotency key here, and no need for one
		e = apitype.Errorf(apitype.VaultUnavailable, "Vault gave no clear answer; what it may have issued is shown to nobody, and expires")
	}
	h.Metrics.PoolRequests.WithLabelValues(string(e.Code)).Inc()
	h.Refused.Add(from, err)
	retryAfter := problem.RetryAfter(e.Code)
	level := hclog.Info
	if retryAfter > 0 {
		level = hclog.Debug // many at once, and they come back
	}
	fields := []any{"remote", from, "code", e.Code, "detail", e.Detail}
	if a.pool != "" {
		fields = append(fields, "pool", a.pool)
	}
	h.Logger.Log(level, "refused", fields...)
	doc := problem.Of(e)
	if e == errMediaType {
		doc.Status = http.StatusUnsupportedMediaType
	}
	doc.Write(w, retryAfter)
}

// issued is one token, as the API shows it.
type issued struct {
	Token     string `json:"token,omitempty"`
	TokenID   string `json:"tokenId,omitempty"`
	ExpiresAt string `json:"expiresAt,omitempty"`
}

// shown is the body of a 201.
type shown struct {
	issued
	Tokens  []issued `json:"tokens,omitempty"`
	BatchID string   `json:"batchId,omitempty"`
}

func answer(from *apitype.PoolIssueResponse) shown {
	out := shown{issued: issued{from.Token, from.TokenID, from.ExpiresAt}, BatchID: from.BatchID}
	for _, t := range from.Tokens {
		out.Tokens = append(out.Tokens, issued{t.Token, t.TokenID, t.ExpiresAt})
	}
	return out
}

func (s shown) ids() []string {
	ids := make([]string, len(s.Tokens))
	for i, t := range s.Tokens {
		ids[i] = t.TokenID
	}
	return ids
}
