package ampora_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/store"
	"github.com/ampora/ampora/plugin/plugintest"
	"github.com/hashicorp/vault/sdk/logical"
)

// tenantless are the requests that make something which belongs to no tenant, and where that is stored.
var tenantless = []struct {
	noun, prefix string
	path         string
	body         data
	end          func(m *mount, answer *logical.Response)
}{
	{"token", store.TokenPrefix, "tokens/issue", nil, func(m *mount, a *logical.Response) {
		m.ok(write, "tokens/"+a.Data["token_id"].(string)+"/revoke", nil)
	}},
	{"pool", store.PoolPrefix, "pools/ci", data{"max_ttl": "1h", "default_ttl": "1h"}, func(m *mount, _ *logical.Response) {
		m.ok(remove, "pools/ci", nil)
	}},
	{"group", store.GroupPrefix, "groups/web", nil, func(m *mount, _ *logical.Response) {
		m.ok(remove, "groups/web", nil)
	}},
	{"configuration", store.ConfigurationPrefix, "configurations/base", data{"body": "a: 1"}, func(m *mount, _ *logical.Response) {
		m.ok(remove, "configurations/base", nil)
	}},
}

func hard() data { return data{"tenancy": "hard"} }

func TestTenancyBecomesHardWhenNothingIsLeftThatBelongsToNoTenant(t *testing.T) {
	for _, c := range tenantless {
		t.Run(c.noun, func(t *testing.T) {
			m := ready(t)
			answer := m.ok(write, c.path, c.body)
			before := m.dump()
			if e := m.no(apitype.InUse, write, "config", hard()); e.Detail != "some things belong to no tenant: 1 "+c.noun {
				t.Error(e)
			}
			if m.dump() != before {
				t.Error("the refusal changed the storage")
			}
			m.ok(write, c.path, c.body) // nothing is hard yet
			if c.noun == "token" {
				m.ok(write, "tokens/revoke-all", nil)
			}
			c.end(m, answer)
			if got := call[apitype.Config](m, write, "config", hard()); got.Tenancy != "hard" {
				t.Errorf("%+v", got)
			}
		})
	}
	t.Run("agent", func(t *testing.T) {
		m := ready(t)
		var ids []string
		for range 3 {
			id, _ := m.enrol(nil)
			ids = append(ids, id.AgentID)
		}
		m.issue(nil)
		pool := call[apitype.Pool](m, write, "pools/ci", nil)
		m.ok(write, "pools/ci/issue", data{"count": 2})
		if e := m.no(apitype.InUse, write, "config", hard()); e.Detail != "some things belong to no tenant: 3 tokens, 3 agents, 1 pool" {
			t.Error(e)
		}
		m.ok(write, "tokens/revoke-all", nil)
		m.ok(remove, "pools/"+pool.Name, nil)
		if e := m.no(apitype.InUse, write, "config", hard()); e.Detail != "some things belong to no tenant: 3 agents" {
			t.Error(e)
		}
		for _, id := range ids {
			m.ok(write, "agents/"+id+"/revoke", nil) // a revoked agent is still there
		}
		m.no(apitype.InUse, write, "config", hard())
		for _, id := range ids {
			m.ok(remove, "agents/"+id, nil)
		}
		m.ok(write, "config", hard()) // tombstones do not matter
	})
	t.Run("an expired token does not matter", func(t *testing.T) {
		m := ready(t)
		m.issue(data{"ttl": "1h"})
		m.no(apitype.InUse, write, "config", hard())
		m.clock.advance(time.Hour)
		m.ok(write, "config", hard())
	})
	t.Run("what tenants have does not matter", func(t *testing.T) {
		m := ready(t)
		m.enrol(data{"tenant": "acme"})
		m.issue(data{"tenant": "acme"})
		m.ok(write, "tenants/acme/pools/ci", nil)
		m.ok(write, "config", hard())
	})
}

func TestTooManyAreNotCounted(t *testing.T) {
	m := ready(t)
	m.ok(write, "pools/ci", nil)
	for range 2 {
		m.ok(write, "pools/ci/issue", data{"count": 1000})
	}
	if e := m.no(apitype.InUse, write, "config", hard()); !strings.Contains(e.Detail, "more than 1000 tokens") {
		t.Error(e)
	}
}

func TestHardTenancyStays(t *testing.T) {
	m := ready(t)
	m.ok(write, "config", hard())
	m.ok(write, "config", data{"tenancy": "hard", "token_ttl": "2h"})
	before := m.dump()
	m.no(apitype.ConfigFixed, write, "config", data{"tenancy": "off"})
	m.no(apitype.FieldInvalid, write, "config", data{"tenancy": ""})
	if m.dump() != before {
		t.Error("a refusal changed the storage")
	}
	again := mountOn(t, m.storage.Storage, m.clock)
	if c := call[apitype.Config](again, read, "config", nil); c.Tenancy != "hard" {
		t.Errorf("after a restart %+v", c)
	}
	again.no(apitype.TenantRequired, write, "tokens/issue", nil)
	again.no(apitype.ConfigFixed, write, "config", data{"tenancy": "off"})
}

