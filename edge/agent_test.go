package edge_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ampora/ampora/edge/problem"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/google/uuid"
	"github.com/gorilla/websocket"
	"github.com/open-telemetry/opamp-go/protobufs"
	"google.golang.org/protobuf/proto"
)

// agent is an agent as it is on the wire: OpAMP messages in protobuf, and whatever credentials it has.
type agent struct {
	w       *world
	uid     uuid.UUID
	key     crypto.Signer
	bearer  string // the whole Authorization header
	cert    *tls.Certificate
	session tls.ClientSessionCache
	caps    uint64
	seq     uint64
}

func (w *world) newAgent(bearer string) *agent {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		w.t.Fatal(err)
	}
	return &agent{w: w, uid: uuid.Must(uuid.NewV7()), key: key, bearer: bearer, caps: 1 | apitype.CapabilityAcceptsOpAMP}
}

func (a *agent) csr() []byte {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, a.key)
	if err != nil {
		a.w.t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}

func (a *agent) tls() *tls.Config {
	c := &tls.Config{RootCAs: a.w.roots, ClientSessionCache: a.session, ServerName: "127.0.0.1"}
	if a.cert != nil {
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return a.cert, nil }
	}
	return c
}

func (a *agent) header() http.Header {
	h := http.Header{}
	if a.bearer != "" {
		h.Set("Authorization", a.bearer)
	}
	return h
}

// refusal is what a request came back with when it was not let in.
type refusal struct {
	status  int
	code    apitype.Code
	header  http.Header
	problem problem.Document
}

func refusalOf(t *testing.T, resp *http.Response) refusal {
	t.Helper()
	body, _ := io.ReadAll(resp.Body)
	r := refusal{status: resp.StatusCode, header: resp.Header}
	if err := json.Unmarshal(body, &r.problem); err != nil || resp.Header.Get("Content-Type") != problem.ContentType {
		t.Fatalf("status %d with %q is no problem document: %s", resp.StatusCode, resp.Header.Get("Content-Type"), body)
	}
	r.code = apitype.Code(strings.TrimPrefix(r.problem.Type, problem.TypePrefix))
	if r.problem.Status != r.status {
		t.Errorf("the document says %d, the status is %d", r.problem.Status, r.status)
	}
	return r
}

// dial opens a WebSocket. Exactly one of the results is set.
func (a *agent) dial() (*wire, *refusal) {
	a.w.t.Helper()
	d := websocket.Dialer{TLSClientConfig: a.tls(), HandshakeTimeout: 20 * time.Second}
	conn, resp, err := d.Dial("wss://"+a.w.addr+"/v1/opamp", a.header())
	if err != nil {
		if resp == nil {
			a.w.t.Fatalf("dial: %v", err)
		}
		r := refusalOf(a.w.t, resp)
		return nil, &r
	}
	a.w.t.Cleanup(func() { conn.Close() })
	return &wire{t: a.w.t, conn: conn, agent: a}, nil
}

func (a *agent) mustDial() *wire {
	a.w.t.Helper()
	c, r := a.dial()
	if r != nil {
		a.w.t.Fatalf("refused: %d %s %s", r.status, r.code, r.problem.Detail)
	}
	return c
}

func (a *agent) mustRefuse(status int, code apitype.Code) refusal {
	a.w.t.Helper()
	_, r := a.dial()
	if r == nil {
		a.w.t.Fatalf("let in, want %d %s", status, code)
	}
	if r.status != status || r.code != code {
		a.w.t.Fatalf("refused with %d %s (%s), want %d %s", r.status, r.code, r.problem.Detail, status, code)
	}
	return *r
}

// message is the agent's next message.
func (a *agent) message(change ...func(*protobufs.AgentToServer)) *protobufs.AgentToServer {
	m := &protobufs.AgentToServer{InstanceUid: a.uid[:], SequenceNum: a.seq, Capabilities: a.caps}
	a.seq++
	for _, f := range change {
		f(m)
	}
	return m
}

func withDescription(name string) func(*protobufs.AgentToServer) {
	return func(m *protobufs.AgentToServer) {
		text := func(k, v string) *protobufs.KeyValue {
			return &protobufs.KeyValue{Key: k, Value: &protobufs.AnyValue{Value: &protobufs.AnyValue_StringValue{StringValue: v}}}
		}
		m.AgentDescription = &protobufs.AgentDescription{
			IdentifyingAttributes:    []*protobufs.KeyValue{text("service.name", "io.opentelemetry.collector")},
			NonIdentifyingAttributes: []*protobufs.KeyValue{text("os.type", "linux"), text("host.name", name)},
		}
	}
}

func (a *agent) withCSR() func(*protobufs.AgentToServer) {
	return func(m *protobufs.AgentToServer) {
		m.ConnectionSettingsRequest = &protobufs.ConnectionSettingsRequest{Opamp: &protobufs.OpAMPConnectionSettingsRequest{
			CertificateRequest: &protobufs.CertificateRequest{Csr: a.csr()},
		}}
	}
}

// poll sends one message over plain HTTP.
func (a *agent) poll(m *protobufs.AgentToServer) (*protobufs.ServerToAgent, *refusal) {
	a.w.t.Helper()
	body, err := proto.Marshal(m)
	if err != nil {
		a.w.t.Fatal(err)
	}
	return a.post(body, nil)
}

