package ampora_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/plugintest"
	"github.com/ampora/ampora/plugin/token"
	"github.com/hashicorp/vault/sdk/logical"
)

func (m *mount) pool(name string, body data) apitype.Pool {
	m.Helper()
	return call[apitype.Pool](m, write, "pools/"+name, body)
}

func (m *mount) fromPool(name string, body data) apitype.PoolIssueResponse {
	m.Helper()
	return call[apitype.PoolIssueResponse](m, write, "pools/"+name+"/issue", body)
}

// withSecret issues a token for a holder of the pool's admin secret.
func (m *mount) withSecret(pool, secret string) (apitype.PoolIssueResponse, *apitype.Error) {
	m.Helper()
	resp, refusal := m.send(write, "pools/"+pool+"/admin/issue", data{"admin_secret": secret, "source_ip": "198.51.100.7"})
	if refusal != nil {
		return apitype.PoolIssueResponse{}, refusal
	}
	return decodeAnswer[apitype.PoolIssueResponse](m, resp), nil
}

// verdict is the code with which a token is refused, or "".
func (m *mount) verdict(text string) apitype.Code {
	m.Helper()
	_, refusal := m.send(write, "redeem/check", data{"token": text, "source_ip": "10.0.0.1"})
	if refusal == nil {
		return ""
	}
	return refusal.Code
}

// backup is a copy of the storage as it is now.
func (m *mount) backup() logical.Storage {
	m.Helper()
	copied := &logical.InmemStorage{}
	for _, key := range m.keys("") {
		entry, err := m.storage.Storage.Get(m.Context(), key)
		if err != nil || copied.Put(m.Context(), entry) != nil {
			m.Fatalf("%s cannot be copied: %v", key, err)
		}
	}
	return copied
}

func TestAPoolIsMadeReadListedChangedAndDeleted(t *testing.T) {
	m := ready(t)
	made := m.pool("ci", data{"default_ttl": "1h", "max_ttl": "2h", "leaf_ttl": "24h", "bound_cidrs": "10.1.2.3/8", "max_outstanding": 5})
	if _, err := token.Parse(token.PoolSecret, made.AdminSecret); err != nil || !made.AdminSecretEnabled {
		t.Fatalf("made %+v: %v", made, err)
	}
	want := made
	want.AdminSecret = ""
	if want.PoolID == "" || want.Name != "ci" || want.CreatedBy != "userpass-alice" || want.DefaultTTL != 3600 || want.MaxTTL != 7200 ||
		want.LeafTTL != 86400 || !slices.Equal(want.BoundCIDRs, []string{"10.0.0.0/8"}) || want.MaxOutstanding != 5 {
		t.Errorf("made %+v", made)
	}
	if got := call[apitype.Pool](m, read, "pools/ci", nil); !equalJSON(t, got, want) {
		t.Errorf("read %+v", got)
	}
	if got := m.pool("ci", nil); !equalJSON(t, got, want) {
		t.Errorf("a write without fields answers %+v", got)
	}
	want.MaxOutstanding, want.DefaultTTL = 0, 0
	if got := m.pool("ci", data{"max_outstanding": 0, "default_ttl": 0, "max_ttl": "2h"}); !equalJSON(t, got, want) {
		t.Errorf("changed %+v", got)
	}
	m.pool("another", nil)
	l := call[apitype.ListResponse[apitype.Pool]](m, list, "pools", nil)
	if !slices.Equal(l.Keys, []string{"another", "ci"}) || !equalJSON(t, l.KeyInfo["ci"], want) {
		t.Errorf("list %+v", l)
	}
	l = call[apitype.ListResponse[apitype.Pool]](m, read, "pools", data{"limit": 1})
	if !slices.Equal(l.Keys, []string{"another"}) || l.NextAfter != "another" {
		t.Errorf("first page %+v", l)
	}
	l = call[apitype.ListResponse[apitype.Pool]](m, read, "pools", data{"limit": 1, "after": "another"})
	if !slices.Equal(l.Keys, []string{"ci"}) || l.NextAfter != "" {
		t.Errorf("last page %+v", l)
	}
	m.ok(remove, "pools/ci", nil)
	m.ok(remove, "pools/ci", nil)
	m.no(apitype.PoolUnknown, read, "pools/ci", nil)
	if keys := m.keys("pool/"); len(keys) != 1 {
		t.Errorf("left over: %v", keys)
	}
	if got := m.actions(data{"entity_id": made.PoolID}); !slices.Equal(got, []string{"Pool.Deleted", "Pool.Updated", "Pool.Created"}) {
		t.Errorf("events %v", got)
	}
}

