package cluster

import (
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/test/fleet"
	"github.com/ampora/ampora/test/vaulttest"
)

var snapshotLine = regexp.MustCompile(`trust snapshot(?: again)?: revision=([^ .]+)\.`)

// TestTheLeaderGoesAwayUnderEnrolments takes the leader away in each of the ways in which that happens, one after the other,
// while agents enrol all the time. Nobody restarts an edge or helps one. When the leader is cut off, another one is slow to
// take over: a standby first waits for the end of every request that it has passed on to the old one.
func TestTheLeaderGoesAwayUnderEnrolments(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()

	// Agents that are there before, on both edges, and tokens that nobody will use.
	type known struct {
		*fleet.Agent
		session *fleet.Session
	}
	var before []known
	var unused []string
	for i := range 10 {
		issued, err := w.issue(ctx)
		must(t, err)
		a, err := w.enrol(ctx, w.edges[i%2].Address(), issued.Token)
		must(t, err)
		session, err := a.Connect(ctx, w.front.Addr())
		must(t, err)
		t.Cleanup(session.Close)
		before = append(before, known{a, session})
		waiting, err := w.issue(ctx)
		must(t, err)
		unused = append(unused, waiting.TokenID)
	}
	for i, e := range w.edges {
		if _, state := e.Ready(); state.Sessions == 0 {
			t.Errorf("no agent has landed on edge %d", i)
		}
	}

	l := w.enrolments(4)
	for _, c := range []struct {
		name string
		harm func(leader *vaulttest.Vault) (heal func())
	}{
		{"killed", func(leader *vaulttest.Vault) func() {
			leader.Kill()
			return func() { must(t, leader.Restart(ctx)) }
		}},
		{"told to step down", func(*vaulttest.Vault) func() {
			must(t, w.vault.StepDown(ctx))
			return func() {}
		}},
		{"cut off", func(leader *vaulttest.Vault) func() {
			w.vault.CutOff(leader)
			return func() {
				health, err := leader.Client().Sys().HealthWithContext(ctx)
				if err != nil || !health.Standby {
					t.Errorf("the node that is cut off says of itself %+v, %v", health, err)
				}
				w.vault.Mend()
			}
		}},
	} {
		l.flows(10)
		leader, err := w.vault.Leader(ctx)
		must(t, err)
		epochs := [][]string{loads(w.edges[0]), loads(w.edges[1])}
		start := time.Now()
		heal := c.harm(leader)
		fleet.Eventually(t, "another node leads", func() bool {
			now, err := w.vault.Leader(ctx)
			return err == nil && now != leader
		})
		elected := time.Since(start)
		l.flows(1)
		first := time.Since(start)
		l.flows(20) // while one node is missing
		heal()
		must(t, w.vault.Settled(ctx))
		l.flows(10)
		for i, e := range w.edges {
			fleet.Eventually(t, "the edge has a snapshot of the new leader's", func() bool { return len(loads(e)) > len(epochs[i]) })
			e.AwaitReady()
		}
		t.Logf("the leader was %s: another one after %v, the next agent after %v", c.name, elected, first)
	}
	l.finish()

	// Every agent has what its row says, and the other way round.
	for id, err := range l.failed {
		t.Errorf("token %s made no agent: %v", id, err)
	}
	rows, outstanding := w.rows(), w.outstanding()
	made := map[string]string{} // from a token to its agent
	for id, row := range rows {
		if other := made[row.TokenID]; other != "" {
			t.Errorf("token %s has made the agents %s and %s", row.TokenID, other, id)
		}
		made[row.TokenID] = id
		if token, found := outstanding[row.TokenID]; found {
			t.Errorf("token %s has made agent %s and is %s", row.TokenID, id, token.State)
		}
	}
	for id, a := range l.agents {
		row := rows[made[id]]
		if row.AgentID != a.ID() || row.State != apitype.AgentStateActive || row.SerialNumber != a.Serial() {
			t.Errorf("token %s: the agent has %s with the leaf %s, the row is %+v", id, a.ID(), a.Serial(), row)
		}
	}
	if want := len(l.agents) + len(before); len(rows) != want {
		t.Errorf("there are %d agents, and %d have enrolled", len(rows), want)
	}
	for _, id := range append(unused, l.issued...) {
		if _, found := outstanding[id]; !found && made[id] == "" {
			t.Errorf("token %s is neither outstanding nor has it made an agent", id)
		}
	}
	for _, action := range []string{apitype.ActionTokenRedeemed, apitype.ActionCertificateIssued} {
		count := w.events(action)
		for id := range rows {
			if count[id] != 1 {
				t.Errorf("agent %s has %d events %s", id, count[id], action)
			}
		}
		if len(count) != len(rows) {
			t.Errorf("there are events %s of %d agents, and %d agents", action, len(count), len(rows))
		}
	}

	// The edges have taken one whole snapshot for each time that the memory was new, and lost nobody by it.
	for i, e := range w.edges {
		epochs := loads(e)
		different := slices.Compact(slices.Sorted(slices.Values(epochs)))
		if len(different) != len(epochs) {
			t.Errorf("edge %d has taken whole snapshots of the same memory: %v", i, epochs)
		}
		t.Logf("edge %d has taken %d whole snapshots", i, len(epochs))
	}
	trouble := 0.0
	for _, e := range w.edges {
		trouble += e.Metric(`ampora_edge_vault_call_repeats_total{op="redeem"}`) + e.Metric(`ampora_edge_refusals_total{code="vault_unavailable"}`)
	}
	if trouble == 0 {
		t.Error("no enrolment has noticed anything: nothing was tested")
	}
	for i, k := range before {
		if err := k.session.Ended(); err != nil {
			t.Errorf("the session of agent %d has ended: %v", i, err)
		}
	}
	t.Logf("%d agents have enrolled, %v times one was sent away or a redemption repeated; %d tokens are outstanding, of %d",
		len(l.agents), trouble, len(outstanding), len(l.issued)+len(before)+len(unused))

	// And the feed still reaches them.
	victim := before[0]
	_, err := w.engine.RevokeAgent(ctx, victim.ID(), apitype.RevokeRequest{Reason: "keyCompromise"})
	must(t, err)
	fleet.Eventually(t, "the session of a revoked agent is closed", func() bool { return victim.session.Ended() != nil })
	for i, e := range w.edges {
		fleet.Eventually(t, "a revoked agent is out", func() bool { return fleet.CodeOf(victim.Poll(ctx, e.Address())) == apitype.CertificateRevoked })
		if err := before[1].Poll(ctx, e.Address()); err != nil {
			t.Errorf("another agent, at edge %d: %v", i, err)
		}
	}
}
