package federation_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ampora/ampora/edge/federation"
	"github.com/ampora/ampora/edge/metrics"
	"github.com/ampora/ampora/edge/trust"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/handover"
	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
)

// patience is how long a test waits for what has to come.
const patience = 15 * time.Second

// quick are timings for tests: long enough for a slow machine, short enough to wait for.
var quick = federation.Timing{
	Bundle: 200 * time.Millisecond, Outbox: 200 * time.Millisecond, Expect: 50 * time.Millisecond, Spread: 5 * time.Millisecond,
	Retry: 20 * time.Millisecond, LastRetry: 100 * time.Millisecond, CRL: 50 * time.Millisecond, Card: 5 * time.Millisecond,
}

// authority is a CA: an installation's issuer.
type authority struct {
	t    testing.TB
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{t: t, key: newKey(t)}
	a.cert = a.sign(&x509.Certificate{
		SerialNumber: serialNumber(t), Subject: pkix.Name{CommonName: "issuer"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(1000 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
		SubjectKeyId: []byte(rand.Text()),
	}, &a.key.PublicKey)
	return a
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	return key
}

func serialNumber(t testing.TB) *big.Int {
	t.Helper()
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 150))
	must(t, err)
	return n.Add(n, big.NewInt(1))
}

func (a *authority) sign(template *x509.Certificate, public *ecdsa.PublicKey) *x509.Certificate {
	a.t.Helper()
	parent := a.cert
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, a.key)
	must(a.t, err)
	cert, err := x509.ParseCertificate(der)
	must(a.t, err)
	return cert
}

func (a *authority) pem() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}))
}

// server is a server certificate for loopback.
func (a *authority) server(notAfter time.Time) tls.Certificate {
	key := newKey(a.t)
	cert := a.sign(&x509.Certificate{
		SerialNumber: serialNumber(a.t), Subject: pkix.Name{CommonName: "edge"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: notAfter,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, KeyUsage: x509.KeyUsageDigitalSignature,
	}, &key.PublicKey)
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}
}

func (a *authority) jws(typ string, claims any) string {
	a.t.Helper()
	signed, err := handover.Sign(a.key, typ, claims)
	must(a.t, err)
	return signed
}

// receipt is one about a handover.
func (a *authority) receipt(issuer string, step handover.Step) string {
	return a.jws(handover.TypeReceipt, handover.Receipt{Issuer: issuer, Audience: "home", IssuedAt: time.Now().Unix(), Step: step, HandoverID: "11111111-2222-4333-8444-555555555555"})
}

// card is what the installation answers at /federation/bundle.
func (a *authority) card(peerID string, sequence uint64) *apitype.FederationBundle {
	return &apitype.FederationBundle{
		PeerID: peerID, TrustDomain: peerID + ".example", Endpoint: "wss://edge." + peerID + ".example/v1/opamp", CABundle: a.pem(),
		BundleJWS: a.jws(handover.TypeBundle, handover.Bundle{
			Issuer: peerID, Sequence: sequence, IssuedAt: time.Now().Unix(), Expires: time.Now().Add(time.Hour).Unix(), TrustDomain: peerID + ".example",
			Certificates: []string{a.pem()},
		}),
	}
}

// list is a list of revoked certificates.
func (a *authority) list(number int64, nextUpdate time.Time, extra []pkix.Extension, revoked ...*big.Int) string {
	a.t.Helper()
	var entries []x509.RevocationListEntry
	for _, n := range revoked {
		entries = append(entries, x509.RevocationListEntry{SerialNumber: n, RevocationTime: time.Now()})
	}
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		RevokedCertificateEntries: entries, Number: big.NewInt(number), ThisUpdate: nextUpdate.Add(-time.Hour), NextUpdate: nextUpdate, ExtraExtensions: extra,
	}, a.cert, a.key)
	must(a.t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}))
}

