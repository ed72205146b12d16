package ampora_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/hashicorp/vault/sdk/logical"
)

// group makes or changes a group of a tenant.
func (m *mount) group(tenant, name string, body data) apitype.Group {
	m.Helper()
	return call[apitype.Group](m, write, apitype.Scoped(tenant, "groups/"+name), body)
}

func TestAGroupIsMadeChangedListedAndDeleted(t *testing.T) {
	m := newMount(t)
	m.configuration("", "base", data{"body": "one"})
	m.storage.Reset()
	made := m.group("", "web", nil)
	if w := m.storage.Writes(); len(w) != 2 || w[0].Key != "group/-/web" || !strings.HasPrefix(w[1].Key, "event/") {
		t.Errorf("making a group wrote %v", w)
	}
	at := m.clock.now().Format(time.RFC3339)
	if want := (apitype.Group{Name: "web", CreatedAt: at, UpdatedAt: at}); made != want {
		t.Errorf("%+v", made)
	}
	m.clock.advance(time.Minute)
	m.storage.Reset()
	if again := m.group("", "web", data{"configuration": "", "description": ""}); again != made {
		t.Errorf("%+v", again)
	}
	if w := m.storage.Writes(); len(w) != 0 {
		t.Errorf("changing nothing wrote %v", w)
	}
	changed := m.group("", "web", data{"configuration": "base", "description": "the front"})
	want := apitype.Group{Name: "web", Configuration: "base", Description: "the front", CreatedAt: at, UpdatedAt: m.clock.now().Format(time.RFC3339)}
	if changed != want {
		t.Errorf("%+v", changed)
	}
	if got := m.group("", "web", data{"description": "the front of all"}); got.Configuration != "base" {
		t.Errorf("a field that was not given changed: %+v", got)
	}
	want.Description = "the front of all"
	if got := call[apitype.Group](m, read, "groups/web", nil); got != want {
		t.Errorf("read %+v", got)
	}
	m.group("", "db", nil)
	for _, op := range []logical.Operation{list, read} {
		l := call[apitype.ListResponse[apitype.Group]](m, op, "groups", nil)
		if !slices.Equal(l.Keys, []string{"db", "web"}) || l.KeyInfo["web"] != want || l.NextAfter != "" {
			t.Errorf("%s: %+v", op, l)
		}
	}
	page := call[apitype.ListResponse[apitype.Group]](m, read, "groups", data{"limit": 1})
	if rest := call[apitype.ListResponse[apitype.Group]](m, read, "groups", data{"after": page.NextAfter}); !slices.Equal(rest.Keys, []string{"web"}) {
		t.Errorf("%+v, then %+v", page, rest)
	}
	m.no(apitype.FieldInvalid, read, "groups", data{"limit": -1})

	m.storage.Reset()
	m.ok(remove, "groups/web", nil)
	if w := m.storage.Writes(); len(w) != 3 || w[0].Kind != "put" || w[2].String() != "delete group/-/web" {
		t.Errorf("deleting wrote %v", w)
	}
	m.no(apitype.GroupUnknown, read, "groups/web", nil)
	m.storage.Reset()
	m.ok(remove, "groups/web", nil)
	if w := m.storage.Writes(); len(w) != 0 {
		t.Errorf("deleting again wrote %v", w)
	}
	if got := m.actions(data{"entity_type": "group", "entity_id": "web"}); !slices.Equal(got, []string{"Group.Deleted", "Group.Updated", "Group.Updated", "Group.Created"}) {
		t.Errorf("events %v", got)
	}
}

func badNames() []string {
	return []string{
		"UPPER", "a.b", ".", "..", "...", "a b", "ünïcode", "网络", "a\u202eb", strings.Repeat("a", 65), strings.Repeat("a", 300), "-", "-a", "a-", "_a",
		unknownID, strings.ReplaceAll(unknownID, "-", ""), "amp-bs", "amp-x", "%2e%2e", "%2f", "a\x00b", "a:b", "*", "+",
	}
}

