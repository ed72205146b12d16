// Package fleet runs many agents and a few edges inside one test process: agents as they are on the wire, each without a
// process of its own, and edges as cmd/ampora-edge runs them, under the race detector with the test.
package fleet

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ampora/ampora/edge/problem"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/identity"
	"github.com/google/uuid"
	"github.com/gorilla/websocket"
	"github.com/open-telemetry/opamp-go/protobufs"
	"google.golang.org/protobuf/proto"
)

// answerTime is how long an agent waits for an edge: longer than an edge waits for Vault in a redemption with all its repeats.
const answerTime = 90 * time.Second

// Agent is one agent: a key, and the certificate that it gets. Its methods are for one goroutine at a time.
type Agent struct {
	Roots *x509.CertPool   // for the edges
	Cert  *tls.Certificate // nil before Enrol
	uid   uuid.UUID
	key   *ecdsa.PrivateKey
}

// New makes an agent without an identity. roots is PEM.
func New(roots string) (*Agent, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	uid, err := uuid.NewV7()
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(roots)) {
		return nil, fmt.Errorf("fleet: there is no certificate in %q", roots)
	}
	return &Agent{Roots: pool, uid: uid, key: key}, nil
}

// ID is the agent's id, as its certificate says it.
func (a *Agent) ID() string { return a.Cert.Leaf.Subject.CommonName }

// Refused says that an edge would not.
type Refused struct {
	Status     int
	Code       apitype.Code
	Detail     string
	RetryAfter time.Duration // zero when there was no such header
}

func (e *Refused) Error() string { return fmt.Sprintf("%d %s: %s", e.Status, e.Code, e.Detail) }

// Passing reports whether the same request can succeed later.
func (e *Refused) Passing() bool {
	return e.Status == http.StatusServiceUnavailable || e.Status == http.StatusTooManyRequests || e.Code == apitype.OutcomeUnknown
}

// CodeOf is the code of a *Refused, "" for any other error and none.
func CodeOf(err error) apitype.Code {
	if r, ok := errors.AsType[*Refused](err); ok {
		return r.Code
	}
	return ""
}

// Serial is the serial of the agent's certificate, as the engine writes it.
func (a *Agent) Serial() string {
	serial, _ := identity.ParseSerial(a.Cert.Leaf.SerialNumber) // zero for a certificate that is not the engine's
	return serial.String()
}

func (a *Agent) tls() *tls.Config {
	c := &tls.Config{RootCAs: a.Roots}
	if a.Cert != nil {
		c.Certificates = []tls.Certificate{*a.Cert}
	}
	return c
}

// message tells who the agent is, and with withCSR asks for a certificate.
func (a *Agent) message(withCSR bool) (*protobufs.AgentToServer, error) {
	m := &protobufs.AgentToServer{
		InstanceUid: a.uid[:], Capabilities: 1 | apitype.CapabilityAcceptsOpAMP, AgentDescription: &protobufs.AgentDescription{},
	}
	if withCSR {
		csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, a.key)
		if err != nil {
			return nil, err
		}
		m.ConnectionSettingsRequest = &protobufs.ConnectionSettingsRequest{Opamp: &protobufs.OpAMPConnectionSettingsRequest{
			CertificateRequest: &protobufs.CertificateRequest{Csr: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr})},
		}}
	}
	return m, nil
}

