package handover

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/test/fleet"
)

// agent is an agent with a key of its own, live.
type agent struct {
	*fleet.TestAgent
	id string // where it enrolled
}

// agent enrols one by a token, and waits until it is in its row with all that it says of itself.
func (r *region) agent(scheme string, arguments ...string) *agent {
	r.t.Helper()
	a := fleet.StartTestAgent(r.t, r.endpoint(scheme), r.token(), r.ca, filepath.Join(r.t.TempDir(), "state"), append([]string{"--name", "collector-7"}, arguments...)...)
	id := a.AwaitEnrolled().AgentID
	r.awaitSettled(id)
	return &agent{a, id}
}

// enrolled runs 'ampora enroll' and then an agent on the identity that it has left.
func (r *region) enrolled(scheme string, arguments ...string) *agent {
	r.t.Helper()
	dir := r.t.TempDir()
	out, state := filepath.Join(dir, "identity"), filepath.Join(dir, "state")
	token := filepath.Join(dir, "token")
	must(r.t, os.WriteFile(token, []byte(r.token()), 0o600))
	r.run("ampora", "enroll", "--endpoint", r.endpoint(scheme), "--ca-file", r.ca, "--token-file", token, "--out", out)
	read := func(name string) string {
		raw, err := os.ReadFile(filepath.Join(out, name))
		must(r.t, err)
		return string(raw)
	}
	id := fleet.TestAgentIdentity{
		InstanceUID: strings.TrimSpace(read("instance_uid")), Endpoint: strings.TrimSpace(read("endpoint")), CA: read("ca.pem"), Certificate: read("cert.pem"), Key: read("key.pem"), Heartbeat: 1,
	}
	block, _ := pem.Decode([]byte(id.Certificate))
	leaf, err := x509.ParseCertificate(block.Bytes)
	must(r.t, err)
	// Another edge may be the one that tells of that session, after the agent's own.
	r.awaitRow(leaf.Subject.CommonName, "the session of 'ampora enroll' is told", func(row apitype.Agent) bool { return row.LastSeen != "" })
	raw, err := json.Marshal(id)
	must(r.t, err)
	must(r.t, os.Mkdir(state, 0o700))
	must(r.t, os.WriteFile(filepath.Join(state, "identity.json"), raw, 0o600))
	a := fleet.StartTestAgent(r.t, id.Endpoint, "", r.ca, state, append([]string{"--name", "collector-7"}, arguments...)...)
	agentID := a.AwaitBack(0).AgentID
	r.awaitSettled(agentID)
	return &agent{a, agentID}
}

// awaitSettled waits until an agent's row holds what the agent says of itself, and no certificate is on its way to it.
func (r *region) awaitSettled(agentID string) apitype.Agent {
	r.t.Helper()
	return r.awaitRow(agentID, "it has described itself and has one certificate, which is of this CA", func(row apitype.Agent) bool {
		return row.State == apitype.AgentStateActive && strings.Contains(row.Description, "collector-7") && row.NextSerialNumber == "" && r.signed(row.Certificate)
	})
}