func TestOnlyANameNamesAGroupOrAConfiguration(t *testing.T) {
	m := newMount(t)
	for _, name := range badNames() {
		for _, path := range []string{"groups/" + name, "configurations/" + name, "tenants/acme/groups/" + name, "tenants/" + name + "/groups/web", "tenants/" + name + "/configurations/web"} {
			m.no(apitype.NameInvalid, write, path, data{"body": "one"})
			m.no(apitype.NameInvalid, read, path, nil)
			m.no(apitype.NameInvalid, remove, path, nil)
			if found, exists, err := m.backend.HandleExistenceCheck(t.Context(), m.request(write, path, nil)); !found || exists || err != nil {
				t.Errorf("%s: %v, %v, %v", path, found, exists, err)
			}
		}
		m.no(apitype.NameInvalid, read, "tenants/"+name+"/groups", nil)
		m.no(apitype.NameInvalid, write, "groups/web", data{"configuration": name})
	}
	// A slash ends a name: this is another path, and there is none.
	for _, path := range []string{"groups/a/b", "groups/a/", "configurations/a/b", "groups//a", "tenants/a/b/groups/c"} {
		if p := m.backend.Route(path); p != nil {
			t.Errorf("%s goes to %s", path, p.Pattern)
		}
	}
	if keys := m.keys(""); len(keys) != 0 {
		t.Errorf("stored %v", keys)
	}
	for _, name := range []string{"a", "0", "a-b_c", strings.Repeat("a", 64), "group", "issue", "x--y"} {
		m.group("", name, nil)
		m.configuration("acme", name, data{"body": "one"})
	}
}

func TestTheTenantOfAGroupStandsInThePath(t *testing.T) {
	m := newMount(t)
	for _, resource := range []string{"groups", "configurations"} {
		body := data{"tenant": "acme", "body": "one"}
		for op, body := range map[logical.Operation]data{write: body, read: {"tenant": "acme"}, remove: {"tenant": "acme"}} {
			e := m.no(apitype.FieldInvalid, op, resource+"/web", body)
			if e.Detail != "the tenant stands in the path: ampora/tenants/<tenant>/"+resource+"/<name>" {
				t.Error(e)
			}
		}
		m.ok(write, resource+"/web", data{"tenant": "", "body": "one"})
		m.ok(write, "tenants/acme/"+resource+"/web", data{"tenant": "globex", "body": "two"})
		m.no(map[string]apitype.Code{"groups": apitype.GroupUnknown, "configurations": apitype.ConfigurationUnknown}[resource], read, "tenants/globex/"+resource+"/web", nil)
		for tenant, want := range map[string]int{"": 1, "acme": 1, "globex": 0, "acm": 0, "acme-2": 0} {
			if l := call[apitype.ListResponse[any]](m, list, apitype.Scoped(tenant, resource), nil); len(l.Keys) != want {
				t.Errorf("tenant %q has %v", tenant, l.Keys)
			}
		}
	}
}

// Vault asks whether there is such a thing to tell the capabilities create and update apart.
func TestVaultIsToldWhetherAWriteMakesOrChanges(t *testing.T) {
	m := newMount(t)
	for _, resource := range []string{"groups", "configurations"} {
		for _, prefix := range []string{"", "tenants/acme/"} {
			path := prefix + resource + "/web"
			asked := func(body data) (bool, []string) {
				t.Helper()
				m.storage.Reset()
				found, exists, err := m.backend.HandleExistenceCheck(t.Context(), m.request(write, path, body))
				if !found || err != nil {
					t.Errorf("%s: %v, %v", path, found, err)
				}
				var ops []string
				for _, op := range append(m.storage.Reads(), m.storage.Writes()...) {
					ops = append(ops, op.String())
				}
				return exists, ops
			}
			if exists, _ := asked(nil); exists {
				t.Errorf("%s is said to be there", path)
			}
			// A field of the wrong type is the handler's to refuse: here its value would end in Vault's log.
			if exists, _ := asked(data{"body": data{"a": "b"}, "description": []any{data{"c": 1}}}); exists {
				t.Errorf("%s is said to be there", path)
			}
			m.ok(logical.CreateOperation, path, data{"body": "one"})
			if exists, ops := asked(nil); !exists || len(ops) > 1 {
				t.Errorf("%s is there, and after %v this is said: %v", path, ops, exists)
			}
			m.ok(remove, path, nil)
			if exists, _ := asked(nil); exists {
				t.Errorf("%s is said to be there", path)
			}
		}
	}
	m.panicOn("get", "configuration/")
	_, _, err := m.backend.HandleExistenceCheck(t.Context(), m.request(write, "configurations/web", nil))
	if err == nil || !strings.HasPrefix(err.Error(), "internal: ") {
		t.Errorf("%v", err)
	}
}