func TestAPoolIssuesAsItSays(t *testing.T) {
	m := ready(t)
	pool := m.pool("ci", data{"default_ttl": "1h", "max_ttl": "2h", "leaf_ttl": "1h", "bound_cidrs": "10.0.0.0/8"})
	issued := m.fromPool("ci", data{"label": "job 7"})
	now := m.clock.now()
	if issued.ExpiresAt != now.Add(time.Hour).Format(time.RFC3339) || issued.Tokens != nil {
		t.Errorf("issued %+v", issued)
	}
	info := call[apitype.TokenInfo](m, read, "tokens/"+issued.TokenID, nil)
	if info.Pool != "ci" || info.PoolID != pool.PoolID || info.Label != "job 7" || !slices.Equal(info.BoundCIDRs, []string{"10.0.0.0/8"}) {
		t.Errorf("token %+v", info)
	}
	if got := m.fromPool("ci", data{"ttl": "2h"}); got.ExpiresAt != now.Add(2*time.Hour).Format(time.RFC3339) {
		t.Errorf("with a ttl: %+v", got)
	}
	m.no(apitype.CIDRMismatch, write, "redeem/check", data{"token": issued.Token, "source_ip": "192.0.2.1"})
	id := m.redeem(data{"token": issued.Token, "csr": newCSR(t), "source_ip": "10.0.0.1"})
	if ends := time.Unix(id.Expiration, 0); ends.Sub(now) > time.Hour {
		t.Errorf("the certificate ends at %s", ends)
	}
	agent := m.agent(id.AgentID)
	if agent.Pool != "ci" || agent.PoolID != pool.PoolID || agent.DisplayName != "job 7" {
		t.Errorf("agent %+v", agent)
	}
	for _, action := range []string{"Token.Issued", "Token.Redeemed"} {
		e := m.events(data{"action": action, "entity_id": issued.TokenID})
		if len(e) != 1 || e[0].Details["pool"] != "ci" || e[0].Details["pool_id"] != pool.PoolID {
			t.Errorf("%s: %+v", action, e)
		}
	}
	if l := m.agents(data{"pool": "ci"}); len(l.Keys) != 1 {
		t.Errorf("agents of the pool: %v", l.Keys)
	}
	if l := m.agents(data{"pool": "other"}); len(l.Keys) != 0 {
		t.Errorf("agents of another pool: %v", l.Keys)
	}
	// The mount's bounds hold, whatever the pool was told before.
	m.ok(write, "config", data{"token_max_ttl": "30m", "token_ttl": "20m"})
	if got := m.fromPool("ci", nil); got.ExpiresAt != now.Add(30*time.Minute).Format(time.RFC3339) {
		t.Errorf("above the mount's longest: %+v", got)
	}
	m.no(apitype.TTLOutOfRange, write, "pools/ci/issue", data{"ttl": "31m"})
}

