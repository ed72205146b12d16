package pki_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ampora/ampora/edge/metrics"
	"github.com/ampora/ampora/edge/pki"
	"github.com/ampora/ampora/edge/trust"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/identity"
	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/crypto/ocsp"
)

const life = 15 * time.Minute

// issuer is a CA of its own.
type issuer struct {
	id   string
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newIssuer(t testing.TB) *issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	id := uuid.NewString()
	template := &x509.Certificate{
		SerialNumber: identity.RandomSerial(identity.KindIssuer).Big(), Subject: pkix.Name{CommonName: id},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(1000 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	must(t, err)
	cert, err := x509.ParseCertificate(der)
	must(t, err)
	return &issuer{id: id, key: key, cert: cert}
}

// engine signs what the engine would, with a clock of its own. It is for what needs hours, races and an engine that errs:
// edge/pki_test.go has the real one.
type engine struct {
	mu        sync.Mutex
	issuers   []*issuer
	revoked   map[string]bool // by serial
	number    int64
	made      time.Time // of the list with this number
	clock     time.Duration
	fail      error
	panics    bool
	hold      chan struct{} // OCSP answers wait for it, once they have been made
	lists     []apitype.CRLRequest
	questions int
	revision  int
	pushed    []apitype.SyncRevoked
	changed   chan struct{}
}

func newEngine(t testing.TB) *engine {
	return &engine{issuers: []*issuer{newIssuer(t), newIssuer(t)}, revoked: map[string]bool{}, number: 1000, changed: make(chan struct{}, 1)}
}

func (e *engine) now() time.Time { return time.Now().Add(e.clock) }

func (e *engine) find(id string) *issuer {
	for _, i := range e.issuers {
		if i.id == id {
			return i
		}
	}
	return nil
}

func (e *engine) CRL(_ context.Context, in apitype.CRLRequest) (*apitype.CRL, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.lists = append(e.lists, in)
	if e.panics {
		panic("as the engine's client might")
	}
	if e.fail != nil {
		return nil, e.fail
	}
	if e.made.IsZero() || e.now().Sub(e.made) >= life/2 {
		e.number++
		e.made = e.now()
	}
	out := &apitype.CRL{
		IssuerID: in.IssuerID, Number: strconv.FormatInt(e.number, 10), Entries: len(e.revoked),
		ThisUpdate: e.made.Unix(), NextUpdate: e.made.Add(life).Unix(),
	}
	if in.Number == out.Number {
		return out, nil
	}
	i := e.find(in.IssuerID)
	list := &x509.RevocationList{Number: big.NewInt(e.number), ThisUpdate: e.made, NextUpdate: e.made.Add(life)}
	for serial := range e.revoked {
		s, _ := identity.ParseSerialText(serial)
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: s.Big(), RevocationTime: e.made})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, i.cert, i.key)
	if err != nil {
		return nil, err
	}
	out.CRL = base64.StdEncoding.EncodeToString(der)
	return out, nil
}

func (e *engine) OCSP(ctx context.Context, in apitype.OCSPRequest) (*apitype.OCSPResponse, error) {
	out, err := e.ocsp(in)
	e.mu.Lock()
	hold := e.hold
	e.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return out, err
}

func (e *engine) ocsp(in apitype.OCSPRequest) (*apitype.OCSPResponse, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.questions++
	if e.panics {
		panic("as the engine's client might")
	}
	if e.fail != nil {
		return nil, e.fail
	}
	der, err := base64.StdEncoding.DecodeString(in.Request)
	if err != nil {
		return nil, err
	}
	request, err := ocsp.ParseRequest(der)
	if err != nil {
		return nil, err
	}
	var signer *issuer
	for _, i := range e.issuers {
		own, err := ocsp.CreateRequest(&x509.Certificate{SerialNumber: request.SerialNumber}, i.cert, &ocsp.RequestOptions{Hash: request.HashAlgorithm})
		if err != nil {
			return nil, err
		}
		parsed, err := ocsp.ParseRequest(own)
		if err != nil {
			return nil, err
		}
		if bytes.Equal(parsed.IssuerKeyHash, request.IssuerKeyHash) {
			signer = i
		}
	}
	if signer == nil {
		return &apitype.OCSPResponse{Response: base64.StdEncoding.EncodeToString(ocsp.UnauthorizedErrorResponse), Status: "unauthorized"}, nil
	}
	now := e.now().Truncate(time.Second)
	out := &apitype.OCSPResponse{Status: "good", ThisUpdate: now.Unix(), NextUpdate: now.Add(life).Unix()}
	template := ocsp.Response{Status: ocsp.Good, SerialNumber: request.SerialNumber, IssuerHash: request.HashAlgorithm, ThisUpdate: now, NextUpdate: now.Add(life)}
	serial, ours := identity.ParseSerial(request.SerialNumber)
	switch {
	case !ours:
		out.Status, out.ThisUpdate, out.NextUpdate = "unknown", 0, 0
		template.Status, template.NextUpdate = ocsp.Unknown, now
	case e.revoked[serial.String()]:
		out.Status = "revoked"
		template.Status, template.RevokedAt, template.RevocationReason = ocsp.Revoked, now, ocsp.KeyCompromise
	}
	signed, err := ocsp.CreateResponse(signer.cert, signer.cert, template, signer.key)
	if err != nil {
		return nil, err
	}
	out.Response = base64.StdEncoding.EncodeToString(signed)
	return out, nil
}

// requests are those for lists, but for the first ones.
func (e *engine) requests(from int) []apitype.CRLRequest {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.lists[from:])
}

