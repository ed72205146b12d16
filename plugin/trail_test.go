package ampora_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	bootstrap "github.com/ampora/ampora/plugin/token"
	"github.com/hashicorp/vault/sdk/logical"
)

// minute is Vault's periodic call, and waits for what it began.
func (m *mount) minute() {
	m.Helper()
	m.clock.advance(time.Minute)
	if err := m.backend.PeriodicFunc(m.Context(), &logical.Request{Storage: m.storage}); err != nil {
		m.Fatal(err)
	}
	eventually(m, "upkeep is done", m.backend.Idle)
}

// refusals are the events of refusals, as "tenant source: code*n ...".
func (m *mount) refusals() []string {
	m.Helper()
	var all []string
	for _, e := range m.events(data{"action": apitype.ActionAccessRefused}) {
		if e.EntityType != "source" || e.Actor.DisplayName != "system" || e.RequestID != "" {
			m.Errorf("%+v", e)
		}
		all = append(all, fmt.Sprintf("%s %s %s %v %v", e.Tenant, e.EntityID, e.SourceIP, e.Details["count"], e.Details["codes"]))
	}
	return all
}

func (m *mount) wantRefusals(want ...string) {
	m.Helper()
	if got := m.refusals(); fmt.Sprint(got) != fmt.Sprint(want) {
		m.Errorf("refusals\n%q\ninstead of\n%q", got, want)
	}
}

func TestRefusalsAreOneEventForEachSourceAndMinute(t *testing.T) {
	m := ready(t)
	token := m.issue(nil)
	m.redeem(data{"token": token.Token, "csr": newCSR(t)})
	for range 3 {
		m.no(apitype.TokenRedeemed, write, "redeem/check", data{"token": token.Token, "source_ip": "10.0.0.1"})
	}
	m.no(apitype.TokenRedeemed, write, "redeem", data{"token": token.Token, "csr": newCSR(t), "source_ip": "::ffff:10.0.0.1"})
	m.no(apitype.TokenChecksum, write, "redeem", data{"token": mistyped(token.Token), "csr": newCSR(t), "source_ip": "10.0.0.1"})
	m.no(apitype.TokenMalformed, write, "redeem", data{"token": "x"}) // Vault's client stands for who is not known
	m.no(apitype.TokenMalformed, write, "tenants/acme/redeem", data{"token": "x", "source_ip": "2001:db8::1:2:3:4"})
	m.no(apitype.TokenMalformed, write, "tenants/acme/redeem", data{"token": "x", "source_ip": "2001:db8::5:6:7:8"})
	m.no(apitype.FieldInvalid, write, "redeem/check", data{"token": token.Token, "source_ip": "<script>"})
	m.no(apitype.NameInvalid, write, "tenants/<script>/redeem", data{"token": "x", "source_ip": "10.0.0.9"})
	m.no(apitype.PoolSecretInvalid, write, "pools/ci/admin/issue", data{"admin_secret": bootstrap.New(bootstrap.PoolSecret).Reveal(), "source_ip": "10.0.0.2"})
	m.no(apitype.TokenUnknown, read, "tokens/"+unknownID, nil) // no stranger's
	if got := m.refusals(); len(got) != 0 {
		t.Errorf("before the minute is over: %q", got)
	}
	m.minute()
	all := []string{ // newest first
		"acme 2001:db8::/64 2001:db8::/64 2 map[token_malformed:2]",
		" unknown  1 map[field_invalid:1]",
		" 192.0.2.10 192.0.2.10 1 map[token_malformed:1]",
		" 10.0.0.9 10.0.0.9 1 map[name_invalid:1]",
		" 10.0.0.2 10.0.0.2 1 map[pool_secret_invalid:1]",
		" 10.0.0.1 10.0.0.1 5 map[token_checksum:1 token_redeemed:4]",
	}
	m.wantRefusals(all...)
	e := m.events(data{"action": apitype.ActionAccessRefused, "source_ip": "10.0.0.1"})
	if len(e) != 1 || e[0].Details["first"] == "" || e[0].Details["last"] == "" {
		t.Errorf("%+v", e)
	}
	m.minute() // nothing new, no event
	m.wantRefusals(all...)
	if got := m.events(data{"tenant": "acme"}); len(got) != 1 {
		t.Errorf("%d events of the tenant", len(got))
	}
}

func TestAFloodOfRefusalsCostsFewEvents(t *testing.T) {
	m := ready(t)
	m.storage.Reset()
	for i := range 2000 {
		m.no(apitype.TokenMalformed, write, "redeem", data{"token": "x", "source_ip": fmt.Sprintf("10.1.%d.%d", i/250, i%250)})
	}
	m.minute()
	if n := len(m.storage.Writes()); n > 10 {
		t.Errorf("%d writes", n)
	}
	total, events := 0, m.events(data{"action": apitype.ActionAccessRefused})
	for _, e := range events {
		total += int(e.Details["count"].(float64))
	}
	if len(events) != 65 || total != 2000 {
		t.Errorf("%d events of %d refusals", len(events), total)
	}
	// One tenant's flood leaves room for another's.
	for i := range 100 {
		m.no(apitype.TokenMalformed, write, "tenants/acme/redeem", data{"token": "x", "source_ip": fmt.Sprintf("10.2.0.%d", i)})
	}
	m.no(apitype.TokenMalformed, write, "tenants/globex/redeem", data{"token": "x", "source_ip": "10.3.0.1"})
	m.minute()
	if acme, globex := m.events(data{"tenant": "acme"}), m.events(data{"tenant": "globex"}); len(acme) != 17 || len(globex) != 1 {
		t.Errorf("%d and %d events", len(acme), len(globex))
	}
}

