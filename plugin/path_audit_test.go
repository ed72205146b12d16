package ampora_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
)

func TestEveryActionIsToldWithWhoAndThroughWhichRequest(t *testing.T) {
	m := newMount(t)
	requests := map[string]string{} // action -> id of the request that is told first
	did := func(actions ...string) {
		for _, a := range actions {
			requests[a] = m.lastID
		}
	}
	m.ok(write, "config", data{"trust_domain": "test.example"})
	did("Config.Updated")
	issuer := call[apitype.CAIssuer](m, write, "ca/root", nil)
	did("Issuer.Created", "Issuer.Activated")
	first := m.configuration("acme", "base", data{"body": "one"})
	did("Configuration.Created")
	changed := m.configuration("acme", "base", data{"body": "two", "description": "of all"})
	did("Configuration.Updated")
	m.group("acme", "web", data{"configuration": "base"})
	did("Group.Created")
	m.group("acme", "web", data{"configuration": "", "description": "the front"})
	did("Group.Updated")
	m.ok(remove, "tenants/acme/configurations/base", nil)
	did("Configuration.Deleted")
	m.group("acme", "db", nil)
	issued := m.issue(data{"label": "rack 7", "tenant": "acme", "group": "web", "bound_cidrs": "10.0.0.0/8"})
	did("Token.Issued")
	body := data{"token": issued.Token, "generate_key": true, "source_ip": "10.0.0.5", "idempotency_key": firstKey}
	id := m.redeem(body)
	did("Token.Redeemed", "Certificate.Issued")
	m.ok(write, "agents/"+id.AgentID, data{"group": "db"})
	did("Agent.Updated")
	m.ok(remove, "tenants/acme/groups/web", nil)
	did("Group.Deleted")
	second := m.redeem(body)
	m.report(apitype.SessionReport{AgentID: id.AgentID, SerialNumber: id.SerialNumber, SourceIP: "10.0.0.6"})
	did("Certificate.CloneSuspected")
	m.ok(write, "agents/"+id.AgentID+"/revoke", data{"reason": "keyCompromise"})
	did("Certificate.Revoked")
	m.ok(remove, "agents/"+id.AgentID, nil)
	did("Agent.Deleted")
	other := m.issue(nil)
	m.ok(write, "tokens/"+other.TokenID+"/revoke", data{"reason": "lost"})
	did("Token.Revoked")

	all := m.events(nil)
	slices.Reverse(all)
	seen, ids := map[string]apitype.Event{}, map[string]bool{}
	for _, e := range all {
		if ids[e.ID] || e.ID == "" {
			t.Errorf("id %q twice", e.ID)
		}
		ids[e.ID] = true
		if _, twice := seen[e.Action]; !twice {
			seen[e.Action] = e
		}
		if e.Time != m.clock.now().Format("2006-01-02T15:04:05.000Z") || e.Actor.DisplayName != "userpass-alice" || e.Actor.EntityID != "entity-of-alice" {
			t.Errorf("%s: %+v", e.Action, e)
		}
	}
	for action, request := range requests {
		if e := seen[action]; e.RequestID != request {
			t.Errorf("%s has request id %s instead of %s", action, e.RequestID, request)
		}
	}
	agentIsActor := apitype.Actor{DisplayName: "userpass-alice", EntityID: "entity-of-alice", AgentID: id.AgentID}
	for action, want := range map[string]apitype.Event{
		"Config.Updated":   {EntityType: "config", EntityID: "config", SourceIP: "192.0.2.10", Details: data{"fields": []string{"trust_domain"}}},
		"Issuer.Created":   {EntityType: "issuer", EntityID: issuer.IssuerID, SourceIP: "192.0.2.10"},
		"Issuer.Activated": {EntityType: "issuer", EntityID: issuer.IssuerID, SourceIP: "192.0.2.10"},
		"Token.Issued": {EntityType: "token", EntityID: issued.TokenID, Tenant: "acme", SourceIP: "192.0.2.10",
			Details: data{"label": "rack 7", "group": "web", "bound_cidrs": []string{"10.0.0.0/8"}, "expires_at": issued.ExpiresAt}},
		"Token.Revoked": {EntityType: "token", EntityID: other.TokenID, SourceIP: "192.0.2.10", Details: data{"reason": "lost"}},
		"Token.Redeemed": {EntityType: "token", EntityID: issued.TokenID, Tenant: "acme", AgentID: id.AgentID, SourceIP: "10.0.0.5", Actor: agentIsActor,
			Details: data{"label": "rack 7", "group": "web", "key_origin": "server"}},
		"Certificate.Issued": {EntityType: "certificate", EntityID: id.SerialNumber, Tenant: "acme", AgentID: id.AgentID, SourceIP: "10.0.0.5", Actor: agentIsActor,
			Details: data{"fingerprint": id.Fingerprint, "issuer_id": issuer.IssuerID, "expires_at": time.Unix(id.Expiration, 0).UTC().Format(time.RFC3339), "ttl_cut": false}},
		"Configuration.Created": {EntityType: "configuration", EntityID: "base", Tenant: "acme", SourceIP: "192.0.2.10",
			Details: data{"fields": []string{"body"}, "hash": first.Hash, "version": 1}},
		"Configuration.Updated": {EntityType: "configuration", EntityID: "base", Tenant: "acme", SourceIP: "192.0.2.10",
			Details: data{"fields": []string{"body", "description"}, "hash": changed.Hash, "version": 2}},
		"Configuration.Deleted": {EntityType: "configuration", EntityID: "base", Tenant: "acme", SourceIP: "192.0.2.10"},
		"Group.Created":         {EntityType: "group", EntityID: "web", Tenant: "acme", SourceIP: "192.0.2.10", Details: data{"configuration": "base"}},
		"Group.Updated": {EntityType: "group", EntityID: "web", Tenant: "acme", SourceIP: "192.0.2.10",
			Details: data{"configuration": "", "description": "the front"}},
		"Group.Deleted": {EntityType: "group", EntityID: "web", Tenant: "acme", SourceIP: "192.0.2.10"},
		"Agent.Updated": {EntityType: "agent", EntityID: id.AgentID, Tenant: "acme", AgentID: id.AgentID, SourceIP: "192.0.2.10", Details: data{"group": "db"}},
		"Certificate.CloneSuspected": {EntityType: "certificate", EntityID: id.SerialNumber, Tenant: "acme", AgentID: id.AgentID, SourceIP: "10.0.0.6", Actor: agentIsActor,
			Details: data{"current_serial_number": second.SerialNumber}},
		"Certificate.Revoked": {EntityType: "certificate", EntityID: second.SerialNumber, Tenant: "acme", AgentID: id.AgentID, SourceIP: "192.0.2.10",
			Details: data{"reason": "keyCompromise", "fingerprint": second.Fingerprint}},
		"Agent.Deleted": {EntityType: "agent", EntityID: id.AgentID, Tenant: "acme", AgentID: id.AgentID, SourceIP: "192.0.2.10"},
	} {
		got := seen[action]
		want.ID, want.Time, want.Action, want.RequestID = got.ID, got.Time, action, got.RequestID
		if want.Actor == (apitype.Actor{}) {
			want.Actor = apitype.Actor{DisplayName: "userpass-alice", EntityID: "entity-of-alice"}
		}
		if !equalJSON(t, got, want) {
			t.Errorf("%s:\n%s\n%s", action, toText(t, got), toText(t, want))
		}
	}
	if len(seen) != len(requests) {
		t.Errorf("%d actions instead of %d", len(seen), len(requests))
	}
}

