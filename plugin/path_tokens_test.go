package ampora_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/token"
)

const unknownID = "0e8f25e2-98ea-8d2f-a5b7-31e2a1d1f9a4"

func TestATokenIsIssuedListedReadAndRevoked(t *testing.T) {
	m := ready(t)
	m.group("acme", "web", nil)
	issued := m.issue(data{"label": "rack 7", "ttl": "2h", "tenant": "acme", "group": "web", "bound_cidrs": "10.1.2.3/8,2001:db8::/32"})
	if s, err := token.Parse(token.Bootstrap, issued.Token); err != nil || s.ID() != issued.TokenID {
		t.Errorf("not a token with that id: %v", err)
	}
	now := m.clock.now()
	want := apitype.TokenInfo{
		TokenID: issued.TokenID, State: "issued", Label: "rack 7", Tenant: "acme", Group: "web", BoundCIDRs: []string{"10.0.0.0/8", "2001:db8::/32"},
		IssuedBy: "userpass-alice", IssuedAt: now.Format(time.RFC3339), ExpiresAt: now.Add(2 * time.Hour).Format(time.RFC3339),
	}
	if issued.ExpiresAt != want.ExpiresAt {
		t.Errorf("expires at %s", issued.ExpiresAt)
	}
	if got := call[apitype.TokenInfo](m, read, "tokens/"+issued.TokenID, nil); !equalJSON(t, got, want) {
		t.Errorf("read %+v", got)
	}
	if got := call[apitype.ListResponse[apitype.TokenInfo]](m, list, "tokens", nil); !equalJSON(t, got.KeyInfo[issued.TokenID], want) || len(got.Keys) != 1 {
		t.Errorf("list %+v", got)
	}
	want.State, want.Reason = "revoked", "leaked"
	if got := call[apitype.TokenInfo](m, write, "tokens/"+issued.TokenID+"/revoke", data{"reason": "leaked"}); !equalJSON(t, got, want) {
		t.Errorf("revoked %+v", got)
	}
	m.clock.advance(time.Minute)
	if got := call[apitype.TokenInfo](m, write, "tokens/"+issued.TokenID+"/revoke", data{"reason": "again"}); !equalJSON(t, got, want) {
		t.Errorf("revoked again %+v", got)
	}
	m.no(apitype.TokenRevoked, write, "redeem/check", data{"token": issued.Token, "source_ip": "10.0.0.1"})
	m.no(apitype.TokenRevoked, write, "redeem", data{"token": issued.Token, "source_ip": "10.0.0.1", "csr": newCSR(t)})
	if got := m.actions(data{"entity_id": issued.TokenID}); !slices.Equal(got, []string{"Token.Revoked", "Token.Issued"}) {
		t.Errorf("events %v", got)
	}
}

func TestATokenNeedsNoFieldAtAll(t *testing.T) {
	m := newMount(t)
	issued := m.issue(nil)
	if issued.ExpiresAt != m.clock.now().Add(24*time.Hour).Format(time.RFC3339) {
		t.Errorf("expires at %s, not after token_ttl", issued.ExpiresAt)
	}
	m.ok(write, "config", data{"token_ttl": "1h"})
	if issued := m.issue(nil); issued.ExpiresAt != m.clock.now().Add(time.Hour).Format(time.RFC3339) {
		t.Errorf("expires at %s, not after the token_ttl set", issued.ExpiresAt)
	}
}

func TestTokensThatCannotBeIssuedAreRefused(t *testing.T) {
	m := newMount(t)
	for _, c := range []struct {
		name string
		code apitype.Code
		body data
	}{
		{"a ttl a second under the minimum", apitype.TTLOutOfRange, data{"ttl": 899}},
		{"a ttl a second over the maximum", apitype.TTLOutOfRange, data{"ttl": 168*3600 + 1}},
		{"a ttl of centuries", apitype.TTLOutOfRange, data{"ttl": "2000000h"}},
		{"a negative ttl", apitype.FieldInvalid, data{"ttl": -1}},
		{"a label with a line break", apitype.FieldInvalid, data{"label": "a\nb"}},
		{"a label with an escape character", apitype.FieldInvalid, data{"label": "a\x1b[31mb"}},
		{"a label with a NUL", apitype.FieldInvalid, data{"label": "a\x00b"}},
		{"a label that turns the direction of writing", apitype.FieldInvalid, data{"label": "a\u202eb"}},
		{"a label with a line separator", apitype.FieldInvalid, data{"label": "a\u2028b"}},
		{"a label of 257 bytes", apitype.FieldInvalid, data{"label": strings.Repeat("a", 257)}},
		{"a label of 10 kB", apitype.FieldInvalid, data{"label": strings.Repeat("a", 10000)}},
		{"a tenant with capitals", apitype.NameInvalid, data{"tenant": "Acme"}},
		{"a tenant with a slash", apitype.NameInvalid, data{"tenant": "a/b"}},
		{"a tenant in UUID form", apitype.NameInvalid, data{"tenant": unknownID}},
		{"a tenant like a secret", apitype.NameInvalid, data{"tenant": "amp-bs"}},
		{"a tenant that is a dot", apitype.NameInvalid, data{"tenant": ".."}},
		{"a group of 65 characters", apitype.NameInvalid, data{"group": strings.Repeat("a", 65)}},
		{"a group that ends in a dash", apitype.NameInvalid, data{"group": "a-"}},
		{"a group that is not there", apitype.GroupMissing, data{"group": "web"}},
		{"a network that is an address", apitype.FieldInvalid, data{"bound_cidrs": "10.0.0.1"}},
		{"a network that is a word", apitype.FieldInvalid, data{"bound_cidrs": "home"}},
		{"65 networks", apitype.FieldInvalid, data{"bound_cidrs": slices.Repeat([]string{"10.0.0.0/8"}, 65)}},
	} {
		t.Run(c.name, func(t *testing.T) { m.no(c.code, write, "tokens/issue", c.body) })
	}
	if keys := m.keys(""); len(keys) != 0 {
		t.Errorf("a refusal stored %v", keys)
	}
	m.group("", strings.Repeat("a", 64), nil)
	m.issue(data{"label": strings.Repeat("ä", 128), "group": strings.Repeat("a", 64), "ttl": 900})
	m.issue(data{"ttl": 168 * 3600})
}