func TestManyTokensAreIssuedWithOneWrite(t *testing.T) {
	m := ready(t)
	m.pool("ci", nil)
	if one := m.fromPool("ci", data{"count": 1}); len(one.Tokens) != 1 || one.Token != "" {
		t.Errorf("a count of one answers %+v", one)
	}
	m.events(nil) // memory is warm
	m.storage.Reset()
	many := m.fromPool("ci", data{"count": 1000, "label": "rack"})
	if n := len(m.storage.Writes()); n != 2 {
		t.Errorf("1000 tokens took %d writes", n)
	}
	if len(many.Tokens) != 1000 || many.BatchID == "" {
		t.Fatalf("%d tokens in batch %q", len(many.Tokens), many.BatchID)
	}
	events := m.events(data{"entity_id": many.BatchID})
	if len(events) != 1 || events[0].Action != "Token.Issued" || fmt.Sprint(events[0].Details["count"]) != "1000" {
		t.Errorf("events %+v", events)
	}
	m.storage.Reset()
	first := m.redeem(data{"token": many.Tokens[0].Token, "csr": newCSR(t)})
	if n := len(m.storage.Writes()); n != 2 {
		t.Errorf("redeeming one of a batch took %d writes", n)
	}
	m.ok(write, "tokens/"+many.Tokens[1].TokenID+"/revoke", data{"reason": "lost"})
	if got := m.agent(first.AgentID); got.DisplayName != "rack" || got.TokenID != many.Tokens[0].TokenID {
		t.Errorf("agent %+v", got)
	}
	want := map[string]apitype.Code{many.Tokens[0].Token: apitype.TokenRedeemed, many.Tokens[1].Token: apitype.TokenRevoked, many.Tokens[2].Token: ""}
	restarted := mountOn(t, m.storage.Storage, m.clock)
	for _, m := range []*mount{m, restarted} {
		for text, code := range want {
			if got := m.verdict(text); got != code {
				t.Errorf("%q instead of %q", got, code)
			}
		}
		if l := m.tokens(data{"state": "issued", "pool": "ci"}); len(l.Keys) != 999 { // 998 and the one alone
			t.Errorf("%d are outstanding", len(l.Keys))
		}
	}
	// Pages go through rows of their own and batches in one order.
	single := m.issue(nil)
	var paged []string
	for after := ""; ; {
		l := m.tokens(data{"limit": 97, "after": after})
		paged = append(paged, l.Keys...)
		if after = l.NextAfter; after == "" {
			break
		}
	}
	all := m.tokens(nil).Keys
	if !slices.Equal(paged, all) || !slices.IsSorted(all) || !slices.Contains(all, single.TokenID) || len(slices.Compact(all)) != 1001 {
		t.Errorf("%d by pages, %d at once", len(paged), len(all))
	}
	m.clock.advance(24*time.Hour + 24*time.Hour)
	m.sweep()
	if keys := append(m.keys("batch/"), m.keys("token/")...); len(keys) != 0 {
		t.Errorf("left over: %v", keys)
	}
	if got := m.verdict(many.Tokens[2].Token); got != apitype.TokenUnknown {
		t.Errorf("%q after it was tidied away", got)
	}
}

func TestTheAdminSecretIssuesAndNothingElseTellsOfThePool(t *testing.T) {
	m := ready(t)
	ci, acme := m.pool("ci", nil), call[apitype.Pool](m, write, "tenants/acme/pools/ci", nil)
	for _, c := range []struct {
		path, secret string
		good         bool
		tenant       string
	}{
		{"ci", ci.AdminSecret, true, ""},
		{ci.PoolID, ci.AdminSecret, true, ""},
		{"ci", " " + ci.AdminSecret + "\n", true, ""},
		{acme.PoolID, acme.AdminSecret, true, "acme"},
		{"ci", acme.AdminSecret, false, ""},
		{acme.PoolID, ci.AdminSecret, false, ""},
		{"no-such-pool", ci.AdminSecret, false, ""},
		{unknownID, ci.AdminSecret, false, ""},
		{"NOT A NAME", ci.AdminSecret, false, ""},
		{"ci", token.New(token.PoolSecret).Reveal(), false, ""},
		{"ci", token.New(token.Bootstrap).Reveal(), false, ""},
		{"ci", "", false, ""},
		{"ci", strings.ToUpper(ci.AdminSecret), false, ""},
	} {
		issued, refusal := m.withSecret(c.path, c.secret)
		if !c.good {
			if refusal == nil || refusal.Code != apitype.PoolSecretInvalid {
				t.Errorf("%s: %v", c.path, refusal)
			}
			continue
		}
		if refusal != nil {
			t.Fatalf("%s: %v", c.path, refusal)
		}
		if info := call[apitype.TokenInfo](m, read, "tokens/"+issued.TokenID, nil); info.Tenant != c.tenant || info.Pool != "ci" {
			t.Errorf("%s issued %+v", c.path, info)
		}
		e := m.events(data{"entity_id": issued.TokenID})
		if len(e) != 1 || e[0].SourceIP != "198.51.100.7" || e[0].Details["via"] != "admin_secret" {
			t.Errorf("%s: %+v", c.path, e)
		}
	}
	for _, path := range []string{"tenants/acme/pools/" + ci.PoolID, "tenants/acme/pools/ci", "tenants/other/pools/" + acme.PoolID, "tenants/other/pools/ci"} {
		m.no(apitype.PoolSecretInvalid, write, path+"/admin/issue", data{"admin_secret": ci.AdminSecret})
	}
	m.ok(write, "tenants/acme/pools/ci/admin/issue", data{"admin_secret": acme.AdminSecret})
}