func TestRefusalsAndReadingAreNoEvents(t *testing.T) {
	m := ready(t)
	before := len(m.events(nil))
	m.no(apitype.TokenUnknown, read, "tokens/"+unknownID, nil)
	m.no(apitype.TTLOutOfRange, write, "tokens/issue", data{"ttl": 1})
	m.tokens(nil)
	m.sync("")
	if after := len(m.events(nil)); after != before {
		t.Errorf("%d events more", after-before)
	}
}

func TestEventsAreFilteredByEachField(t *testing.T) {
	m := ready(t)
	var ids []apitype.Identity
	var tokens []apitype.IssuedToken
	start := m.clock.now()
	for _, tenant := range []string{"", "acme", "globex"} {
		m.clock.advance(time.Minute + 1250*time.Microsecond)
		id, token := m.enrol(data{"tenant": tenant})
		ids, tokens = append(ids, id), append(tokens, token)
	}
	all := m.events(nil)
	at := func(n int) string { return all[n].Time } // newest first: three of globex, three of acme, ...
	for _, c := range []struct {
		name string
		path string
		body data
		want []apitype.Event
	}{
		{"all", "audit/events", nil, all},
		{"by entity type", "audit/events", data{"entity_type": "token"}, []apitype.Event{all[1], all[2], all[4], all[5], all[7], all[8]}},
		{"by entity id", "audit/events", data{"entity_id": tokens[1].TokenID}, all[4:6]},
		{"by agent", "audit/events", data{"agent_id": ids[2].AgentID}, all[0:2]},
		{"by action", "audit/events", data{"action": "Certificate.Issued"}, []apitype.Event{all[0], all[3], all[6]}},
		{"by action and agent", "audit/events", data{"action": "Certificate.Issued", "agent_id": ids[1].AgentID}, all[3:4]},
		{"since the time of an event", "audit/events", data{"since": at(5)}, all[:6]},
		{"until the time of an event", "audit/events", data{"until": at(3)}, all[3:]},
		{"since and until one event", "audit/events", data{"since": at(4), "until": at(4)}, all[3:6]},
		{"in another time zone", "audit/events", data{"since": start.Add(2 * time.Minute).In(time.FixedZone("", 7200)).Format(time.RFC3339)}, all[:6]},
		{"before anything", "audit/events", data{"until": "2020-01-01T00:00:00Z"}, nil},
		{"in the future", "audit/events", data{"since": "2099-01-01T00:00:00Z"}, nil},
		{"of nobody", "audit/events", data{"agent_id": "x"}, nil},
		{"of a tenant", "tenants/acme/audit/events", nil, all[3:6]},
		{"of a tenant, by action", "tenants/acme/audit/events", data{"action": "Token.Issued"}, all[5:6]},
		{"of a tenant, another's agent", "tenants/acme/audit/events", data{"agent_id": ids[2].AgentID}, nil},
		{"of a tenant without any", "tenants/initech/audit/events", nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := call[apitype.EventsResponse](m, read, c.path, c.body)
			if len(got.Events) != len(c.want) || len(c.want) > 0 && !equalJSON(t, got.Events, c.want) || got.NextCursor != "" {
				t.Errorf("%d events instead of %d, cursor %q", len(got.Events), len(c.want), got.NextCursor)
			}
		})
	}
	for name, body := range map[string]data{
		"a date as since": {"since": "2026-01-01"}, "a word as until": {"until": "now"}, "a limit of 1001": {"limit": 1001}, "a negative limit": {"limit": -1},
		"a cursor of ours that was cut": {"cursor": "xyz"}, "an endless cursor": {"cursor": strings.Repeat("f", 100)},
	} {
		t.Run(name, func(t *testing.T) { m.no(apitype.FieldInvalid, read, "audit/events", body) })
	}
}

