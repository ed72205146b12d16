package handover

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/test/fleet"
)

// awaitRefused waits until an edge has refused an agent, or ended its session, with the code.
func (r *region) awaitRefused(agentID string, code apitype.Code) {
	r.t.Helper()
	r.eventually("agent "+agentID+" is refused in "+r.name+" with "+string(code), func() bool {
		return r.logged(`"agent":"`+agentID+`"`, `"code":"`+string(code)+`"`)
	})
}

// revokedBefore revokes an agent at the source while its token is out: nobody can redeem it to any effect.
func revokedBefore(t *testing.T, all []*region) {
	north, south := all[0], all[1]
	a := north.agent("wss")
	token := north.handOver(a.id, south)
	_, err := north.engine.RevokeAgent(t.Context(), a.id, apitype.RevokeRequest{Reason: "keyCompromise"})
	must(t, err)
	out := south.redeem(token) // south cannot know
	h := south.awaitHandover(token.HandoverID, "rejected")
	if h.Code != string(apitype.AgentRevoked) {
		t.Errorf("the handover at the target is %s", asJSON(h))
	}
	if _, err := south.engine.Agent(t.Context(), out.AgentID); apitype.CodeOf(err) != apitype.AgentUnknown {
		t.Errorf("the row at the target: %v", err)
	}
	if row := north.row(a.id); row.State != apitype.AgentStateRevoked {
		t.Errorf("the row at the source is %s", asJSON(row))
	}
}

// revokedAfter revokes agents at the source that still have the source's certificate, one on its way and one that has come. The
// target learns of it from the source's list of revoked certificates.
func revokedAfter(t *testing.T, all []*region) {
	north, south := all[0], all[1]
	for name, come := range map[string]bool{"on its way": false, "there": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			north, south := north.within(t), south.within(t)
			a := north.agent("wss")
			a.Stop()
			token := north.handOver(a.id, south)
			there := south.redeem(token).AgentID
			south.awaitState(there, apitype.AgentStateAwaitingReconnect)
			revoke := func() {
				_, err := north.engine.RevokeAgent(t.Context(), a.id, apitype.RevokeRequest{Reason: "keyCompromise"})
				must(t, err)
			}
			if !come {
				revoke()
			}
			a.goesTo(south)
			if come {
				a.AwaitBack(0)
				south.awaitState(there, apitype.AgentStateActive)
				revoke()
			}
			south.awaitRefused(there, apitype.CertificateRevoked)
		})
	}
}

// goesTo starts an agent anew that has been stopped, as if it had taken the offer of its new home. It takes no other offer: so it keeps
// the certificate that it has.
func (a *agent) goesTo(r *region) {
	r.t.Helper()
	id := a.Identity()
	ca, err := os.ReadFile(r.ca)
	must(r.t, err)
	id.Endpoint, id.CA = r.endpoint("wss"), string(ca)
	raw, err := json.Marshal(id)
	must(r.t, err)
	must(r.t, os.WriteFile(filepath.Join(a.State, "identity.json"), raw, 0o600))
	a.TestAgent = fleet.StartTestAgent(r.t, id.Endpoint, "", r.ca, a.State, "--name", "collector-7", "--no-settings")
}

// revokedThere revokes an agent where it has come to: its session ends at once.
func revokedThere(t *testing.T, all []*region) {
	north, south := all[0], all[1]
	a := north.agent("wss")
	there, _ := moved(north, south, a.id)
	_, err := south.engine.RevokeAgent(t.Context(), there, apitype.RevokeRequest{Reason: "keyCompromise"})
	must(t, err)
	south.awaitRefused(there, apitype.CertificateRevoked)
}
