package ampora_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	ampora "github.com/ampora/ampora/plugin"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/plugintest"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/sdk/logical"
)

// panicOn makes the storage panic on every operation of the kind below the prefix.
func (m *mount) panicOn(kind, prefix string) {
	m.storage.Before(func(_ context.Context, op plugintest.Op) error {
		if op.Kind == kind && strings.HasPrefix(op.Key, prefix) {
			panic("the storage is broken")
		}
		return nil
	})
}

func TestAPanicIsOneFailedRequest(t *testing.T) {
	for _, c := range []struct {
		name, kind, prefix string
		run                func(m *mount, id apitype.Identity, token, other apitype.IssuedToken) (logical.Operation, string, data)
	}{
		{"reading a token's row", "get", "token/", func(_ *mount, _ apitype.Identity, token, _ apitype.IssuedToken) (logical.Operation, string, data) {
			return write, "redeem/check", data{"token": token.Token}
		}},
		{"reading the agent's row of a token", "get", "agent/", func(m *mount, _ apitype.Identity, token, _ apitype.IssuedToken) (logical.Operation, string, data) {
			m.forgetAgentOf(token)
			return read, "tokens/" + token.TokenID, nil
		}},
		{"storing an agent", "put", "agent/", func(m *mount, _ apitype.Identity, token, _ apitype.IssuedToken) (logical.Operation, string, data) {
			return write, "redeem", data{"token": token.Token, "csr": newCSR(m)}
		}},
		{"storing an event", "put", "event/", func(m *mount, _ apitype.Identity, _, other apitype.IssuedToken) (logical.Operation, string, data) {
			return write, "tokens/" + other.TokenID + "/revoke", nil
		}},
		{"reading an agent's row", "get", "agent/", func(_ *mount, id apitype.Identity, _, _ apitype.IssuedToken) (logical.Operation, string, data) {
			return read, "agents/" + id.AgentID, nil
		}},
		{"storing a revocation", "put", "revoked/", func(_ *mount, id apitype.Identity, _, _ apitype.IssuedToken) (logical.Operation, string, data) {
			return write, "agents/" + id.AgentID + "/revoke", nil
		}},
		{"listing", "list", "token/", func(*mount, apitype.Identity, apitype.IssuedToken, apitype.IssuedToken) (logical.Operation, string, data) {
			return list, "tokens", nil
		}},
		{"reading a group", "get", "group/", func(m *mount, _ apitype.Identity, _, _ apitype.IssuedToken) (logical.Operation, string, data) {
			m.group("", "web", nil)
			return write, "tokens/issue", data{"group": "web"}
		}},
		{"storing a group", "put", "group/", func(*mount, apitype.Identity, apitype.IssuedToken, apitype.IssuedToken) (logical.Operation, string, data) {
			return write, "groups/web", nil
		}},
		{"looking who is in a group", "list", "agent/", func(m *mount, _ apitype.Identity, _, _ apitype.IssuedToken) (logical.Operation, string, data) {
			m.group("", "web", nil)
			return remove, "groups/web", nil
		}},
		{"assigning agents", "put", "agent/", func(m *mount, id apitype.Identity, _, _ apitype.IssuedToken) (logical.Operation, string, data) {
			m.group("", "web", nil)
			return write, "agents/group", data{"agent_ids": id.AgentID, "group": "web"}
		}},
		{"storing the configuration", "put", "config", func(*mount, apitype.Identity, apitype.IssuedToken, apitype.IssuedToken) (logical.Operation, string, data) {
			return write, "config", data{"token_ttl": "2h"}
		}},
		{"storing an issuer", "put", "ca/", func(*mount, apitype.Identity, apitype.IssuedToken, apitype.IssuedToken) (logical.Operation, string, data) {
			return write, "ca/root", nil
		}},
		{"storing an edge's row", "put", "edge/", func(*mount, apitype.Identity, apitype.IssuedToken, apitype.IssuedToken) (logical.Operation, string, data) {
			return write, "edge/report", data{"name": "edge-1"}
		}},
	} {
		t.Run("while "+c.name, func(t *testing.T) {
			m := ready(t)
			id, _ := m.enrol(nil)
			token, other := m.issue(nil), m.issue(nil)
			m.sync("")
			op, path, body := c.run(m, id, token, other)
			m.forget()
			m.panicOn(c.kind, c.prefix)
			m.no(apitype.Internal, op, path, body)
			if log := m.log.String(); !strings.Contains(log, "panicked") || strings.Contains(log, "the storage is broken") {
				t.Error("the log does not tell of it, or quotes it")
			}
			m.storage.Before(nil)
			// The same request, and any other, goes on: no lock is left behind, and memory tells the truth.
			m.ok(op, path, body)
			m.ok(write, "config", data{"token_ttl": "3h"})
			m.ok(write, "agents/"+id.AgentID+"/revoke", nil)
			if full := m.sync(""); len(full.Revoked) != 1 {
				t.Errorf("the feed tells of %v", full.Revoked)
			}
			next, _ := m.enrol(nil)
			if got := m.actions(data{"agent_id": next.AgentID}); len(got) != 2 {
				t.Errorf("events after it are hidden: %v", got)
			}
			m.sweep()
		})
	}
}

