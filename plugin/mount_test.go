package ampora_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	ampora "github.com/ampora/ampora/plugin"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/plugintest"
	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/helper/testhelpers/schema"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/hashicorp/vault/sdk/plugin/pb"
)

const (
	read   = logical.ReadOperation
	write  = logical.UpdateOperation
	remove = logical.DeleteOperation
	list   = logical.ListOperation
)

// data is the body of a request.
type data = map[string]any

// mount is one mount of the engine, asked as Vault asks it. Every request of these tests goes through send, which holds
// each answer against the schema that its path declares and each refusal against the catalogue.
type mount struct {
	*testing.T
	backend *ampora.Backend
	storage *plugintest.Counting
	clock   *clock
	log     *logBuffer

	mu      sync.Mutex
	refused []string // texts of all refusals and warnings
	lastID  string   // of the last request
}

type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// newMount is a mount on empty storage, as mounting leaves it.
func newMount(t *testing.T) *mount {
	t.Helper()
	return mountOn(t, &logical.InmemStorage{}, &clock{t: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)})
}

// mountOn is a mount on storage that may hold rows, as a start of Vault leaves it. Its first sweep is over.
func mountOn(t *testing.T, storage logical.Storage, c *clock) *mount {
	t.Helper()
	m := &mount{T: t, storage: plugintest.NewCounting(storage), clock: c, log: &logBuffer{}}
	logger := hclog.New(&hclog.LoggerOptions{Level: hclog.Trace, Output: m.log})
	system := logical.TestSystemView()
	system.PluginEnvironment = &logical.PluginEnvironment{VaultVersion: "1.21.4"}
	backend, err := ampora.NewBackend(t.Context(), &logical.BackendConfig{
		StorageView: m.storage, Logger: logger, System: system, BackendUUID: uuid.NewString(),
	}, c.now)
	if err != nil {
		t.Fatal(err)
	}
	m.backend = backend
	if err := backend.Initialize(t.Context(), &logical.InitializationRequest{Storage: m.storage}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { backend.Cleanup(context.Background()) })
	eventually(t, "the first sweep is over", backend.Idle)
	return m
}

// ready is a mount with a configuration and an issuer.
func ready(t *testing.T) *mount {
	t.Helper()
	m := newMount(t)
	m.configure()
	return m
}

func (m *mount) configure() {
	m.Helper()
	m.ok(write, "config", data{"peer_id": "test", "trust_domain": "test.example", "endpoint": "wss://edge.test.example:4320/v1/opamp"})
	m.ok(write, "ca/root", nil)
}

// send makes a request and checks everything about the answer that holds for all answers.
func (m *mount) send(op logical.Operation, path string, body data) (*logical.Response, *apitype.Error) {
	m.Helper()
	return m.sendContext(m.Context(), op, path, body)
}

func (m *mount) sendContext(ctx context.Context, op logical.Operation, path string, body data) (*logical.Response, *apitype.Error) {
	m.Helper()
	req := m.request(op, path, body)
	resp, err := m.backend.HandleRequest(ctx, req)
	return resp, m.check(req, resp, err)
}

