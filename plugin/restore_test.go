package ampora_test

import (
	"testing"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/hashicorp/vault/sdk/logical"
)

// Vault mounts the engine anew when it restores a backup, so that its memory is empty. Should the storage be exchanged under
// a running one all the same, then nothing of what it remembers outlives config/after-restore.
func TestAfterARestoreMemoryServesNoRowFromBefore(t *testing.T) {
	m := ready(t)
	most := data{"max_outstanding": 3}
	ci := m.pool("ci", most)
	m.fromPool("ci", data{"count": 2})
	kept, _ := m.enrol(nil)
	m.ok(write, "config", data{"heartbeat_interval": 20})
	backup := m.backup()

	m.pool("late", nil)
	m.ok(write, "pools/ci", data{"max_outstanding": 100})
	count := m.fromPool("ci", data{"count": 50})
	single, late := m.issue(nil), m.issue(nil)
	enrolled := m.redeem(data{"token": late.Token, "csr": newCSR(t)})
	m.ok(write, "groups/web", nil)
	m.ok(write, "agents/"+kept.AgentID+"/revoke", nil)
	m.ok(write, "tokens/revoke-all", data{"reason": "all"})
	m.ok(write, "config", data{"heartbeat_interval": 40})
	second := call[apitype.CAIssuer](m, write, "ca/root", nil)
	m.ok(write, "ca/issuers/"+second.IssuerID, data{"state": "active"})
	revision := m.sync("").Revision

	m.storage.Storage = backup
	if n := call[apitype.RestoreResponse](m, write, "config/after-restore", nil).RestoreCount; n != 1 {
		t.Errorf("the first restore is number %d", n)
	}

	// asked anew, a mount on the same storage knows the truth
	fresh := mountOn(t, backup, m.clock)
	for _, path := range []string{"config", "ca/bundle"} {
		if got, want := m.ok(read, path, nil), fresh.ok(read, path, nil); !equalJSON(t, got.Data, want.Data) {
			t.Errorf("%s is %s, in storage %s", path, toText(t, got.Data), toText(t, want.Data))
		}
	}
	for _, path := range []string{"pools", "tokens", "agents", "groups", "ca/issuers"} {
		if got, want := m.ok(list, path, nil), fresh.ok(list, path, nil); !equalJSON(t, got.Data, want.Data) {
			t.Errorf("%s are %s, in storage %s", path, toText(t, got.Data), toText(t, want.Data))
		}
	}
	for _, text := range []string{single.Token, late.Token, count.Tokens[7].Token} {
		if got := m.verdict(text); got != apitype.TokenUnknown {
			t.Errorf("a token that storage does not know is %q", got)
		}
	}
	m.no(apitype.AgentUnknown, read, "agents/"+enrolled.AgentID, nil)
	if a := m.agent(kept.AgentID); a.State != apitype.AgentStateActive {
		t.Errorf("an agent whose revocation is lost is %s", a.State)
	}
	// A full snapshot, in which nobody is revoked.
	feed := m.sync(revision)
	if !feed.Full || len(feed.Revoked) != 0 || len(feed.Issuers) != 1 || feed.Settings == nil || feed.Settings.HeartbeatInterval != 20 || feed.Settings.RestoreCount != 1 {
		t.Errorf("the feed tells %+v", feed)
	}
	for action, want := range map[string]int{
		apitype.ActionConfigRestored: 1, apitype.ActionTokenAllRevoked: 0, apitype.ActionCertificateRevoked: 0, apitype.ActionPoolCreated: 1, apitype.ActionTokenRedeemed: 1,
	} {
		if n := len(m.events(data{"action": action})); n != want {
			t.Errorf("%d events %s, want %d", n, action, want)
		}
	}
	// The cap is that of the backup again, and none of the old tokens counts.
	if p := call[apitype.Pool](m, read, "pools/ci", nil); p.PoolID != ci.PoolID || p.MaxOutstanding != 3 {
		t.Errorf("the pool is %+v", p)
	}
	m.fromPool("ci", data{"count": 3})
	m.no(apitype.PoolFull, write, "pools/ci/issue", nil)
}

// The same backup may be put back again. Then the drill is run until its count is a new one.
func TestADrillRunTwiceCountsTwice(t *testing.T) {
	m := ready(t)
	token := m.issue(nil)
	backup := m.backup()
	first := mountOn(t, copyOf(t, backup), m.clock)
	if n := call[apitype.RestoreResponse](first, write, "config/after-restore", nil).RestoreCount; n != 1 {
		t.Fatalf("count %d", n)
	}
	second := mountOn(t, backup, m.clock)
	for want := 1; want <= 2; want++ {
		if n := call[apitype.RestoreResponse](second, write, "config/after-restore", nil).RestoreCount; n != want {
			t.Errorf("count %d, want %d", n, want)
		}
	}
	if got := second.verdict(token.Token); got != apitype.TokenRevoked {
		t.Errorf("the old token is %q", got)
	}
	a, _ := first.enrol(nil)
	b, _ := second.enrol(nil)
	if a.SerialNumber[len(a.SerialNumber)-8:] != "01:00:01" || b.SerialNumber[len(b.SerialNumber)-8:] != "02:00:01" {
		t.Errorf("serials %s and %s", a.SerialNumber, b.SerialNumber)
	}
}

func copyOf(t *testing.T, s logical.Storage) logical.Storage {
	t.Helper()
	copied := &logical.InmemStorage{}
	keys, err := logical.CollectKeys(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range keys {
		entry, err := s.Get(t.Context(), key)
		if err != nil || copied.Put(t.Context(), entry) != nil {
			t.Fatalf("%s cannot be copied: %v", key, err)
		}
	}
	return copied
}