func TestAGroupIsNotDeletedWhileSomethingRefersToIt(t *testing.T) {
	m := ready(t)
	m.group("", "web", nil)
	m.group("", "db", nil)
	m.group("acme", "web", nil)
	// Nothing of these is in the group: they are ended, elsewhere, or another tenant's.
	revoked := m.issue(data{"group": "web"})
	m.ok(write, "tokens/"+revoked.TokenID+"/revoke", nil)
	m.issue(data{"group": "web", "ttl": "15m"})
	m.clock.advance(time.Hour)
	m.enrol(data{"group": "db"})
	m.enrol(data{"group": "web", "tenant": "acme"})
	deleted, _ := m.enrol(data{"group": "web"})
	m.ok(remove, "agents/"+deleted.AgentID, nil)
	m.pool("gone", data{"group": "web"})
	fromGone := m.fromPool("gone", data{"count": 3})
	m.ok(remove, "pools/gone", nil)

	m.pool("ci", data{"group": "web"})
	batch := m.fromPool("ci", data{"count": 2})
	m.redeem(data{"token": batch.Tokens[1].Token, "csr": newCSR(t)})
	token := m.issue(data{"group": "web"})
	agent, spent := m.enrol(data{"group": "web"})
	e := m.no(apitype.InUse, remove, "groups/web", nil)
	for _, want := range []string{"group web is used by: ", "token " + token.TokenID, "pool ci", "token " + batch.Tokens[0].TokenID, "agent " + agent.AgentID} {
		if !strings.Contains(e.Detail, want) {
			t.Errorf("%q does not say %s", e.Detail, want)
		}
	}
	for _, other := range []string{revoked.TokenID, spent.TokenID, deleted.AgentID, fromGone.Tokens[0].TokenID, batch.Tokens[1].TokenID} {
		if strings.Contains(e.Detail, other) {
			t.Errorf("%q names %s", e.Detail, other)
		}
	}
	if n := strings.Count(e.Detail, ", ") + 1; n != 5 { // two tokens, the pool, two agents
		t.Errorf("%d refer: %s", n, e.Detail)
	}
	m.ok(write, "pools/ci/revoke", nil)
	m.ok(write, "pools/ci", data{"group": ""})
	m.ok(write, "tokens/"+token.TokenID+"/revoke", nil)
	all := m.agents(data{"group": "web"}).KeyInfo
	for id, a := range all {
		if a.Tenant == "" {
			m.ok(write, "agents/"+id, data{"group": "db"})
		}
	}
	m.ok(remove, "groups/web", nil)
	if g := call[apitype.Group](m, read, "tenants/acme/groups/web", nil); g.Tenant != "acme" {
		t.Errorf("%+v", g)
	}
	m.no(apitype.InUse, remove, "tenants/acme/groups/web", nil)
}

