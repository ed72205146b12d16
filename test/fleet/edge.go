package fleet

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ampora/ampora/edge"
	"github.com/ampora/ampora/edge/admin"
	"github.com/hashicorp/go-hclog"
	vaultapi "github.com/hashicorp/vault/api"
)

// Edge is an edge on loopback that runs until the end of the test.
type Edge struct {
	*edge.Edge
	name string
	t    testing.TB
	log  log
}

// StartEdge starts an edge that looks for Vault at the given URL, and waits until tokens can be redeemed. Listeners and logger
// are filled in.
func StartEdge(t testing.TB, vaultURL string, o edge.Options) *Edge {
	t.Helper()
	e := &Edge{name: o.Name, t: t}
	o.Listen, o.AdminListen, o.DrainTimeout = "127.0.0.1:0", "127.0.0.1:0", 5*time.Second
	o.Logger = hclog.New(&hclog.LoggerOptions{Level: hclog.Debug, Output: &e.log})
	o.Vault.Vault = &vaultapi.Config{Address: vaultURL, Timeout: time.Minute}
	var err error
	if e.Edge, err = edge.New(o); err != nil {
		t.Fatal(err)
	}
	if err := e.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := e.Stop(ctx); err != nil {
			t.Errorf("stopping edge %s: %v", e.name, err)
		}
		if t.Failed() {
			t.Logf("the end of the log of edge %s:\n%s", e.name, strings.Join(e.log.tail(60), "\n"))
		}
	})
	e.AwaitReady()
	return e
}

// Address is where agents connect, host:port.
func (e *Edge) Address() string { return e.Addr().String() }

// AwaitReady waits until tokens can be redeemed.
func (e *Edge) AwaitReady() {
	e.t.Helper()
	Eventually(e.t, "edge "+e.name+" can redeem tokens", func() bool {
		status, state := e.Ready()
		return status == http.StatusOK && state.Bootstrap.Up
	})
}

// Ready is what /readyz answers.
func (e *Edge) Ready() (status int, state admin.Readiness) {
	e.t.Helper()
	status, body := e.get("/readyz")
	if err := json.Unmarshal(body, &state); err != nil {
		e.t.Fatalf("/readyz: %v", err)
	}
	return status, state
}

// Metric is the value of one line of /metrics, given as its name with labels; 0 when there is none.
func (e *Edge) Metric(line string) float64 {
	e.t.Helper()
	_, body := e.get("/metrics")
	for l := range strings.Lines(string(body)) {
		if rest, found := strings.CutPrefix(l, line+" "); found {
			value, err := strconv.ParseFloat(strings.TrimSpace(rest), 64)
			if err != nil {
				e.t.Fatalf("%s: %v", line, err)
			}
			return value
		}
	}
	return 0
}

// Logged are the lines of the log that hold the text.
func (e *Edge) Logged(text string) []string { return e.log.lines(text) }

func (e *Edge) get(path string) (int, []byte) {
	e.t.Helper()
	resp, err := http.Get("http://" + e.AdminAddr().String() + path)
	if err != nil {
		e.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		e.t.Fatal(err)
	}
	return resp.StatusCode, body
}

// Patience is how long Eventually waits: many times what anything here takes on a machine that is not busy.
const Patience = 3 * time.Minute

// Eventually waits until ok answers true.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(Patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("not within %v: %s", Patience, what)
}

// log keeps what is written to it.
type log struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.Write(p)
}

func (l *log) lines(text string) (found []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.all.String()) {
		if strings.Contains(line, text) {
			found = append(found, strings.TrimSpace(line))
		}
	}
	return found
}

func (l *log) tail(n int) []string {
	all := l.lines("")
	return all[max(0, len(all)-n):]
}
