package pki

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/ampora/ampora/edge/limits"
	"github.com/ampora/ampora/edge/listen"
	"github.com/ampora/ampora/edge/metrics"
	"github.com/ampora/ampora/edge/problem"
	"github.com/ampora/ampora/edge/recent"
	"github.com/ampora/ampora/edge/vaultgate"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/identity"
	"golang.org/x/crypto/ocsp"
	"golang.org/x/sync/singleflight"
)

// Media types of RFC 6960 appendix C.
const (
	requestType  = "application/ocsp-request"
	responseType = "application/ocsp-response"
)

// States of an answer, as the engine names them.
const (
	good         = "good"
	revoked      = "revoked"
	unknown      = "unknown"
	malformed    = "malformed"
	unauthorized = "unauthorized"
	tryLater     = "try_later"
)

// Bounds of what is remembered and let through.
const (
	rememberedAnswers = 1 << 13 // of 0.5 to 2 KB
	rememberedSources = 1 << 14
	askedPerSecond    = 50 // questions of one source that have to go to Vault
	askedBurst        = 200
)

// answer is what the engine has said to a question. It never changes.
type answer struct {
	der      []byte
	status   string
	etag     string
	modified time.Time // by Vault's clock
	// By this edge's clock; zero for what must not be kept:
	refresh time.Time // when Vault is asked again
	expires time.Time // its next update
}

// The answers that need no Vault. They are not signed, and are never kept.
var (
	answerMalformed = &answer{der: ocsp.MalformedRequestErrorResponse, status: malformed}
	answerTryLater  = &answer{der: ocsp.TryLaterErrorResponse, status: tryLater}
)

// memory is what has been asked since the last revocation that the edge has heard of. It is dropped as a whole, with the
// questions under way: what they bring comes too late to be kept, and nobody new waits for it.
type memory struct {
	answers *recent.Map[[sha256.Size]byte, *answer]
	flights singleflight.Group
}

// responder answers OCSP questions with what the engine says.
type responder struct {
	Options
	counts *metrics.PKI
	guard  func(string, func()) error
	asked  *limits.Keyed[limits.Source]
	memory atomic.Pointer[memory]
}

func newResponder(o Options, counts *metrics.PKI, guard func(string, func()) error) *responder {
	a := &responder{
		Options: o, counts: counts, guard: guard, asked: limits.NewKeyed[limits.Source](askedPerSecond, askedBurst, rememberedSources),
	}
	a.forget()
	return a
}

// forget drops every answer.
func (a *responder) forget() {
	a.memory.Store(&memory{answers: recent.NewMap[[sha256.Size]byte, *answer](rememberedAnswers)})
}

// post answers a question in a body.
func (a *responder) post(w http.ResponseWriter, r *http.Request) (outcome string) {
	if r.Method != http.MethodPost {
		wrongMethod(w, http.MethodPost)
		return outcomeWrongMethod
	}
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != requestType {
		problem.WriteStatus(w, http.StatusUnsupportedMediaType, "send the request as "+requestType)
		return string(apitype.FieldInvalid)
	}
	if r.ContentLength > maxQuestion {
		w.Header().Set("Connection", "close") // rather than read the rest
		return refuse(w, errTooLarge)
	}
	der, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxQuestion))
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		return refuse(w, errTooLarge)
	}
	if err != nil {
		return refuse(w, apitype.Errorf(apitype.FieldInvalid, "the body did not arrive whole"))
	}
	said, refusal := a.say(r, der)
	if refusal != nil {
		return slowDown(w, refusal)
	}
	write(w, http.StatusOK, said)
	return said.status
}

var errTooLarge = apitype.Errorf(apitype.BodyTooLarge, "an OCSP request has at most %d bytes here", maxQuestion)

// get answers a question in the path, in a way that caches understand (RFC 5019 section 6.2).
func (a *responder) get(w http.ResponseWriter, r *http.Request, asked string) (outcome string) {
	if readsOnly(w, r) {
		return outcomeWrongMethod
	}
	der, err := fromPath(asked)
	if err != nil {
		write(w, http.StatusOK, answerMalformed)
		return malformed
	}
	said, refusal := a.say(r, der)
	if refusal != nil {
		return slowDown(w, refusal)
	}
	if said.expires.IsZero() {
		write(w, http.StatusOK, said)
		return said.status
	}
	document{
		body: said.der, contentType: responseType, etag: said.etag, modified: said.modified,
		fresh: freshFor(said.refresh, said.expires, time.Now()), expires: said.expires,
	}.write(w, r)
	return said.status
}

