package ampora_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/ampora/ampora/plugin/apitype"
)

func TestAFreshMountHasTheDefaults(t *testing.T) {
	const hour, day = 3600, 86400
	c := call[apitype.Config](newMount(t), read, "config", nil)
	want := apitype.Config{
		TokenTTL: 24 * hour, TokenMinTTL: 900, TokenMaxTTL: 168 * hour, LeafTTL: 90 * day, LeafMaxTTL: 365 * day, Tenancy: "off", KeyOrigin: "any",
		RenewProof: "key", CRLExpiry: 900, HandoverTTL: hour, HandoverMaxTTL: 24 * hour, HeartbeatInterval: 30, AuditRetention: 90 * day, AgentRetention: 30 * day,
	}
	if c.CRLDistributionPoints == nil || c.OCSPServers == nil || c.EdgeAllowedDomains == nil {
		t.Error("a list is null instead of empty")
	}
	c.CRLDistributionPoints, c.OCSPServers, c.EdgeAllowedDomains = nil, nil, nil
	if !equalJSON(t, c, want) {
		t.Errorf("%+v", c)
	}
}

func TestAConfigWriteChangesOnlyTheFieldsGiven(t *testing.T) {
	m := newMount(t)
	body := data{
		"peer_id": "eu-1", "trust_domain": "fleet.example", "endpoint": "wss://edge.fleet.example:4320/v1/opamp", "endpoint_ca_bundle": "",
		"federation_url": "https://edge.fleet.example:4320/federation", "token_ttl": "2h", "token_min_ttl": "60", "token_max_ttl": 7200, "leaf_ttl": "24h",
		"leaf_max_ttl": "48h", "key_origin": "csr", "retry_window": "5m", "crl_distribution_points": "http://a.example/crl,http://b.example/crl",
		"ocsp_servers": []string{"http://a.example/ocsp"}, "heartbeat_interval": 15, "edge_allowed_domains": "edges.fleet.example, 127.0.0.1",
		"audit_retention": "240h", "agent_retention": 0, "renew_proof": "edge", "crl_expiry": "1h", "public_pki": true,
		"handover_ttl": "2h", "handover_max_ttl": "48h",
	}
	want := apitype.Config{
		PeerID: "eu-1", TrustDomain: "fleet.example", Endpoint: "wss://edge.fleet.example:4320/v1/opamp", FederationURL: "https://edge.fleet.example:4320/federation",
		TokenTTL: 7200, TokenMinTTL: 60, TokenMaxTTL: 7200, LeafTTL: 86400, LeafMaxTTL: 172800, Tenancy: "off", KeyOrigin: "csr", RetryWindow: 300,
		CRLDistributionPoints: []string{"http://a.example/crl", "http://b.example/crl"}, OCSPServers: []string{"http://a.example/ocsp"},
		HeartbeatInterval: 15, EdgeAllowedDomains: []string{"edges.fleet.example", "127.0.0.1"}, AuditRetention: 864000,
		RenewProof: "edge", CRLExpiry: 3600, PublicPKI: true, HandoverTTL: 7200, HandoverMaxTTL: 172800,
	}
	if got := call[apitype.Config](m, write, "config", body); !equalJSON(t, got, want) {
		t.Errorf("answered %+v", got)
	}
	if got := call[apitype.Config](m, read, "config", nil); !equalJSON(t, got, want) {
		t.Errorf("read %+v", got)
	}
	want.Endpoint = "wss://other.fleet.example/v1/opamp"
	if got := call[apitype.Config](m, write, "config", data{"endpoint": want.Endpoint}); !equalJSON(t, got, want) {
		t.Errorf("one field changed others: %+v", got)
	}
	events := m.events(data{"action": "Config.Updated"})
	if len(events) != 2 || !equalJSON(t, events[0].Details["fields"], []string{"endpoint"}) || events[0].EntityType != "config" {
		t.Errorf("events: %+v", events)
	}
	if len(events[1].Details["fields"].([]any)) != len(body) {
		t.Errorf("the first write tells of %v", events[1].Details["fields"])
	}
}

func TestTheConfigurationSurvivesARestart(t *testing.T) {
	m := ready(t)
	again := mountOn(t, m.storage.Storage, m.clock)
	if a, b := call[apitype.Config](m, read, "config", nil), call[apitype.Config](again, read, "config", nil); !equalJSON(t, a, b) {
		t.Errorf("%+v, then %+v", a, b)
	}
}