// Rows of a mount from before there were groups name some that do not exist.
func TestATokenWhoseGroupIsGoneMakesAnAgentWithoutOne(t *testing.T) {
	m := ready(t)
	m.group("", "web", data{"description": "x"})
	issued := m.issue(data{"group": "web"})
	if err := m.storage.Storage.Delete(t.Context(), "group/-/web"); err != nil {
		t.Fatal(err)
	}
	m.forget()
	m.backend.InvalidateKey(t.Context(), "group/-/web")
	id := m.redeem(data{"token": issued.Token, "csr": newCSR(t)})
	if a := m.agent(id.AgentID); id.Group != "" || a.Group != "" {
		t.Errorf("%q, %+v", id.Group, a)
	}
	if e := m.events(data{"action": "Token.Redeemed"})[0]; e.Details["group"] != "" {
		t.Errorf("%+v", e)
	}
}

func TestReferencesAreMadeOnlyToWhatIsThere(t *testing.T) {
	m := ready(t)
	m.group("acme", "web", nil)
	m.configuration("acme", "base", data{"body": "one"})
	ours, _ := m.enrol(data{"tenant": "acme"})
	plain, _ := m.enrol(nil)
	before := m.dump()
	m.no(apitype.GroupMissing, write, "tokens/issue", data{"group": "web"})
	m.no(apitype.GroupMissing, write, "tokens/issue", data{"group": "web", "tenant": "globex"})
	m.no(apitype.GroupMissing, write, "tenants/globex/tokens/issue", data{"group": "web"})
	m.no(apitype.GroupMissing, write, "pools/ci", data{"group": "web"})
	m.no(apitype.GroupMissing, write, "tenants/globex/pools/ci", data{"group": "web"})
	m.no(apitype.GroupMissing, write, "agents/"+plain.AgentID, data{"group": "web"})
	m.no(apitype.ConfigurationMissing, write, "agents/"+plain.AgentID, data{"configuration": "base"})
	m.no(apitype.ConfigurationMissing, write, "groups/web", data{"configuration": "base"})
	m.no(apitype.GroupMissing, write, "agents/group", data{"group": "web", "agent_ids": []string{ours.AgentID, plain.AgentID}})
	if m.dump() != before {
		t.Error("a refusal changed the storage")
	}
	// On a path without a tenant the agent's own counts.
	if a := call[apitype.Agent](m, write, "agents/"+ours.AgentID, data{"group": "web", "configuration": "base"}); a.Group != "web" || a.Configuration != "base" {
		t.Errorf("%+v", a)
	}
	m.ok(write, "tokens/issue", data{"group": "web", "tenant": "acme"})
	m.ok(write, "tenants/acme/pools/ci", data{"group": "web"})
}

