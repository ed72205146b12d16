package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/gob"
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/gorilla/websocket"
	"github.com/open-telemetry/opamp-go/protobufs"
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
	Do        string // connect, look, returned, disconnect, reconnect, redeem
	URL       string
	Agents    int           // connect: how many
	Parallel  int           // connect, reconnect: how many at a time
	For       time.Duration // reconnect: how long; returned, redeem: how long at most
	Heartbeat time.Duration // connect: between two messages of one agent
	Return    bool          // connect: who loses the connection comes back
	Tokens    []string      // redeem: one for each agent to be
}

type outcome struct {
	Done    int
	Began   int64 // redeem: when the first token went out, Unix nanoseconds
	Took    time.Duration
	Failed  int
	Error   string         // the first failure
	Refused map[string]int // tries that the server refused, by code
	Broken  map[string]int // tries that ended otherwise, by what happened
	// Times are moments in Unix nanoseconds, by agent: of returned when it was back, of look when its connection ended, with 0 for
	// one that is open; of redeem, by token, when the certificate was there.
	Times      []int64
	Identities []identity // redeem
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
	lines.Buffer(nil, 64<<20) // an order may carry thousands of tokens
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
	full := describe(uid)
	if a.full, err = wire(full); err != nil {
		return nil, err
	}
	a.beat, err = wire(&protobufs.AgentToServer{InstanceUid: full.InstanceUid, Capabilities: full.Capabilities})
	return a, err
}

func (f *fleet) obey(o order) (out outcome) {
	start := time.Now()
	var err error
	switch o.Do {
	case "connect":
		out.Done, err = f.connect(o)
	case "look":
		out.Done, out.Failed, out.Times = f.group(o.URL).look()
	case "returned":
		out, err = f.group(o.URL).returned(o.For)
	case "disconnect":
		out.Done, out.Failed, _ = f.group(o.URL).look()
		f.disconnect(o.URL)
	case "redeem":
		out, err = f.redeem(o)
	case "reconnect":
		out.Done, out.Failed, err = f.reconnect(o)
	default:
		err = fmt.Errorf("no such order: %q", o.Do)
	}
	if out.Took == 0 {
		out.Took = time.Since(start)
	}
	if err != nil {
		out.Error = err.Error()
	}
	return out
}

// enter connects with a full handshake, tells everything and waits for the answer.
func (f *fleet) enter(url string, a *agent) (*websocket.Conn, error) {
	conn, err := f.dial(url, &tls.Config{Certificates: []tls.Certificate{a.cert}}, nil)
	if err != nil {
		return nil, err
	}
	if _, err := ask(conn, a.full, answerTime); err != nil {
		conn.Close()
		return nil, err
	}
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