func TestPagesNeitherRepeatNorLoseWhileNewEventsArrive(t *testing.T) {
	for _, limit := range []int{1, 2, 3, 5, 100} {
		m := newMount(t)
		m.configure()
		for range 6 {
			m.clock.advance(7 * time.Hour) // over several days
			m.enrol(nil)
		}
		want := m.events(nil)
		var got []apitype.Event
		for cursor := ""; ; {
			page := call[apitype.EventsResponse](m, read, "audit/events", data{"limit": limit, "cursor": cursor})
			got = append(got, page.Events...)
			if len(page.Events) > limit+1 { // a redemption's two events stay together
				t.Errorf("a page of %d has %d events", limit, len(page.Events))
			}
			m.issue(nil)
			if cursor = page.NextCursor; cursor == "" {
				break
			}
		}
		if !equalJSON(t, got, want) {
			t.Errorf("pages of %d: %d events instead of %d", limit, len(got), len(want))
		}
	}
}

func TestOneHundredEventsAreAPage(t *testing.T) {
	m := newMount(t)
	for range 101 {
		m.issue(nil)
	}
	page := call[apitype.EventsResponse](m, read, "audit/events", nil)
	rest := call[apitype.EventsResponse](m, read, "audit/events", data{"cursor": page.NextCursor})
	if len(page.Events) != 100 || len(rest.Events) != 1 || rest.NextCursor != "" {
		t.Errorf("%d, then %d", len(page.Events), len(rest.Events))
	}
}

func TestEventsGoAfterTheirRetention(t *testing.T) {
	m := ready(t)
	m.ok(write, "config", data{"audit_retention": "48h"})
	old := len(m.events(nil))
	m.clock.advance(47 * time.Hour)
	m.issue(nil)
	m.sweep()
	if n := len(m.events(nil)); n != old+1 {
		t.Errorf("%d events instead of %d", n, old+1)
	}
	m.clock.advance(25 * time.Hour) // whole days go
	m.sweep()
	if got := m.actions(nil); !slices.Equal(got, []string{"Token.Issued"}) {
		t.Errorf("left: %v", got)
	}
	// What is gone does not come back, though rows still carry their records.
	m = mountOn(t, m.storage.Storage, m.clock)
	m.tokens(nil)
	m.ok(read, "config", nil)
	m.sweep()
	if got := m.actions(nil); !slices.Equal(got, []string{"Token.Issued"}) {
		t.Errorf("after a start: %v", got)
	}
}
