package ampora

import (
	"errors"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
)

func TestAnAppRoleIsToldByItsRole(t *testing.T) {
	alias := func(role string) *logical.Alias {
		return &logical.Alias{Name: "a-role-id", Metadata: map[string]string{"role_name": role}}
	}
	now, asked := time.Now(), 0
	entities := map[string]*logical.Entity{
		"edge": {Aliases: []*logical.Alias{alias("ampora-edge-one")}},
		"user": {Aliases: []*logical.Alias{{Name: "alice"}}},
		"both": {Aliases: []*logical.Alias{alias("ci"), {Name: "alice"}}},
	}
	c := newCallers(func(id string) (*logical.Entity, error) {
		asked++
		if id == "broken" {
			return nil, errors.New("no answer")
		}
		return entities[id], nil
	}, func() time.Time { return now })
	for _, k := range []struct{ entity, vaults, want string }{
		{"edge", "approle", "approle-ampora-edge-one"},
		{"edge", "ci-approle", "ci-approle-ampora-edge-one"},
		{"user", "userpass-alice", "userpass-alice"},
		{"both", "userpass-alice", "userpass-alice"},
		{"unknown", "approle", "approle"},
		{"broken", "approle", "approle"}, // a request never fails for want of a name
		{"", "root", "root"},
		{"edge", "", ""},
	} {
		if got := c.displayName(&logical.Request{EntityID: k.entity, DisplayName: k.vaults}); got != k.want {
			t.Errorf("%s, %s: %q instead of %q", k.entity, k.vaults, got, k.want)
		}
	}
	if asked != 5 {
		t.Errorf("Vault was asked %d times for 5 entities", asked)
	}
	entities["edge"] = &logical.Entity{Aliases: []*logical.Alias{alias("renamed")}}
	now = now.Add(callerTTL + time.Second)
	if got := c.displayName(&logical.Request{EntityID: "edge", DisplayName: "approle"}); got != "approle-renamed" {
		t.Errorf("after a while: %q", got)
	}
}
