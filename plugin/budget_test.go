package ampora_test

import (
	"strings"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
)

// What each operation costs in storage operations, in a mount that is warm. Writes are what Vault's speed hangs on: each is
// a round of Raft. A budget may shrink, and grows only with a reason.
func TestBudgets(t *testing.T) {
	m := ready(t)
	// Everything that is kept in memory is in memory.
	warm, _ := m.enrol(nil)
	m.events(nil)
	m.sync("")
	report := func(id apitype.Identity) data {
		return data{"name": "edge-1", "sessions": []apitype.SessionReport{{AgentID: id.AgentID, SerialNumber: id.SerialNumber, InstanceUID: instance, StateHash: apitype.StateHash("", "", 0)}}}
	}
	m.ok(write, "edge/report", report(warm))

	token := m.issue(nil)
	check, repeat := m.issue(nil), data{"token": m.issue(nil).Token, "csr": newCSR(t), "idempotency_key": firstKey}
	m.redeem(repeat)
	leaf, serverKey := m.issue(nil), data{"token": m.issue(nil).Token, "generate_key": true, "idempotency_key": firstKey}
	m.redeem(serverKey)
	revoked, _ := m.enrol(nil)
	deleted, _ := m.enrol(nil)
	redeemed := m.issue(nil)
	m.group("", "web", nil)
	m.group("", "db", nil)
	m.group("", "unused", nil)
	m.configuration("", "base", data{"body": "one"})
	m.configuration("", "unused", data{"body": "one"})
	grouped := m.issue(data{"group": "web"})
	inGroup, _ := m.enrol(data{"group": "web"})
	m.ok(write, "edge/report", report(inGroup))
	m.clock.advance(time.Minute) // so that the edge's row is due

	const any = -1 // as many as there are rows to look through
	for _, c := range []struct {
		name          string
		writes, reads int
		run           func()
	}{
		{"issuing a token", 2, 0, func() { m.issue(nil) }},
		{"checking a token", 0, 1, func() { m.ok(write, "redeem/check", data{"token": check.Token}) }},
		{"redeeming with a CSR", 3, 1, func() { m.redeem(data{"token": redeemed.Token, "csr": newCSR(t)}) }},
		{"redeeming with a server-made key", 3, 1, func() { m.redeem(data{"token": leaf.Token, "generate_key": true}) }},
		{"repeating a redemption with a CSR", 0, 2, func() { m.redeem(repeat) }},
		{"repeating a redemption with a server-made key", 2, 2, func() { m.redeem(serverKey) }},
		{"a refused redemption", 0, 2, func() { m.no(apitype.TokenRedeemed, write, "redeem", data{"token": redeemed.Token, "csr": newCSR(t)}) }},
		{"a malformed token", 0, 0, func() { m.no(apitype.TokenMalformed, write, "redeem", data{"token": "x"}) }},
		{"reading a token", 0, 1, func() { m.ok(read, "tokens/"+token.TokenID, nil) }},
		{"revoking a token", 2, 1, func() { m.ok(write, "tokens/"+token.TokenID+"/revoke", nil) }},
		{"revoking it again", 0, 1, func() { m.ok(write, "tokens/"+token.TokenID+"/revoke", nil) }},
		{"reading an agent", 0, 2, func() { m.ok(read, "agents/"+warm.AgentID, nil) }},
		{"changing an agent", 2, 2, func() { m.ok(write, "agents/"+warm.AgentID, data{"display_name": "new"}) }},
		{"putting an agent into another group", 2, 3, func() { m.ok(write, "agents/"+inGroup.AgentID, data{"group": "db"}) }},
		{"making a group", 2, 1, func() { m.group("", "new", nil) }},
		{"making it again", 0, 1, func() { m.group("", "new", nil) }},
		{"changing a group", 2, 2, func() { m.group("", "db", data{"configuration": "base"}) }},
		{"reading a group", 0, 1, func() { m.ok(read, "groups/web", nil) }},
		{"making a configuration", 2, 1, func() { m.configuration("", "new", data{"body": "one"}) }},
		{"changing a configuration", 2, 1, func() { m.configuration("", "new", data{"body": "two"}) }},
		{"changing nothing of it", 0, 1, func() { m.configuration("", "new", data{"body": "two"}) }},
		{"deleting a configuration", 3, any, func() { m.ok(remove, "configurations/unused", nil) }},
		{"deleting a configuration that is not there", 0, 1, func() { m.ok(remove, "configurations/unused", nil) }},
		{"issuing a token into a group", 2, 1, func() { m.issue(data{"group": "web"}) }},
		{"redeeming it", 3, 2, func() { m.redeem(data{"token": grouped.Token, "csr": newCSR(t)}) }},
		{"revoking an agent", 2, 2, func() { m.ok(write, "agents/"+revoked.AgentID+"/revoke", nil) }},
		{"revoking it again", 0, 2, func() { m.ok(write, "agents/"+revoked.AgentID+"/revoke", nil) }},
		{"deleting an agent", 3, 2, func() { m.ok(remove, "agents/"+deleted.AgentID, nil) }},
		{"deleting it again", 0, 1, func() { m.ok(remove, "agents/"+deleted.AgentID, nil) }},
		{"polling the feed", 0, 0, func() { m.sync("") }},
		{"a report that changes nothing, with the edge's row due", 1, 3, func() { m.ok(write, "edge/report", report(warm)) }},
		{"a report that changes nothing", 0, 2, func() { m.ok(write, "edge/report", report(warm)) }},
		{"a report of an agent in a group", 0, 3, func() { m.ok(write, "edge/report", report(inGroup)) }},
		{"reading the bundle", 0, 0, func() { m.ok(read, "ca/bundle", nil) }},
		{"reading the configuration", 0, 0, func() { m.ok(read, "config", nil) }},
		{"changing the configuration", 2, 0, func() { m.ok(write, "config", data{"token_ttl": "2h"}) }},
		{"signing an edge's certificate", 0, 0, func() { m.ok(write, "edge/certificate", data{"csr": newCSR(t)}) }},
	} {
		m.forget()     // rows were written long ago; that there is none is still known
		_ = m.sync("") // and the feed's memory is whole
		m.storage.Reset()
		c.run()
		if w := m.storage.Writes(); len(w) != c.writes {
			t.Errorf("%s: %d writes instead of %d: %v", c.name, len(w), c.writes, w)
		}
		if r := m.storage.Reads(); len(r) != c.reads && c.reads != any {
			t.Errorf("%s: %d reads instead of %d: %v", c.name, len(r), c.reads, r)
		}
	}
	// What was just written is not read, and that a new token has made no agent needs no look.
	fresh := m.issue(nil)
	m.storage.Reset()
	m.ok(write, "redeem/check", data{"token": fresh.Token})
	m.redeem(data{"token": fresh.Token, "csr": newCSR(t)})
	if r := m.storage.Reads(); len(r) != 0 {
		t.Errorf("enrolling with a fresh token: %d reads instead of none: %v", len(r), r)
	}
	// The three writes of a redemption, in the order that makes it one commit.
	m.storage.Reset()
	id, issued := m.enrol(nil)
	var keys []string
	for _, op := range m.storage.Writes()[2:] {
		keys = append(keys, op.Kind+" "+strings.SplitN(op.Key, "/", 2)[0])
	}
	if got := strings.Join(keys, ", "); got != "put agent, put event, delete token" {
		t.Errorf("%s of %s: %s", id.AgentID, issued.TokenID, got)
	}
}

func TestAnEdgesRowIsStoredOnceAMinuteAndLastSeenOnceAnHour(t *testing.T) {
	m := ready(t)
	id, _ := m.enrol(nil)
	s := apitype.SessionReport{AgentID: id.AgentID, SerialNumber: id.SerialNumber}
	var agents, edges int
	m.storage.Reset()
	for range 120 {
		m.report(s)
		m.clock.advance(30 * time.Second)
	}
	for _, op := range m.storage.Writes() {
		switch strings.SplitN(op.Key, "/", 2)[0] {
		case "agent":
			agents++
		case "edge":
			edges++
		default:
			t.Errorf("%v", op)
		}
	}
	if agents != 1 || edges != 60 {
		t.Errorf("in an hour the agent's row was stored %d times and the edge's %d times", agents, edges)
	}
}
