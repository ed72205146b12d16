package ampora_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/ampora/ampora/plugin/apitype"
	bootstrap "github.com/ampora/ampora/plugin/token"
	"github.com/hashicorp/vault/sdk/logical"
)

func TestThePathsTenantWinsOverTheBody(t *testing.T) {
	m := ready(t)
	resp := m.ok(write, "tenants/acme/tokens/issue", data{"tenant": "globex"})
	issued := decodeAnswer[apitype.IssuedToken](m, resp)
	if got := call[apitype.TokenInfo](m, read, "tokens/"+issued.TokenID, nil); got.Tenant != "acme" {
		t.Errorf("%+v", got)
	}
	if len(resp.Warnings) != 1 || strings.Contains(resp.Warnings[0], "globex") {
		t.Errorf("warnings %q", resp.Warnings)
	}
	// Fields that a path does not have stay without effect on it, too.
	m.no(apitype.TokenUnknown, read, "tenants/globex/tokens/"+issued.TokenID, data{"tenant": "acme"})
	m.no(apitype.TokenUnknown, write, "tenants/globex/tokens/"+issued.TokenID+"/revoke", data{"tenant": "acme", "token_id": issued.TokenID})
	id := m.redeem(data{"token": issued.Token, "csr": newCSR(t)})
	m.no(apitype.AgentUnknown, write, "tenants/globex/agents/"+id.AgentID, data{"tenant": "acme", "agent_id": id.AgentID, "group": "x"})
	other := call[apitype.IssuedToken](m, write, "tenants/globex/tokens/issue", nil)
	if got := call[apitype.TokenInfo](m, read, "tenants/globex/tokens/"+other.TokenID, data{"token_id": issued.TokenID}); got.TokenID != other.TokenID {
		t.Errorf("the body's id won: %+v", got)
	}
}

func TestAnotherTenantsRowsAreUnknown(t *testing.T) {
	m := ready(t)
	token := m.issue(data{"tenant": "acme"})
	id, _ := m.enrol(data{"tenant": "acme"})
	plainToken := m.issue(nil)
	plain, _ := m.enrol(nil)
	before := m.dump()
	for _, agent := range []string{id.AgentID, plain.AgentID, unknownID} {
		path := "tenants/globex/agents/" + agent
		m.no(apitype.AgentUnknown, read, path, nil)
		m.no(apitype.AgentUnknown, write, path, data{"group": "x"})
		m.no(apitype.AgentUnknown, write, path+"/revoke", nil)
		m.ok(remove, path, nil)
	}
	for _, tokenID := range []string{token.TokenID, plainToken.TokenID, unknownID} {
		path := "tenants/globex/tokens/" + tokenID
		m.no(apitype.TokenUnknown, read, path, nil)
		m.no(apitype.TokenUnknown, write, path+"/revoke", nil)
	}
	serial := call[apitype.Agent](m, read, "agents/"+id.AgentID, nil).SerialNumber
	out := call[apitype.ReportResponse](m, write, "tenants/globex/edge/report", data{"name": "edge-1", "sessions": []apitype.SessionReport{{AgentID: id.AgentID, SerialNumber: serial, InstanceUID: instance}}})
	if a := out.Sessions[0]; a.Leaf != "unknown" || a.Tenant != "" || a.Group != "" || a.InstanceUID != "" {
		t.Errorf("the report told %+v", a)
	}
	if after := m.dump(); strings.Join(dropEdges(after), "") != strings.Join(dropEdges(before), "") {
		t.Error("a call of another tenant changed the storage")
	}
}

// dropEdges leaves the rows of edges out of a dump.
func dropEdges(dump string) []string {
	lines := strings.Split(dump, "\n")
	for n, l := range lines {
		if strings.HasPrefix(l, "edge/") {
			return slices.Delete(lines, n, n+2)
		}
	}
	return lines
}

func TestEdgesOfTwoTenantsMayHaveTheSameName(t *testing.T) {
	m := ready(t)
	for _, path := range []string{"edge/report", "tenants/acme/edge/report", "tenants/globex/edge/report"} {
		before := m.keys("edge/")
		m.ok(write, path, data{"name": "edge-1", "version": "v1"})
		if len(m.keys("edge/")) != len(before)+1 {
			t.Errorf("%s wrote over another edge's row: %v", path, m.keys("edge/"))
		}
	}
}

