package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/gob"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/google/uuid"
	"github.com/gorilla/websocket"
	"github.com/open-telemetry/opamp-go/protobufs"
	"google.golang.org/protobuf/proto"
)

// The agents live in a process of their own, so that what they cost is not counted as a server's. It takes orders as lines
// of JSON and answers each with one.

// identity is an agent's certificate and key.
type identity struct {
	AgentID     string
	Certificate []byte // DER
	Key         []byte // PKCS #8
}

// crew is what the agents' process is given at its start.
type crew struct {
	Roots      []byte // PEM, for the servers
	Identities []identity
}

type order struct {
	Do        string // connect, disconnect, reconnect
	URL       string
	Agents    int           // connect: how many
	Parallel  int           // reconnect: how many at a time
	For       time.Duration // reconnect
	Heartbeat time.Duration // connect: between two messages of one agent
}

type outcome struct {
	Done   int
	Took   time.Duration
	Failed int
	Error  string // the first failure
}

// fleet is the agents' process.
type fleet struct {
	roots *x509.CertPool
	all   []*agent
	next  atomic.Int64
	mu    sync.Mutex
	idle  map[string]*idle // by URL
}

type agent struct {
	uid  uuid.UUID
	cert tls.Certificate
	full []byte // the message that tells everything
	beat []byte // the one that tells nothing new
}

func runAgents(crewFile string) error {
	raw, err := os.ReadFile(crewFile)
	if err != nil {
		return err
	}
	var c crew
	if err := gob.NewDecoder(bytes.NewReader(raw)).Decode(&c); err != nil {
		return err
	}
	f := &fleet{roots: x509.NewCertPool(), idle: map[string]*idle{}}
	f.roots.AppendCertsFromPEM(c.Roots)
	for _, i := range c.Identities {
		a, err := newAgent(i)
		if err != nil {
			return err
		}
		f.all = append(f.all, a)
	}
	answers := json.NewEncoder(os.Stdout)
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var o order
		if err := json.Unmarshal(lines.Bytes(), &o); err != nil {
			return err
		}
		if err := answers.Encode(f.obey(o)); err != nil {
			return err
		}
	}
	return lines.Err()
}

func newAgent(i identity) (*agent, error) {
	key, err := x509.ParsePKCS8PrivateKey(i.Key)
	if err != nil {
		return nil, err
	}
	uid, err := uuid.Parse(i.AgentID)
	if err != nil {
		return nil, err
	}
	a := &agent{uid: uid, cert: tls.Certificate{Certificate: [][]byte{i.Certificate}, PrivateKey: key}}
	text := func(k, v string) *protobufs.KeyValue {
		return &protobufs.KeyValue{Key: k, Value: &protobufs.AnyValue{Value: &protobufs.AnyValue_StringValue{StringValue: v}}}
	}
	beat := &protobufs.AgentToServer{InstanceUid: uid[:], Capabilities: 1 | apitype.CapabilityAcceptsOpAMP}
	full := proto.CloneOf(beat)
	full.AgentDescription = &protobufs.AgentDescription{
		IdentifyingAttributes: []*protobufs.KeyValue{
			text("service.name", "io.opentelemetry.collector"), text("service.version", "0.149.0"), text("service.instance.id", i.AgentID),
		},
		NonIdentifyingAttributes: []*protobufs.KeyValue{
			text("os.type", "linux"), text("os.description", "Debian GNU/Linux 13"), text("host.arch", "amd64"), text("host.name", "host-"+i.AgentID),
		},
	}
	for m, into := range map[*protobufs.AgentToServer]*[]byte{beat: &a.beat, full: &a.full} {
		raw, err := proto.Marshal(m)
		if err != nil {
			return nil, err
		}
		*into = append([]byte{0}, raw...) // OpAMP's header of a WebSocket message: zero, as a varint
	}
	return a, nil
}

func (f *fleet) obey(o order) (out outcome) {
	start := time.Now()
	var err error
	switch o.Do {
	case "connect":
		out.Done, err = f.connect(o)
	case "disconnect":
		out.Done, out.Failed = f.disconnect(o.URL)
	case "reconnect":
		out.Done, out.Failed, err = f.reconnect(o)
	default:
		err = fmt.Errorf("no such order: %q", o.Do)
	}
	out.Took = time.Since(start)
	if err != nil {
		out.Error = err.Error()
	}
	return out
}