// A storage that applied the revocation and panicked then: the edges hear of it, though nobody was answered.
func TestARevocationWhosePutPanickedAfterwardsReachesTheEdges(t *testing.T) {
	m := ready(t)
	id, _ := m.enrol(nil)
	before := m.sync("")
	applied := &appliesAndPanics{Storage: m.storage.Storage, prefix: "revoked/"}
	m.storage.Storage = applied
	m.no(apitype.Internal, write, "agents/"+id.AgentID+"/revoke", nil)
	m.storage.Storage = applied.Storage
	if full := m.sync(before.Revision); !full.Full || len(full.Revoked) != 1 {
		t.Errorf("%+v", full)
	}
	if got := m.actions(data{"action": "Certificate.Revoked"}); len(got) != 0 {
		t.Errorf("told before anybody met the row: %v", got)
	}
	m.ok(write, "agents/"+id.AgentID+"/revoke", nil)
	if got := m.actions(data{"action": "Certificate.Revoked"}); len(got) != 1 {
		t.Errorf("%v", got)
	}
}

type appliesAndPanics struct {
	logical.Storage
	prefix string
}

func (s *appliesAndPanics) Put(ctx context.Context, e *logical.StorageEntry) error {
	err := s.Storage.Put(ctx, e)
	if strings.HasPrefix(e.Key, s.prefix) {
		panic("after the fact")
	}
	return err
}

func TestAPanicInTheBackgroundEndsNeitherProcessNorFeed(t *testing.T) {
	m := ready(t)
	id, _ := m.enrol(nil)
	m.ok(write, "agents/"+id.AgentID+"/revoke", nil)
	var broken sync.WaitGroup
	broken.Add(1)
	once := sync.OnceFunc(broken.Done)
	m.storage.Before(func(_ context.Context, op plugintest.Op) error {
		if strings.HasPrefix(op.Key, "revoked/") {
			once()
			panic("the storage is broken")
		}
		return nil
	})
	if err := m.backend.Sweep(t.Context()); err == nil {
		t.Error("the sweep took no notice")
	}
	m.backend.InvalidateKey(t.Context(), "revoked/"+id.AgentID[:2]+"/"+id.AgentID)
	m.no(apitype.NotReady, read, "edge/sync", nil) // never an empty set
	broken.Wait()
	m.storage.Before(nil)
	if full := m.sync(""); len(full.Revoked) != 1 {
		t.Errorf("%+v", full)
	}
}