func TestRevokingAndRotatingEndEveryTokenOfThePoolAndNothingElse(t *testing.T) {
	for _, verb := range []string{"revoke", "rotate-secret"} {
		m := ready(t)
		ci, other := m.pool("ci", nil), m.pool("other", nil)
		var tokens []string
		for _, issued := range m.fromPool("ci", data{"count": 50}).Tokens {
			tokens = append(tokens, issued.Token)
		}
		tokens = append(tokens, m.fromPool("ci", nil).Token)
		id := m.redeem(data{"token": tokens[0], "csr": newCSR(t)})
		foreign := []string{m.fromPool("other", nil).Token, m.issue(nil).Token}
		m.storage.Reset()
		ended := call[apitype.Pool](m, write, "pools/ci/"+verb, data{"reason": "leaked on a wiki"})
		if n := len(m.storage.Writes()); n != 2 {
			t.Errorf("%s took %d writes", verb, n)
		}
		if ended.RevocationReason != "leaked on a wiki" || ended.RevokedAt == "" || ended.AdminSecretEnabled != (verb == "rotate-secret") {
			t.Errorf("%s answers %+v", verb, ended)
		}
		for i, text := range tokens {
			want := apitype.PoolRevoked
			if i == 0 {
				want = apitype.TokenRedeemed
			}
			if got := m.verdict(text); got != want {
				t.Errorf("after %s token %d is %q", verb, i, got)
			}
		}
		m.no(apitype.PoolRevoked, write, "redeem", data{"token": tokens[1], "csr": newCSR(t)})
		for _, text := range foreign {
			if got := m.verdict(text); got != "" {
				t.Errorf("after %s another token is %q", verb, got)
			}
		}
		if l := m.tokens(data{"pool": "ci", "state": "issued"}); len(l.Keys) != 0 {
			t.Errorf("after %s %d are listed as issued", verb, len(l.Keys))
		}
		l := m.tokens(data{"pool": "ci", "state": "revoked", "limit": 1})
		if info := l.KeyInfo[l.Keys[0]]; info.Reason != "leaked on a wiki" {
			t.Errorf("a token says %+v", info)
		}
		if got := m.agent(id.AgentID); got.State != apitype.AgentStateActive {
			t.Errorf("after %s the agent is %s", verb, got.State)
		}
		if _, refusal := m.withSecret("ci", ci.AdminSecret); refusal == nil || refusal.Code != apitype.PoolSecretInvalid {
			t.Errorf("after %s the old secret: %v", verb, refusal)
		}
		if _, refusal := m.withSecret("other", other.AdminSecret); refusal != nil {
			t.Error(refusal)
		}
		if got := m.verdict(m.fromPool("ci", nil).Token); got != "" { // by policy it goes on
			t.Errorf("after %s a fresh token is %q", verb, got)
		}
		secret := ended.AdminSecret
		if verb == "revoke" {
			if secret != "" {
				t.Error("revoke answers a secret")
			}
			secret = call[apitype.Pool](m, write, "pools/ci/rotate-secret", nil).AdminSecret
		}
		issued, refusal := m.withSecret("ci", secret)
		if refusal != nil || m.verdict(issued.Token) != "" {
			t.Errorf("with the new secret: %v", refusal)
		}
	}
	m := ready(t)
	m.no(apitype.PoolUnknown, write, "pools/ci/revoke", nil)
	m.no(apitype.PoolUnknown, write, "pools/ci/rotate-secret", nil)
	m.pool("ci", nil)
	m.no(apitype.FieldInvalid, write, "pools/ci/revoke", data{"reason": "a\nb"})
}