func (a *agent) post(body []byte, header http.Header) (*protobufs.ServerToAgent, *refusal) {
	a.w.t.Helper()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: a.tls(), ForceAttemptHTTP2: true}, Timeout: 20 * time.Second}
	defer client.CloseIdleConnections()
	req, err := http.NewRequest(http.MethodPost, "https://"+a.w.addr+"/v1/opamp", bytes.NewReader(body))
	if err != nil {
		a.w.t.Fatal(err)
	}
	req.Header = a.header()
	req.Header.Set("Content-Type", "application/x-protobuf")
	for k, v := range header {
		req.Header[k] = v
	}
	resp, err := client.Do(req)
	if err != nil {
		a.w.t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		r := refusalOf(a.w.t, resp)
		return nil, &r
	}
	if resp.ProtoMajor != 2 {
		a.w.t.Errorf("plain HTTP came as %s, want HTTP/2", resp.Proto)
	}
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		a.w.t.Fatal(err)
	}
	out := &protobufs.ServerToAgent{}
	if err := proto.Unmarshal(raw, out); err != nil {
		a.w.t.Fatal(err)
	}
	return out, nil
}

// take makes the offer's certificate the agent's own and checks what any offer must hold.
func (a *agent) take(m *protobufs.ServerToAgent) *x509.Certificate {
	t := a.w.t
	t.Helper()
	offer := m.GetConnectionSettings().GetOpamp()
	if offer == nil {
		t.Fatalf("no offer but %v", m)
	}
	if len(m.ConnectionSettings.Hash) == 0 || offer.HeartbeatIntervalSeconds == 0 || offer.DestinationEndpoint == "" ||
		len(offer.Certificate.GetCert()) == 0 || len(offer.Certificate.GetCaCert()) == 0 || offer.Tls.GetCaPemContents() == "" {
		t.Fatalf("the offer lacks something: %v", m)
	}
	private := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: must(x509.MarshalPKCS8PrivateKey(a.key))(t)})
	if len(offer.Certificate.PrivateKey) > 0 {
		private = offer.Certificate.PrivateKey
	}
	pair, err := tls.X509KeyPair(offer.Certificate.Cert, private)
	if err != nil {
		t.Fatal(err)
	}
	a.cert, a.bearer = &pair, ""
	a.w.roots = x509.NewCertPool() // from now on trust what the offer says
	a.w.roots.AppendCertsFromPEM(offer.Certificate.CaCert)
	return pair.Leaf
}

func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// enrolled is an agent that has come through the door with a CSR.
func (w *world) enrolled() *agent {
	w.t.Helper()
	a := w.newAgent("Bearer " + w.token())
	c := a.mustDial()
	c.send(a.message(withDescription("host-1"), a.withCSR()))
	a.take(c.receive())
	c.conn.Close()
	return a
}

// wire is an open WebSocket seen from the agent.
type wire struct {
	t     *testing.T
	conn  *websocket.Conn
	agent *agent
}

func (c *wire) send(m *protobufs.AgentToServer) {
	c.t.Helper()
	body, err := proto.Marshal(m)
	if err != nil {
		c.t.Fatal(err)
	}
	if err := c.conn.WriteMessage(websocket.BinaryMessage, append([]byte{0}, body...)); err != nil {
		c.t.Fatalf("send: %v", err)
	}
}

func (c *wire) receive() *protobufs.ServerToAgent {
	c.t.Helper()
	m, err := c.next(15 * time.Second)
	if err != nil {
		c.t.Fatalf("receive: %v", err)
	}
	return m
}

func (c *wire) next(within time.Duration) (*protobufs.ServerToAgent, error) {
	_ = c.conn.SetReadDeadline(time.Now().Add(within))
	_, raw, err := c.conn.ReadMessage()
	if err != nil {
		return nil, err
	}
	if len(raw) == 0 || raw[0] != 0 {
		return nil, fmt.Errorf("a message without its header")
	}
	m := &protobufs.ServerToAgent{}
	return m, proto.Unmarshal(raw[1:], m)
}

// closed reads on until the close frame and answers its code and reason.
func (c *wire) closed(within time.Duration) (int, string) {
	c.t.Helper()
	for end := time.Now().Add(within); ; {
		_, err := c.next(time.Until(end))
		if err == nil {
			continue
		}
		var ce *websocket.CloseError
		if ok := asClose(err, &ce); !ok {
			c.t.Fatalf("the connection ended without a close frame: %v", err)
		}
		return ce.Code, ce.Text
	}
}

func asClose(err error, to **websocket.CloseError) bool {
	ce, ok := err.(*websocket.CloseError)
	if ok && ce.Code != websocket.CloseAbnormalClosure {
		*to = ce
		return true
	}
	return false
}

func (c *wire) mustError(code apitype.Code) *protobufs.ServerErrorResponse {
	c.t.Helper()
	return mustError(c.t, c.receive(), code)
}

func mustError(t *testing.T, m *protobufs.ServerToAgent, code apitype.Code) *protobufs.ServerErrorResponse {
	t.Helper()
	e := m.GetErrorResponse()
	if e == nil || !strings.HasPrefix(e.ErrorMessage, string(code)+": ") {
		t.Fatalf("got %v, want an error %s", m, code)
	}
	return e
}

// adopt gives the agent a certificate for its own key.
func (a *agent) adopt(t *testing.T, certificate string) {
	t.Helper()
	private := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: must(x509.MarshalPKCS8PrivateKey(a.key))(t)})
	pair, err := tls.X509KeyPair([]byte(certificate), private)
	if err != nil {
		t.Fatal(err)
	}
	a.cert = &pair
}

func contains(text, part string) bool { return strings.Contains(text, part) }