// engine is the secrets engine as far as peers are concerned: an outbox that is emptied by answers. It is for peers that lie, and
// an engine that errs: edge/federation_test.go has the real one.
type engine struct {
	mu       sync.Mutex
	card     *apitype.FederationBundle
	cards    int // calls
	err      error
	messages []apitype.OutboxMessage
	looks    int
	answers  []string
	answer   func(receipt string) (*apitype.ReceiptResponse, error)
	receipts []string
	receipt  func(receipt string) (*apitype.ReceiptResponse, error)
	bundles  []string
	bundle   func(name string) error
}

func (e *engine) FederationBundle(context.Context) (*apitype.FederationBundle, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.cards++
	return e.card, e.err
}

func (e *engine) UpdatePeerBundle(_ context.Context, name string, in apitype.PeerBundleRequest) (*apitype.Peer, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.bundles = append(e.bundles, in.BundleJWS)
	if e.bundle != nil {
		if err := e.bundle(name); err != nil {
			return nil, err
		}
	}
	return &apitype.Peer{Name: name}, e.err
}

func (e *engine) Receipt(_ context.Context, in apitype.ReceiptRequest) (*apitype.ReceiptResponse, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.receipts = append(e.receipts, in.Receipt)
	if e.err != nil {
		return nil, e.err
	}
	return e.receipt(in.Receipt)
}

func (e *engine) Answer(_ context.Context, in apitype.ReceiptRequest) (*apitype.ReceiptResponse, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.answers = append(e.answers, in.Receipt)
	if e.err != nil {
		return nil, e.err
	}
	if e.answer != nil {
		return e.answer(in.Receipt)
	}
	e.messages = nil
	return &apitype.ReceiptResponse{State: "awaiting_reconnect"}, nil
}

func (e *engine) Outbox(context.Context) (*apitype.Outbox, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.looks++
	if e.err != nil {
		return nil, e.err
	}
	return &apitype.Outbox{Messages: append([]apitype.OutboxMessage{}, e.messages...)}, nil
}

func (e *engine) set(f func(*engine)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f(e)
}

func get[T any](e *engine, f func(*engine) T) T {
	e.mu.Lock()
	defer e.mu.Unlock()
	return f(e)
}

// waits puts a message into the outbox.
func (e *engine) waits(peer string, step handover.Step, receipt string) {
	e.set(func(e *engine) {
		id := "11111111-2222-4333-8444-" + leftPad(len(e.messages))
		e.messages = append(e.messages, apitype.OutboxMessage{ID: id, Peer: peer, Step: string(step), Receipt: receipt})
	})
}

func leftPad(n int) string {
	text := strconv.Itoa(n)
	return strings.Repeat("0", 12-len(text)) + text
}

// noLists serves no lists.
type noLists struct{}

func (noLists) ServeAll(w http.ResponseWriter, _ *http.Request) string {
	w.WriteHeader(404)
	return "not_found"
}

// world is an edge's federation part, which speaks with peers that a test has made.
type world struct {
	*federation.Handler
	t        *testing.T
	engine   *engine
	log      *buffer
	registry *prometheus.Registry

	mu    sync.Mutex
	view  *federation.View
	ended []string
}

func newWorld(t *testing.T, e *engine, peers ...federation.Peer) *world {
	t.Helper()
	w := &world{t: t, engine: e, log: &buffer{}, registry: prometheus.NewRegistry(), view: &federation.View{Peers: peers, CRLExpiry: time.Hour}}
	m, err := metrics.New(w.registry)
	must(t, err)
	w.Handler, err = federation.New(federation.Options{
		Engine: e, Lists: noLists{}, Metrics: m, Timing: quick, Logger: hclog.New(&hclog.LoggerOptions{Level: hclog.Trace, Output: w.log}),
		View:  func() *federation.View { w.mu.Lock(); defer w.mu.Unlock(); return w.view },
		Ended: func(peer string) { w.mu.Lock(); defer w.mu.Unlock(); w.ended = append(w.ended, peer) },
	})
	must(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log("the log:\n" + w.log.String())
		}
	})
	return w
}

// run starts the part that speaks with peers.
func (w *world) run() *world {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); w.Run(ctx) }()
	w.t.Cleanup(func() {
		cancel()
		select {
		case <-done:
		case <-time.After(patience):
			w.t.Error("it does not end")
		}
	})
	return w
}