func TestADeletedPoolLeavesNothingRedeemableNorDoesOneOfTheSameName(t *testing.T) {
	m := ready(t)
	ci := m.pool("ci", nil)
	tokens := []string{m.fromPool("ci", nil).Token, m.fromPool("ci", data{"count": 2}).Tokens[1].Token}
	m.ok(remove, "pools/ci", nil)
	again := func(m *mount) {
		t.Helper()
		for _, text := range tokens {
			if got := m.verdict(text); got != apitype.PoolRevoked {
				t.Errorf("%q", got)
			}
		}
		for _, pool := range []string{"ci", ci.PoolID} {
			if _, refusal := m.withSecret(pool, ci.AdminSecret); refusal == nil || refusal.Code != apitype.PoolSecretInvalid {
				t.Errorf("the old secret: %v", refusal)
			}
		}
	}
	again(m)
	if made := m.pool("ci", nil); made.PoolID == ci.PoolID {
		t.Error("it has the id of the one before")
	}
	again(m)
	again(mountOn(t, m.storage.Storage, m.clock))
	if got := m.verdict(m.fromPool("ci", nil).Token); got != "" {
		t.Errorf("a token of the new pool is %q", got)
	}
}

func TestACappedPoolNeverHasMoreTokensOutstanding(t *testing.T) {
	m := ready(t)
	m.pool("ci", data{"max_outstanding": 10, "default_ttl": "1h"})
	var mu sync.Mutex
	var tokens []apitype.PoolIssueResponse
	var wg sync.WaitGroup
	for range 40 {
		wg.Go(func() {
			resp, refusal := m.send(write, "pools/ci/issue", nil)
			if refusal != nil {
				if refusal.Code != apitype.PoolFull {
					t.Error(refusal)
				}
				return
			}
			mu.Lock()
			defer mu.Unlock()
			tokens = append(tokens, decodeAnswer[apitype.PoolIssueResponse](m, resp))
		})
	}
	wg.Wait()
	if len(tokens) != 10 {
		t.Fatalf("%d of 10 tokens were issued", len(tokens))
	}
	full := func(m *mount, room int) {
		t.Helper()
		for range room {
			m.fromPool("ci", nil)
		}
		m.no(apitype.PoolFull, write, "pools/ci/issue", nil)
	}
	full(m, 0)
	m.redeem(data{"token": tokens[0].Token, "csr": newCSR(t)})
	m.ok(write, "tokens/"+tokens[1].TokenID+"/revoke", nil)
	m.no(apitype.PoolFull, write, "pools/ci/issue", data{"count": 3})
	full(mountOn(t, m.storage.Storage, m.clock), 2) // a process that must count first
	m.forget()
	full(m, 0)
	m.clock.advance(time.Hour)
	full(m, 10)
	m.ok(write, "pools/ci/revoke", nil)
	full(m, 10)
	m.ok(write, "tokens/revoke-all", nil)
	full(m, 10)
	m.pool("ci", data{"max_outstanding": 11})
	full(m, 1)
}