func TestBadConfigurationIsRefusedByField(t *testing.T) {
	m := newMount(t)
	for _, c := range []struct {
		name string
		code apitype.Code
		body data
		says string
	}{
		{"a peer id with capitals", apitype.NameInvalid, data{"peer_id": "EU"}, "peer_id"},
		{"a peer id like a secret", apitype.NameInvalid, data{"peer_id": "amp-x"}, "peer_id"},
		{"a peer id in UUID form", apitype.NameInvalid, data{"peer_id": "0e8f25e2-98ea-4d2f-a5b7-31e2a1d1f9a4"}, "peer_id"},
		{"a trust domain with a slash", apitype.FieldInvalid, data{"trust_domain": "a/b"}, "trust_domain"},
		{"a trust domain with capitals", apitype.FieldInvalid, data{"trust_domain": "A"}, "trust_domain"},
		{"a trust domain with a port", apitype.FieldInvalid, data{"trust_domain": "a:1"}, "trust_domain"},
		{"a trust domain that is too long", apitype.FieldInvalid, data{"trust_domain": strings.Repeat("a", 256)}, "trust_domain"},
		{"an https endpoint", apitype.FieldInvalid, data{"endpoint": "https://x/v1/opamp"}, "endpoint"},
		{"a ws endpoint", apitype.FieldInvalid, data{"endpoint": "ws://x/v1/opamp"}, "endpoint"},
		{"an endpoint with a password", apitype.FieldInvalid, data{"endpoint": "wss://u:p@x/v1/opamp"}, "endpoint"},
		{"an endpoint with a query", apitype.FieldInvalid, data{"endpoint": "wss://x/v1/opamp?a=b"}, "endpoint"},
		{"an endpoint without a host", apitype.FieldInvalid, data{"endpoint": "wss:///v1/opamp"}, "endpoint"},
		{"an endless endpoint", apitype.FieldInvalid, data{"endpoint": "wss://x/" + strings.Repeat("a", 3000)}, "endpoint"},
		{"a federation url over http", apitype.FieldInvalid, data{"federation_url": "http://x"}, "federation_url"},
		{"a CA bundle that is no PEM", apitype.FieldInvalid, data{"endpoint_ca_bundle": "hello"}, "endpoint_ca_bundle"},
		{"a CRL URL that is no URL", apitype.FieldInvalid, data{"crl_distribution_points": "hello"}, "crl_distribution_points"},
		{"an OCSP URL over ldap", apitype.FieldInvalid, data{"ocsp_servers": "ldap://x/"}, "ocsp_servers"},
		{"an edge domain with a star", apitype.FieldInvalid, data{"edge_allowed_domains": "*.example"}, "edge_allowed_domains"},
		{"a key origin that does not exist", apitype.FieldInvalid, data{"key_origin": "magic"}, "key_origin"},
		{"a tenancy that does not exist", apitype.FieldInvalid, data{"tenancy": "soft"}, "tenancy"},
		{"no tenancy", apitype.FieldInvalid, data{"tenancy": ""}, "tenancy"},
		{"no key origin", apitype.FieldInvalid, data{"key_origin": ""}, "key_origin"},
		{"a token ttl over the maximum", apitype.FieldInvalid, data{"token_ttl": "169h"}, "token_ttl"},
		{"a token ttl under the minimum", apitype.FieldInvalid, data{"token_ttl": "14m"}, "token_ttl"},
		{"a minimum over the maximum", apitype.FieldInvalid, data{"token_min_ttl": "169h"}, "token_min_ttl"},
		{"a minimum of 0", apitype.FieldInvalid, data{"token_min_ttl": 0}, "token_min_ttl"},
		{"a maximum over a year", apitype.FieldInvalid, data{"token_max_ttl": "8785h"}, "token_max_ttl"},
		{"a leaf ttl over the maximum", apitype.FieldInvalid, data{"leaf_ttl": "8761h"}, "leaf"},
		{"a leaf ttl under a minute", apitype.FieldInvalid, data{"leaf_ttl": 59}, "leaf_ttl"},
		{"a leaf maximum over ten years", apitype.FieldInvalid, data{"leaf_max_ttl": "90000h"}, "leaf_max_ttl"},
		{"no heartbeats", apitype.FieldInvalid, data{"heartbeat_interval": 0}, "heartbeat_interval"},
		{"a heartbeat every two hours", apitype.FieldInvalid, data{"heartbeat_interval": "2h"}, "heartbeat_interval"},
		{"a retry window over a day", apitype.FieldInvalid, data{"retry_window": "25h"}, "retry_window"},
		{"an audit retention under a day", apitype.FieldInvalid, data{"audit_retention": "1h"}, "audit_retention"},
		{"an agent retention over ten years", apitype.FieldInvalid, data{"agent_retention": "90000h"}, "agent_retention"},
		{"a handover ttl over the maximum", apitype.FieldInvalid, data{"handover_ttl": "25h"}, "handover_ttl"},
		{"a handover ttl under a minute", apitype.FieldInvalid, data{"handover_ttl": 59}, "handover_ttl"},
		{"a handover maximum over 30 days", apitype.FieldInvalid, data{"handover_max_ttl": "721h"}, "handover_max_ttl"},
		{"a negative duration", apitype.FieldInvalid, data{"token_ttl": "-1h"}, "token_ttl"},
		{"a duration in words", apitype.FieldInvalid, data{"token_ttl": "a while"}, "token_ttl"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if e := m.no(c.code, write, "config", c.body); !strings.Contains(e.Detail, c.says) {
				t.Errorf("%v does not name %s", e, c.says)
			}
		})
	}
	if len(m.keys("")) != 0 {
		t.Errorf("a refusal stored %v", m.keys(""))
	}
}

func TestTheTrustDomainIsFixedOnceAnIssuerExists(t *testing.T) {
	m := newMount(t)
	m.ok(write, "config", data{"trust_domain": "one.example"})
	m.ok(write, "config", data{"trust_domain": "two.example"})
	m.ok(write, "ca/root", nil)
	m.no(apitype.ConfigFixed, write, "config", data{"trust_domain": "three.example"})
	m.no(apitype.ConfigFixed, write, "config", data{"trust_domain": ""})
	m.ok(write, "config", data{"trust_domain": "two.example", "token_ttl": "1h"})
	m.ok(write, "config", data{"peer_id": "late"}) // nothing rests on it yet
	m.no(apitype.ConfigFixed, write, "config", data{"peer_id": "later"})
	if c := call[apitype.Config](m, read, "config", nil); c.TrustDomain != "two.example" || c.PeerID != "late" || c.TokenTTL != 3600 {
		t.Errorf("%+v", c)
	}
}

func TestAnUnknownFieldOfTheConfigurationIsAWarning(t *testing.T) {
	m := newMount(t)
	resp := m.ok(write, "config", data{"tokn_ttl": "1h"})
	if !slices.ContainsFunc(resp.Warnings, func(w string) bool { return strings.Contains(w, "tokn_ttl") }) {
		t.Errorf("warnings: %q", resp.Warnings)
	}
}