// Enrol turns a token into the agent's identity, by one request over plain HTTP to the edge at addr, host:port. The error is
// a *Refused when the edge has answered.
func (a *Agent) Enrol(ctx context.Context, addr, token string) error {
	m, err := a.message(true)
	if err != nil {
		return err
	}
	reply, err := a.post(ctx, addr, "Bearer "+token, m)
	if err != nil {
		return err
	}
	offer := reply.GetConnectionSettings().GetOpamp().GetCertificate()
	private, err := x509.MarshalPKCS8PrivateKey(a.key)
	if err != nil {
		return err
	}
	pair, err := tls.X509KeyPair(offer.GetCert(), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
	if err != nil {
		return fmt.Errorf("fleet: what was offered is no certificate for our key: %w", err)
	}
	a.Cert = &pair
	return nil
}

// Poll says one thing over plain HTTP, with the agent's certificate.
func (a *Agent) Poll(ctx context.Context, addr string) error {
	m, err := a.message(false)
	if err != nil {
		return err
	}
	_, err = a.post(ctx, addr, "", m)
	return err
}

func (a *Agent) post(ctx context.Context, addr, authorization string, m *protobufs.AgentToServer) (*protobufs.ServerToAgent, error) {
	body, err := proto.Marshal(m)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+addr+"/v1/opamp", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-protobuf")
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	transport := &http.Transport{TLSClientConfig: a.tls()}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, refusal(resp)
	}
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	reply := &protobufs.ServerToAgent{}
	if err := proto.Unmarshal(raw, reply); err != nil {
		return nil, err
	}
	if text := reply.GetErrorResponse().GetErrorMessage(); text != "" {
		r := &Refused{Status: resp.StatusCode, Detail: text}
		if e := apitype.ParseError(text); e != nil {
			r.Code, r.Status = e.Code, e.Code.EdgeStatus()
		}
		r.RetryAfter = time.Duration(reply.GetErrorResponse().GetRetryInfo().GetRetryAfterNanoseconds())
		return nil, r
	}
	return reply, nil
}

// refusal reads a problem document.
func refusal(resp *http.Response) error {
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	var document problem.Document
	if err := json.Unmarshal(raw, &document); err != nil {
		return fmt.Errorf("fleet: status %d without a problem document: %q", resp.StatusCode, raw)
	}
	seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After")) // zero without one
	return &Refused{
		Status: resp.StatusCode, Detail: document.Detail, RetryAfter: time.Duration(seconds) * time.Second,
		Code: apitype.Code(strings.TrimPrefix(document.Type, problem.TypePrefix)),
	}
}

// Session is an agent's live WebSocket.
type Session struct {
	conn *websocket.Conn
	over chan struct{}
	err  error // why, once over is closed
	stop sync.Once
}

// beat is how often a session says something: often enough for the heartbeats that edges ask for.
const beat = 10 * time.Second

// Connect opens a session with the agent's certificate, and returns when the edge at addr has answered its first message.
func (a *Agent) Connect(ctx context.Context, addr string) (*Session, error) {
	dialer := websocket.Dialer{TLSClientConfig: a.tls(), HandshakeTimeout: answerTime}
	conn, resp, err := dialer.DialContext(ctx, "wss://"+addr+"/v1/opamp", nil)
	if err != nil {
		if resp != nil {
			return nil, refusal(resp)
		}
		return nil, err
	}
	m, err := a.message(false)
	if err != nil {
		return nil, err
	}
	body, err := proto.Marshal(m)
	if err != nil {
		return nil, err
	}
	body = append([]byte{0}, body...) // OpAMP's header of a WebSocket message: zero, as a varint
	s := &Session{conn: conn, over: make(chan struct{})}
	if err := s.greet(body); err != nil {
		conn.Close()
		return nil, err
	}
	go s.listen()
	go s.talk(body)
	return s, nil
}

func (s *Session) greet(body []byte) error {
	if err := s.conn.WriteMessage(websocket.BinaryMessage, body); err != nil {
		return err
	}
	if err := s.conn.SetReadDeadline(time.Now().Add(answerTime)); err != nil {
		return err
	}
	if _, _, err := s.conn.ReadMessage(); err != nil {
		return err
	}
	return s.conn.SetReadDeadline(time.Time{})
}

func (s *Session) listen() {
	for {
		if _, _, err := s.conn.ReadMessage(); err != nil {
			s.err = err
			close(s.over)
			return
		}
	}
}

func (s *Session) talk(body []byte) {
	for {
		select {
		case <-s.over:
			return
		case <-time.After(beat):
			if s.conn.WriteMessage(websocket.BinaryMessage, body) != nil {
				return // listen hears why
			}
		}
	}
}

// Over is closed when the session has ended.
func (s *Session) Over() <-chan struct{} { return s.over }

// Ended is why the session has ended, nil while it goes on.
func (s *Session) Ended() error {
	select {
	case <-s.over:
		return s.err
	default:
		return nil
	}
}

// Close ends the session.
func (s *Session) Close() {
	s.stop.Do(func() { s.conn.Close() })
	<-s.over
}