func TestTokensThatAreNotThereAreUnknown(t *testing.T) {
	m := ready(t)
	_, spent := m.enrol(nil)
	for _, id := range []string{unknownID, strings.ToUpper(unknownID), "{" + unknownID + "}", strings.ReplaceAll(unknownID, "-", ""), "x", "..", "%00", spent.TokenID} {
		m.no(apitype.TokenUnknown, read, "tokens/"+id, nil)
		m.no(apitype.TokenUnknown, write, "tokens/"+id+"/revoke", nil)
	}
	live := m.issue(nil)
	m.no(apitype.FieldInvalid, write, "tokens/"+live.TokenID+"/revoke", data{"reason": strings.Repeat("a", 513)})
	m.no(apitype.FieldInvalid, write, "tokens/"+live.TokenID+"/revoke", data{"reason": "a\rb"})
}

func TestReadIssueIsNoTokenOfThatName(t *testing.T) {
	m := newMount(t)
	if p := m.backend.Route("tokens/issue"); p.Operations[read] != nil {
		t.Error("tokens/issue can be read")
	}
}

func TestListsArePaged(t *testing.T) {
	m := ready(t)
	var tokens, agents []string
	for range 7 {
		tokens = append(tokens, m.issue(nil).TokenID)
		id, _ := m.enrol(nil)
		agents = append(agents, id.AgentID)
	}
	slices.Sort(tokens)
	slices.Sort(agents)
	for _, limit := range []int{1, 2, 3, 7, 8, 0} {
		var gotTokens, gotAgents []string
		for after := ""; ; {
			page := m.tokens(data{"after": after, "limit": limit})
			gotTokens = append(gotTokens, page.Keys...)
			if after = page.NextAfter; after == "" {
				break
			}
		}
		for after := ""; ; {
			page := m.agents(data{"after": after, "limit": limit})
			gotAgents = append(gotAgents, page.Keys...)
			if after = page.NextAfter; after == "" {
				break
			}
		}
		if !slices.Equal(gotTokens, tokens) || !slices.Equal(gotAgents, agents) {
			t.Errorf("pages of %d: %v, %v", limit, gotTokens, gotAgents)
		}
	}
	for _, after := range []string{"", "0", "zz", "\x00", strings.Repeat("f", 1000)} {
		m.tokens(data{"after": after})
	}
	m.no(apitype.FieldInvalid, read, "tokens", data{"limit": -1})
	m.no(apitype.FieldInvalid, read, "agents", data{"limit": -1})
}

// The holder of an expired token is told so for a day; then nobody knows it any more.
func TestAnExpiredTokenIsKeptForADay(t *testing.T) {
	m := ready(t)
	issued := m.issue(data{"ttl": "1h"})
	m.clock.advance(time.Hour - time.Second)
	m.ok(write, "redeem/check", data{"token": issued.Token})
	m.clock.advance(time.Second)
	m.no(apitype.TokenExpired, write, "redeem/check", data{"token": issued.Token})
	m.no(apitype.TokenExpired, write, "redeem", data{"token": issued.Token, "csr": newCSR(t)})
	m.clock.advance(24*time.Hour - time.Second)
	m.sweep()
	if got := call[apitype.TokenInfo](m, read, "tokens/"+issued.TokenID, nil); got.State != "expired" {
		t.Errorf("%+v", got)
	}
	m.clock.advance(time.Second)
	m.sweep()
	m.no(apitype.TokenUnknown, read, "tokens/"+issued.TokenID, nil)
	m.no(apitype.TokenUnknown, write, "redeem/check", data{"token": issued.Token})
	if keys := m.keys("token/"); len(keys) != 0 {
		t.Errorf("left over: %v", keys)
	}
}

func (m *mount) sweep() {
	m.Helper()
	if err := m.backend.Sweep(m.Context()); err != nil {
		m.Fatal(err)
	}
}
