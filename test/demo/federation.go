package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
)

// writeWest leaves a command that runs another one against the second Vault.
func writeWest(dir string, env []string) error {
	return os.WriteFile(filepath.Join(dir, "west"), []byte("#!/bin/sh\nexport "+strings.Join(env, " ")+"\nexec \"$@\"\n"), 0o700)
}

// federation moves an agent to a second installation and home again.
func (d *demo) federation(home place) error {
	west, err := newPlace()
	if err != nil {
		return err
	}
	d.head("A second region: another Vault, another CA, another edge. ./west runs a command there")
	d.run(`cp "$(command -v vault-plugin-secrets-ampora)" "$WEST_PLUGINS"/`)
	d.run(`./west ampora setup --plugin "$WEST_PLUGINS"/vault-plugin-secrets-ampora --peer-id west --trust-domain west.example \
    --endpoint `+west.endpoint+` --config federation_url=`+west.federation+` \
    --edge west-1 --edge-credentials-dir credentials | grep ' ampora/'`, "self-signed issuer")
	edge := d.start(`./west ampora-edge --name west-1 --listen `+west.address+` --admin-listen `+west.admin+` --log-level debug \
    --approle-role-id-file credentials/west-1.role_id --approle-secret-id-file credentials/west-1.secret_id`, "west-edge.log")
	d.await("the edge to be ready", edge, func() bool { return answers("http://" + west.admin + "/readyz") })

	d.head("They become peers: each writes what the other's bundle file says")
	d.run(`vault read -format=json -field=data ampora/federation/bundle > demo.json`)
	d.run(`./west vault read -format=json -field=data ampora/federation/bundle > west.json`)
	d.run(`vault write ampora/peers/west @west.json | grep -E '^(name|peer_id|trust_domain|federation_url) '`, "west.example")
	d.run(`./west vault write ampora/peers/demo @demo.json | grep -E '^(name|peer_id|trust_domain|federation_url) '`, "demo.example")

	d.head("An agent with a key of its own (opamp-go's client). It is the last time that it sees a token")
	d.run(`vault write -f -field=token ampora/tokens/issue > token-7`)
	agent := d.start(`testagent --endpoint `+home.endpoint+` --ca-file ca.pem --token-file token-7 --state collector-7 --name collector-7`, "collector-7.log")
	id := ""
	d.await("the agent to be enrolled", agent, func() bool {
		id = d.quietly(`cat collector-7.log 2>/dev/null | grep '"event":"saved"' | tail -n 1 | grep -o '"agent_id":"[^"]*"' | cut -d'"' -f4`)
		return id != "" && strings.Contains(d.quietly(`vault read -field=description ampora/agents/`+id), "collector-7")
	})

	d.head("Two commands move it")
	d.run(`vault write -field=handover_token ampora/agents/` + id + `/handover peer=west > pass`)
	d.run(`./west vault write ampora/handover/inspect token=@pass | grep -E '^(display_name|peer|spiffe_id|expires_at|problems) '`, "spiffe://demo.example/agent/"+id, "collector-7")
	there := field(d.run(`./west vault write ampora/handover/redeem token=@pass | grep -E '^(agent_id|handover_id|state) '`, "awaiting_release"), "agent_id")
	d.await("the agent to be there", agent, func() bool {
		return d.quietly(`./west vault read -field=state ampora/agents/`+there) == apitype.AgentStateActive &&
			d.quietly(`vault read -field=state ampora/agents/`+id) == apitype.AgentStateMoved
	})
	d.run(`vault read ampora/agents/`+id+` | grep -E '^(state|state_text|instance_uid) '`, "MovedToPeer west")
	d.run(`./west vault read ampora/agents/`+there+` | grep -E '^(state|origin|instance_uid) '`, "active", "demo")

	d.head("And back, by the same two commands, once it has a certificate of its new home's CA")
	back := `./west vault write -field=handover_token ampora/agents/` + there + `/handover peer=demo > back`
	d.await("the agent to have it", agent, func() bool { return d.quietly(back+` && echo yes`) == "yes" })
	if d.err == nil {
		fmt.Fprintf(d.out, "$ %s\n", back)
	}
	d.run(`vault write ampora/handover/redeem token=@back | grep -E '^(agent_id|state) '`, id)
	d.await("the agent to be home", agent, func() bool {
		return d.quietly(`vault read -field=state ampora/agents/`+id) == apitype.AgentStateActive &&
			d.quietly(`./west vault read -field=state ampora/agents/`+there) == apitype.AgentStateMoved
	})
	d.run(`./west vault read ampora/agents/`+there+` | grep -E '^(state|state_text) '`, "MovedToPeer demo")
	d.run(`vault read ampora/agents/`+id+` | grep -E '^(state|instance_uid) '`, "active")

	d.head("Both audit trails, side by side")
	d.trails(d.events("", id), d.events("./west ", there))
	return d.err
}

// events are an agent's in one of the regions.
func (d *demo) events(in, agentID string) (events []apitype.Event) {
	if d.err != nil {
		return nil
	}
	command := in + `vault read -format=json -field=events ampora/audit/events agent_id=` + agentID
	fmt.Fprintf(d.out, "$ %s > %s.json\n", command, cmp.Or(strings.TrimSpace(strings.Trim(in, "./ ")), "demo"))
	if err := json.Unmarshal([]byte(d.quietly(command)), &events); err != nil {
		d.err = fmt.Errorf("the events of agent %s: %w", agentID, err)
	}
	return events
}

// trailWidth is that of one column.
const trailWidth = 42

// trails prints two trails by time, each in a column of its own.
func (d *demo) trails(demo, west []apitype.Event) {
	if d.err != nil {
		return
	}
	type line struct{ time, text string }
	var all []line
	for column, events := range [][]apitype.Event{demo, west} {
		for _, e := range events {
			what := e.Action
			if e.EntityType == "handover" {
				what += " " + e.EntityID[:8]
			}
			all = append(all, line{e.Time, strings.Repeat(" ", column*(trailWidth+2)) + what})
		}
	}
	slices.SortStableFunc(all, func(a, b line) int { return cmp.Compare(a.time, b.time) })
	fmt.Fprintf(d.out, "%-14s%-*s  %s\n", "time", trailWidth, "demo", "west")
	for _, l := range all {
		at, err := time.Parse(time.RFC3339, l.time)
		if err != nil {
			d.err = err
			return
		}
		fmt.Fprintf(d.out, "%-14s%s\n", at.Format("15:04:05.000"), l.text)
	}
	for _, want := range []string{apitype.ActionHandoverIssued, apitype.ActionHandoverReleased, apitype.ActionHandoverCompleted} {
		for name, events := range map[string][]apitype.Event{"demo": demo, "west": west} {
			if !slices.ContainsFunc(events, func(e apitype.Event) bool { return e.Action == want }) {
				d.err = fmt.Errorf("the trail of %s has no event %s", name, want)
			}
		}
	}
}