func TestListsAreFilteredByThePathsTenant(t *testing.T) {
	m := ready(t)
	tokens, agents := map[string]string{}, map[string]string{}
	for _, tenant := range []string{"", "acme", "globex"} {
		tokens[tenant] = m.issue(data{"tenant": tenant}).TokenID
		id, _ := m.enrol(data{"tenant": tenant})
		agents[tenant] = id.AgentID
	}
	if got := m.tokens(nil); len(got.Keys) != 3 {
		t.Errorf("all tokens: %v", got.Keys)
	}
	for _, tenant := range []string{"acme", "globex"} {
		for _, op := range []logical.Operation{list, read} {
			t.Run(string(op)+" "+tenant, func(t *testing.T) {
				if got := call[apitype.ListResponse[apitype.TokenInfo]](m, op, "tenants/"+tenant+"/tokens", nil); !slices.Equal(got.Keys, []string{tokens[tenant]}) || len(got.KeyInfo) != 1 {
					t.Errorf("tokens %v", got)
				}
				if got := call[apitype.ListResponse[apitype.Agent]](m, op, "tenants/"+tenant+"/agents", nil); !slices.Equal(got.Keys, []string{agents[tenant]}) || len(got.KeyInfo) != 1 {
					t.Errorf("agents %v", got)
				}
			})
		}
	}
}

func TestAnotherTenantsTokenIsRefusedAndNotConsumed(t *testing.T) {
	m := ready(t)
	m.ok(write, "config", data{"retry_window": "1h"})
	for _, owner := range []string{"acme", ""} {
		token := m.issue(data{"tenant": owner})
		body := data{"token": token.Token, "csr": newCSR(t), "idempotency_key": firstKey}
		before := m.dump()
		m.no(apitype.TenantMismatch, write, "tenants/globex/redeem/check", data{"token": token.Token})
		m.no(apitype.TenantMismatch, write, "tenants/globex/redeem", body)
		if m.dump() != before {
			t.Error("a refusal changed the storage")
		}
		m.redeem(body)
		// Nor do repetitions, or spent tokens, tell another tenant anything.
		m.no(apitype.TenantMismatch, write, "tenants/globex/redeem", body)
		m.no(apitype.TenantMismatch, write, "tenants/globex/redeem/check", data{"token": token.Token})
		secret, _ := bootstrap.Parse(bootstrap.Bootstrap, token.Token)
		m.ok(remove, "agents/"+secret.AgentID(), nil)
		m.no(apitype.TenantMismatch, write, "tenants/globex/redeem", body)
		m.no(apitype.TenantMismatch, write, "tenants/globex/redeem/check", data{"token": token.Token})
	}
	spent := m.issue(data{"tenant": "acme"})
	id := call[apitype.Identity](m, write, "tenants/acme/redeem", data{"token": spent.Token, "csr": newCSR(t)})
	if id.Tenant != "acme" {
		t.Errorf("%+v", id)
	}
	m.ok(write, "config", data{"retry_window": 0})
	m.no(apitype.TokenRedeemed, write, "tenants/acme/redeem/check", data{"token": spent.Token})
	call[apitype.Agent](m, read, "tenants/acme/agents/"+id.AgentID, nil)
	m.group("acme", "web", nil)
	call[apitype.Agent](m, write, "tenants/acme/agents/"+id.AgentID, data{"group": "web"})
	call[apitype.AgentRevocation](m, write, "tenants/acme/agents/"+id.AgentID+"/revoke", nil)
	m.ok(remove, "tenants/acme/agents/"+id.AgentID, nil)
	m.no(apitype.AgentUnknown, read, "tenants/acme/agents/"+id.AgentID, nil)
}

func TestATenantThatIsNoNameIsRefusedOnEveryPath(t *testing.T) {
	m := ready(t)
	for _, tenant := range []string{"Acme", "..", ".", "a b", "amp-bs", unknownID, "a-", strings.Repeat("a", 65), "ä", "%2e"} {
		for path, op := range map[string]logical.Operation{
			"tokens/issue": write, "tokens/" + unknownID + "/revoke": write, "redeem": write, "redeem/check": write, "edge/report": write,
			"agents/" + unknownID + "/revoke": write, "tokens": read, "agents": read, "audit/events": read, "tokens/" + unknownID: read, "agents/" + unknownID: remove,
		} {
			m.no(apitype.NameInvalid, op, "tenants/"+tenant+"/"+path, nil)
		}
	}
}
