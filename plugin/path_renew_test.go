package ampora_test

import (
	"testing"

	"github.com/ampora/ampora/plugin/apitype"
)

func TestARenewedAgentHasTwoLeavesUntilTheNewOneIsConfirmed(t *testing.T) {
	m := ready(t)
	id, _ := m.enrol(data{"tenant": "acme"})
	m.no(apitype.AgentUnknown, write, "tenants/other/agents/"+id.AgentID+"/renew", data{"fingerprint": id.Fingerprint})
	next := call[apitype.Identity](m, write, "tenants/acme/agents/"+id.AgentID+"/renew", data{"fingerprint": id.Fingerprint})
	if a := m.agent(id.AgentID); a.SerialNumber != id.SerialNumber || a.NextSerialNumber != next.SerialNumber {
		t.Errorf("current %s, next %s", a.SerialNumber, a.NextSerialNumber)
	}
	if a := m.report(apitype.SessionReport{AgentID: id.AgentID, SerialNumber: next.SerialNumber}); a.Leaf != apitype.LeafNext {
		t.Errorf("the next leaf is %s", a.Leaf)
	}
	if a := m.report(apitype.SessionReport{AgentID: id.AgentID, SerialNumber: next.SerialNumber, Applied: next.Fingerprint}); a.Leaf != apitype.LeafCurrent {
		t.Errorf("the confirmed leaf is %s", a.Leaf)
	}
	if a := m.agent(id.AgentID); a.SerialNumber != next.SerialNumber || a.NextSerialNumber != "" {
		t.Errorf("afterwards current %s, next %s", a.SerialNumber, a.NextSerialNumber)
	}
	told := m.events(data{"agent_id": id.AgentID})
	if len(told) != 4 || told[0].Action != "Certificate.Revoked" || told[0].Details["reason"] != "superseded" || told[1].Action != "Certificate.Renewed" {
		t.Errorf("told: %+v", told)
	}
}

func TestRevokingManyClosesThemForTheEdges(t *testing.T) {
	m := ready(t)
	m.group("", "web", nil)
	one, _ := m.enrol(data{"group": "web"})
	two, _ := m.enrol(data{"group": "web"})
	other, _ := m.enrol(nil)
	before := m.sync("")
	out := call[apitype.RevokeAgentsResponse](m, write, "agents/revoke", data{"group": "web", "reason": "keyCompromise"})
	if out.Revoked != 2 || out.Reason != "keyCompromise" {
		t.Errorf("%+v", out)
	}
	if delta := m.sync(before.Revision); delta.Full || len(delta.Revoked) != 2 {
		t.Errorf("edges hear %+v", delta)
	}
	for id, state := range map[string]string{one.AgentID: "revoked", two.AgentID: "revoked", other.AgentID: "active"} {
		if a := m.agent(id); a.State != state {
			t.Errorf("%s instead of %s", a.State, state)
		}
	}
	m.no(apitype.FieldInvalid, write, "agents/revoke", nil)
	m.no(apitype.FieldInvalid, write, "agents/revoke", data{"all": true})
}
