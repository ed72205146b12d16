package edge_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ampora/ampora/edge"
	"github.com/ampora/ampora/plugin/plugintest"
	"github.com/ampora/ampora/plugin/token"
	"github.com/gorilla/websocket"
)

// hostile are bounds of an edge that a test can wait for. The one on headers bounds the handshakes of good agents, too: it
// leaves room for those of a slow machine.
func hostile(o *edge.Options) {
	o.HeaderTimeout, o.ReadTimeout, o.WriteTimeout = 8*time.Second, 8*time.Second, time.Second
}

// ordinary is how long anything may take for a good agent on a machine that is busy with tests.
const ordinary = 15 * time.Second

// guarded runs a test on an edge that is watched: when it has stopped, nothing may be left running of what happened to it.
func guarded(t *testing.T, test func(*world)) {
	t.Helper()
	engine := plugintest.Start(t)
	engine.Configure(t, "wss://127.0.0.1:4320/v1/opamp")
	run := func(test func(*world)) {
		w := &world{t: t, engine: engine, vault: engine.Client(t)}
		w.startEdge(hostile)
		test(w)
		if err := w.edge.Stop(context.Background()); err != nil {
			t.Fatal(err)
		}
		w.vault.Vault().CloneConfig().HttpClient.CloseIdleConnections()
		http.DefaultClient.CloseIdleConnections()
	}
	run(func(w *world) { w.steady().leave() }) // whatever starts once and stays, starts here
	time.Sleep(200 * time.Millisecond)
	before := runtime.NumGoroutine()
	run(test)
	for end := time.Now().Add(ordinary); runtime.NumGoroutine() > before; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			buf := make([]byte, 1<<20)
			t.Fatalf("%d goroutines after, %d before\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
		}
	}
}

// steady is a good agent with a session that must outlast whatever others do.
type steady struct {
	*wire
	pongs chan string
	ended chan error
}

func (w *world) steady() *steady {
	w.t.Helper()
	a := w.enrolled()
	s := &steady{wire: a.mustDial(), pongs: make(chan string, 16), ended: make(chan error, 1)}
	s.send(a.message(withDescription("steady")))
	s.receive()
	_ = s.conn.SetReadDeadline(time.Time{})
	s.conn.SetPongHandler(func(text string) error { s.pongs <- text; return nil })
	go func() {
		for {
			if _, _, err := s.conn.ReadMessage(); err != nil {
				s.ended <- err
				return
			}
		}
	}()
	s.answered()
	return s
}

// answered makes sure that the session is alive in both directions, and says how long that took.
func (s *steady) answered() time.Duration {
	s.t.Helper()
	start := time.Now()
	s.send(s.agent.message()) // a heartbeat
	if err := s.conn.WriteControl(websocket.PingMessage, []byte("?"), time.Now().Add(ordinary)); err != nil {
		s.t.Fatalf("the good agent's session: %v", err)
	}
	select {
	case <-s.pongs:
	case err := <-s.ended:
		s.t.Fatalf("the good agent's session has ended: %v", err)
	case <-time.After(ordinary):
		s.t.Fatal("the good agent's session does not answer")
	}
	return time.Since(start)
}

func (s *steady) leave() {
	s.conn.Close()
	<-s.ended
}

// unnoticed makes sure that a good agent lives as ever: its session answers, it comes back with its certificate, and a new one
// enrols.
func (w *world) unnoticed(s *steady) {
	w.t.Helper()
	start := time.Now()
	alive := s.answered()
	again := s.agent.mustDial()
	again.send(s.agent.message(withDescription("steady")))
	again.receive()
	again.conn.Close()
	back := time.Since(start)
	w.enrolled()
	w.t.Logf("a good agent: session %v, back %v, and a new one in %v", alive, back, time.Since(start)-back)
	if d := time.Since(start); d > ordinary {
		w.t.Errorf("a good agent's needs took %v", d)
	}
}

// secure is a TLS connection that speaks HTTP/1.1, with the agent's certificate if it has one.
func (a *agent) secure() *tls.Conn {
	a.w.t.Helper()
	config := a.tls()
	config.NextProtos = []string{"http/1.1"}
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: ordinary}, "tcp", a.w.addr, config)
	if err != nil {
		a.w.t.Fatal(err)
	}
	return conn
}

// upgraded is the connection below an open WebSocket on which nothing has been said.
func (a *agent) upgraded() net.Conn { return a.mustDial().conn.NetConn() }

