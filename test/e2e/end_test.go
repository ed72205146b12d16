package e2e

import (
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
)

// atOnce is how long the end of an agent may take to reach its live session, on every edge.
const atOnce = 5 * time.Second

func TestEndedAgentsAreOutAtOnceAndStayOut(t *testing.T) {
	t.Parallel()
	in := install(t)
	one, two := in.edge("one"), in.edge("two")
	bystander := in.agent(one.endpoint("wss"), in.token().Token, filepath.Join(in.dir, "bystander"))
	bystander.AwaitEnrolled()
	unharmed := len(bystander.All())

	for _, c := range []struct {
		name, scheme string
		edge, other  *edge
		end          func(id string) error
		events       []string
	}{
		{"deleted", "wss", one, two, func(id string) error { return in.engine.DeleteAgent(in.ctx(), id) }, []string{apitype.ActionAgentDeleted, apitype.ActionCertificateRevoked}},
		{"revoked", "wss", two, one, func(id string) error {
			_, err := in.engine.RevokeAgent(in.ctx(), id, apitype.RevokeRequest{Reason: "keyCompromise"})
			return err
		}, []string{apitype.ActionCertificateRevoked}},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := in.within(t)
			issued := in.token()
			a := in.agent(c.edge.endpoint(c.scheme), issued.Token, filepath.Join(in.dir, c.name))
			kept := a.AwaitEnrolled()
			in.wantSeen(kept.AgentID, c.edge.name)
			before := len(a.All())
			ended := time.Now()
			must(t, c.end(kept.AgentID))
			closed := a.Await("a close frame with the reason", atOnce, before, func(e agentEvent) bool {
				return e.Event == "log" && strings.Contains(e.Error, "close 1008") && strings.Contains(e.Error, string(apitype.CertificateRevoked))
			})
			t.Logf("closed %v after the call", closed.Time.Sub(ended).Round(time.Millisecond))
			a.Await("a refusal of the next connection", 10*time.Second, before, func(e agentEvent) bool { return e.Event == "connect_failed" })
			a.Stop()
			for _, e := range a.All()[before:] {
				if e.Event == "connected" {
					t.Error("the agent was let in again")
				}
			}

			pair := a.Pair()
			for _, e := range []*edge{c.edge, c.other} {
				if r := e.mustPost(t, "", pair, message(nil)); r.status != http.StatusForbidden || r.code != apitype.CertificateRevoked {
					t.Errorf("edge %s answers the certificate with %d %s", e.name, r.status, r.code)
				}
				if r := e.mustPost(t, "Bearer "+issued.Token, nil, message(newCSR())); r.status != http.StatusUnauthorized || r.code != apitype.TokenRedeemed {
					t.Errorf("edge %s answers the token with %d %s", e.name, r.status, r.code)
				}
				if r := e.mustPost(t, "Bearer "+issued.Token, pair, message(newCSR())); r.status != http.StatusUnauthorized || r.code != apitype.TokenRedeemed {
					t.Errorf("edge %s answers both together with %d %s", e.name, r.status, r.code)
				}
			}
			got := in.actions(kept.AgentID)
			want := append([]string{apitype.ActionCertificateIssued, apitype.ActionTokenRedeemed}, c.events...)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("the agent's events are %v, want %v", got, want)
			}
			row, err := in.engine.Agent(in.ctx(), kept.AgentID)
			if c.name == "deleted" && apitype.CodeOf(err) != apitype.AgentUnknown {
				t.Errorf("the row of the deleted agent: %+v, %v", row, err)
			}
			if c.name == "revoked" && (err != nil || row.State != apitype.AgentStateRevoked || row.RevocationReason != "keyCompromise") {
				t.Errorf("the row of the revoked agent: %+v, %v", row, err)
			}
		})
	}

	// A newer edge knows it as well.
	two.kill()
	two.start()
	two.awaitReady()
	if _, state := two.ready(); state.Snapshot.Revoked != 2 {
		t.Errorf("a new edge knows of %d revocations, want 2", state.Snapshot.Revoked)
	}
	if events := bystander.All(); len(events) != unharmed {
		t.Errorf("another agent noticed something: %s", asJSON(events[unharmed:]))
	}
}

func TestRevokedTokenIsRefused(t *testing.T) {
	t.Parallel()
	in := install(t)
	e := in.edge("one")
	issued := in.token()
	if _, err := in.engine.RevokeToken(in.ctx(), issued.TokenID, apitype.RevokeRequest{Reason: "lost"}); err != nil {
		t.Fatal(err)
	}
	said, ok := in.enroll(e.endpoint("wss"), issued.Token, filepath.Join(in.dir, "identity"))
	if ok || !strings.Contains(said, string(apitype.TokenRevoked)) {
		t.Errorf("enroll with a revoked token: %v\n%s", ok, said)
	}
	if n := len(in.agents()); n != 0 {
		t.Errorf("it made %d agents", n)
	}
}
