package session

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net/netip"
	"net/url"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ampora/ampora/edge/metrics"
	"github.com/ampora/ampora/edge/trust"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/identity"
	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
)

const domain = "test.example"

// authority signs leaves whose times a test can choose, which the engine does not allow.
type authority struct {
	t      *testing.T
	domain string
	key    *ecdsa.PrivateKey
	cert   *x509.Certificate
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{t: t, domain: domain, key: key}
	a.cert = a.sign(&x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "issuer"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, nil)
	return a
}

func (a *authority) sign(template, parent *x509.Certificate) *x509.Certificate {
	a.t.Helper()
	template.NotBefore = time.Now().Add(-time.Minute)
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &a.key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert
}

func (a *authority) leaf(id string, generation uint32, notAfter time.Time) *x509.Certificate {
	a.t.Helper()
	serial, err := identity.LeafSerial(id, generation)
	if err != nil {
		a.t.Fatal(err)
	}
	return a.sign(&x509.Certificate{
		SerialNumber: serial.Big(), Subject: pkix.Name{CommonName: id}, NotAfter: notAfter,
		URIs: []*url.URL{identity.SPIFFEID(a.domain, "", id)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, a.cert)
}

// engine answers as a test wants.
type engine struct {
	mu      sync.Mutex
	reports []apitype.ReportRequest
	answer  func(apitype.SessionReport) apitype.SessionAnswer
	err     func(apitype.ReportRequest) error
	redeems int

	renewals []apitype.RenewRequest
	renew    func(agentID string, in apitype.RenewRequest) (*apitype.Identity, error)
}

func (e *engine) RedeemCheck(context.Context, apitype.RedeemCheckRequest) (*apitype.RedeemCheckResponse, error) {
	return &apitype.RedeemCheckResponse{}, nil
}

func (e *engine) Redeem(context.Context, apitype.RedeemRequest) (*apitype.Identity, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.redeems++
	return nil, errors.New("not here")
}

func (e *engine) Renew(_ context.Context, agentID string, in apitype.RenewRequest) (*apitype.Identity, error) {
	e.mu.Lock()
	e.renewals = append(e.renewals, in)
	renew := e.renew
	e.mu.Unlock()
	if renew == nil {
		return nil, errors.New("not here")
	}
	return renew(agentID, in)
}

func (e *engine) Report(_ context.Context, in apitype.ReportRequest) (*apitype.ReportResponse, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.err != nil {
		if err := e.err(in); err != nil {
			return nil, err
		}
	}
	e.reports = append(e.reports, in)
	out := &apitype.ReportResponse{}
	for _, s := range in.Sessions {
		out.Sessions = append(out.Sessions, e.answer(s))
	}
	return out, nil
}

// seen are the session reports that were taken.
func (e *engine) seen() []apitype.SessionReport {
	e.mu.Lock()
	defer e.mu.Unlock()
	var all []apitype.SessionReport
	for _, r := range e.reports {
		all = append(all, r.Sessions...)
	}
	return all
}

func current(s apitype.SessionReport) apitype.SessionAnswer {
	return apitype.SessionAnswer{AgentID: s.AgentID, SerialNumber: s.SerialNumber, Leaf: apitype.LeafCurrent, InstanceUID: s.InstanceUID}
}

type fixed struct{ snapshot *trust.Snapshot }

func (f fixed) Current() *trust.Snapshot { return f.snapshot }

// line is the agent's end of a WebSocket.
type line struct {
	mu     sync.Mutex
	sent   []Reply
	code   int
	reason string
}

func (l *line) Send(r Reply) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sent = append(l.sent, r)
	return nil
}

// told is what the agent has been sent so far. It waits until nobody is about to send more.
func (l *line) told() []Reply {
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.sent)
}

func (l *line) Close(code int, reason string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.code == 0 {
		l.code, l.reason = code, reason
	}
}

func (l *line) closedWith() (int, string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.code, l.reason
}

func newTestDesk(t *testing.T, a *authority, e *engine, change ...func(*Options)) *Desk {
	t.Helper()
	m, err := metrics.New(prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	snapshot := &trust.Snapshot{
		Revision: "e.1", FetchedAt: time.Now(), Issuers: []*x509.Certificate{a.cert},
		Settings: apitype.SyncSettings{TrustDomain: domain, Endpoint: "wss://edge.example:4320"},
	}
	o := Options{
		Issuer: e, Reporter: e, Trust: fixed{snapshot}, ServerRoots: func() (string, error) { return "", nil },
		Name: "edge-1", MaxStaleness: time.Hour, Metrics: m, Logger: hclog.NewNullLogger(),
		Timing: Timing{Report: 10 * time.Millisecond, Idle: time.Hour},
	}
	for _, f := range change {
		f(&o)
	}
	d := NewDesk(o)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { d.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	return d
}

func (d *Desk) mustAdmit(t *testing.T, cert *x509.Certificate, transport Transport) (*member, *line) {
	t.Helper()
	s, err := d.Admit(t.Context(), Caller{Transport: transport, Source: netip.MustParseAddr("192.0.2.1"), Certificate: cert})
	if err != nil {
		t.Fatal(err)
	}
	l := &line{}
	if transport == WebSocket {
		s.Connected(l)
	}
	return s.(*member), l
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatal("never: " + what)
}

func described(uid, text string) Message {
	return Message{InstanceUID: uid, Capabilities: 1, HasDescription: true, Description: text, DisplayName: "host"}
}
