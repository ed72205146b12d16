package handover

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/ampora/ampora/edge/admin"
	"github.com/ampora/ampora/test/fleet"
	"github.com/ampora/ampora/test/proc"
	"github.com/ampora/ampora/test/vaulttest"
)

// edge is an edge as a process. It can be killed and started again on the same address.
type edge struct {
	r     *region
	name  string
	addr  string // of the agents' listener
	admin string
	log   string // file
	child *proc.Child
}

// newEdge prepares an edge. It tells agents the address of the region, behind which it stands with the other one.
func (r *region) newEdge(name, addr string) *edge {
	r.t.Helper()
	e := &edge{r: r, name: name, addr: addr, admin: fleet.FreeAddr(r.t), log: filepath.Join(r.dir, "edge-"+name+".log")}
	r.t.Cleanup(func() {
		if e.child != nil {
			e.child.End(syscall.SIGTERM, 15*time.Second)
		}
		if r.t.Failed() {
			r.t.Logf("the end of the log of edge %s in %s:\n%s", name, r.name, tail(e.log, 60))
		}
	})
	return e
}

// start starts the process.
func (e *edge) start() {
	t := e.r.t
	t.Helper()
	log, err := os.OpenFile(e.log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	must(t, err)
	defer log.Close()
	cmd := exec.Command(vaulttest.RequireBin(t, "ampora-edge"),
		"--name", e.name, "--listen", e.addr, "--admin-listen", e.admin, "--advertise", e.r.endpoint("wss"),
		"--log-format", "json", "--log-level", "debug", "--drain-timeout", "2s", "--auth", "approle",
		"--approle-role-id-file", filepath.Join(e.r.credentials, e.name+".role_id"),
		"--approle-secret-id-file", filepath.Join(e.r.credentials, e.name+".secret_id"))
	cmd.Env = append(environment(), "VAULT_ADDR="+e.r.vault.Addr)
	cmd.Stdout, cmd.Stderr = log, log
	e.child, err = proc.Start(cmd)
	must(t, err)
}

// kill ends the edge like a power failure.
func (e *edge) kill() { e.child.End(syscall.SIGKILL, 10*time.Second) }

// stop ends it in good order.
func (e *edge) stop() { e.child.End(syscall.SIGTERM, 15*time.Second) }

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
	e.r.t.Helper()
	e.r.eventually("edge "+e.name+" of "+e.r.name+" is ready", func() bool {
		if !e.child.Running() {
			e.r.t.Fatalf("edge %s of %s ended: %v\n%s", e.name, e.r.name, e.child.Err(), tail(e.log, 20))
		}
		status, state := e.ready()
		return status == http.StatusOK && state.Bootstrap.Up
	})
}

// logged reports whether a line of the log of any of the region's edges holds all of the texts.
func (r *region) logged(texts ...string) bool {
	for _, e := range r.edges {
		raw, err := os.ReadFile(e.log)
		must(r.t, err)
		for line := range strings.Lines(string(raw)) {
			all := true
			for _, text := range texts {
				all = all && strings.Contains(line, text)
			}
			if all {
				return true
			}
		}
	}
	return false
}

// tail is the end of a file.
func tail(path string, n int) string {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(string(raw), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
