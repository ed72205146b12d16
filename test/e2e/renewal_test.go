package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
)

// renewals is how many leaves of the agent have got a successor. One that was offered again counts once: the agent has come
// with each of them.
func (in *installation) renewals(agentID string) int {
	in.t.Helper()
	page, err := in.engine.Events(in.ctx(), apitype.EventsRequest{AgentID: agentID, Action: apitype.ActionCertificateRenewed, Limit: 1000})
	must(in.t, err)
	replaced := map[any]bool{}
	for _, e := range page.Events {
		replaced[e.Details["replaces"]] = true
	}
	return len(replaced)
}

// TestLeavesAreRenewedForAsLongAsTheAgentIsThere lets months pass in two minutes: agents that made their own key, on both
// transports, and a stock supervisor whose keys Vault makes.
func TestLeavesAreRenewedForAsLongAsTheAgentIsThere(t *testing.T) {
	t.Parallel()
	in := install(t)
	// A poll comes with every heartbeat. The last fifth of a leaf's life is for a busy machine.
	must(t, in.engine.UpdateConfig(in.ctx(), map[string]any{"leaf_ttl": 80, "heartbeat_interval": 5}))
	e := in.edge("one")
	tokens := map[string]*apitype.IssuedToken{"supervisor": in.token(), "wss": in.token(), "https": in.token()}
	in.supervisor("supervisor", bootstrapServer(e.endpoint("wss"), tokens["supervisor"].Token, in.ca))
	agents := map[string]*testAgent{}
	for _, scheme := range []string{"wss", "https"} {
		agents[scheme] = in.agent(e.endpoint(scheme), tokens[scheme].Token, filepath.Join(in.dir, scheme))
	}
	eventually(t, "all have redeemed their tokens", 2*time.Minute, func() bool { return len(in.agents()) == 3 })

	const times = 2 // the second one rests on the first
	for name, issued := range tokens {
		id := in.agentOf(issued).AgentID
		eventually(t, name+" has been given its next certificates", 5*time.Minute, func() bool { return in.renewals(id) >= times })
	}
	for scheme, a := range agents {
		eventually(t, scheme+" lives on its newest certificate", time.Minute, func() bool {
			kept := a.Saved()
			row := in.agentOf(tokens[scheme])
			return len(kept) > times && row.SerialNumber == kept[len(kept)-1] && row.NextSerialNumber == ""
		})
		for _, event := range a.All() {
			if event.Event == "offer" && event.ServerKey || event.Event == "rejected" || event.Event == "server_error" {
				t.Errorf("%s: %s", scheme, asJSON(event))
			}
		}
	}
	// The supervisor says nothing of an offer, but was connected with the first of them when it was made the second.
	eventually(t, "all three are connected", time.Minute, func() bool { _, state := e.ready(); return state.Sessions == len(tokens) })
	for name, issued := range tokens {
		row := in.agentOf(issued)
		if origin := map[bool]string{true: "server", false: "csr"}[name == "supervisor"]; row.KeyOrigin != origin {
			t.Errorf("%s: the key is by %s", name, row.KeyOrigin)
		}
		if row.State != apitype.AgentStateActive || slices.Contains(in.actions(row.AgentID), apitype.ActionCertificateSuspected) {
			t.Errorf("%s: %s with the events %v", name, asJSON(row), in.actions(row.AgentID))
		}
	}
	if n := len(in.agents()); n != len(tokens) {
		t.Errorf("there are %d agents, want %d", n, len(tokens))
	}
}

// TestAnAgentRenewsByItself: a new key each time, proved by the one before; what was copied of an earlier one is of no use.
func TestAnAgentRenewsByItself(t *testing.T) {
	t.Parallel()
	in := install(t)
	one, two := in.edge("one"), in.edge("two")

	// Without a proof: refused, and everything goes on.
	issued := in.token()
	state := filepath.Join(in.dir, "unproven")
	a := in.agent(one.endpoint("wss"), issued.Token, state, "--renew-every", "2s", "--no-proof")
	a.AwaitEnrolled()
	a.Await("the refusal", time.Minute, 0, func(e agentEvent) bool {
		return e.Event == "server_error" && e.By == "certificate" && strings.HasPrefix(e.Error, string(apitype.RenewalProofMissing)+": ")
	})
	row := in.agentOf(issued)
	if in.renewals(row.AgentID) != 0 || row.NextSerialNumber != "" {
		t.Errorf("the agent was given another certificate: %s", asJSON(row))
	}
	if _, state := one.ready(); state.Sessions != 1 {
		t.Errorf("the edge has %d sessions, want one", state.Sessions)
	}
	a.Stop()

	issued = in.token()
	state = filepath.Join(in.dir, "proven")
	a = in.agent(one.endpoint("wss"), issued.Token, state)
	first := a.AwaitEnrolled()
	in.wantSeen(in.agentOf(issued).AgentID, "one")
	a.Stop()
	copied := in.read(filepath.Join(state, "identity.json"))
	key := a.Identity().Key
	in.secrets.addKey(key)

	a = in.agent(one.endpoint("wss"), "", state, "--renew-every", "5s")
	eventually(t, "it has renewed three times, and the row knows", 2*time.Minute, func() bool {
		kept := a.Saved()
		row = in.agentOf(issued)
		return len(kept) >= 3 && row.SerialNumber == kept[len(kept)-1]
	})
	a.Stop()
	in.secrets.addKey(a.Identity().Key)
	if a.Identity().Key == key {
		t.Error("the key is still the first one")
	}
	if kept := a.Saved(); row.KeyOrigin != "csr" || row.AgentID != first.AgentID || slices.Contains(kept, first.Serial) {
		t.Errorf("after %v the row is %s", kept, asJSON(row))
	}

	// A copy from before the renewals, at an edge that has seen none of them.
	thief := filepath.Join(in.dir, "thief")
	must(t, os.MkdirAll(thief, 0o700))
	must(t, os.WriteFile(filepath.Join(thief, "identity.json"), []byte(strings.ReplaceAll(copied, one.addr, two.addr)), 0o600))
	in.agent(two.endpoint("wss"), "", thief)
	suspected := func() (n int) {
		for _, action := range in.actions(row.AgentID) {
			if action == apitype.ActionCertificateSuspected {
				n++
			}
		}
		return n
	}
	eventually(t, "the engine suspects a copy", time.Minute, func() bool { return suspected() > 0 })
	eventually(t, "the copy is kept out", time.Minute, func() bool {
		_, state := two.ready()
		return state.Sessions == 0 && strings.Contains(in.read(two.log), `"a newer certificate of this agent is in use"`)
	})
	if n := suspected(); n != 1 {
		t.Errorf("%d events of a suspected copy", n)
	}
	back := in.agent(one.endpoint("wss"), "", state) // the agent itself does not notice
	back.AwaitBack(0)
	in.wantSeen(row.AgentID, "one")
}