func TestManyAgentsArePutIntoAGroup(t *testing.T) {
	m := ready(t)
	m.group("", "web", nil)
	var ids []string
	for range 5 {
		id, _ := m.enrol(nil)
		ids = append(ids, id.AgentID)
	}
	slices.Sort(ids)
	other, _ := m.enrol(data{"tenant": "acme"})
	assign := func(body data) apitype.AssignResponse {
		t.Helper()
		return call[apitype.AssignResponse](m, write, "agents/group", body)
	}
	m.ok(write, "agents/"+ids[0], data{"group": "web"})
	before := m.dump()
	for name, bad := range map[string][]string{"unknown": {unknownID}, "no id": {"x"}, "twice bad": {"x", unknownID}} {
		e := m.no(apitype.AgentUnknown, write, "agents/group", data{"group": "web", "agent_ids": append(slices.Clone(ids), bad...)})
		for _, id := range ids {
			if strings.Contains(e.Detail, id) {
				t.Errorf("%s: %v", name, e)
			}
		}
	}
	foreign := m.no(apitype.AgentUnknown, write, "tenants/globex/agents/group", data{"group": "", "agent_ids": []string{other.AgentID}})
	unknown := m.no(apitype.AgentUnknown, write, "tenants/globex/agents/group", data{"group": "", "agent_ids": []string{unknownID}})
	if strings.ReplaceAll(foreign.Detail, other.AgentID, "") != strings.ReplaceAll(unknown.Detail, unknownID, "") {
		t.Errorf("%v, and %v", foreign, unknown)
	}
	m.no(apitype.GroupMissing, write, "agents/group", data{"group": "db", "agent_ids": ids})
	m.no(apitype.NameInvalid, write, "agents/group", data{"group": "D B", "agent_ids": ids})
	m.no(apitype.FieldInvalid, write, "agents/group", data{"agent_ids": ids})
	m.no(apitype.FieldInvalid, write, "agents/group", data{"group": "web"})
	m.no(apitype.FieldInvalid, write, "agents/group", data{"group": "web", "agent_ids": slices.Repeat(ids[:1], 1001)})
	if m.dump() != before {
		t.Error("a refusal changed the storage")
	}

	got := assign(data{"group": "web", "agent_ids": append(slices.Clone(ids), ids[1])})
	if !slices.Equal(got.Changed, ids[1:]) || got.Group != "web" {
		t.Errorf("%+v", got)
	}
	events := m.events(data{"action": "Agent.Updated"})
	if len(events) != 5 || events[0].RequestID != events[3].RequestID || events[0].RequestID == events[4].RequestID || events[0].Details["group"] != "web" {
		t.Errorf("%+v", events)
	}
	if l := m.agents(data{"group": "web"}); len(l.Keys) != 5 {
		t.Errorf("%v", l.Keys)
	}
	if got := assign(data{"group": "web", "agent_ids": strings.Join(ids, ",")}); len(got.Changed) != 0 {
		t.Errorf("%+v", got)
	}
	if got := assign(data{"group": "", "agent_ids": ids[:2]}); !slices.Equal(got.Changed, ids[:2]) {
		t.Errorf("%+v", got)
	}
	if l := m.agents(data{"group": "web"}); len(l.Keys) != 3 {
		t.Errorf("%v", l.Keys)
	}
}

// An edge hears which configuration an agent has: its own, else its group's.
func TestAReportIsAnsweredWithTheConfiguration(t *testing.T) {
	m := ready(t)
	for _, name := range []string{"base", "own"} {
		m.configuration("acme", name, data{"body": fmt.Sprintf("name: %s", name)})
	}
	m.group("acme", "web", data{"configuration": "base"})
	id, _ := m.enrol(data{"tenant": "acme", "group": "web"})
	is := func(want string) {
		t.Helper()
		if a := m.report(apitype.SessionReport{AgentID: id.AgentID, SerialNumber: id.SerialNumber}); a.Configuration != want {
			t.Errorf("%q instead of %q", a.Configuration, want)
		}
	}
	is("base")
	m.ok(write, "agents/"+id.AgentID, data{"configuration": "own"})
	is("own")
	e := m.no(apitype.InUse, remove, "tenants/acme/configurations/own", nil)
	if e.Detail != "configuration own is used by: agent "+id.AgentID {
		t.Error(e)
	}
	m.ok(write, "agents/"+id.AgentID, data{"configuration": ""})
	is("base")
	m.ok(remove, "tenants/acme/configurations/own", nil)
	m.group("acme", "web", data{"configuration": ""})
	is("")
	m.ok(remove, "tenants/acme/configurations/base", nil)
}

func TestUnderHardTenancyGroupsAndConfigurationsBelongToATenant(t *testing.T) {
	m := newMount(t)
	m.group("", "web", nil)
	m.configuration("", "base", data{"body": "one"})
	m.group("acme", "web", nil)
	e := m.no(apitype.InUse, write, "config", data{"tenancy": "hard"})
	if !strings.Contains(e.Detail, "1 group") || !strings.Contains(e.Detail, "1 configuration") {
		t.Error(e)
	}
	m.ok(remove, "groups/web", nil)
	m.ok(remove, "configurations/base", nil)
	m.ok(write, "config", data{"tenancy": "hard"})
	m.no(apitype.TenantRequired, write, "groups/web", nil)
	m.no(apitype.TenantRequired, write, "configurations/base", data{"body": "one"})
	m.configuration("acme", "base", data{"body": "one"})
	m.group("acme", "web", data{"configuration": "base"})
}