func TestTwoMountsOfOneProcessShareNothing(t *testing.T) {
	one, two := ready(t), ready(t)
	_, spent := one.enrol(data{"tenant": "acme"})
	issued := one.issue(nil)
	two.no(apitype.TokenUnknown, write, "redeem", data{"token": issued.Token, "csr": newCSR(t)})
	two.no(apitype.TokenUnknown, write, "redeem/check", data{"token": spent.Token})
	two.no(apitype.TokenUnknown, read, "tokens/"+issued.TokenID, nil)
	if a, b := call[apitype.CABundle](one, read, "ca/bundle", nil), call[apitype.CABundle](two, read, "ca/bundle", nil); a.Bundle == b.Bundle {
		t.Error("one bundle")
	}
	one.ok(write, "config", data{"token_ttl": "2h"})
	if c := call[apitype.Config](two, read, "config", nil); c.TokenTTL != 24*3600 {
		t.Error("one configuration")
	}
	if len(two.agents(nil).Keys) != 0 || len(two.events(data{"entity_type": "token"})) != 0 {
		t.Error("rows or events of the other")
	}
	if strings.Split(one.sync("").Revision, ".")[0] == strings.Split(two.sync("").Revision, ".")[0] {
		t.Error("one epoch")
	}
	one.storage.Before(func(context.Context, plugintest.Op) error { panic("one is broken") })
	one.no(apitype.Internal, write, "tokens/issue", nil)
	two.enrol(nil)
}

// The same over the exported door, as the plugin's main uses it.
func TestFactoryMakesMountsOfTheirOwn(t *testing.T) {
	if _, err := ampora.Factory(t.Context(), nil); err == nil {
		t.Error("a mount without a configuration")
	}
	a, b := plugintest.Start(t), plugintest.Start(t)
	a.Configure(t, "wss://localhost:4320/v1/opamp")
	if _, err := b.Client(t).IssueToken(t.Context(), apitype.TokenIssueRequest{Label: "x"}); err != nil {
		t.Fatal(err)
	}
	if c, err := b.Client(t).Config(t.Context()); err != nil || c.TrustDomain != "" {
		t.Errorf("%+v, %v", c, err)
	}
	if l, err := a.Client(t).Tokens(t.Context(), apitype.Page{}); err != nil || len(l.Keys) != 0 {
		t.Errorf("%+v, %v", l, err)
	}
}