// Sync is the change feed.
func (e *engine) Sync(ctx context.Context, in apitype.SyncRequest) (*apitype.SyncResponse, error) {
	if in.Since == "" {
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.revision < 0 {
			return nil, errors.New("not yet")
		}
		out := &apitype.SyncResponse{Revision: e.name(), Full: true, Settings: &apitype.SyncSettings{}}
		for n, i := range e.issuers {
			state := "trusted"
			if n == 0 {
				state = "active"
			}
			out.Issuers = append(out.Issuers, apitype.SyncIssuer{
				IssuerID: i.id, State: state, Certificate: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.cert.Raw})),
			})
		}
		return out, nil
	}
	select {
	case <-e.changed:
	case <-time.After(time.Duration(in.Wait) * time.Second):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	out := &apitype.SyncResponse{Revision: e.name(), Revoked: e.pushed}
	e.pushed = nil
	return out, nil
}

func (e *engine) name() string { return "epoch." + strconv.Itoa(e.revision) }

// tell has the feed name a revocation. Whether lists and answers have it too is up to signRevoked.
func (e *engine) tell(serial identity.Serial) {
	e.mu.Lock()
	e.revision++
	e.pushed = append(e.pushed, apitype.SyncRevoked{AgentID: serial.AgentID(), Generation: serial.Generation(), NotAfter: time.Now().Add(life).Unix()})
	e.mu.Unlock()
	select {
	case e.changed <- struct{}{}:
	default:
	}
}

func (e *engine) signRevoked(serial identity.Serial) {
	e.set(func() { e.revoked[serial.String()], e.made = true, time.Time{} })
}

func (e *engine) revoke(serial identity.Serial) {
	e.signRevoked(serial)
	e.tell(serial)
}

func (e *engine) set(f func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f()
}

func (e *engine) asked() (lists, questions int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.lists), e.questions
}

// world is an engine of ours, a real feed, and the handler, on a clock that costs nothing.
type world struct {
	t        *testing.T
	engine   *engine
	handler  *pki.Handler
	metrics  *metrics.Metrics
	registry *prometheus.Registry
	log      *text
	feed     *trust.Feed
}

// text is a log that is read while it is written.
type text struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *text) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *text) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// inWorld runs f. The feed has told its first snapshot by then, and the lists are here, unless prepare keeps them back.
func inWorld(t *testing.T, prepare func(*engine), f func(*testing.T, *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, engine: newEngine(t), log: &text{}}
		if prepare != nil {
			prepare(w.engine)
		}
		var err error
		w.registry = prometheus.NewRegistry()
		w.metrics, err = metrics.New(w.registry)
		must(t, err)
		logger := hclog.New(&hclog.LoggerOptions{Level: hclog.Trace, Output: w.log})
		w.feed = trust.NewFeed(w.engine, logger)
		w.handler, err = pki.New(pki.Options{Engine: w.engine, Trust: w.feed, Metrics: w.metrics, Logger: logger})
		must(t, err)
		w.feed.OnChange(w.handler.Changed)
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { w.feed.Run(ctx) })
		running.Go(func() { w.handler.Run(ctx) })
		synctest.Wait()
		f(t, w)
		cancel()
		running.Wait()
		if t.Failed() {
			t.Log(w.log.String())
		}
	})
}

// count is a counter's value.
func (w *world) count(name string, labels ...string) float64 {
	w.t.Helper()
	families, err := w.registry.Gather()
	must(w.t, err)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var values []string
			for _, l := range m.GetLabel() {
				values = append(values, l.GetValue())
			}
			if f.GetName() == "ampora_edge_"+name && slices.Equal(values, labels) {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return -1
}

func (w *world) send(r *http.Request) *httptest.ResponseRecorder {
	if !pki.Serves(r.URL.Path) {
		w.t.Fatalf("%s is not served", r.URL.Path)
	}
	recorder := httptest.NewRecorder()
	w.handler.ServeHTTP(recorder, r)
	return recorder
}

func (w *world) get(path string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, path, nil)
	for n := 0; n < len(header); n += 2 {
		r.Header.Set(header[n], header[n+1])
	}
	return w.send(r)
}

func (w *world) post(question []byte) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, "/pki/ocsp", bytes.NewReader(question))
	r.Header.Set("Content-Type", "application/ocsp-request")
	return w.send(r)
}

// question is about a certificate of the active issuer.
func (w *world) question(serial *big.Int) []byte {
	w.t.Helper()
	der, err := ocsp.CreateRequest(&x509.Certificate{SerialNumber: serial}, w.engine.issuers[0].cert, nil)
	must(w.t, err)
	return der
}

func ocspPath(question []byte) string {
	return "/pki/ocsp/" + url.PathEscape(base64.StdEncoding.EncodeToString(question))
}

// status reads an OCSP answer, and checks the signature of one that has any.
func (w *world) status(got *httptest.ResponseRecorder) string {
	w.t.Helper()
	if got.Header().Get("Content-Type") != "application/ocsp-response" {
		w.t.Fatalf("%d %v: %s", got.Code, got.Header(), got.Body)
	}
	body, err := io.ReadAll(got.Body)
	must(w.t, err)
	parsed, err := ocsp.ParseResponse(body, w.engine.issuers[0].cert)
	if refused, is := errors.AsType[ocsp.ResponseError](err); is {
		return refused.Status.String()
	}
	must(w.t, err)
	return map[int]string{ocsp.Good: "good", ocsp.Revoked: "revoked", ocsp.Unknown: "unknown"}[parsed.Status]
}

func leaf(t testing.TB) identity.Serial {
	t.Helper()
	serial, err := identity.LeafSerial(uuid.NewString(), 1)
	must(t, err)
	return serial
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