// enter connects with a full handshake, tells everything and waits for the answer.
func (f *fleet) enter(url string, a *agent) (*websocket.Conn, error) {
	d := websocket.Dialer{
		TLSClientConfig:  &tls.Config{RootCAs: f.roots, Certificates: []tls.Certificate{a.cert}, MinVersion: tls.VersionTLS13},
		HandshakeTimeout: 20 * time.Second,
	}
	conn, resp, err := d.DialContext(context.Background(), url, http.Header{})
	if err != nil {
		if resp != nil {
			body, _ := io.ReadAll(resp.Body)
			return nil, fmt.Errorf("%w: %s %s", err, resp.Status, body)
		}
		return nil, err
	}
	_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	if err := conn.WriteMessage(websocket.BinaryMessage, a.full); err != nil {
		conn.Close()
		return nil, err
	}
	if _, _, err := conn.ReadMessage(); err != nil {
		conn.Close()
		return nil, err
	}
	_ = conn.SetReadDeadline(time.Time{})
	return conn, nil
}

// reconnect lets one agent after the other enter and leave again.
func (f *fleet) reconnect(o order) (done, failed int, first error) {
	var ok, bad atomic.Int64
	var once sync.Once
	end := time.Now().Add(o.For)
	var wg sync.WaitGroup
	for range o.Parallel {
		wg.Go(func() {
			for time.Now().Before(end) {
				conn, err := f.enter(o.URL, f.all[int(f.next.Add(1))%len(f.all)])
				if err != nil {
					bad.Add(1)
					once.Do(func() { first = err })
					continue
				}
				ok.Add(1)
				bye := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
				_ = conn.WriteControl(websocket.CloseMessage, bye, time.Now().Add(time.Second))
				conn.Close()
			}
		})
	}
	wg.Wait()
	return int(ok.Load()), int(bad.Load()), first
}

// idle are agents that stay, with nothing to say but heartbeats.
type idle struct {
	conns []*websocket.Conn
	lost  atomic.Int64
	stop  chan struct{}
	ended chan struct{}
}

func (f *fleet) connect(o order) (int, error) {
	if o.Agents > len(f.all) {
		return 0, fmt.Errorf("%d agents are wanted, there are %d", o.Agents, len(f.all))
	}
	g := &idle{conns: make([]*websocket.Conn, o.Agents), stop: make(chan struct{}), ended: make(chan struct{})}
	var next, count atomic.Int64
	var once sync.Once
	var first error
	var wg sync.WaitGroup
	const parallel = 8
	for range parallel {
		wg.Go(func() {
			for {
				n := int(next.Add(1)) - 1
				if n >= o.Agents {
					return
				}
				conn, err := f.enter(o.URL, f.all[n])
				if err != nil {
					once.Do(func() { first = err })
					continue
				}
				g.conns[n] = conn
				count.Add(1)
				go func() {
					for {
						if _, _, err := conn.ReadMessage(); err != nil {
							g.lost.Add(1)
							return
						}
					}
				}()
			}
		})
	}
	wg.Wait()
	f.mu.Lock()
	f.idle[o.URL] = g
	f.mu.Unlock()
	go f.beat(g, o.Heartbeat)
	return int(count.Load()), first
}

// beat sends each agent's heartbeats, one agent after the other.
func (f *fleet) beat(g *idle, every time.Duration) {
	defer close(g.ended)
	tick := time.NewTicker(max(every/time.Duration(len(g.conns)), time.Millisecond))
	defer tick.Stop()
	for n := 0; ; n = (n + 1) % len(g.conns) {
		select {
		case <-g.stop:
			return
		case <-tick.C:
			if conn := g.conns[n]; conn != nil {
				_ = conn.WriteMessage(websocket.BinaryMessage, f.all[n].beat) // the reader counts those that are lost
			}
		}
	}
}

// disconnect ends the idle agents and says how many were still there, and how many had been lost.
func (f *fleet) disconnect(url string) (there, lost int) {
	f.mu.Lock()
	g := f.idle[url]
	delete(f.idle, url)
	f.mu.Unlock()
	if g == nil {
		return 0, 0
	}
	close(g.stop)
	<-g.ended
	lost = int(g.lost.Load())
	for _, conn := range g.conns {
		if conn != nil {
			there++
			conn.Close()
		}
	}
	return there - lost, lost
}