func TestUnderHardTenancyEverythingBelongsToATenant(t *testing.T) {
	m := ready(t)
	m.ok(write, "config", hard())
	before := m.dump()
	for _, c := range tenantless {
		m.no(apitype.TenantRequired, write, c.path, c.body)
	}
	m.no(apitype.TenantRequired, write, "tokens/issue", data{"tenant": ""})
	if m.dump() != before {
		t.Error("a refusal changed the storage")
	}
	for _, c := range tenantless {
		m.ok(write, "tenants/acme/"+c.path, c.body)
	}
	id, _ := m.enrol(data{"tenant": "acme"})
	if id.Tenant != "acme" {
		t.Errorf("%+v", id)
	}
	m.ok(write, "edge/report", data{"name": "edge-1"}) // an edge may still serve all tenants
	m.ok(write, "tokens/revoke-all", nil)              // and the mount's operator still ends everything
}

// What is being made while tenancy becomes hard is either counted or refused.
func TestTenancyDoesNotRaceWithWhatIsBeingMade(t *testing.T) {
	for _, c := range tenantless {
		t.Run(c.noun+" under way", func(t *testing.T) {
			m := ready(t)
			reached, release := make(chan struct{}), make(chan struct{})
			var once sync.Once
			m.storage.Before(func(_ context.Context, op plugintest.Op) error {
				if op.Kind == "put" && strings.HasPrefix(op.Key, c.prefix) {
					once.Do(func() { close(reached); <-release })
				}
				return nil
			})
			made, hardened := make(chan error, 1), make(chan error, 1)
			go func() { made <- m.outcome(write, c.path, c.body) }()
			<-reached
			go func() { hardened <- m.outcome(write, "config", hard()) }()
			eventually(t, "the change has begun", func() bool { return call[apitype.Config](m, read, "config", nil).Tenancy == "hard" })
			time.Sleep(20 * time.Millisecond) // a change that does not wait would have counted by now
			close(release)
			if err := <-made; err != nil {
				t.Errorf("what was under way: %v", err)
			}
			if err := <-hardened; apitype.CodeOf(err) != apitype.InUse {
				t.Errorf("the change: %v", err)
			}
			m.ok(write, c.path, c.body)
		})
		t.Run(c.noun+" meanwhile", func(t *testing.T) {
			m := ready(t)
			reached, release := make(chan struct{}), make(chan struct{})
			var once sync.Once
			m.storage.Before(func(_ context.Context, op plugintest.Op) error {
				if op.Kind == "list" && op.Key == store.AgentPrefix {
					once.Do(func() { close(reached); <-release })
				}
				return nil
			})
			hardened := make(chan error, 1)
			go func() { hardened <- m.outcome(write, "config", hard()) }()
			<-reached
			m.no(apitype.TenantRequired, write, c.path, c.body)
			m.ok(write, "tenants/acme/"+c.path, c.body) // nobody else has to wait
			close(release)
			if err := <-hardened; err != nil {
				t.Error(err)
			}
			m.no(apitype.TenantRequired, write, c.path, c.body)
		})
	}
}

// outcome makes a request as another goroutine may.
func (m *mount) outcome(op logical.Operation, path string, body data) error {
	_, refusal := m.send(op, path, body)
	if refusal == nil {
		return nil
	}
	return refusal
}

// Whatever the storage does, tenancy is either hard, with nothing that belongs to no tenant, or it is off and stays usable.
func TestAFaultWhileTenancyBecomesHardLeavesNothingHalfMade(t *testing.T) {
	for n := 1; ; n++ {
		m := ready(t)
		m.ok(write, "tenants/acme/tokens/issue", nil)
		m.enrol(data{"tenant": "acme"})
		at, fired := 0, false
		m.storage.Before(func(_ context.Context, op plugintest.Op) error {
			if at++; at == n {
				fired = true
				return fmt.Errorf("storage fault")
			}
			return nil
		})
		_, refusal := m.send(write, "config", hard())
		m.storage.Before(nil)
		tenancy := call[apitype.Config](m, read, "config", nil).Tenancy
		if _, issued := m.send(write, "tokens/issue", nil); (issued == nil) != (tenancy == "off") {
			t.Errorf("operation %d: tenancy is %s, and issuing answers %v", n, tenancy, issued)
		}
		if (refusal == nil) != (tenancy == "hard") {
			t.Errorf("operation %d: answered %v, and tenancy is %s", n, refusal, tenancy)
		}
		if tenancy == "off" {
			m.no(apitype.InUse, write, "config", hard()) // that token
		}
		if !fired {
			if n < 5 {
				t.Errorf("only %d operations", n-1)
			}
			return
		}
	}
}