// dialTCP is a connection on which nothing has been said.
func (w *world) dialTCP() net.Conn {
	w.t.Helper()
	conn, err := net.Dial("tcp", w.addr)
	if err != nil {
		w.t.Fatal(err)
	}
	return conn
}

// said writes it and goes on.
func said(conn net.Conn, text string) net.Conn {
	_, _ = io.WriteString(conn, text) // a connection that has been ended already is what is wanted
	return conn
}

// flooding writes the same over and over, and reads nothing. It ends when the connection does.
func flooding(conn net.Conn, text string, pause time.Duration) <-chan struct{} {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			if _, err := io.WriteString(conn, text); err != nil {
				return
			}
			time.Sleep(pause)
		}
	}()
	return ended
}

// reading reads until the other side ends the connection.
func reading(conn net.Conn) <-chan struct{} {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = io.Copy(io.Discard, conn)
	}()
	return ended
}

// Connections that go nowhere are ended by the edge itself, each within its bound, and nobody else notices them.
func TestConnectionsThatGoNowhereAreEndedAndHurtNobody(t *testing.T) {
	guarded(t, func(w *world) {
		good := w.steady()
		defer good.leave()
		thief := w.enrolled() // holds a good certificate, and means no good with it
		stranger := w.newAgent("")
		// A frame that is masked with zeros, as only a bad client's are; the second length byte says how long it is.
		ping := "\x89\xfd\x00\x00\x00\x00" + strings.Repeat("x", 125)
		post := "POST /v1/opamp HTTP/1.1\r\nHost: edge\r\nContent-Type: application/x-protobuf\r\n"
		kinds := []struct {
			name  string
			count int
			begin func() (net.Conn, <-chan struct{})
		}{
			{"nothing is said", 20, func() (net.Conn, <-chan struct{}) { c := w.dialTCP(); return c, reading(c) }},
			{"half a TLS hello", 20, func() (net.Conn, <-chan struct{}) {
				c := said(w.dialTCP(), "\x16\x03\x01\x02\x00\x01\x00\x01\xfc")
				return c, reading(c)
			}},
			{"a TLS handshake and nothing more", 10, func() (net.Conn, <-chan struct{}) { c := stranger.secure(); return c, reading(c) }},
			{"half a header", 10, func() (net.Conn, <-chan struct{}) {
				c := said(stranger.secure(), post+"X-")
				return c, reading(c)
			}},
			{"a header without an end", 5, func() (net.Conn, <-chan struct{}) {
				c := said(stranger.secure(), post+"X-Long: ")
				return c, flooding(c, "x", 100*time.Millisecond)
			}},
			{"a header too large", 5, func() (net.Conn, <-chan struct{}) {
				c := said(stranger.secure(), post+"X-Long: "+strings.Repeat("x", 64<<10))
				return c, reading(c)
			}},
			{"half a body", 10, func() (net.Conn, <-chan struct{}) {
				c := said(thief.secure(), post+"Content-Length: 1000\r\n\r\nhalf")
				return c, reading(c)
			}},
			{"requests whose answers nobody reads", 2, func() (net.Conn, <-chan struct{}) {
				c := stranger.secure()
				return c, flooding(c, strings.Repeat("GET /pki/trust-bundle.pem HTTP/1.1\r\nHost: edge\r\n\r\n", 64), 0)
			}},
			{"a WebSocket without a message", 10, func() (net.Conn, <-chan struct{}) { c := thief.upgraded(); return c, reading(c) }},
			{"half a frame", 10, func() (net.Conn, <-chan struct{}) {
				c := said(thief.upgraded(), "\x82\xfe\x10")
				return c, reading(c)
			}},
			{"a WebSocket whose agent has closed its half", 10, func() (net.Conn, <-chan struct{}) {
				c := thief.upgraded()
				_ = c.(*tls.Conn).CloseWrite()
				return c, reading(c)
			}},
			{"pings whose answers nobody reads", 2, func() (net.Conn, <-chan struct{}) {
				c := thief.upgraded()
				return c, flooding(c, strings.Repeat(ping, 64), 0)
			}},
			{"a message too large", 3, func() (net.Conn, <-chan struct{}) {
				c := thief.upgraded()
				return c, flooding(c, "\x82\xff\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00"+strings.Repeat("x", 64<<10), 0)
			}},
		}
		type begun struct {
			name  string
			ended <-chan struct{}
		}
		var all []begun
		for _, kind := range kinds {
			for range kind.count {
				conn, ended := kind.begin()
				defer conn.Close()
				all = append(all, begun{kind.name, ended})
			}
		}
		w.unnoticed(good)
		patience := time.After(2 * ordinary)
		open := map[string]int{}
		for _, b := range all {
			select {
			case <-b.ended:
			case <-patience:
				patience = closedTimer
				open[b.name]++
			}
		}
		for name, n := range open {
			t.Errorf("%s: %d are still open", name, n)
		}
		w.unnoticed(good)
		w.eventually("only the good agent's session is left", ordinary, func() bool {
			return w.metric(`ampora_edge_sessions{kind="agent",transport="ws"}`) == "1"
		})
	})
}