// signed reports whether a certificate is of the region's CA.
func (r *region) signed(certificate string) bool {
	r.t.Helper()
	block, _ := pem.Decode([]byte(certificate))
	if block == nil {
		return false
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	must(r.t, err)
	raw, err := os.ReadFile(r.ca)
	must(r.t, err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(raw)
	_, err = leaf.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	return err == nil
}

// handOver makes the token with which an agent moves.
func (r *region) handOver(agentID string, to *region) *apitype.HandoverToken {
	r.t.Helper()
	token, err := r.engine.Handover(r.t.Context(), agentID, apitype.HandoverRequest{Peer: to.name})
	must(r.t, err)
	return token
}

// redeem takes an agent over.
func (r *region) redeem(token *apitype.HandoverToken) *apitype.HandoverRedemption {
	r.t.Helper()
	out, err := r.engine.RedeemHandover(r.t.Context(), apitype.HandoverRedeemRequest{Token: token.HandoverToken})
	must(r.t, err)
	return out
}

// handover reads one.
func (r *region) handover(id string) *apitype.Handover {
	r.t.Helper()
	h, err := r.engine.HandoverInfo(r.t.Context(), id)
	must(r.t, err)
	return h
}

// awaitHandover waits until a handover is in that state on this side.
func (r *region) awaitHandover(id, state string) *apitype.Handover {
	r.t.Helper()
	var h *apitype.Handover
	var err error
	r.eventually("the handover is "+state+" in "+r.name, func() bool {
		h, err = r.engine.HandoverInfo(r.t.Context(), id)
		return err == nil && h.State == state
	}, func() string { return asJSON(h) })
	return h
}

// moved moves an agent by the two commands, and waits until both sides say so. It answers the agent's id there.
func moved(from, to *region, agentID string) (there, handoverID string) {
	from.t.Helper()
	token := from.handOver(agentID, to)
	there = to.redeem(token).AgentID
	to.awaitState(there, apitype.AgentStateActive)
	if row := from.awaitState(agentID, apitype.AgentStateMoved); row.StateText != "MovedToPeer "+to.name || row.Peer != to.name {
		from.t.Errorf("the row at the source says %q, peer %q", row.StateText, row.Peer)
	}
	return there, token.HandoverID
}

func asJSON(v any) string {
	raw, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(raw)
}

// survives checks that what the agent is has come with it.
func survives(t *testing.T, before, after apitype.Agent) {
	t.Helper()
	for what, pair := range map[string][2]any{
		"instance_uid": {before.InstanceUID, after.InstanceUID}, "description": {before.Description, after.Description},
		"display_name": {before.DisplayName, after.DisplayName}, "capabilities": {before.Capabilities, after.Capabilities},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s was %v, and is %v", what, pair[0], pair[1])
		}
	}
}

// TestAgentsMove has three regions that are peers of each other.
func TestAgentsMove(t *testing.T) {
	all := regions(t, options{}, "north", "south", "west")
	becomePeers(all)
	body := func(r *region) string { return "runs: " + r.name + "\n" }
	for _, r := range all {
		b := body(r)
		_, err := r.engine.WriteConfiguration(t.Context(), "base", apitype.ConfigurationRequest{Body: &b})
		must(t, err)
	}
	t.Run("there and back", func(t *testing.T) {
		for _, scheme := range []string{"wss", "https"} {
			for name, begin := range map[string]func(*region, string, ...string) *agent{"opamp-go": (*region).agent, "ampora enroll": (*region).enrolled} {
				t.Run(name+" "+scheme, func(t *testing.T) { t.Parallel(); thereAndBack(t, withinAll(t, all), scheme, begin) })
			}
		}
		t.Run("around a ring", func(t *testing.T) { t.Parallel(); ring(t, withinAll(t, all)) })
		t.Run("revoked at the source before it comes", func(t *testing.T) { t.Parallel(); revokedBefore(t, withinAll(t, all)) })
		t.Run("revoked at the source after it came", func(t *testing.T) { t.Parallel(); revokedAfter(t, withinAll(t, all)) })
		t.Run("revoked at the target", func(t *testing.T) { t.Parallel(); revokedThere(t, withinAll(t, all)) })
		t.Run("with a key that was made on the server", func(t *testing.T) { t.Parallel(); keyOfTheServer(t, withinAll(t, all)) })
		t.Run("to a target without its configuration", func(t *testing.T) { t.Parallel(); configurationMissing(t, withinAll(t, all)) })
	})
	t.Run("where they cannot get to", func(t *testing.T) { cannotGetThere(t, withinAll(t, all)) })
	t.Run("over an air gap", func(t *testing.T) { airGap(t, withinAll(t, all)) })
}

// thereAndBack moves a live agent to a peer and home again, as people do it.
func thereAndBack(t *testing.T, all []*region, scheme string, begin func(*region, string, ...string) *agent) {
	north, south := all[0], all[1]
	a := begin(north, scheme, "--remote-config")
	name := "base"
	_, err := north.engine.UpdateAgent(t.Context(), a.id, apitype.AgentUpdateRequest{Configuration: &name})
	must(t, err)
	applied := func(r *region, id string) apitype.Agent {
		t.Helper()
		configuration, err := r.engine.Configuration(t.Context(), name)
		must(t, err)
		return r.awaitRow(id, "its configuration is applied", func(row apitype.Agent) bool {
			return row.ConfigurationStatus == apitype.ConfigurationApplied && row.ConfigurationName == name && row.ConfigurationHash == configuration.Hash
		})
	}
	before := applied(north, a.id)
	begun := len(a.All())

	token := strings.TrimSpace(north.run("vault", "write", "-field=handover_token", "ampora/agents/"+a.id+"/handover", "peer=south"))
	file := south.write(a.id+".token", token)
	seen := south.run("vault", "write", "-format=json", "ampora/handover/inspect", "token=@"+file)
	for _, want := range []string{before.InstanceUID, "collector-7", "AcceptsOpAMPConnectionSettings", `"north"`, `"configuration_exists": true`} {
		if !strings.Contains(seen, want) {
			t.Errorf("inspect does not show %s:\n%s", want, seen)
		}
	}
	there := strings.TrimSpace(south.run("vault", "write", "-field=agent_id", "ampora/handover/redeem", "token=@"+file))
	row := south.awaitState(there, apitype.AgentStateActive)
	survives(t, before, row)
	if row.Origin != "north" || row.Configuration != name {
		t.Errorf("the row at the target is %s", asJSON(row))
	}
	if gone := north.awaitState(a.id, apitype.AgentStateMoved); gone.StateText != "MovedToPeer south" {
		t.Errorf("the row at the source says %q", gone.StateText)
	}
	a.Await("the configuration of the target", patience, begun, func(e fleet.AgentEvent) bool {
		return e.Event == "configured" && strings.Contains(e.Body, "south")
	})
	applied(south, there)
	settled := south.awaitSettled(there)
	survives(t, before, settled)

	home, back := moved(south, north, there)
	if home != a.id {
		t.Errorf("it came home as %s, and left as %s", home, a.id)
	}
	applied(north, home)
	north.awaitSettled(home)
	if final := south.handover(back); final.State != "moved_to_peer" || final.PeerAgentID != a.id {
		t.Errorf("the way back at its source: %s", asJSON(final))
	}
	for _, e := range a.All()[begun:] {
		if e.By == "token" || e.Event == "renamed" {
			t.Errorf("after the first move it has %s", asJSON(e))
		}
	}
	joined(t, north, south, a.id, there)
}

// joined checks that whoever reads the one trail finds the other: by the handover's id, and by the events that answer each
// other.
func joined(t *testing.T, source, target *region, here, there string) {
	t.Helper()
	var id string
	for _, e := range source.events(here) {
		if e.Action == apitype.ActionHandoverIssued {
			id = e.EntityID
			break
		}
	}
	out, in := source.ofHandover(id), target.ofHandover(id)
	for _, pair := range [][2]apitype.Event{
		{in[apitype.ActionHandoverRedeemed], out[apitype.ActionHandoverIssued]},
		{out[apitype.ActionHandoverReleased], in[apitype.ActionHandoverRedeemed]},
		{in[apitype.ActionHandoverConnected], out[apitype.ActionHandoverIssued]},
		{out[apitype.ActionHandoverCompleted], in[apitype.ActionHandoverConnected]},
	} {
		if pair[1].ID == "" || pair[0].RelatedEvent != pair[1].ID {
			t.Errorf("%q does not name %q:\n%s\n%s", pair[0].Action, pair[1].Action, asJSON(pair[0]), asJSON(pair[1]))
		}
	}
	for _, e := range out {
		if e.AgentID != here || e.Details["peer"] != target.name {
			t.Errorf("at the source: %s", asJSON(e))
		}
	}
	for _, e := range in {
		if e.AgentID != there || e.OriginPeerID != source.name {
			t.Errorf("at the target: %s", asJSON(e))
		}
	}
}

// ring moves an agent once around.
func ring(t *testing.T, all []*region) {
	a := all[0].agent("wss")
	before, id, ids := all[0].row(a.id), a.id, []string{}
	for i, from := range all {
		to := all[(i+1)%len(all)]
		next, _ := moved(from, to, id)
		id, ids = next, append(ids, next)
		survives(t, before, to.awaitSettled(id))
	}
	if id != a.id {
		t.Errorf("it came home as %s, and left as %s", id, a.id)
	}
	for i, r := range all[1:] {
		if row := r.row(ids[i]); row.State != apitype.AgentStateMoved {
			t.Errorf("in %s it is %s", r.name, row.State)
		}
	}
}

// configurationMissing is told when the token is redeemed, and nothing has changed.
func configurationMissing(t *testing.T, all []*region) {
	north, south := all[0], all[1]
	a := north.agent("wss")
	token, err := north.engine.Handover(t.Context(), a.id, apitype.HandoverRequest{Peer: south.name, Configuration: "nosuch"})
	must(t, err)
	shown, err := south.engine.InspectHandover(t.Context(), apitype.HandoverRedeemRequest{Token: token.HandoverToken})
	must(t, err)
	if shown.ConfigExists || !strings.Contains(strings.Join(shown.Problems, "\n"), string(apitype.ConfigurationMissing)) {
		t.Errorf("inspect shows %s", asJSON(shown))
	}
	_, err = south.engine.RedeemHandover(t.Context(), apitype.HandoverRedeemRequest{Token: token.HandoverToken})
	if apitype.CodeOf(err) != apitype.ConfigurationMissing || !strings.Contains(err.Error(), `no configuration named "nosuch" on this peer`) {
		t.Fatalf("redeemed: %v", err)
	}
	if h := north.handover(token.HandoverID); h.State != "handover_pending" {
		t.Errorf("at the source it is %s", asJSON(h))
	}
	name := "base" // the operator names one that is there
	out, err := south.engine.RedeemHandover(t.Context(), apitype.HandoverRedeemRequest{Token: token.HandoverToken, Configuration: &name})
	must(t, err)
	if row := south.awaitState(out.AgentID, apitype.AgentStateActive); row.Configuration != name {
		t.Errorf("the row at the target is %s", asJSON(row))
	}
}

// keyOfTheServer is refused, as the stock supervisor's with a token is, and the agent goes on untouched.
func keyOfTheServer(t *testing.T, all []*region) {
	north, south := all[0], all[1]
	a := north.agent("wss", "--server-key")
	before := north.row(a.id)
	_, err := north.engine.Handover(t.Context(), a.id, apitype.HandoverRequest{Peer: south.name})
	if apitype.CodeOf(err) != apitype.HandoverUnsupported {
		t.Fatalf("handed over: %v", err)
	}
	if row := north.row(a.id); row.State != apitype.AgentStateActive || row.SerialNumber != before.SerialNumber {
		t.Errorf("afterwards the row is %s", asJSON(row))
	}
}