func TestAllTokensEndAtOnceOrAllOfATenant(t *testing.T) {
	m := ready(t)
	m.pool("ci", nil)
	make := func() map[string][]string {
		acme := data{"tenant": "acme"}
		call[apitype.Pool](m, write, "tenants/acme/pools/ci", nil)
		return map[string][]string{
			"":     {m.issue(nil).Token, m.fromPool("ci", data{"count": 2}).Tokens[0].Token},
			"acme": {m.issue(acme).Token, call[apitype.PoolIssueResponse](m, write, "tenants/acme/pools/ci/issue", nil).Token},
			"acm":  {m.issue(data{"tenant": "acm"}).Token},
		}
	}
	for _, tenant := range []string{"acme", ""} {
		tokens := make()
		path := apitype.Scoped(tenant, "tokens/revoke-all")
		m.storage.Reset()
		ended := call[apitype.RevokeAllResponse](m, write, path, data{"reason": "who knows", "tenant": "other"})
		if n := len(m.storage.Writes()); n != 2 || ended.Tenant != tenant || ended.Reason != "who knows" || ended.RevokedAt == "" {
			t.Errorf("%s took %d writes and answers %+v", path, n, ended)
		}
		for _, m := range []*mount{m, mountOn(t, m.storage.Storage, m.clock)} {
			for of, texts := range tokens {
				for _, text := range texts {
					if got := m.verdict(text); (got == apitype.TokenRevoked) != (tenant == "" || of == tenant) {
						t.Errorf("after %s a token of %q is %q", path, of, got)
					}
				}
			}
		}
		if e := m.events(data{"action": "Token.AllRevoked"}); e[0].Tenant != tenant || e[0].Details["reason"] != "who knows" {
			t.Errorf("event %+v", e[0])
		}
		for _, texts := range make() { // what is issued afterwards is good
			for _, text := range texts {
				if got := m.verdict(text); got != "" {
					t.Errorf("a fresh token is %q", got)
				}
			}
		}
	}
}

func TestAfterARestoreNothingOldIsRedeemableAndNoSerialIsGivenTwice(t *testing.T) {
	m := ready(t)
	ci := m.pool("ci", nil)
	outstanding, lost := m.issue(nil), m.issue(nil)
	kept, _ := m.enrol(nil)
	backup := m.backup()
	// After the backup: a token becomes an agent, which the restored storage does not know.
	before := m.redeem(data{"token": lost.Token, "csr": newCSR(t)})

	m = mountOn(t, backup, m.clock)
	if m.verdict(lost.Token) != "" {
		t.Fatal("the backup does not know the token as outstanding, so nothing is tested")
	}
	restored := call[apitype.RestoreResponse](m, write, "config/after-restore", data{"reason": "disk died"})
	if restored.RestoreCount != 1 || restored.RestoredAt == "" {
		t.Errorf("%+v", restored)
	}
	for _, m := range []*mount{m, mountOn(t, m.storage.Storage, m.clock)} {
		for _, text := range []string{outstanding.Token, lost.Token} {
			if got := m.verdict(text); got != apitype.TokenRevoked {
				t.Errorf("an old token is %q", got)
			}
		}
		if _, refusal := m.withSecret("ci", ci.AdminSecret); refusal == nil || refusal.Code != apitype.PoolSecretInvalid {
			t.Errorf("the old secret: %v", refusal)
		}
		if p := call[apitype.Pool](m, read, "pools/ci", nil); p.AdminSecretEnabled {
			t.Error("the pool's row says that the old secret is good")
		}
		if a := m.agent(kept.AgentID); a.State != apitype.AgentStateActive {
			t.Errorf("an agent is %s", a.State)
		}
	}
	secret := call[apitype.Pool](m, write, "pools/ci/rotate-secret", nil).AdminSecret
	if _, refusal := m.withSecret("ci", secret); refusal != nil {
		t.Error(refusal)
	}
	after, _ := m.enrol(nil)
	if g := after.SerialNumber[len(after.SerialNumber)-8:]; g != "01:00:01" {
		t.Errorf("the first generation after one restore is %s", g)
	}
	if g := before.SerialNumber[len(before.SerialNumber)-8:]; g != "00:00:01" {
		t.Errorf("the first generation before any restore is %s", g)
	}
	if e := m.events(data{"action": "Config.Restored"}); len(e) != 1 || e[0].Details["reason"] != "disk died" {
		t.Errorf("events %+v", e)
	}
}