// now has the peers changed, as the feed does.
func (w *world) now(peers ...federation.Peer) {
	w.mu.Lock()
	w.view = &federation.View{Peers: peers, CRLExpiry: time.Hour}
	w.mu.Unlock()
	w.Changed(trust.Change{Whole: true})
}

// report is how the peer was found last.
func (w *world) report(name string) apitype.PeerReport {
	for _, r := range w.Report() {
		if r.Name == name {
			return r
		}
	}
	return apitype.PeerReport{}
}

// metric is the value of a metric with these label values, in the order of the labels' names, or -1.
func (w *world) metric(name string, labels ...string) float64 {
	w.t.Helper()
	families, err := w.registry.Gather()
	must(w.t, err)
	for _, family := range families {
		if family.GetName() != "ampora_edge_"+name {
			continue
		}
		for _, m := range family.GetMetric() {
			var values []string
			for _, l := range m.GetLabel() {
				values = append(values, l.GetValue())
			}
			if strings.Join(values, " ") == strings.Join(labels, " ") {
				return m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
	}
	return -1
}

// far is a peer's edge.
type far struct {
	*httptest.Server
	ca *authority

	mu       sync.Mutex
	asked    []string // method, path and body
	versions map[string]bool
	serve    func(w http.ResponseWriter, path, body string)
}

// newFar starts a peer's edge. serve answers in its stead; without, it has a card and answers every receipt.
func newFar(t *testing.T, serve func(w http.ResponseWriter, path, body string), change ...func(*httptest.Server, *authority)) *far {
	t.Helper()
	f := &far{ca: newAuthority(t), serve: serve, versions: map[string]bool{}}
	f.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body bytes.Buffer
		_, _ = body.ReadFrom(r.Body)
		f.mu.Lock()
		f.asked = append(f.asked, r.Method+" "+r.URL.Path+" "+body.String())
		f.versions[r.Proto] = true
		serve := f.serve
		f.mu.Unlock()
		if serve != nil {
			serve(w, r.URL.Path, body.String())
			return
		}
		f.honest(w, r.URL.Path)
	}))
	f.TLS = &tls.Config{Certificates: []tls.Certificate{f.ca.server(time.Now().Add(time.Hour))}}
	f.Config.ErrorLog = quiet
	f.EnableHTTP2 = true
	for _, c := range change {
		c(f.Server, f.ca)
	}
	f.StartTLS()
	t.Cleanup(func() { f.CloseClientConnections(); f.Close() })
	return f
}

func (f *far) honest(w http.ResponseWriter, path string) {
	switch path {
	case "/federation/bundle":
		_ = json.NewEncoder(w).Encode(f.ca.card("far", 1))
	case "/federation/receipts":
		w.Header().Set("Content-Type", "application/jose")
		_, _ = w.Write([]byte(f.ca.receipt("far", handover.StepReleased)))
	default:
		http.NotFound(w, nil)
	}
}

// does changes what it answers.
func (f *far) does(serve func(w http.ResponseWriter, path, body string)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.serve = serve
}

func (f *far) count(prefix string) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, a := range f.asked {
		if strings.HasPrefix(a, prefix) {
			n++
		}
	}
	return n
}

// row is the peer's row.
func (f *far) row(change ...func(*federation.Peer)) federation.Peer {
	p := federation.Peer{Name: "far", PeerID: "far", URL: f.URL + "/federation", Roots: f.ca.pem(), Pinned: []*x509.Certificate{f.ca.cert}, Sequence: 1}
	for _, c := range change {
		c(&p)
	}
	return p
}

func guests(p *federation.Peer) { p.Guests = true }

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatal("never: " + what)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// buffer is a log that is written and read at the same time.
type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func (b *buffer) has(parts ...string) bool {
	for _, line := range strings.Split(b.String(), "\n") {
		all := true
		for _, part := range parts {
			all = all && strings.Contains(line, part)
		}
		if all {
			return true
		}
	}
	return false
}