// Connections that are held open by somebody who asks nothing do not use up the edge's files.
func TestSilentConnectionsMakeRoom(t *testing.T) {
	const most, silent = 20, 200
	w := newWorld(t, hostile, func(o *edge.Options) { o.MaxWaiting, o.HeaderTimeout = most, 5*time.Minute })
	good := w.steady()
	defer good.leave()
	var all []<-chan struct{}
	for n := range silent {
		c := w.dialTCP()
		defer c.Close()
		all = append(all, reading(c))
		if n%50 == 0 {
			w.unnoticed(good)
		}
	}
	open := func() (n int) {
		for _, ended := range all {
			select {
			case <-ended:
			default:
				n++
			}
		}
		return n
	}
	w.eventually("only so many are open as may wait", ordinary, func() bool { return open() <= most })
	w.unnoticed(good)
	if !strings.Contains(w.log.String(), "nothing is asked") {
		t.Error("the log does not say so")
	}
}

// closedTimer has always fired.
var closedTimer = func() <-chan time.Time { c := make(chan time.Time); close(c); return c }()

// A flood of wrong tokens from one address costs Vault little and good agents from the same address nothing.
func TestAFloodOfWrongTokensFromOneAddressHurtsNobody(t *testing.T) {
	guarded(t, func(w *world) {
		good := w.steady()
		defer good.leave()
		stranger := w.newAgent("")
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var sent, limited, odd atomic.Int64
		var flood sync.WaitGroup
		begun := time.Now()
		asked := w.calls("redeem_check")
		for n := range 40 {
			client := &http.Client{Transport: &http.Transport{TLSClientConfig: stranger.tls(), MaxIdleConnsPerHost: 1}}
			flood.Go(func() {
				defer client.CloseIdleConnections()
				for ctx.Err() == nil {
					bearer := "hello" // garbage, which is judged here
					if n%2 == 0 {
						bearer = token.New(token.Bootstrap).Reveal() // well-formed: only Vault knows that it is none
					}
					status, err := tryToken(ctx, client, w.addr, bearer)
					switch {
					case err != nil:
					case status == http.StatusTooManyRequests:
						limited.Add(1)
						fallthrough
					case status == http.StatusUnauthorized:
						sent.Add(1)
					default:
						odd.Store(int64(status))
					}
				}
			})
		}
		w.eventually("1,000 wrong tokens were refused", 2*ordinary, func() bool { return sent.Load() >= 1000 })
		for range 3 {
			w.unnoticed(good)
		}
		cancel()
		flood.Wait()
		took := time.Since(begun)
		t.Logf("%.0f wrong tokens a second, %d of %d answered with 429", float64(sent.Load())/took.Seconds(), limited.Load(), sent.Load())
		if status := odd.Load(); status != 0 {
			t.Errorf("a wrong token is answered with %d", status)
		}
		if limited.Load() == 0 {
			t.Error("nobody was slowed down")
		}
		// Of one address Vault is asked about 20 tokens a second, and some more until it is found to be wrong, at first and whenever
		// it has been forgiven a little.
		if calls, most := w.calls("redeem_check")-asked, 100+40*(took.Seconds()+1); calls > most {
			t.Errorf("Vault was asked about %.0f tokens in %v", calls, took)
		}
	})
}

// tryToken asks for what a token gives, over plain HTTP.
func tryToken(ctx context.Context, client *http.Client, addr, bearer string) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+addr+"/v1/opamp", nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "Bearer "+bearer)
	req.Header.Set("Content-Type", "application/x-protobuf")
	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}

// calls is how many calls of a kind the edge has made to Vault, whatever came of them.
func (w *world) calls(op string) (sum float64) {
	_, page := w.admin("/metrics")
	for line := range strings.Lines(page) {
		var n float64
		if strings.HasPrefix(line, `ampora_edge_vault_calls_total{`) && strings.Contains(line, `op="`+op+`"`) {
			_, _ = fmt.Sscan(line[strings.LastIndexByte(line, ' ')+1:], &n)
			sum += n
		}
	}
	return sum
}
