package ampora_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/ampora/ampora/plugin/apitype"
)

// away hands an agent of globex at eu over to west, where it settles, and makes the token with which it could come home.
func (m *mount) away(west *mount) (home apitype.Identity, token apitype.HandoverToken) {
	m.Helper()
	m.group("globex", "web", nil)
	home = m.movable(data{"tenant": "globex", "group": "web"})
	there := moves(m, west, home.AgentID, "west")
	west.settlesIn(there)
	return home, west.handOver(there, "eu", nil)
}

func (m *mount) inspectIn(tenant, token string) apitype.HandoverInspection {
	m.Helper()
	return call[apitype.HandoverInspection](m, write, apitype.Scoped(tenant, apitype.PathHandoverInspect), data{"token": token})
}

func TestAnotherTenantIsToldNothingOfWhereAnAgentComesHomeTo(t *testing.T) {
	eu, west := twoPeers(t)
	home, token := eu.away(west)
	eu.group("acme", "web", nil) // called as the agent's own group is

	before := eu.dump()
	got := eu.inspectIn("acme", token.HandoverToken)
	if got.Known || got.AgentID != "" || got.State != "" || got.Group != "" {
		t.Errorf("acme is told %+v", got)
	}
	if len(got.Problems) != 1 || !strings.HasPrefix(got.Problems[0], string(apitype.TenantMismatch)+":") {
		t.Errorf("problems %q", got.Problems)
	}
	eu.no(apitype.TenantMismatch, write, "tenants/acme/handover/redeem", data{"token": token.HandoverToken})
	if eu.dump() != before {
		t.Error("a refusal changed the storage")
	}

	for _, tenant := range []string{"globex", ""} { // who may see the row is told
		if got := eu.inspectIn(tenant, token.HandoverToken); !got.Known || got.AgentID != home.AgentID {
			t.Errorf("%q is told %+v", tenant, got)
		}
	}
	eu.no(apitype.TenantMismatch, write, "handover/redeem", data{"token": token.HandoverToken})
	taken := call[apitype.HandoverRedemption](eu, write, "tenants/globex/handover/redeem", data{"token": token.HandoverToken})
	if taken.AgentID != home.AgentID || taken.Group != "web" {
		t.Errorf("it comes home as %+v", taken)
	}
	eu.wantRedeemed("acme", token)
}

// wantRedeemed holds that another tenant is told of a token that it was redeemed, and nothing else.
func (m *mount) wantRedeemed(tenant string, token apitype.HandoverToken) apitype.HandoverInspection {
	m.Helper()
	m.no(apitype.HandoverReplayed, write, apitype.Scoped(tenant, apitype.PathHandoverRedeem), data{"token": token.HandoverToken})
	m.no(apitype.HandoverUnknown, read, apitype.Scoped(tenant, apitype.PathHandovers)+"/"+token.HandoverID, nil)
	m.no(apitype.HandoverUnknown, remove, apitype.Scoped(tenant, apitype.PathHandovers)+"/"+token.HandoverID, nil)
	got := m.inspectIn(tenant, token.HandoverToken)
	if got.Known || got.State != "" || len(got.Problems) != 1 || !strings.HasPrefix(got.Problems[0], string(apitype.HandoverReplayed)+":") {
		m.Errorf("%s is told %+v", tenant, got)
	}
	return got
}

func TestAnotherTenantCannotFollowWhatBecomesOfARedeemedToken(t *testing.T) {
	eu, west := twoPeers(t)
	for _, tenant := range []string{"acme", "globex"} {
		west.group(tenant, "secret", nil)
	}
	id := eu.movable(nil)
	token := eu.handOver(id.AgentID, "west", nil)
	taken := call[apitype.HandoverRedemption](west, write, "tenants/globex/handover/redeem", data{"token": token.HandoverToken, "group": "secret"})

	waits := west.wantRedeemed("acme", token)
	if waits.Group != "" {
		t.Errorf("acme is told of globex's group: %+v", waits)
	}
	carry(west, eu)
	if got := west.comes(taken.AgentID); got.Leaf != apitype.LeafCurrent {
		t.Fatalf("it does not come: %s", got.Leaf)
	}
	came := west.wantRedeemed("acme", token)
	west.ok(remove, "tenants/globex/agents/"+taken.AgentID, nil)
	gone := west.wantRedeemed("acme", token)
	for _, got := range []apitype.HandoverInspection{came, gone} {
		if !slices.Equal(got.Problems, waits.Problems) {
			t.Errorf("acme sees what becomes of it: %q and %q", waits.Problems, got.Problems)
		}
	}
}

func TestAPartOfAGroupTellsNothingOfOtherTenantsAgents(t *testing.T) {
	eu, _ := twoPeers(t)
	own := map[string]bool{}
	for _, tenant := range []string{"acme", "globex"} {
		eu.group(tenant, "web", nil)
		for range 6 { // their ids lie between each other
			own[eu.movable(data{"tenant": tenant, "group": "web"}).AgentID] = tenant == "acme"
		}
	}
	tokens, after := 0, ""
	for {
		part := call[apitype.HandoverIssueResponse](eu, write, "tenants/acme/handover/issue", data{"peer": "west", "group": "web", "limit": 1, "after": after})
		tokens += len(part.Tokens)
		if after = part.NextAfter; after == "" {
			break
		}
		if !own[after] {
			t.Errorf("acme is told of the agent %s", after)
		}
	}
	if tokens != 6 {
		t.Errorf("%d tokens", tokens)
	}
}