func TestWhatIsWrongWithAPoolIsToldByTheFieldsName(t *testing.T) {
	m := ready(t)
	for _, name := range []string{"UPPER", "a.b", ".", "..", "a b", "ünïcode", strings.Repeat("a", 65), strings.Repeat("a", 300), "-a", "a-", unknownID, "amp-ps", "%2e%2e"} {
		for _, op := range []string{"", "/issue", "/revoke", "/rotate-secret"} {
			m.no(apitype.NameInvalid, write, "pools/"+name+op, nil)
		}
		m.no(apitype.NameInvalid, read, "pools/"+name, nil)
		m.no(apitype.NameInvalid, remove, "pools/"+name, nil)
	}
	m.pool("ci", nil)
	for code, bodies := range map[apitype.Code][]data{
		apitype.TTLOutOfRange: {{"default_ttl": "1s"}, {"default_ttl": "169h"}, {"max_ttl": "1s"}, {"max_ttl": "169h"}, {"default_ttl": "2h", "max_ttl": "1h"}},
		apitype.FieldInvalid: {
			{"leaf_ttl": 1}, {"leaf_ttl": "9000h"}, {"max_outstanding": -1}, {"max_outstanding": 1e9}, {"bound_cidrs": "10.0.0.1"}, {"bound_cidrs": "x"},
			{"default_ttl": "a while"}, {"max_outstanding": "many"}, {"tenant": "acme"},
		},
		apitype.NameInvalid: {{"group": "A B"}},
	} {
		for _, body := range bodies {
			for _, pool := range []string{"ci", "new"} {
				m.no(code, write, "pools/"+pool, body)
			}
		}
	}
	for code, bodies := range map[apitype.Code][]data{
		apitype.FieldInvalid:  {{"count": 0}, {"count": -1}, {"count": 1001}, {"count": 1e9}, {"count": 1.5}, {"count": "two"}, {"label": "a\tb"}, {"label": strings.Repeat("x", 10<<10)}, {"ttl": "words"}},
		apitype.TTLOutOfRange: {{"ttl": "15"}, {"ttl": "0"}, {"ttl": 0}, {"ttl": "169h"}, {"ttl": "14m59s"}},
	} {
		for _, body := range bodies {
			m.no(code, write, "pools/ci/issue", body)
		}
	}
	m.ok(write, "pools/ci/issue", data{"ttl": "15m"})
	m.no(apitype.PoolUnknown, read, "pools/new", nil) // nothing was half-made
	if l := m.tokens(nil); len(l.Keys) != 1 {
		t.Errorf("%d tokens", len(l.Keys))
	}
}

// A token that is issued while its pool is being revoked is either refused or dead: what is redeemed after the answer of
// the revocation was issued after it began.
func TestNothingIssuedBeforeARevocationIsGoodAfterIt(t *testing.T) {
	m := ready(t)
	m.pool("ci", nil)
	for _, revoke := range []string{"pools/ci/revoke", "pools/ci/rotate-secret", "tokens/revoke-all"} {
		for range 10 {
			var mu sync.Mutex
			var before []string
			begun := false
			var wg sync.WaitGroup
			for i := range 4 {
				wg.Go(func() {
					for {
						body := data{}
						if i%2 == 1 {
							body["count"] = 2
						}
						issued := m.fromPool("ci", body)
						mu.Lock()
						stop := begun
						if !stop {
							before = append(before, issued.Token)
							for _, one := range issued.Tokens {
								before = append(before, one.Token)
							}
						}
						mu.Unlock()
						if stop {
							return
						}
					}
				})
			}
			eventually(t, "something is issued", func() bool { mu.Lock(); defer mu.Unlock(); return len(before) > 10 })
			mu.Lock()
			begun = true
			mu.Unlock()
			m.ok(write, revoke, nil)
			for _, text := range before {
				if text != "" && m.verdict(text) == "" {
					t.Fatalf("%s: a token from before lives", revoke)
				}
			}
			wg.Wait()
		}
	}
}

