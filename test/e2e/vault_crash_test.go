package e2e

import (
	"net/http"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
)

// TestVaultIsAwayAndComesBack kills Vault and seals it under an edge that goes on serving the agents it knows.
func TestVaultIsAwayAndComesBack(t *testing.T) {
	t.Parallel()
	in := install(t)
	e := in.edge("one")
	live := in.agent(e.endpoint("wss"), in.token().Token, filepath.Join(in.dir, "live"))
	kept := live.AwaitEnrolled()
	in.wantSeen(kept.AgentID, "one")
	state := filepath.Join(in.dir, "returning")
	returning := in.agent(e.endpoint("wss"), in.token().Token, state)
	known := returning.AwaitEnrolled()
	returning.Stop()
	waiting, tried := in.token(), in.token()
	rows, before := len(in.agents()), len(live.All())

	unavailable := func(why string) {
		t.Helper()
		refusal := e.mustPost(t, "Bearer "+tried.Token, nil, message(newCSR()))
		seconds, err := strconv.Atoi(refusal.header.Get("Retry-After"))
		if refusal.status != http.StatusServiceUnavailable || refusal.code != apitype.VaultUnavailable || err != nil || seconds < 1 || seconds > 60 {
			t.Errorf("while Vault is %s a token is answered with %d %s, Retry-After %q", why, refusal.status, refusal.code, refusal.header.Get("Retry-After"))
		}
		if status, ready := e.ready(); status != http.StatusOK || ready.Bootstrap.Up {
			t.Errorf("while Vault is %s the edge says %d %s", why, status, asJSON(ready))
		}
	}

	in.vault.Kill()
	back := in.agent(e.endpoint("wss"), "", state)
	if again := back.AwaitBack(0); again.Serial != known.Serial {
		t.Errorf("the known agent came as %s", asJSON(again))
	}
	unavailable("dead")
	patient := in.agent(e.endpoint("wss"), waiting.Token, filepath.Join(in.dir, "patient"))
	patient.Await("a refusal", 30*time.Second, 0, func(e agentEvent) bool { return e.Event == "connect_failed" })

	must(t, in.vault.Restart(in.ctx()))
	e.awaitReady()
	if n := len(in.agents()); n != rows {
		t.Errorf("there are %d agents after the restart, want %d", n, rows)
	}
	in.wantSeen(known.AgentID, "one") // what was put off is told now

	must(t, in.vault.Seal(in.ctx()))
	eventually(t, "the edge knows that Vault is sealed", 10*time.Second, func() bool { _, state := e.ready(); return !state.Bootstrap.Up })
	unavailable("sealed")
	must(t, in.vault.Unseal(in.ctx()))
	e.awaitReady()

	patient.AwaitEnrolled()
	in.wantEnrolled(waiting)
	if a := e.mustPost(t, "Bearer "+tried.Token, nil, message(newCSR())); a.status != http.StatusOK || a.reply.GetConnectionSettings() == nil {
		t.Errorf("the token that was refused meanwhile: %d %s %s", a.status, a.code, a.text)
	}
	in.wantEnrolled(tried)
	if events := live.All(); len(events) != before {
		t.Errorf("the live agent noticed something: %s", asJSON(events[before:]))
	}
}
