package opamp

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ampora/ampora/edge/listen"
	"github.com/ampora/ampora/edge/metrics"
	"github.com/ampora/ampora/edge/problem"
	"github.com/ampora/ampora/edge/session"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/gorilla/websocket"
	"github.com/hashicorp/go-hclog"
	"github.com/open-telemetry/opamp-go/protobufs"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"
)

// scripted is a session that does what a test wants.
type scripted struct {
	message func(*scripted, session.Message) *session.Reply
	silence time.Duration

	mu     sync.Mutex
	conn   session.Conn
	closed int
}

func (s *scripted) Kind() session.Kind { return session.KindAgent }
func (s *scripted) LogFields() []any   { return []any{"agent", "scripted"} }
func (s *scripted) Connected(c session.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conn = c
}
func (s *scripted) Silence() time.Duration {
	if s.silence > 0 {
		return s.silence
	}
	return time.Minute
}
func (s *scripted) Message(_ context.Context, m session.Message) *session.Reply {
	return s.message(s, m)
}
func (s *scripted) Closed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed++
}
func (s *scripted) timesClosed() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// desk lets everybody in with the session that the Authorization header names.
type desk map[string]*scripted

func (d desk) Admit(_ context.Context, c session.Caller) (session.Session, error) {
	if len(c.Authorization) == 1 && d[c.Authorization[0]] != nil {
		return d[c.Authorization[0]], nil
	}
	return nil, &session.Refusal{Err: apitype.Errorf(apitype.TokenMissing, "")}
}

const maxSize = 64 << 10

func echo(*scripted, session.Message) *session.Reply { return &session.Reply{Kind: session.KindAgent} }