func TestOfTwoRotationsAtOnceOneSecretIsGood(t *testing.T) {
	m := ready(t)
	m.pool("ci", nil)
	for range 10 {
		secrets := make([]string, 4)
		var wg sync.WaitGroup
		for i := range secrets {
			wg.Go(func() { secrets[i] = call[apitype.Pool](m, write, "pools/ci/rotate-secret", nil).AdminSecret })
		}
		wg.Wait()
		good := 0
		for _, secret := range secrets {
			if _, refusal := m.withSecret("ci", secret); refusal == nil {
				good++
			}
		}
		if good != 1 {
			t.Fatalf("%d of %d secrets are good", good, len(secrets))
		}
	}
}

func TestPoolsOfTwoTenantsHaveTheSameNames(t *testing.T) {
	m := ready(t)
	seen := map[string]bool{}
	for _, tenant := range []string{"", "acme", "acme-2"} {
		body := data{"max_outstanding": 7}
		if tenant != "" {
			body["tenant"] = "other" // the path wins
		}
		p := call[apitype.Pool](m, write, apitype.Scoped(tenant, "pools/ci"), body)
		if p.Tenant != tenant || seen[p.PoolID] {
			t.Errorf("%+v", p)
		}
		seen[p.PoolID] = true
	}
	for _, tenant := range []string{"", "acme", "acme-2"} {
		issued := call[apitype.PoolIssueResponse](m, write, apitype.Scoped(tenant, "pools/ci/issue"), data{"label": "x"})
		if info := call[apitype.TokenInfo](m, read, "tokens/"+issued.TokenID, nil); info.Tenant != tenant {
			t.Errorf("%+v", info)
		}
		if id := m.redeem(data{"token": issued.Token, "csr": newCSR(t)}); id.Tenant != tenant {
			t.Errorf("%+v", id)
		}
		l := call[apitype.ListResponse[apitype.Pool]](m, list, apitype.Scoped(tenant, "pools"), nil)
		if len(l.Keys) != 1 || l.KeyInfo["ci"].Tenant != tenant {
			t.Errorf("%+v", l)
		}
	}
}

// A redemption, or an issue, that has looked at the state before a revocation commits before that answers, or not at all.
func TestARevocationWaitsForWhatIsUnderWay(t *testing.T) {
	for _, revoke := range []string{"pools/ci/revoke", "pools/ci/rotate-secret", "tokens/revoke-all", "config/after-restore"} {
		for _, row := range []string{"agent/", "token/"} {
			m := ready(t)
			m.pool("ci", nil)
			issued := m.fromPool("ci", nil)
			held, release := make(chan struct{}), make(chan struct{})
			m.storage.Before(func(_ context.Context, op plugintest.Op) error {
				if op.Kind == "put" && strings.HasPrefix(op.Key, row) {
					close(held)
					<-release
				}
				return nil
			})
			var wg sync.WaitGroup
			var fresh string
			wg.Go(func() {
				if row == "agent/" {
					m.redeem(data{"token": issued.Token, "csr": newCSR(t)})
				} else {
					fresh = m.fromPool("ci", nil).Token
				}
			})
			<-held
			answered := make(chan struct{})
			go func() {
				m.ok(write, revoke, nil)
				close(answered)
			}()
			select {
			case <-answered:
				t.Errorf("%s answered before the %s row was stored", revoke, row)
			case <-time.After(100 * time.Millisecond):
			}
			m.storage.Before(nil)
			close(release)
			wg.Wait()
			<-answered
			if fresh != "" && m.verdict(fresh) == "" {
				t.Errorf("%s: a token that was being issued lives", revoke)
			}
		}
	}
}
