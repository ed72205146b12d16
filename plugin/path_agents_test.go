package ampora_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"golang.org/x/crypto/ocsp"
)

func TestAnAgentsRowIsChangedFieldByField(t *testing.T) {
	m := ready(t)
	m.group("", "web", nil)
	m.group("", "db", nil)
	id, _ := m.enrol(data{"group": "web", "label": "old"})
	path := "agents/" + id.AgentID
	if a := call[apitype.Agent](m, write, path, data{"display_name": "new"}); a.DisplayName != "new" || a.Group != "web" {
		t.Errorf("%+v", a)
	}
	if a := call[apitype.Agent](m, write, path, data{"group": "db"}); a.DisplayName != "new" || a.Group != "db" {
		t.Errorf("%+v", a)
	}
	if a := call[apitype.Agent](m, write, path, data{"group": ""}); a.Group != "" {
		t.Errorf("%+v", a)
	}
	m.storage.Reset()
	m.ok(write, path, data{"group": "", "display_name": "new"})
	m.ok(write, path, nil)
	if w := m.storage.Writes(); len(w) != 0 {
		t.Errorf("changing nothing wrote %v", w)
	}
	m.no(apitype.NameInvalid, write, path, data{"group": "Web"})
	m.no(apitype.FieldInvalid, write, path, data{"display_name": "a\tb"})
	m.no(apitype.FieldInvalid, write, path, data{"display_name": strings.Repeat("a", 10000)})
	events := m.events(data{"action": "Agent.Updated"})
	if len(events) != 3 || events[1].Details["group"] != "db" || events[2].Details["display_name"] != true {
		t.Errorf("events %+v", events)
	}
}

func TestRevokingAnAgentEndsItsCertificatesOnce(t *testing.T) {
	m := ready(t)
	id, _ := m.enrol(nil)
	before := m.sync("")
	at := m.clock.now()
	r := call[apitype.AgentRevocation](m, write, "agents/"+id.AgentID+"/revoke", data{"reason": "keyCompromise"})
	if want := (apitype.AgentRevocation{AgentID: id.AgentID, Reason: "keyCompromise", RevocationTime: at.Unix()}); r != want {
		t.Errorf("%+v", r)
	}
	m.clock.advance(time.Hour)
	m.storage.Reset()
	if again := call[apitype.AgentRevocation](m, write, "agents/"+id.AgentID+"/revoke", data{"reason": "superseded"}); again != r {
		t.Errorf("again: %+v", again)
	}
	if w := m.storage.Writes(); len(w) != 0 {
		t.Errorf("revoking again wrote %v", w)
	}
	a := m.agent(id.AgentID)
	if a.State != "revoked" || a.StateText != "Revoked" || a.RevocationReason != "keyCompromise" || a.RevocationTime != at.Format(time.RFC3339) {
		t.Errorf("%+v", a)
	}
	if got := m.agents(nil).KeyInfo[id.AgentID]; got.State != "revoked" {
		t.Errorf("list %+v", got)
	}
	delta := m.sync(before.Revision)
	if want := []apitype.SyncRevoked{{AgentID: id.AgentID, Generation: 1, NotAfter: id.Expiration}}; delta.Full || !slices.Equal(delta.Revoked, want) {
		t.Errorf("delta %+v", delta)
	}
	if got := m.actions(data{"action": "Certificate.Revoked"}); len(got) != 1 {
		t.Errorf("events %v", got)
	}
}

func TestEveryReasonOfRFC5280ThatAnOperatorMayGiveIsTaken(t *testing.T) {
	m := ready(t)
	for _, reason := range []string{"unspecified", "keyCompromise", "affiliationChanged", "superseded", "cessationOfOperation", "privilegeWithdrawn"} {
		id, _ := m.enrol(nil)
		if r := call[apitype.AgentRevocation](m, write, "agents/"+id.AgentID+"/revoke", data{"reason": reason}); r.Reason != reason {
			t.Errorf("%+v", r)
		}
	}
	id, _ := m.enrol(nil)
	if r := call[apitype.AgentRevocation](m, write, "agents/"+id.AgentID+"/revoke", nil); r.Reason != "unspecified" {
		t.Errorf("%+v", r)
	}
	for _, reason := range []string{"cACompromise", "removeFromCRL", "certificateHold", "because", "keycompromise"} {
		m.no(apitype.FieldInvalid, write, "agents/"+id.AgentID+"/revoke", data{"reason": reason})
	}
}

func TestAgentsThatAreNotThereAreUnknown(t *testing.T) {
	m := ready(t)
	for _, id := range []string{unknownID, strings.ToUpper(unknownID), "x", "..", "%2f"} {
		m.no(apitype.AgentUnknown, read, "agents/"+id, nil)
		m.no(apitype.AgentUnknown, write, "agents/"+id, data{"group": "web"})
		m.no(apitype.AgentUnknown, write, "agents/"+id+"/revoke", nil)
		m.ok(remove, "agents/"+id, nil) // as everywhere in Vault
	}
}

