package e2e

import (
	"bufio"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ampora/ampora/edge/admin"
	"github.com/ampora/ampora/test/fleet"
	"github.com/ampora/ampora/test/proc"
)

// edge is an edge as a process. It can be killed and started again on the same address.
type edge struct {
	in    *installation
	t     *testing.T
	name  string
	addr  string // of the agents' listener
	admin string
	log   string // file
	args  []string
	env   []string
	child *proc.Child
}

// edge starts an edge under its AppRole and waits until it takes agents. Edge one stands where config.endpoint points; the
// others tell agents their own address.
func (in *installation) edge(name string, arguments ...string) *edge {
	in.t.Helper()
	e := in.newEdge(name, arguments...)
	e.args = append(e.args,
		"--auth", "approle",
		"--approle-role-id-file", filepath.Join(in.credentials(), name+".role_id"),
		"--approle-secret-id-file", filepath.Join(in.credentials(), name+".secret_id"))
	e.start()
	e.awaitReady()
	return e
}

// newEdge prepares an edge without a way to log in to Vault.
func (in *installation) newEdge(name string, arguments ...string) *edge {
	in.t.Helper()
	e := &edge{in: in, t: in.t, name: name, addr: in.addr, admin: fleet.FreeAddr(in.t), log: filepath.Join(in.dir, "edge-"+name+".log")}
	if name != "one" {
		e.addr = fleet.FreeAddr(in.t)
	}
	e.args = append([]string{
		"--name", name, "--listen", e.addr, "--admin-listen", e.admin, "--advertise", e.endpoint("wss"),
		"--log-format", "json", "--log-level", "debug", "--drain-timeout", "5s",
	}, arguments...)
	e.env = append(environment(), "VAULT_ADDR="+in.vault.Addr)
	in.secrets.watch(e.log)
	in.t.Cleanup(func() {
		if e.child != nil && e.child.Running() {
			e.stop()
		}
		if in.t.Failed() {
			in.t.Logf("the end of edge %s's log:\n%s", name, tail(e.log, 60))
		}
	})
	return e
}

// start starts the process.
func (e *edge) start() {
	e.t.Helper()
	log, err := os.OpenFile(e.log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	must(e.t, err)
	defer log.Close()
	cmd := exec.Command(e.in.program("ampora-edge"), e.args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = e.env, log, log
	e.child, err = proc.Start(cmd)
	must(e.t, err)
}

// kill ends the edge like a power failure.
func (e *edge) kill() { e.child.End(syscall.SIGKILL, 10*time.Second) }

// stop ends the edge in good order, and tells how long that took.
func (e *edge) stop() time.Duration {
	e.t.Helper()
	start := time.Now()
	e.child.End(syscall.SIGTERM, 15*time.Second)
	if err := e.child.Err(); err != nil {
		e.t.Errorf("edge %s: %v\n%s", e.name, err, tail(e.log, 20))
	}
	return time.Since(start)
}

// ready is what /readyz answers; the status is 0 when nobody does.
func (e *edge) ready() (status int, state admin.Readiness) {
	resp, err := http.Get("http://" + e.admin + "/readyz")
	if err != nil {
		return 0, state
	}
	defer resp.Body.Close()
	_ = json.NewDecoder(resp.Body).Decode(&state) // what is not there stays zero
	return resp.StatusCode, state
}

// awaitReady waits until tokens can be redeemed.
func (e *edge) awaitReady() {
	e.t.Helper()
	eventually(e.t, "edge "+e.name+" is ready", 30*time.Second, func() bool {
		if !e.child.Running() {
			e.t.Fatalf("edge %s ended: %v\n%s", e.name, e.child.Err(), tail(e.log, 20))
		}
		status, state := e.ready()
		return status == http.StatusOK && state.Bootstrap.Up
	})
}

// endpoint is where agents connect: wss for WebSocket, https for plain HTTP.
func (e *edge) endpoint(scheme string) string { return scheme + "://" + e.addr + "/v1/opamp" }

type (
	testAgent  = fleet.TestAgent
	agentEvent = fleet.AgentEvent
)

// agent starts an agent on opamp-go's client with a token (empty for one that has an identity in state).
func (in *installation) agent(endpoint, token, state string, arguments ...string) *testAgent {
	in.t.Helper()
	return fleet.StartTestAgent(in.t, endpoint, token, in.ca, state, arguments...)
}

// tail is the end of a file.
func tail(path string, n int) string {
	f, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	var last []string
	scan := bufio.NewScanner(f)
	scan.Buffer(nil, 1<<20)
	for scan.Scan() {
		last = append(last, scan.Text())
	}
	return strings.Join(last[max(0, len(last)-n):], "\n")
}