func (m *mount) request(op logical.Operation, path string, body data) *logical.Request {
	m.Helper()
	if op == list && !strings.HasSuffix(path, "/") {
		path += "/"
	}
	req := &logical.Request{
		ID: uuid.NewString(), Operation: op, Path: path, Data: throughJSON(m.T, body), MountPoint: "ampora/", Storage: m.storage,
		DisplayName: "userpass-alice", EntityID: "entity-of-alice", Connection: &logical.Connection{RemoteAddr: "192.0.2.10"},
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lastID = req.ID
	return req
}

// check holds an answer against its schema, and a refusal against the catalogue.
func (m *mount) check(req *logical.Request, resp *logical.Response, err error) *apitype.Error {
	m.Helper()
	if resp != nil {
		m.remember(resp.Warnings...)
	}
	if err != nil || resp.IsError() {
		return m.checkRefusal(req, resp, err)
	}
	declared := schema.GetResponseSchema(m.T, m.backend.Route(req.Path), req.Operation)
	if resp == nil {
		if _, ok := m.backend.Route(req.Path).Operations[req.Operation].Properties().Responses[http.StatusNoContent]; !ok {
			m.Errorf("%s %s answered nothing, which its schema does not say", req.Operation, req.Path)
		}
		return nil
	}
	if _, raw := resp.Data[logical.HTTPRawBody]; !raw && declared.Fields == nil {
		m.Errorf("%s %s answered data, and its schema says that there is none", req.Operation, req.Path)
	}
	schema.ValidateResponse(m.T, declared, resp, true)
	if _, err := pb.LogicalResponseToProtoResponse(resp); err != nil {
		m.Errorf("the answer of %s %s cannot cross to Vault: %v", req.Operation, req.Path, err)
	}
	return nil
}

// checkRefusal wants what clients of Vault need: a bare coded error or an error response, one of few statuses, and a text
// that begins with the code and ends with what to do next.
func (m *mount) checkRefusal(req *logical.Request, resp *logical.Response, err error) *apitype.Error {
	m.Helper()
	status, shown := logical.RespondErrorCommon(req, resp, err)
	logical.AdjustErrorStatusCode(&status, shown)
	m.remember(shown.Error())
	text := shown.Error()
	if err != nil {
		if _, bare := err.(logical.HTTPCodedError); !bare {
			m.Fatalf("%s %s: %v is no bare coded error", req.Operation, req.Path, err)
		}
		text = err.Error()
	}
	refusal := apitype.ParseError(text)
	if refusal == nil || refusal.Error() != text {
		m.Fatalf("%s %s: %q is no text of the catalogue", req.Operation, req.Path, text)
	}
	switch status {
	case 400, 404, 409, 410, 503:
	default:
		m.Errorf("%s %s: %s travels as %d, which clients of Vault misread", req.Operation, req.Path, refusal.Code, status)
	}
	if status != refusal.Code.VaultStatus() {
		m.Errorf("%s %s: %s travels as %d instead of %d", req.Operation, req.Path, refusal.Code, status, refusal.Code.VaultStatus())
	}
	return refusal
}

func (m *mount) remember(texts ...string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.refused = append(m.refused, texts...)
}

// ok makes a request that is answered.
func (m *mount) ok(op logical.Operation, path string, body data) *logical.Response {
	m.Helper()
	resp, refusal := m.send(op, path, body)
	if refusal != nil {
		m.Fatalf("%s %s: %v", op, path, refusal)
	}
	return resp
}

// no makes a request that is refused with the code.
func (m *mount) no(code apitype.Code, op logical.Operation, path string, body data) *apitype.Error {
	m.Helper()
	resp, refusal := m.send(op, path, body)
	if refusal == nil {
		m.Fatalf("%s %s: answered instead of %s: %v", op, path, code, resp)
	}
	if refusal.Code != code {
		m.Fatalf("%s %s: %v instead of %s", op, path, refusal, code)
	}
	return refusal
}

// call makes a request and decodes its answer into what apitype says of it, with nothing over.
func call[T any](m *mount, op logical.Operation, path string, body data) T {
	m.Helper()
	return decodeAnswer[T](m, m.ok(op, path, body))
}

func decodeAnswer[T any](m *mount, resp *logical.Response) T {
	m.Helper()
	var out T
	text, err := json.Marshal(resp.Data)
	if err != nil {
		m.Fatal(err)
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&out); err != nil {
		m.Fatal(err)
	}
	return out
}

// throughJSON is the body as Vault decodes it.
func throughJSON(t testing.TB, body data) data {
	t.Helper()
	if body == nil {
		return nil
	}
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var out data
	if err := decoder.Decode(&out); err != nil {
		t.Fatal(err)
	}
	return out
}

// eventually waits for a condition that something in the background brings about.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("in vain: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// issue issues a token.
func (m *mount) issue(body data) apitype.IssuedToken {
	m.Helper()
	return call[apitype.IssuedToken](m, write, "tokens/issue", body)
}

// enrol issues a token and redeems it with a CSR.
func (m *mount) enrol(body data) (apitype.Identity, apitype.IssuedToken) {
	m.Helper()
	issued := m.issue(body)
	return m.redeem(data{"token": issued.Token, "csr": newCSR(m)}), issued
}

func (m *mount) redeem(body data) apitype.Identity {
	m.Helper()
	return call[apitype.Identity](m, write, "redeem", body)
}

func (m *mount) agent(id string) apitype.Agent {
	m.Helper()
	return call[apitype.Agent](m, read, "agents/"+id, nil)
}

func (m *mount) tokens(page data) apitype.ListResponse[apitype.TokenInfo] {
	m.Helper()
	return call[apitype.ListResponse[apitype.TokenInfo]](m, read, "tokens", page)
}

func (m *mount) agents(page data) apitype.ListResponse[apitype.Agent] {
	m.Helper()
	return call[apitype.ListResponse[apitype.Agent]](m, read, "agents", page)
}

// events is every event that the filter selects, newest first.
func (m *mount) events(filter data) []apitype.Event {
	m.Helper()
	body := data{"limit": 1000}
	for k, v := range filter {
		body[k] = v
	}
	return call[apitype.EventsResponse](m, read, "audit/events", body).Events
}

func (m *mount) actions(filter data) []string {
	m.Helper()
	var all []string
	for _, e := range m.events(filter) {
		all = append(all, e.Action)
	}
	return all
}

func (m *mount) sync(since string) apitype.SyncResponse {
	m.Helper()
	return call[apitype.SyncResponse](m, read, "edge/sync", data{"since": since})
}

// dump is everything that storage holds.
func (m *mount) dump() string {
	m.Helper()
	var all strings.Builder
	for _, key := range m.keys("") {
		entry, err := m.storage.Storage.Get(m.Context(), key)
		if err != nil || entry == nil {
			m.Fatalf("%s: %v", key, err)
		}
		fmt.Fprintf(&all, "%s\n%s\n", key, entry.Value)
	}
	return all.String()
}

func (m *mount) keys(prefix string) []string {
	m.Helper()
	keys, err := logical.CollectKeysWithPrefix(m.Context(), m.storage.Storage, prefix)
	if err != nil {
		m.Fatal(err)
	}
	return keys
}

func ecKey(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newCSR(t testing.TB) string {
	t.Helper()
	return csrOf(t, ecKey(t, elliptic.P256()), &x509.CertificateRequest{})
}

func csrOf(t testing.TB, key crypto.Signer, template *x509.CertificateRequest) string {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		t.Fatal(err)
	}
	return pemOf("CERTIFICATE REQUEST", der)
}

func pemOf(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func certificate(t testing.TB, text string) *x509.Certificate {
	t.Helper()
	block, rest := pem.Decode([]byte(text))
	if block == nil || len(rest) > 0 {
		t.Fatalf("no single PEM block: %q", text)
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// allPaths visits every operation of every path.
func allPaths(b *ampora.Backend, visit func(*framework.Path, logical.Operation, framework.OperationHandler)) {
	for _, p := range b.Paths {
		for op, h := range p.Operations {
			visit(p, op, h)
		}
	}
}

// equalJSON compares what two values look like to a client.
func equalJSON(t testing.TB, a, b any) bool {
	t.Helper()
	x, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	y, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Equal(x, y)
}

func toText(t testing.TB, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