// write sends an answer that only the client may keep, by its own rules.
func write(w http.ResponseWriter, status int, said *answer) {
	h := w.Header()
	h.Set("Content-Type", responseType)
	h.Set("Content-Length", strconv.Itoa(len(said.der)))
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(said.der) // the peer may be gone: nobody is left to tell
}

// slowDown tells a source that asks too much in HTTP's words and in those of OCSP.
func slowDown(w http.ResponseWriter, e *apitype.Error) (outcome string) {
	seconds := int64((problem.RetryAfter(e.Code) + time.Second - 1) / time.Second)
	w.Header().Set("Retry-After", strconv.FormatInt(seconds, 10))
	write(w, e.Code.EdgeStatus(), answerTryLater)
	return string(e.Code)
}

// say answers a question, or refuses a source that asks too much.
func (a *responder) say(r *http.Request, der []byte) (*answer, *apitype.Error) {
	q, err := parseQuestion(der)
	if err != nil {
		return answerMalformed, nil
	}
	said, refusal := a.find(r, q)
	// The last look is at the snapshot: whatever was remembered, or on its way when the revocation arrived, gives way to it.
	if refusal == nil && said.status == good && a.knownRevoked(q) {
		said = answerTryLater
	}
	return said, refusal
}

// find takes the answer from memory while it is fresh, and else from the engine. What is remembered goes on until it expires
// when the engine has nothing to say.
func (a *responder) find(r *http.Request, q question) (*answer, *apitype.Error) {
	m := a.memory.Load()
	kept, found := m.answers.Get(q.key)
	if found && kept.status == good && a.knownRevoked(q) {
		kept, found = nil, false
	}
	if found && time.Now().Before(kept.refresh) {
		a.counts.Answers.WithLabelValues(metrics.PKIMemory).Inc()
		return kept, nil
	}
	if !a.asked.Allow(limits.SourceOf(listen.Remote(r))) {
		if found {
			return kept, nil
		}
		return nil, errAsksTooMuch
	}
	a.counts.Answers.WithLabelValues(metrics.PKIVault).Inc()
	said, err := a.ask(r.Context(), m, q)
	switch {
	case err == nil:
		return said, nil
	case found:
		return kept, nil
	}
	a.Logger.Debug("an OCSP question stays without an answer", "error", vaultgate.Cause(err))
	return answerTryLater, nil
}

var errAsksTooMuch = apitype.Errorf(apitype.RateLimited, "too many different OCSP questions from this address")

// knownRevoked reports whether the trust snapshot has the certificate's revocation.
func (a *responder) knownRevoked(q question) bool {
	s := a.Trust.Current()
	return s != nil && q.serial.Kind() == identity.KindLeaf && s.Revoked(q.serial)
}

// ask has the engine answer, once for all who wait for the same.
func (a *responder) ask(ctx context.Context, m *memory, q question) (*answer, error) {
	done := m.flights.DoChan(string(q.key[:]), func() (any, error) {
		var said *answer
		var err error
		if panicked := a.guard("an OCSP question", func() { said, err = a.fetch(context.WithoutCancel(ctx), q) }); panicked != nil {
			return nil, panicked
		}
		if err == nil && !said.expires.IsZero() {
			m.answers.Put(q.key, said, time.Until(said.expires))
		}
		return said, err
	})
	select {
	case result := <-done:
		if result.Err != nil {
			return nil, result.Err
		}
		return result.Val.(*answer), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// fetch asks the engine.
func (a *responder) fetch(ctx context.Context, q question) (*answer, error) {
	got, err := a.Engine.OCSP(ctx, apitype.OCSPRequest{Request: base64.StdEncoding.EncodeToString(q.der)})
	if err != nil {
		return nil, err
	}
	der, err := base64.StdEncoding.DecodeString(got.Response)
	if err != nil || len(der) == 0 {
		return nil, errors.New("pki: the engine's answer is no base64")
	}
	said := &answer{der: der, status: got.Status}
	switch got.Status {
	case good, revoked:
	case unknown, malformed, unauthorized:
		return said, nil // to be told, and not to be kept
	case tryLater:
		return nil, errors.New("pki: the engine cannot answer now")
	default:
		return nil, errors.New("pki: the engine's answer has no status that is known here")
	}
	now, from, to := time.Now(), time.Unix(got.ThisUpdate, 0), time.Unix(got.NextUpdate, 0)
	if life := left(from, to, now); got.ThisUpdate > 0 && got.NextUpdate > 0 && life > 0 {
		sum := sha256.Sum256(der)
		said.etag, said.modified = hex.EncodeToString(sum[:16]), from
		said.refresh, said.expires = now.Add(life/2), now.Add(life)
	}
	return said, nil
}
