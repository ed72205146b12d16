package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
)

// enroll runs 'ampora enroll' with a token on its standard input, and returns its output and whether it was content.
func (in *installation) enroll(endpoint, token, out string, arguments ...string) (said string, ok bool) {
	in.t.Helper()
	cmd := exec.CommandContext(in.ctx(), in.program("ampora"), append([]string{"enroll", "--endpoint", endpoint, "--out", out, "--ca-file", in.ca, "--name", "host-1"}, arguments...)...)
	cmd.Env = environment()
	cmd.Stdin = strings.NewReader(token + "\n")
	output, err := cmd.CombinedOutput()
	path := in.write("enroll-"+filepath.Base(out)+".out", string(output))
	in.secrets.watch(path)
	return string(output), err == nil
}

func TestEnrollNeedsNothingButAToken(t *testing.T) {
	t.Parallel()
	in := install(t)
	e := in.edge("one")
	for _, transport := range []string{"wss", "https"} {
		t.Run(transport, func(t *testing.T) {
			in := in.within(t)
			issued := in.token()
			out := filepath.Join(t.TempDir(), "identity")
			said, ok := in.enroll(e.endpoint(transport), issued.Token, out)
			if !ok {
				t.Fatalf("ampora enroll failed:\n%s", said)
			}
			files, err := os.ReadDir(out)
			must(t, err)
			for _, f := range files {
				info, err := f.Info()
				must(t, err)
				if info.Mode().IsRegular() && info.Mode().Perm() != 0o600 {
					t.Errorf("%s has mode %v, want 0600", f.Name(), info.Mode().Perm())
				}
			}
			in.secrets.addKey(in.read(filepath.Join(out, "key.pem")))

			row := in.wantEnrolled(issued)
			if row.KeyOrigin != "csr" || row.DisplayName == "" || !strings.Contains(row.Description, "host-1") || row.SourceIP != "127.0.0.1" {
				t.Errorf("the row is %s", asJSON(row))
			}
			if !strings.Contains(said, row.AgentID) {
				t.Errorf("the agent's id %s is not in what enroll says:\n%s", row.AgentID, said)
			}
			in.wantSeen(row.AgentID, "one") // enroll has connected with the certificate before it put the files into place

			// The same token again, and the same directory again.
			if said, ok := in.enroll(e.endpoint(transport), issued.Token, out+"2"); ok || !strings.Contains(said, string(apitype.TokenRedeemed)) {
				t.Errorf("the second use of the token: %v\n%s", ok, said)
			}
			fresh := in.token()
			if said, ok := in.enroll(e.endpoint(transport), fresh.Token, out); ok || !strings.Contains(said, row.AgentID) {
				t.Errorf("enroll over an identity that works: %v\n%s", ok, said)
			}
			if _, err := in.engine.RedeemCheck(in.ctx(), apitype.RedeemCheckRequest{Token: fresh.Token}); err != nil {
				t.Errorf("the token that was not needed: %v", err)
			}
		})
	}
}

func TestAgentOnOpampGoEnrolsAndComesBack(t *testing.T) {
	t.Parallel()
	in := install(t)
	e := in.edge("one")
	for _, c := range []struct {
		name, scheme string
		arguments    []string
		origin       string
	}{
		{"websocket with a CSR", "wss", nil, "csr"},
		{"plain HTTP with a CSR", "https", nil, "csr"},
		{"websocket with a key from the server", "wss", []string{"--server-key"}, "server"},
		{"plain HTTP with a key from the server", "https", []string{"--server-key"}, "server"},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := in.within(t)
			issued := in.token()
			state := filepath.Join(t.TempDir(), "state")
			a := in.agent(e.endpoint(c.scheme), issued.Token, state, c.arguments...)
			kept := a.AwaitEnrolled()
			offer := a.Await("an offer", time.Second, 0, func(e agentEvent) bool { return e.Event == "offer" })
			id := a.Identity()
			if c.origin == "server" {
				in.secrets.addKey(id.Key)
			}
			if offer.ServerKey != (c.origin == "server") || offer.Heartbeat != 30 || offer.Endpoint != e.endpoint(c.scheme) {
				t.Errorf("the offer is %s", asJSON(offer))
			}
			if !strings.Contains(id.CA, strings.TrimSpace(in.read(in.ca))) {
				t.Error("the offer does not carry our CA, which this edge's certificate is from")
			}
			row := in.wantEnrolled(issued)
			if row.AgentID != kept.AgentID || row.SerialNumber != kept.Serial || row.InstanceUID != kept.InstanceUID || row.KeyOrigin != c.origin ||
				row.DisplayName != "testagent" || row.Capabilities&apitype.CapabilityAcceptsOpAMP == 0 {
				t.Errorf("the agent keeps %s, its row is %s", asJSON(kept), asJSON(row))
			}
			in.wantSeen(row.AgentID, "one")

			// A restart: no token any more.
			a.Stop()
			again := in.agent(e.endpoint(c.scheme), "", state)
			if back := again.AwaitBack(0); back.Serial != kept.Serial {
				t.Errorf("the agent came back as %s", asJSON(back))
			}
			if n := len(in.agents()); n == 0 || in.agentOf(issued).SerialNumber != kept.Serial {
				t.Errorf("after the restart there are %d agents", n)
			}
			again.Stop()
		})
	}
}