func serve(t *testing.T, d desk) (h *Handler, addr string) {
	t.Helper()
	m, err := metrics.New(prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	h, err = New(Options{Desk: d, MaxMessageSize: maxSize, Metrics: m, Logger: hclog.NewNullLogger()})
	if err != nil {
		t.Fatal(err)
	}
	l, err := listen.Listen("127.0.0.1:0", listen.Options{WriteTimeout: 300 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(h)
	s.Listener.Close()
	s.Listener, s.Config.ConnContext, s.EnableHTTP2 = l, h.ConnContext, true
	s.StartTLS()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		h.Drain(ctx, 0)
		s.CloseClientConnections()
		s.Close()
	})
	return h, l.Addr().String()
}

func dial(t *testing.T, addr, who string) *websocket.Conn {
	t.Helper()
	d := websocket.Dialer{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	c, _, err := d.Dial("wss://"+addr+Path, http.Header{"Authorization": {who}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func hello(t *testing.T) []byte {
	t.Helper()
	raw, err := proto.Marshal(&protobufs.AgentToServer{InstanceUid: make([]byte, 16), Capabilities: 1})
	if err != nil {
		t.Fatal(err)
	}
	return append([]byte{0}, raw...)
}

func say(t *testing.T, c *websocket.Conn) {
	t.Helper()
	if err := c.WriteMessage(websocket.BinaryMessage, hello(t)); err != nil {
		t.Fatal(err)
	}
}

// ends reads until the close frame.
func ends(t *testing.T, c *websocket.Conn) *websocket.CloseError {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	for {
		if _, _, err := c.ReadMessage(); err != nil {
			ce, ok := err.(*websocket.CloseError)
			if !ok || ce.Code == websocket.CloseAbnormalClosure {
				t.Fatalf("no close frame but %v", err)
			}
			return ce
		}
	}
}

func answers(t *testing.T, c *websocket.Conn) {
	t.Helper()
	say(t, c)
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, _, err := c.ReadMessage(); err != nil {
		t.Fatalf("no answer: %v", err)
	}
}

func TestAPanicEndsItsOwnSessionAlone(t *testing.T) {
	broken := &scripted{message: func(*scripted, session.Message) *session.Reply { panic("a bug") }}
	d := desk{"broken": broken, "fine": {message: echo}}
	_, addr := serve(t, d)
	fine := dial(t, addr, "fine")
	answers(t, fine)
	c := dial(t, addr, "broken")
	say(t, c)
	if ce := ends(t, c); ce.Code != websocket.CloseInternalServerErr {
		t.Errorf("closed with %d", ce.Code)
	}
	answers(t, fine)

	status, doc := post(t, addr, "broken", hello(t)[1:], nil)
	if status != 500 || doc.Type != problem.TypePrefix+string(apitype.Internal) {
		t.Errorf("plain HTTP answers %d %+v", status, doc)
	}
	answers(t, fine)
	for end := time.Now().Add(5 * time.Second); broken.timesClosed() < 2; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the broken session was not told that it is over")
		}
	}
}

func TestASlowReaderIsDroppedAndHoldsUpNobody(t *testing.T) {
	big := strings.Repeat("x", 32<<10)
	flood := &scripted{message: func(s *scripted, _ session.Message) *session.Reply {
		return &session.Reply{Offer: &session.Offer{Endpoint: "wss://x", Certificate: big, Heartbeat: time.Second}}
	}}
	d := desk{"slow": flood, "fine": {message: echo}}
	h, addr := serve(t, d)
	slow, fine := dial(t, addr, "slow"), dial(t, addr, "fine")
	go func() {
		for slow.WriteMessage(websocket.BinaryMessage, hello(t)) == nil { // says much, reads nothing
		}
	}()
	for end := time.Now().Add(20 * time.Second); h.Open() > 1; time.Sleep(10 * time.Millisecond) {
		answers(t, fine)
		if time.Now().After(end) {
			t.Fatal("the slow reader is still there")
		}
	}
	answers(t, fine)
}

func TestSilenceEndsWithACloseFrame(t *testing.T) {
	_, addr := serve(t, desk{"mute": {message: echo, silence: 200 * time.Millisecond}})
	c := dial(t, addr, "mute")
	if ce := ends(t, c); ce.Code != websocket.ClosePolicyViolation || ce.Text != string(apitype.MessageTimeout) {
		t.Errorf("closed with %v", ce)
	}
}

func TestMessagesThatAreNone(t *testing.T) {
	_, addr := serve(t, desk{"fine": {message: echo}})
	for name, c := range map[string]struct {
		kind int
		body []byte
		code int
	}{
		"truncated":        {websocket.BinaryMessage, []byte{0, 0x0a, 0x10, 1, 2}, websocket.CloseInvalidFramePayloadData},
		"no protobuf":      {websocket.BinaryMessage, []byte("GET / HTTP/1.1"), websocket.CloseInvalidFramePayloadData},
		"text":             {websocket.TextMessage, []byte("hello"), websocket.CloseUnsupportedData},
		"no instance_uid":  {websocket.BinaryMessage, []byte{0}, websocket.ClosePolicyViolation},
		"oversized":        {websocket.BinaryMessage, make([]byte, maxSize+1), websocket.CloseMessageTooBig},
		"hugely oversized": {websocket.BinaryMessage, make([]byte, 8<<20), websocket.CloseMessageTooBig},
	} {
		t.Run(name, func(t *testing.T) {
			conn := dial(t, addr, "fine")
			_ = conn.WriteMessage(c.kind, c.body) // an oversized one may not get through
			if ce := ends(t, conn); ce.Code != c.code {
				t.Errorf("closed with %v, want %d", ce, c.code)
			}
		})
	}
	t.Run("a frame cut off in the middle", func(t *testing.T) {
		conn := dial(t, addr, "fine")
		if _, err := conn.NetConn().Write([]byte{0x82, 0xfe, 0x10}); err != nil {
			t.Fatal(err)
		}
		conn.NetConn().Close()
	})
	answers(t, dial(t, addr, "fine"))
}

func post(t *testing.T, addr, who string, body []byte, header http.Header) (int, problem.Document) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer client.CloseIdleConnections()
	req, err := http.NewRequest(http.MethodPost, "https://"+addr+Path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = http.Header{"Authorization": {who}, "Content-Type": {"application/x-protobuf; charset=utf-8"}}
	for k, v := range header {
		req.Header[k] = v
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, _ := io.ReadAll(resp.Body)
	var doc problem.Document
	if resp.StatusCode != 200 && json.Unmarshal(raw, &doc) != nil {
		t.Fatalf("status %d without a problem document: %q", resp.StatusCode, raw)
	}
	return resp.StatusCode, doc
}

func packed(t *testing.T, body []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(body); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestPlainHTTPBodies(t *testing.T) {
	_, addr := serve(t, desk{"fine": {message: echo}})
	gz := http.Header{"Content-Encoding": {"gzip"}}
	for name, c := range map[string]struct {
		body   []byte
		header http.Header
		status int
		code   apitype.Code
	}{
		"plain":                  {hello(t)[1:], nil, 200, ""},
		"packed":                 {packed(t, hello(t)[1:]), gz, 200, ""},
		"oversized":              {make([]byte, maxSize+1), nil, 413, apitype.BodyTooLarge},
		"a bomb":                 {packed(t, make([]byte, 32<<20)), gz, 413, apitype.BodyTooLarge},
		"a row of empty members": {bytes.Repeat(packed(t, nil), 1<<14), gz, 413, apitype.BodyTooLarge},
		"not packed after all":   {hello(t)[1:], gz, 400, apitype.MessageInvalid},
		"truncated":              {hello(t)[1:8], nil, 400, apitype.MessageInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			status, doc := post(t, addr, "fine", c.body, c.header)
			if status != c.status || c.code != "" && doc.Type != problem.TypePrefix+string(c.code) {
				t.Errorf("answers %d %+v", status, doc)
			}
		})
	}
}

func TestAnUpgradeThatFailsFreesItsSession(t *testing.T) {
	s := &scripted{message: echo}
	_, addr := serve(t, desk{"fine": s})
	conn, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "GET "+Path+" HTTP/1.1\r\nHost: x\r\nAuthorization: fine\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	_, _ = io.ReadAll(io.LimitReader(conn, 12))
	for end := time.Now().Add(5 * time.Second); s.timesClosed() == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the session was not told that nothing came of it")
		}
	}
}

func TestDrainClosesEveryWebSocketWithAFrame(t *testing.T) {
	answering := make(chan struct{})
	goOn := make(chan struct{})
	busy := &scripted{message: func(s *scripted, m session.Message) *session.Reply {
		close(answering)
		<-goOn
		return echo(s, m)
	}}
	h, addr := serve(t, desk{"fine": {message: echo}, "busy": busy})
	var conns []*websocket.Conn
	for range 20 {
		conns = append(conns, dial(t, addr, "fine"))
	}
	slow := dial(t, addr, "busy")
	say(t, slow)
	<-answering
	time.AfterFunc(300*time.Millisecond, func() { close(goOn) })
	var wg sync.WaitGroup
	for _, c := range conns {
		wg.Go(func() {
			if ce := ends(t, c); ce.Code != websocket.CloseGoingAway {
				t.Errorf("closed with %v", ce)
			}
		})
	}
	wg.Go(func() {
		_ = slow.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, _, err := slow.ReadMessage(); err != nil {
			t.Errorf("the answer that was being made did not come: %v", err)
		}
		ends(t, slow)
	})
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	h.Drain(ctx, time.Second)
	wg.Wait()
	if h.Open() != 0 {
		t.Errorf("%d are still open", h.Open())
	}
}

func TestDrainCutsWhoDoesNotAnswer(t *testing.T) {
	h, addr := serve(t, desk{"fine": {message: echo}})
	dial(t, addr, "fine") // never reads, so never answers the close frame
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	start := time.Now()
	h.Drain(ctx, 0)
	if d := time.Since(start); d > 2*time.Second {
		t.Errorf("it took %v", d)
	}
}

func TestGoroutinesReturnToBaseline(t *testing.T) {
	h, addr := serve(t, desk{"fine": {message: echo}})
	before := runtime.NumGoroutine()
	for range 50 {
		c := dial(t, addr, "fine")
		answers(t, c)
		c.Close()
	}
	for end := time.Now().Add(5 * time.Second); h.Open() > 0 || runtime.NumGoroutine() > before; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d WebSockets, %d goroutines, %d before", h.Open(), runtime.NumGoroutine(), before)
		}
	}
}