func TestAnEdgeReportsWhatItRefusedItself(t *testing.T) {
	m := ready(t)
	report := func(refusals ...apitype.Refusal) data { return data{"name": "edge-1", "refusals": refusals} }
	m.ok(write, "edge/report", report(
		apitype.Refusal{SourceIP: "10.0.0.1", Code: apitype.TokenChecksum, Count: 7}, apitype.Refusal{SourceIP: "10.0.0.1", Code: apitype.RateLimited, Count: 2},
		apitype.Refusal{SourceIP: "other", Code: apitype.TokenMissing, Count: 3}, apitype.Refusal{Code: apitype.TokenMissing, Count: 1}))
	m.ok(write, "tenants/acme/edge/report", report(apitype.Refusal{SourceIP: "10.0.0.1", Code: apitype.CertificateRevoked, Count: 1}))
	for _, bad := range []apitype.Refusal{{Code: "made_up", Count: 1}, {Code: apitype.TokenChecksum}, {Code: apitype.TokenChecksum, Count: 1 << 50}, {Code: apitype.TokenChecksum, Count: -1}} {
		m.no(apitype.FieldInvalid, write, "edge/report", report(apitype.Refusal{SourceIP: "10.0.0.1", Code: apitype.TokenMissing, Count: 1}, bad))
	}
	m.no(apitype.FieldInvalid, write, "edge/report", report(make([]apitype.Refusal, apitype.MaxRefusals+1)...))
	m.minute()
	m.wantRefusals(
		"acme 10.0.0.1 10.0.0.1 1 map[certificate_revoked:1]",
		" unknown  1 map[token_missing:1]",
		" other  3 map[token_missing:3]",
		" 10.0.0.1 10.0.0.1 9 map[rate_limited:2 token_checksum:7]",
	)
}

func TestRefusalsAreToldAtTheEnd(t *testing.T) {
	m := ready(t)
	m.no(apitype.TokenMalformed, write, "redeem", data{"token": "x", "source_ip": "10.0.0.1"})
	m.backend.Cleanup(t.Context())
	m = mountOn(t, m.storage.Storage, m.clock)
	m.wantRefusals(" 10.0.0.1 10.0.0.1 1 map[token_malformed:1]")
}

// Raising the retention does not bring back what was removed, though rows still carry its records.
func TestWhatWasTidiedIsNotToldAgainUnderALongerRetention(t *testing.T) {
	m := ready(t)
	m.ok(write, "config", data{"audit_retention": "24h"})
	id, _ := m.enrol(nil)
	m.clock.advance(72 * time.Hour)
	m.sweep()
	if left := m.actions(nil); len(left) != 0 {
		t.Fatalf("left: %v", left)
	}
	m.ok(write, "config", data{"audit_retention": "2160h"})
	for range 2 {
		m.agent(id.AgentID) // meets the row, which carries its record
		m.tokens(nil)
		m.sweep()
		if got := m.actions(nil); len(got) != 1 || got[0] != apitype.ActionConfigUpdated {
			t.Errorf("told again: %v", got)
		}
		m = mountOn(t, m.storage.Storage, m.clock) // also by a later process
	}
}

func TestEventsAreFilteredByTenantPoolAndSource(t *testing.T) {
	m := ready(t)
	m.ok(logical.CreateOperation, "pools/ci", nil)
	m.ok(logical.CreateOperation, "tenants/acme/pools/ci", nil)
	token := call[apitype.PoolIssueResponse](m, write, "tenants/acme/pools/ci/issue", nil)
	m.redeem(data{"token": token.Token, "csr": newCSR(t), "source_ip": "10.0.0.7"})
	pool := call[apitype.Pool](m, read, "tenants/acme/pools/ci", nil)
	for _, c := range []struct {
		path string
		body data
		want int
	}{
		{"audit/events", data{"pool": "ci"}, 4},
		{"audit/events", data{"pool": "ci", "tenant": "acme"}, 3},
		{"audit/events", data{"pool": pool.PoolID}, 3},
		{"audit/events", data{"source_ip": "10.0.0.7"}, 2},
		{"audit/events", data{"tenant": "globex"}, 0},
		{"tenants/acme/audit/events", data{"pool": "ci"}, 3},
		{"tenants/globex/audit/events", data{"pool": "ci", "tenant": "acme"}, 0}, // the path goes before
	} {
		if got := call[apitype.EventsResponse](m, read, c.path, c.body); len(got.Events) != c.want {
			t.Errorf("%s %v: %d events instead of %d", c.path, c.body, len(got.Events), c.want)
		}
	}
}

// mistyped is a token with another letter in its payload.
func mistyped(token string) string {
	other := "a"
	if token[20] == 'a' {
		other = "b"
	}
	return token[:20] + other + token[21:]
}