func TestADeletedAgentLeavesATombstone(t *testing.T) {
	m := ready(t)
	body := data{"csr": newCSR(t), "idempotency_key": firstKey}
	issued := m.issue(data{"ttl": "168h"})
	body["token"] = issued.Token
	m.ok(write, "config", data{"leaf_ttl": "24h"}) // the token outlives the leaf
	id := m.redeem(body)
	before := m.sync("")
	m.ok(remove, "agents/"+id.AgentID, nil)
	m.storage.Reset()
	m.ok(remove, "agents/"+id.AgentID, nil)
	if w := m.storage.Writes(); len(w) != 0 {
		t.Errorf("deleting again wrote %v", w)
	}
	gone := func() {
		t.Helper()
		m.no(apitype.TokenRedeemed, write, "redeem/check", data{"token": issued.Token})
		m.no(apitype.TokenRedeemed, write, "redeem", body)
		m.no(apitype.TokenUnknown, read, "tokens/"+issued.TokenID, nil)
		m.no(apitype.AgentUnknown, read, "agents/"+id.AgentID, nil)
		m.no(apitype.AgentUnknown, write, "agents/"+id.AgentID, data{"group": "web"})
		m.no(apitype.AgentUnknown, write, "agents/"+id.AgentID+"/revoke", nil)
		if l := m.agents(nil); len(l.Keys) != 0 {
			t.Errorf("still listed: %v", l.Keys)
		}
	}
	gone()
	want := []apitype.SyncRevoked{{AgentID: id.AgentID, Generation: 1, NotAfter: id.Expiration}}
	if delta := m.sync(before.Revision); !slices.Equal(delta.Revoked, want) {
		t.Errorf("delta %+v", delta)
	}
	if got := m.actions(data{"agent_id": id.AgentID})[:2]; !slices.Equal(got, []string{"Certificate.Revoked", "Agent.Deleted"}) {
		t.Errorf("events %v", got)
	}
	// A new start knows it too.
	m = mountOn(t, m.storage.Storage, m.clock)
	gone()
	if full := m.sync(""); !slices.Equal(full.Revoked, want) {
		t.Errorf("after a start: %+v", full.Revoked)
	}
	m.clock.advance(25 * time.Hour) // the leaf has expired
	m.sweep()
	gone()
	if full := m.sync(""); len(full.Revoked) != 0 {
		t.Errorf("an expired leaf is still told of: %+v", full.Revoked)
	}
	m.clock.advance(168 * time.Hour) // and so has the token
	m.sweep()
	if keys := m.keys("revoked/"); len(keys) != 0 {
		t.Errorf("left over: %v", keys)
	}
}

func TestDeletingARevokedAgentKeepsTheFirstReason(t *testing.T) {
	m := ready(t)
	id, _ := m.enrol(nil)
	m.ok(write, "agents/"+id.AgentID+"/revoke", data{"reason": "keyCompromise"})
	m.ok(remove, "agents/"+id.AgentID, nil)
	if full := m.sync(""); len(full.Revoked) != 1 {
		t.Errorf("%+v", full.Revoked)
	}
	if s, answer := m.status(certificate(t, id.Certificate), certificate(t, id.IssuingCA)); s != "revoked" || answer.RevocationReason != ocsp.KeyCompromise {
		t.Errorf("OCSP says %s %+v", s, answer)
	}
	if got := m.actions(data{"action": "Certificate.Revoked"}); len(got) != 1 {
		t.Errorf("the certificate was revoked %d times", len(got))
	}
}

func TestAnAgentExpiresAfterItsRetention(t *testing.T) {
	m := ready(t)
	m.ok(write, "config", data{"leaf_ttl": "24h", "agent_retention": "48h"})
	id, issued := m.enrol(nil)
	m.clock.advance(72*time.Hour - time.Second)
	m.sweep()
	m.agent(id.AgentID)
	m.clock.advance(time.Second)
	m.sweep()
	m.no(apitype.AgentUnknown, read, "agents/"+id.AgentID, nil)
	m.no(apitype.TokenUnknown, write, "redeem/check", data{"token": issued.Token})
	if keys := append(m.keys("agent/"), m.keys("revoked/")...); len(keys) != 0 {
		t.Errorf("left over: %v", keys)
	}
	events := m.events(data{"agent_id": id.AgentID})
	if e := events[0]; e.Action != "Agent.Expired" || e.Actor.DisplayName != "system" || e.RequestID != "" || e.SourceIP != "" {
		t.Errorf("%+v", e)
	}
	if n := len(events); n != 3 {
		t.Errorf("%d events", n)
	}
}

// With agent_retention 0 an agent could go before its token's own end, which would bring the token back to life.
func TestAnAgentStaysWhileItsTokenCouldStillBePresented(t *testing.T) {
	m := ready(t)
	m.ok(write, "config", data{"leaf_ttl": "1h", "agent_retention": 0})
	_, issued := m.enrol(data{"ttl": "24h"})
	m.clock.advance(2 * time.Hour)
	m.sweep()
	m.no(apitype.TokenRedeemed, write, "redeem", data{"token": issued.Token, "csr": newCSR(t)})
}
