package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/test/proc"
)

// supervisor is the stock OpAMP supervisor with a collector under it.
type supervisor struct {
	in    *installation
	log   string // file: the supervisor's own
	child *proc.Child
}

// supervisor starts one with the given 'server' section of its configuration, in YAML's JSON form, and further capabilities.
func (in *installation) supervisor(name string, server any, capabilities ...string) *supervisor {
	in.t.Helper()
	dir := filepath.Join(in.dir, name)
	must(in.t, os.MkdirAll(dir, 0o700))
	can := map[string]any{}
	for _, capability := range append(capabilities, "accepts_opamp_connection_settings") {
		can[capability] = true
	}
	config, err := json.MarshalIndent(map[string]any{
		"server":       server,
		"capabilities": can,
		"agent": map[string]any{
			"executable":        in.program("otelcol"),
			"bootstrap_timeout": "30s",
			// Every collector would serve its own metrics on the same port.
			"args": []string{"--set=service.telemetry.metrics.level=none"},
		},
		"storage":   map[string]any{"directory": filepath.Join(dir, "storage")},
		"telemetry": map[string]any{"metrics": map[string]any{"level": "none"}},
	}, "", "  ")
	must(in.t, err)
	path := in.write(name+".yaml", string(config)) // JSON is YAML
	s := &supervisor{in: in, log: filepath.Join(in.dir, name+".log")}
	log, err := os.Create(s.log)
	must(in.t, err)
	defer log.Close()
	cmd := exec.Command(in.program("opampsupervisor"), "--config", path)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = dir, environment(), log, log
	s.child, err = proc.StartFor(cmd, syscall.SIGINT) // SIGTERM it does not handle
	must(in.t, err)
	in.t.Cleanup(func() {
		s.stop()
		if in.t.Failed() {
			in.t.Logf("the end of the log of %s:\n%s", name, tail(s.log, 40))
		}
	})
	return s
}

// stop ends the supervisor, which ends its collector. It takes the signal only once it has started, hence the repetition.
func (s *supervisor) stop() {
	var collectors []proc.Process
	for i := 0; i < 20 && s.child.Running(); i++ {
		collectors = append(collectors, proc.Children(s.child.PID())...)
		s.child.Signal(syscall.SIGINT)
		select {
		case <-s.child.Exited():
		case <-time.After(time.Second):
		}
	}
	s.child.End(syscall.SIGKILL, 0)
	for _, p := range collectors {
		p.Signal(syscall.SIGKILL) // only what has outlived it
	}
}

// bootstrapServer is the section for an agent with nothing but a token.
func bootstrapServer(endpoint, token, ca string) map[string]any {
	return map[string]any{
		"endpoint": endpoint,
		"headers":  map[string]any{"Authorization": "Bearer " + token},
		"tls":      map[string]any{"ca_file": ca},
	}
}

func TestStockSupervisorEndsUpOnMutualTLS(t *testing.T) {
	for _, scheme := range []string{"wss", "https"} {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			in := install(t)
			e := in.edge("one")
			issued := in.token()
			in.supervisor("supervisor", bootstrapServer(e.endpoint(scheme), issued.Token, in.ca))
			eventually(t, "the supervisor has redeemed its token", time.Minute, func() bool { return len(in.agents()) > 0 })
			row := in.wantEnrolled(issued)
			row = in.wantSeen(row.AgentID, "one") // told of a session by certificate
			if row.KeyOrigin != "server" || !strings.Contains(row.Description, "otelcol") || row.DisplayName == "" || row.Capabilities&apitype.CapabilityAcceptsOpAMP == 0 {
				t.Errorf("the row is %s", asJSON(row))
			}
			if _, state := e.ready(); state.Sessions != 1 {
				t.Errorf("the edge has %d sessions of agents, want one", state.Sessions)
			}

			second := in.supervisor("second", bootstrapServer(e.endpoint(scheme), issued.Token, in.ca))
			eventually(t, "the edge has refused the second use of the token", time.Minute, func() bool {
				return strings.Contains(in.read(e.log), `"code":"token_redeemed"`)
			})
			second.stop()
			in.wantEnrolled(issued) // still one agent
		})
	}
}

// TestSupervisorRunsOnTheFilesOfEnroll gives the supervisor what 'ampora enroll' wrote for it: so it keeps its identity
// over restarts, which one that was bootstrapped by an offer does not.
func TestSupervisorRunsOnTheFilesOfEnroll(t *testing.T) {
	t.Parallel()
	in := install(t)
	e := in.edge("one")
	issued := in.token()
	out := filepath.Join(in.dir, "identity")
	if said, ok := in.enroll(e.endpoint("wss"), issued.Token, out); !ok {
		t.Fatalf("ampora enroll failed:\n%s", said)
	}
	row := in.wantEnrolled(issued)
	files := map[string]any{"ca_file": filepath.Join(out, "ca.pem"), "cert_file": filepath.Join(out, "cert.pem"), "key_file": filepath.Join(out, "key.pem")}
	written := in.read(filepath.Join(out, "supervisor.yaml"))
	for _, path := range files {
		if !strings.Contains(written, path.(string)) {
			t.Errorf("supervisor.yaml does not name %s:\n%s", path, written)
		}
	}
	endpoint := strings.TrimSpace(in.read(filepath.Join(out, "endpoint")))
	for run := range 2 {
		s := in.supervisor(fmt.Sprintf("supervisor-%d", run), map[string]any{"endpoint": endpoint, "tls": files})
		eventually(t, "the supervisor's collector is in the row", time.Minute, func() bool {
			now, err := in.engine.Agent(in.ctx(), row.AgentID)
			return err == nil && strings.Contains(now.Description, "otelcol")
		})
		eventually(t, "the edge serves it", time.Minute, func() bool { _, state := e.ready(); return state.Sessions == 1 })
		s.stop()
		eventually(t, "the edge has noticed that it is gone", time.Minute, func() bool { _, state := e.ready(); return state.Sessions == 0 })
	}
	if n := len(in.agents()); n != 1 {
		t.Errorf("there are %d agents, want one", n)
	}
}
