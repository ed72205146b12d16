package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/test/fleet"
	"github.com/ampora/ampora/test/proc"
)

// TestWhoRunsOnFilesThatAreRenewedGoesOn renews the files under programs that take no offers: the stock supervisor, which wants a
// private key in them, and a collector of its own. With the same key and with a new one, it comes back with the new certificate
// without being restarted, and nobody takes it for a thief.
func TestWhoRunsOnFilesThatAreRenewedGoesOn(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(in *installation, identity string) *proc.Child{
		"a supervisor": func(in *installation, identity string) *proc.Child {
			file := func(name string) string { return filepath.Join(identity, name) }
			return in.supervisor("supervisor", map[string]any{"endpoint": strings.TrimSpace(in.read(file("endpoint"))), "tls": map[string]any{
				"ca_file": file("ca.pem"), "cert_file": file("cert.pem"), "key_file": file("key.pem"), "reload_interval": "1s",
			}}).child
		},
		"a collector": (*installation).collector,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := install(t)
			e := in.edge("one")
			issued := in.token()
			out := filepath.Join(in.dir, "identity")
			if said, ok := in.enroll(e.endpoint("wss"), issued.Token, out); !ok {
				t.Fatalf("ampora enroll failed:\n%s", said)
			}
			row := in.wantEnrolled(issued)
			for _, file := range []string{"supervisor.yaml", "extension.yaml"} {
				if written := in.read(filepath.Join(out, file)); !strings.Contains(written, "reload_interval: 1s") {
					t.Fatalf("%s does not say how often files are read:\n%s", file, written)
				}
			}
			program := start(in, out)
			served := func() bool { _, state := e.ready(); return state.Sessions == 1 }
			connected := func() int { return strings.Count(in.read(e.log), "agent connected") }
			eventually(t, "the collector is in the row", time.Minute, func() bool {
				now, err := in.engine.Agent(in.ctx(), row.AgentID)
				return err == nil && strings.Contains(now.Description, "otelcol") && served()
			})
			for _, arguments := range [][]string{nil, {"--new-key"}} {
				before := connected()
				in.renew(out, arguments...)
				eventually(t, "the next certificate is the agent's only one", time.Minute, func() bool {
					now, err := in.engine.Agent(in.ctx(), row.AgentID)
					if err != nil || now.SerialNumber == row.SerialNumber || now.NextSerialNumber != "" {
						return false
					}
					row = *now
					return true
				})
				// Two of the connections were those of ampora renew.
				eventually(t, "it is back", 2*time.Minute, func() bool { return connected() >= before+3 && served() })
			}
			if !program.Running() {
				t.Error("it did not go on")
			}
			if said := in.actions(row.AgentID); slices.Contains(said, apitype.ActionCertificateSuspected) {
				t.Errorf("a renewal was taken for a theft: %v", said)
			}
		})
	}
}

// renew runs 'ampora renew' on an identity that is not due.
func (in *installation) renew(identity string, arguments ...string) {
	in.t.Helper()
	cmd := exec.CommandContext(in.ctx(), in.program("ampora"), append([]string{"renew", "--dir", identity, "--force"}, arguments...)...)
	cmd.Env = environment()
	if said, err := cmd.CombinedOutput(); err != nil {
		in.t.Fatalf("ampora renew %v failed: %v\n%s", arguments, err, said)
	}
}

// collector starts one without a supervisor on the extension of an identity.
func (in *installation) collector(identity string) *proc.Child {
	in.t.Helper()
	config := in.write("collector.yaml", fmt.Sprintf(`
receivers: {otlp: {protocols: {grpc: {endpoint: %q}}}}
exporters: {debug: {}}
service:
  telemetry: {metrics: {level: none}}
  extensions: [opamp]
  pipelines: {traces: {receivers: [otlp], exporters: [debug]}}
`, fleet.FreeAddr(in.t)))
	log, err := os.Create(filepath.Join(in.dir, "collector.log"))
	must(in.t, err)
	defer log.Close()
	cmd := exec.Command(in.program("otelcol"), "--config", config, "--config", filepath.Join(identity, "extension.yaml"))
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = in.dir, environment(), log, log
	child, err := proc.StartFor(cmd, syscall.SIGINT)
	must(in.t, err)
	in.t.Cleanup(func() {
		child.End(syscall.SIGINT, 20*time.Second)
		if in.t.Failed() {
			in.t.Logf("the end of the collector's log:\n%s", tail(log.Name(), 40))
		}
	})
	return child
}
