package fleet

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ampora/ampora/test/proc"
	"github.com/ampora/ampora/test/vaulttest"
)

// TestAgent is a process of test/agent: an agent on opamp-go's client, without any of our code.
type TestAgent struct {
	State string // directory of its identity
	Child *proc.Child
	t     testing.TB

	mu     sync.Mutex
	events []AgentEvent
}

// AgentEvent is a line of its output, see test/agent/testagent.
type AgentEvent struct {
	Time        time.Time `json:"time"`
	Event       string    `json:"event"`
	By          string    `json:"by"`
	AgentID     string    `json:"agent_id"`
	Serial      string    `json:"serial"`
	InstanceUID string    `json:"instance_uid"`
	Endpoint    string    `json:"endpoint"`
	ServerKey   bool      `json:"server_key"`
	Heartbeat   uint64    `json:"heartbeat"`
	Body        string    `json:"body"`
	Error       string    `json:"error"`
}

// TestAgentIdentity is what a TestAgent keeps.
type TestAgentIdentity struct {
	InstanceUID string `json:"instance_uid"`
	Endpoint    string `json:"endpoint"`
	CA          string `json:"ca"`
	Certificate string `json:"certificate"`
	Key         string `json:"key"`
	Heartbeat   uint64 `json:"heartbeat"` // seconds
}

// StartTestAgent starts one with a token (empty for one that has an identity in state) until the end of the test. caFile
// verifies the edge at first.
func StartTestAgent(t testing.TB, endpoint, token, caFile, state string, arguments ...string) *TestAgent {
	t.Helper()
	a := &TestAgent{t: t, State: state}
	cmd := exec.Command(vaulttest.RequireBin(t, "testagent"), append([]string{"--endpoint", endpoint, "--state", state, "--ca-file", caFile}, arguments...)...)
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(kv string) bool {
		return strings.HasPrefix(kv, "VAULT_") || strings.HasPrefix(kv, "AMPORA_")
	}), "AMPORA_TOKEN="+token)
	cmd.Stderr = os.Stderr
	cmd.Stdout = &lines{take: a.tell}
	var err error
	if a.Child, err = proc.Start(cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		a.Stop()
		if t.Failed() {
			t.Logf("agent in %s:\n%s", filepath.Base(state), a.Story())
		}
	})
	return a
}

// tell takes one line of the output.
func (a *TestAgent) tell(line []byte) {
	var e AgentEvent
	if err := json.Unmarshal(line, &e); err != nil {
		e = AgentEvent{Event: "unreadable", Error: string(line)}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.events = append(a.events, e)
}

// Stop ends the agent.
func (a *TestAgent) Stop() { a.Child.End(syscall.SIGTERM, 10*time.Second) }

// All is what has happened so far.
func (a *TestAgent) All() []AgentEvent {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.events)
}

// Story is All in JSON, an event a line.
func (a *TestAgent) Story() string {
	var b strings.Builder
	for _, e := range a.All() {
		raw, err := json.Marshal(e)
		if err != nil {
			panic(err) // there is nothing in it that could fail
		}
		b.Write(append(raw, '\n'))
	}
	return b.String()
}

// Await waits for an event that fits, among those after the first skip ones.
func (a *TestAgent) Await(what string, within time.Duration, skip int, fits func(AgentEvent) bool) AgentEvent {
	a.t.Helper()
	for end := time.Now().Add(within); ; time.Sleep(20 * time.Millisecond) {
		all := a.All()
		if i := slices.IndexFunc(all[min(skip, len(all)):], fits); i >= 0 {
			return all[min(skip, len(all))+i]
		}
		if time.Now().After(end) {
			a.t.Fatalf("not within %v: %s", within, what)
		}
	}
}

// AwaitEnrolled waits until the agent has verified and kept its identity.
func (a *TestAgent) AwaitEnrolled() AgentEvent {
	a.t.Helper()
	return a.Await("the agent has an identity and is connected with it", time.Minute, 0, func(e AgentEvent) bool { return e.Event == "saved" })
}

// AwaitBack waits until the agent, after the first skip events, is connected by certificate.
func (a *TestAgent) AwaitBack(skip int) AgentEvent {
	a.t.Helper()
	return a.Await("the agent is back by certificate", time.Minute, skip, func(e AgentEvent) bool {
		return e.Event == "connected" && e.By == "certificate"
	})
}

// Identity is what the agent keeps.
func (a *TestAgent) Identity() (id TestAgentIdentity) {
	a.t.Helper()
	raw, err := os.ReadFile(filepath.Join(a.State, "identity.json"))
	if err == nil {
		err = json.Unmarshal(raw, &id)
	}
	if err != nil {
		a.t.Fatal(err)
	}
	return id
}

// Pair is the certificate that the agent keeps, with its key.
func (a *TestAgent) Pair() *tls.Certificate {
	a.t.Helper()
	id := a.Identity()
	pair, err := tls.X509KeyPair([]byte(id.Certificate), []byte(id.Key))
	if err != nil {
		a.t.Fatal(err)
	}
	return &pair
}

// Saved are the serials of the certificates that the agent has kept so far, in order.
func (a *TestAgent) Saved() (serials []string) {
	for _, e := range a.All() {
		if e.Event == "saved" {
			serials = append(serials, e.Serial)
		}
	}
	return serials
}

// lines cuts what is written into lines.
type lines struct {
	rest []byte
	take func([]byte)
}

func (l *lines) Write(p []byte) (int, error) {
	l.rest = append(l.rest, p...)
	for {
		line, rest, found := bytes.Cut(l.rest, []byte("\n"))
		if !found {
			return len(p), nil
		}
		l.take(line)
		l.rest = bytes.Clone(rest)
	}
}
