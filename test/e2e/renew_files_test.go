package e2e

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
)

// TestASupervisorGoesOnWithFilesThatAreRenewed renews the files under a stock supervisor, which takes no offer without a private
// key: with the same key, and with a new one. It comes back with the new certificate, is not restarted, and nobody takes it for
// a thief.
func TestASupervisorGoesOnWithFilesThatAreRenewed(t *testing.T) {
	t.Parallel()
	in := install(t)
	e := in.edge("one")
	issued := in.token()
	out := filepath.Join(in.dir, "identity")
	if said, ok := in.enroll(e.endpoint("wss"), issued.Token, out); !ok {
		t.Fatalf("ampora enroll failed:\n%s", said)
	}
	row := in.wantEnrolled(issued)
	const reload = "reload_interval: 1s"
	if written := in.read(filepath.Join(out, "supervisor.yaml")); !strings.Contains(written, reload) {
		t.Fatalf("supervisor.yaml does not say %s:\n%s", reload, written)
	}
	s := in.supervisor("supervisor", map[string]any{"endpoint": strings.TrimSpace(in.read(filepath.Join(out, "endpoint"))), "tls": map[string]any{
		"ca_file": filepath.Join(out, "ca.pem"), "cert_file": filepath.Join(out, "cert.pem"), "key_file": filepath.Join(out, "key.pem"), "reload_interval": "1s",
	}})
	served := func() bool { _, state := e.ready(); return state.Sessions == 1 }
	connected := func() int { return strings.Count(in.read(e.log), "agent connected") }
	eventually(t, "the supervisor's collector is in the row", time.Minute, func() bool {
		now, err := in.engine.Agent(in.ctx(), row.AgentID)
		return err == nil && strings.Contains(now.Description, "otelcol") && served()
	})
	pid := s.child.PID()
	for _, arguments := range [][]string{nil, {"--new-key"}} {
		before := connected()
		cmd := exec.CommandContext(in.ctx(), in.program("ampora"), append([]string{"renew", "--dir", out, "--force"}, arguments...)...)
		cmd.Env = environment()
		if said, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("ampora renew %v failed: %v\n%s", arguments, err, said)
		}
		eventually(t, "the next certificate is the agent's only one", time.Minute, func() bool {
			now, err := in.engine.Agent(in.ctx(), row.AgentID)
			if err != nil || now.SerialNumber == row.SerialNumber || now.NextSerialNumber != "" {
				return false
			}
			row = *now
			return true
		})
		// Two of the connections were those of ampora renew.
		eventually(t, "the supervisor is back", 2*time.Minute, func() bool { return connected() >= before+3 && served() })
	}
	if !s.child.Running() || s.child.PID() != pid {
		t.Error("the supervisor did not go on")
	}
	if said := in.actions(row.AgentID); slices.Contains(said, apitype.ActionCertificateSuspected) {
		t.Errorf("a renewal was taken for a theft: %v", said)
	}
}