func TestInitializeDoesNotWaitForTheStorage(t *testing.T) {
	free := make(chan struct{})
	storage := plugintest.NewCounting(&logical.InmemStorage{})
	storage.Before(func(ctx context.Context, _ plugintest.Op) error {
		select {
		case <-free:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	b, err := ampora.Factory(t.Context(), &logical.BackendConfig{StorageView: storage, Logger: hclog.NewNullLogger(), System: logical.TestSystemView()})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- b.Initialize(t.Context(), &logical.InitializationRequest{Storage: storage}) }()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("the unsealing of Vault would hang")
	}
	b.Cleanup(context.Background()) // ends what waits in the background
	close(free)
}

// A row that a newer build wrote is refused by its name, and nothing is changed.
func TestARowOfANewerSchemaIsRefusedByName(t *testing.T) {
	for _, c := range []struct {
		row, prefix string
		run         map[string]func(m *mount, id apitype.Identity, token, spent apitype.IssuedToken)
	}{
		{"config", "config", map[string]func(*mount, apitype.Identity, apitype.IssuedToken, apitype.IssuedToken){
			"reading": func(m *mount, _ apitype.Identity, _, _ apitype.IssuedToken) { m.tooNew("config", read, "config", nil) },
			"writing": func(m *mount, _ apitype.Identity, _, _ apitype.IssuedToken) {
				m.tooNew("config", write, "config", data{"token_ttl": "1h"})
			},
			"issuing": func(m *mount, _ apitype.Identity, _, _ apitype.IssuedToken) {
				m.tooNew("config", write, "tokens/issue", nil)
			},
			"an issuer": func(m *mount, _ apitype.Identity, _, _ apitype.IssuedToken) {
				m.tooNew("config", write, "ca/root", nil)
			},
			"the feed": func(m *mount, _ apitype.Identity, _, _ apitype.IssuedToken) {
				m.tooNew("config", read, "edge/sync", nil)
			},
		}},
		{"issuer state", "ca/state", map[string]func(*mount, apitype.Identity, apitype.IssuedToken, apitype.IssuedToken){
			"the bundle": func(m *mount, _ apitype.Identity, _, _ apitype.IssuedToken) {
				m.tooNew("issuer state", read, "ca/bundle", nil)
			},
			"a root": func(m *mount, _ apitype.Identity, _, _ apitype.IssuedToken) {
				m.tooNew("issuer state", write, "ca/root", nil)
			},
			"redeeming": func(m *mount, _ apitype.Identity, token, _ apitype.IssuedToken) {
				m.tooNew("issuer state", write, "redeem", data{"token": token.Token, "csr": newCSR(m)})
			},
			"the configuration": func(m *mount, _ apitype.Identity, _, _ apitype.IssuedToken) {
				m.tooNew("issuer state", write, "config", data{"token_ttl": "1h"})
			},
		}},
		{"issuer", "ca/issuer/", map[string]func(*mount, apitype.Identity, apitype.IssuedToken, apitype.IssuedToken){
			"the bundle": func(m *mount, _ apitype.Identity, _, _ apitype.IssuedToken) {
				m.tooNew("issuer", read, "ca/bundle", nil)
			},
			"an intermediate": func(m *mount, _ apitype.Identity, _, _ apitype.IssuedToken) {
				m.tooNew("issuer", write, "ca/intermediate", nil)
			},
			"set-signed": func(m *mount, _ apitype.Identity, _, _ apitype.IssuedToken) {
				m.tooNew("issuer", write, "ca/intermediate/set-signed", nil)
			},
		}},
		{"token", "token/", map[string]func(*mount, apitype.Identity, apitype.IssuedToken, apitype.IssuedToken){
			"reading": func(m *mount, _ apitype.Identity, token, _ apitype.IssuedToken) {
				m.tooNew("token", read, "tokens/"+token.TokenID, nil)
			},
			"listing": func(m *mount, _ apitype.Identity, _, _ apitype.IssuedToken) { m.tooNew("token", list, "tokens", nil) },
			"revoking": func(m *mount, _ apitype.Identity, token, _ apitype.IssuedToken) {
				m.tooNew("token", write, "tokens/"+token.TokenID+"/revoke", nil)
			},
			"checking": func(m *mount, _ apitype.Identity, token, _ apitype.IssuedToken) {
				m.tooNew("token", write, "redeem/check", data{"token": token.Token})
			},
			"redeeming": func(m *mount, _ apitype.Identity, token, _ apitype.IssuedToken) {
				m.tooNew("token", write, "redeem", data{"token": token.Token, "csr": newCSR(m)})
			},
		}},
		{"agent", "agent/", map[string]func(*mount, apitype.Identity, apitype.IssuedToken, apitype.IssuedToken){
			"reading": func(m *mount, id apitype.Identity, _, _ apitype.IssuedToken) {
				m.tooNew("agent", read, "agents/"+id.AgentID, nil)
			},
			"listing": func(m *mount, _ apitype.Identity, _, _ apitype.IssuedToken) { m.tooNew("agent", list, "agents", nil) },
			"changing": func(m *mount, id apitype.Identity, _, _ apitype.IssuedToken) {
				m.tooNew("agent", write, "agents/"+id.AgentID, data{"group": "x"})
			},
			"revoking": func(m *mount, id apitype.Identity, _, _ apitype.IssuedToken) {
				m.tooNew("agent", write, "agents/"+id.AgentID+"/revoke", nil)
			},
			"deleting": func(m *mount, id apitype.Identity, _, _ apitype.IssuedToken) {
				m.tooNew("agent", remove, "agents/"+id.AgentID, nil)
			},
			"a spent token": func(m *mount, _ apitype.Identity, _, spent apitype.IssuedToken) {
				m.tooNew("agent", write, "redeem", data{"token": spent.Token, "csr": newCSR(m)})
			},
			"a report": func(m *mount, id apitype.Identity, _, _ apitype.IssuedToken) {
				m.tooNew("agent", write, "edge/report", data{"name": "edge-1", "sessions": []apitype.SessionReport{{AgentID: id.AgentID, SerialNumber: id.SerialNumber}}})
			},
		}},
		{"revocation", "revoked/", map[string]func(*mount, apitype.Identity, apitype.IssuedToken, apitype.IssuedToken){
			"reading": func(m *mount, id apitype.Identity, _, _ apitype.IssuedToken) {
				m.tooNew("revocation", read, "agents/"+id.AgentID, nil)
			},
			"revoking": func(m *mount, id apitype.Identity, _, _ apitype.IssuedToken) {
				m.tooNew("revocation", write, "agents/"+id.AgentID+"/revoke", nil)
			},
			"deleting": func(m *mount, id apitype.Identity, _, _ apitype.IssuedToken) {
				m.tooNew("revocation", remove, "agents/"+id.AgentID, nil)
			},
			"the feed": func(m *mount, id apitype.Identity, _, _ apitype.IssuedToken) {
				m.backend.InvalidateKey(m.Context(), "revoked/x")
				m.no(apitype.NotReady, read, "edge/sync", nil) // never an empty set
			},
		}},
		{"event", "event/", map[string]func(*mount, apitype.Identity, apitype.IssuedToken, apitype.IssuedToken){
			"reading": func(m *mount, _ apitype.Identity, _, _ apitype.IssuedToken) {
				m.tooNew("event", read, "audit/events", nil)
			},
		}},
		{"group", "group/", map[string]func(*mount, apitype.Identity, apitype.IssuedToken, apitype.IssuedToken){
			"reading": func(m *mount, _ apitype.Identity, _, _ apitype.IssuedToken) {
				m.tooNew("group", read, "groups/web", nil)
			},
			"listing": func(m *mount, _ apitype.Identity, _, _ apitype.IssuedToken) { m.tooNew("group", list, "groups", nil) },
			"changing": func(m *mount, _ apitype.Identity, _, _ apitype.IssuedToken) {
				m.tooNew("group", write, "groups/web", data{"description": "x"})
			},
			"deleting": func(m *mount, _ apitype.Identity, _, _ apitype.IssuedToken) {
				m.tooNew("group", remove, "groups/web", nil)
			},
			"a token": func(m *mount, _ apitype.Identity, _, _ apitype.IssuedToken) {
				m.tooNew("group", write, "tokens/issue", data{"group": "web"})
			},
			"an agent": func(m *mount, id apitype.Identity, _, _ apitype.IssuedToken) {
				m.tooNew("group", write, "agents/group", data{"group": "web", "agent_ids": id.AgentID})
			},
		}},
		{"configuration", "configuration/", map[string]func(*mount, apitype.Identity, apitype.IssuedToken, apitype.IssuedToken){
			"reading": func(m *mount, _ apitype.Identity, _, _ apitype.IssuedToken) {
				m.tooNew("configuration", read, "configurations/base", nil)
			},
			"changing": func(m *mount, _ apitype.Identity, _, _ apitype.IssuedToken) {
				m.tooNew("configuration", write, "configurations/base", data{"body": "x"})
			},
			"a group": func(m *mount, _ apitype.Identity, _, _ apitype.IssuedToken) {
				m.tooNew("configuration", write, "groups/web", data{"configuration": "base"})
			},
		}},
		{"edge", "edge/", map[string]func(*mount, apitype.Identity, apitype.IssuedToken, apitype.IssuedToken){
			"a report": func(m *mount, _ apitype.Identity, _, _ apitype.IssuedToken) {
				m.clock.advance(time.Minute)
				m.tooNew("edge", write, "edge/report", data{"name": "edge-1"})
			},
			"a list": func(m *mount, _ apitype.Identity, _, _ apitype.IssuedToken) {
				m.clock.advance(24 * time.Hour)
				m.tooNew("edge", read, "edges", nil)
			},
		}},
	} {
		for name, run := range c.run {
			t.Run(c.row+", "+name, func(t *testing.T) {
				m := ready(t)
				id, spent := m.enrol(nil)
				token := m.issue(nil)
				m.ok(write, "agents/"+id.AgentID+"/revoke", nil)
				m.ok(write, "edge/report", data{"name": "edge-1"})
				m.group("", "web", nil)
				m.configuration("", "base", data{"body": "one"})
				for _, key := range m.keys(c.prefix) {
					m.ageSchema(key)
				}
				m.backend.InvalidateKey(t.Context(), "config")
				m.backend.InvalidateKey(t.Context(), "ca/state")
				m.forget()
				before := m.dump()
				run(m, id, token, spent)
				_ = m.backend.Sweep(t.Context())
				if m.dump() != before {
					t.Error("the storage changed")
				}
			})
		}
	}
}

func (m *mount) tooNew(row string, op logical.Operation, path string, body data) {
	m.Helper()
	if e := m.no(apitype.SchemaTooNew, op, path, body); !strings.Contains(e.Detail, " "+row+" row") {
		m.Errorf("%v does not name the %s row", e, row)
	}
}

// ageSchema makes the row one of a newer build.
func (m *mount) ageSchema(key string) {
	m.Helper()
	entry, err := m.storage.Storage.Get(m.Context(), key)
	if err != nil || entry == nil {
		m.Fatalf("%s: %v", key, err)
	}
	var row map[string]json.RawMessage
	if err := json.Unmarshal(entry.Value, &row); err != nil {
		m.Fatal(err)
	}
	row["v"] = json.RawMessage("99")
	m.put(key, toText(m, row))
}

func TestOneUnreadableRowDoesNotKeepTheSweepFromTheOthers(t *testing.T) {
	m := ready(t)
	damaged, fine := m.issue(nil), m.issue(nil)
	m.put("token/"+damaged.TokenID[:2]+"/"+damaged.TokenID, "hello")
	m.clock.advance(49 * time.Hour)
	if err := m.backend.Sweep(t.Context()); err == nil || !strings.Contains(err.Error(), "1 rows") {
		t.Errorf("%v", err)
	}
	m.no(apitype.TokenUnknown, read, "tokens/"+fine.TokenID, nil)
	if keys := m.keys("token/"); len(keys) != 1 {
		t.Errorf("left: %v", keys)
	}
	m.no(apitype.Internal, read, "tokens/"+damaged.TokenID, nil)
}

// What a fault leaves untold is told in the background, without anybody asking.
func TestAFaultAfterTheCommitIsMendedByUpkeep(t *testing.T) {
	m := ready(t)
	issued := m.issue(nil)
	m.storage.Before(func(_ context.Context, op plugintest.Op) error {
		if op.Kind == "put" && strings.HasPrefix(op.Key, "event/") || op.Kind == "delete" {
			return errors.New("no quorum")
		}
		return nil
	})
	id := m.redeem(data{"token": issued.Token, "csr": newCSR(t)})
	if n := len(m.keys("token/")); n != 1 {
		t.Errorf("%d rows of tokens", n)
	}
	m.storage.Before(nil)
	if err := m.backend.PeriodicFunc(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, "upkeep is done", m.backend.Idle)
	if n := len(m.keys("token/")); n != 0 {
		t.Errorf("%d rows of tokens", n)
	}
	if got := m.actions(data{"agent_id": id.AgentID}); len(got) != 2 {
		t.Errorf("events %v", got)
	}
}
