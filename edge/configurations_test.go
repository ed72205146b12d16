package edge_test

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ampora/ampora/edge"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/client"
	"github.com/ampora/ampora/plugin/plugintest"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/open-telemetry/opamp-go/protobufs"
)

const (
	patience = 20 * time.Second
	fullness = uint64(protobufs.ServerToAgentFlags_ServerToAgentFlags_ReportFullState)
	remote   = apitype.CapabilityRemoteConfig | apitype.CapabilityReportsRemoteConfig
)

// runner is an agent that runs what it is given, over a WebSocket or plain HTTP.
type runner struct {
	*agent
	ws     *wire // nil on plain HTTP
	status *protobufs.RemoteConfigStatus
}

// transports are the ways in which an agent may speak.
var transports = map[string]func(*agent) *runner{
	"WebSocket":  func(a *agent) *runner { return (&runner{agent: a}).dial() },
	"plain HTTP": func(a *agent) *runner { return &runner{agent: a} },
}

// accepting is an agent that accepts remote configs, of a tenant or none.
func (w *world) accepting(tenant string) *agent {
	w.t.Helper()
	a := w.newAgent("Bearer " + w.token(apitype.TokenIssueRequest{Tenant: tenant}))
	a.caps |= remote
	c := a.mustDial()
	c.send(a.message(withDescription("host-1"), a.withCSR()))
	offer := c.receive()
	if offer.RemoteConfig != nil {
		w.t.Error("a session by token is given a configuration")
	}
	a.take(offer)
	c.conn.Close()
	return a
}

func (r *runner) dial() *runner {
	r.ws = r.mustDial()
	r.ws.send(r.message())
	return r
}

func (r *runner) full(m *protobufs.AgentToServer) {
	withDescription("host-1")(m)
	m.RemoteConfigStatus = r.status
}

// next is the server's next message, whatever is in it. What the server asks for it is told.
func (r *runner) next(m *protobufs.AgentToServer) *protobufs.ServerToAgent {
	r.w.t.Helper()
	var in *protobufs.ServerToAgent
	if r.ws != nil {
		if m != nil {
			r.ws.send(m)
		}
		in = r.ws.receive()
	} else {
		if m == nil {
			m = r.message()
		}
		var refused *refusal
		if in, refused = r.poll(m); refused != nil {
			r.w.t.Fatalf("refused: %+v", refused)
		}
	}
	if in.Capabilities&uint64(protobufs.ServerCapabilities_ServerCapabilities_OffersRemoteConfig) == 0 {
		r.w.t.Error("the server does not say that it offers remote configs")
	}
	if in.Flags&fullness != 0 {
		if r.ws == nil {
			return r.next(r.message(r.full))
		}
		r.ws.send(r.message(r.full))
	}
	return in
}

// given waits for a configuration and checks what any must hold.
func (r *runner) given() *protobufs.AgentRemoteConfig {
	r.w.t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); {
		in := r.next(nil)
		if in.RemoteConfig == nil {
			if r.ws == nil {
				time.Sleep(150 * time.Millisecond) // an edge bounds how often an agent polls
			}
			continue
		}
		files := in.RemoteConfig.GetConfig().GetConfigMap()
		if len(files) != 1 || files[""] == nil || len(in.RemoteConfig.ConfigHash) != 32 || in.ErrorResponse != nil {
			r.w.t.Fatalf("given %v", in)
		}
		return in.RemoteConfig
	}
	r.w.t.Fatal("no configuration came")
	return nil
}

// wantGiven waits for the configuration with that body.
func (r *runner) wantGiven(body string) *protobufs.AgentRemoteConfig {
	r.w.t.Helper()
	c := r.given()
	if got := string(c.Config.ConfigMap[""].Body); got != body {
		r.w.t.Fatalf("given %q, want %q", got, body)
	}
	return c
}

// say tells what became of a configuration.
func (r *runner) say(c *protobufs.AgentRemoteConfig, state protobufs.RemoteConfigStatuses, why string) {
	r.w.t.Helper()
	r.status = &protobufs.RemoteConfigStatus{LastRemoteConfigHash: c.ConfigHash, Status: state, ErrorMessage: why}
	m := r.message(func(m *protobufs.AgentToServer) { m.RemoteConfigStatus = r.status })
	if r.ws != nil {
		r.ws.send(m)
		return
	}
	if in := r.next(m); in.RemoteConfig != nil {
		r.w.t.Errorf("given %v in the same breath", in.RemoteConfig)
	}
}

const (
	isApplying = protobufs.RemoteConfigStatuses_RemoteConfigStatuses_APPLYING
	isApplied  = protobufs.RemoteConfigStatuses_RemoteConfigStatuses_APPLIED
	hasFailed  = protobufs.RemoteConfigStatuses_RemoteConfigStatuses_FAILED
)

// wantRow waits until the agent's row says so.
func (r *runner) wantRow(status, name, hash, why string) apitype.Agent {
	r.w.t.Helper()
	var row *apitype.Agent
	var err error
	r.w.eventually(fmt.Sprintf("the row says %s %s %s", status, name, why), patience, func() bool {
		row, err = r.w.vault.Agent(r.w.t.Context(), r.id())
		return err == nil && row.ConfigurationStatus == status && row.ConfigurationName == name && row.ConfigurationHash == hash && row.ConfigurationError == why
	})
	return *row
}

func (w *world) counted(result string) string {
	return w.metric(`ampora_edge_remote_configs_total{result="` + result + `"}`)
}

// body writes a configuration and answers its hash.
func body(t *testing.T, c *client.Client, name, text string) string {
	t.Helper()
	out, err := c.WriteConfiguration(t.Context(), name, apitype.ConfigurationRequest{Body: &text})
	if err != nil {
		t.Fatal(err)
	}
	return out.Hash
}

func gives(t *testing.T, c *client.Client, group, configuration string) {
	t.Helper()
	if _, err := c.WriteGroup(t.Context(), group, apitype.GroupRequest{Configuration: &configuration}); err != nil {
		t.Fatal(err)
	}
}

// into changes an agent's group, own configuration or both.
func into(t *testing.T, c *client.Client, a *agent, in apitype.AgentUpdateRequest) {
	t.Helper()
	if _, err := c.UpdateAgent(t.Context(), a.id(), in); err != nil {
		t.Fatal(err)
	}
}

func TestAnAgentIsGivenWhatItsGroupGives(t *testing.T) {
	for name, start := range transports {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			hash := body(t, w.vault, "base", "one: 1")
			gives(t, w.vault, "web", "base")
			a := w.accepting("")
			into(t, w.vault, a, apitype.AgentUpdateRequest{Group: ptr("web")})
			r := start(a)
			c := r.wantGiven("one: 1")
			if hex.EncodeToString(c.ConfigHash) != hash || c.Config.ConfigMap[""].ContentType != "text/yaml" {
				t.Errorf("given %v", c)
			}
			r.say(c, isApplying, "")
			r.wantRow("applying", "base", hash, "")
			r.say(c, isApplied, "")
			if row := r.wantRow("applied", "base", hash, ""); row.ConfigurationTime == "" {
				t.Error("the row does not say when")
			}

			if r.ws != nil {
				r.ws.conn.Close()
				w.eventually("the session is over", patience, func() bool { return w.metric(`ampora_edge_sessions{kind="agent",transport="ws"}`) == "0" })
			}
			r = start(a) // once more: what it has is not given again
			r.status = &protobufs.RemoteConfigStatus{LastRemoteConfigHash: c.ConfigHash, Status: isApplied}
			r.next(nil)
			w.eventually("the session is reported", patience, func() bool { return w.metric("ampora_edge_report_queue") == "0" })
			hash = body(t, w.vault, "base", "two: 2")
			c = r.wantGiven("two: 2")
			r.say(c, hasFailed, "no such\treceiver: \x1b[31motlp")
			r.wantRow("failed", "base", hash, "no suchreceiver: [31motlp")
			hash = body(t, w.vault, "base", "three: 3") // the one that failed is not given again
			r.say(r.wantGiven("three: 3"), isApplied, "")
			r.wantRow("applied", "base", hash, "")
			w.eventually("it is counted", patience, func() bool {
				return w.counted("offered") == "3" && w.counted("applied") == "2" && w.counted("failed") == "1" && w.counted("put_off") == "0"
			})
		})
	}
}

func TestWhatAnAgentIsToRunFollowsItsGroupAndItself(t *testing.T) {
	for name, start := range transports {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			for _, n := range []string{"base", "other", "own"} {
				body(t, w.vault, n, n+": 1")
			}
			gives(t, w.vault, "web", "base")
			gives(t, w.vault, "db", "other")
			a := w.accepting("")
			r := start(a)
			r.next(nil)
			for _, step := range []struct {
				name   string
				change func()
				want   string
			}{
				{"it is put into a group", func() { into(t, w.vault, a, apitype.AgentUpdateRequest{Group: ptr("web")}) }, "base: 1"},
				{"its group gives another", func() { gives(t, w.vault, "web", "other") }, "other: 1"},
				{"it has one of its own", func() { into(t, w.vault, a, apitype.AgentUpdateRequest{Configuration: ptr("own")}) }, "own: 1"},
				{"its own changes, and its group's", func() { gives(t, w.vault, "web", "base"); body(t, w.vault, "own", "own: 2") }, "own: 2"},
				{"it has none of its own any more", func() { into(t, w.vault, a, apitype.AgentUpdateRequest{Configuration: ptr("")}) }, "base: 1"},
				{"it is put into another group", func() {
					if _, err := w.vault.AssignAgents(t.Context(), apitype.AssignRequest{AgentIDs: []string{a.id()}, Group: "db"}); err != nil {
						t.Fatal(err)
					}
				}, "other: 1"},
				{"its old group is gone, and its new one's configuration changes", func() {
					if err := w.vault.DeleteGroup(t.Context(), "web"); err != nil {
						t.Fatal(err)
					}
					body(t, w.vault, "other", "other: 2")
				}, "other: 2"},
				{"it is in no group for a while", func() {
					into(t, w.vault, a, apitype.AgentUpdateRequest{Group: ptr("")})
					body(t, w.vault, "other", "other: 3")
					into(t, w.vault, a, apitype.AgentUpdateRequest{Configuration: ptr("own")})
				}, "own: 2"},
			} {
				t.Log(step.name)
				step.change()
				r.say(r.wantGiven(step.want), isApplied, "")
			}
		})
	}
}

func TestAChangedConfigurationReachesTheAgentsOfEveryEdge(t *testing.T) {
	w := newWorld(t)
	second := &world{t: t, engine: w.engine, vault: w.vault}
	second.startEdge(func(o *edge.Options) { o.Name = "edge-2" })
	body(t, w.vault, "base", "one: 1")
	gives(t, w.vault, "web", "base")
	var all []*runner
	for _, at := range []*world{w, second} {
		for name, start := range transports {
			a := at.accepting("")
			into(t, w.vault, a, apitype.AgentUpdateRequest{Group: ptr("web")})
			r := start(a)
			t.Logf("%s at %s", name, at.addr)
			r.say(r.wantGiven("one: 1"), isApplied, "")
			all = append(all, r)
		}
	}
	began := time.Now()
	hash := body(t, w.vault, "base", "two: 2")
	for _, r := range all {
		r.say(r.wantGiven("two: 2"), isApplied, "")
	}
	t.Logf("all have it after %s", time.Since(began).Round(time.Millisecond))
	for _, r := range all {
		r.wantRow("applied", "base", hash, "")
	}
}

func TestOneReadOfAConfigurationIsEnoughForAllAgents(t *testing.T) {
	w := newWorld(t)
	large := strings.Repeat("# 345678901234567890123456789012\n", apitype.MaxConfigurationBody/33)
	body(t, w.vault, "base", large)
	gives(t, w.vault, "web", "base")
	var all []*runner
	for range 40 {
		a := w.accepting("")
		into(t, w.vault, a, apitype.AgentUpdateRequest{Group: ptr("web")})
		all = append(all, transports["WebSocket"](a))
	}
	for _, r := range all {
		r.say(r.wantGiven(large), isApplied, "")
	}
	if n := w.calls("configuration"); n != 1 {
		t.Errorf("Vault was asked for the body %v times", n)
	}
}

func TestWhoAcceptsNoRemoteConfigGetsNone(t *testing.T) {
	w := newWorld(t)
	hash := body(t, w.vault, "base", "one: 1")
	gives(t, w.vault, "web", "base")
	plain := w.enrolled()
	into(t, w.vault, plain, apitype.AgentUpdateRequest{Group: ptr("web")})
	c := plain.mustDial()
	c.send(plain.message(withDescription("host-1")))
	c.receive()
	other := w.accepting("")
	into(t, w.vault, other, apitype.AgentUpdateRequest{Group: ptr("web")})
	r := transports["WebSocket"](other)
	r.say(r.wantGiven("one: 1"), isApplied, "")
	r.wantRow("applied", "base", hash, "")
	if reply, refused := plain.poll(plain.message()); refused != nil || reply.RemoteConfig != nil {
		t.Errorf("%v %v", reply, refused)
	}
	if n := w.counted("offered"); n != "1" {
		t.Errorf("%s were offered", n)
	}
	if row, err := w.vault.Agent(t.Context(), plain.id()); err != nil || row.ConfigurationStatus+row.ConfigurationHash+row.ConfigurationTime != "" {
		t.Errorf("%+v %v", row, err)
	}
}

// An agent on plain HTTP that has lost what it had, and is back before its session has ended, says so by not saying anything.
func TestAnAgentThatHasLostItsConfigurationIsGivenItAgain(t *testing.T) {
	w := newWorld(t)
	body(t, w.vault, "base", "one: 1")
	gives(t, w.vault, "web", "base")
	a := w.accepting("")
	into(t, w.vault, a, apitype.AgentUpdateRequest{Group: ptr("web")})
	r := transports["plain HTTP"](a)
	r.say(r.wantGiven("one: 1"), isApplied, "")
	r.status = nil
	if in := r.next(r.message(r.full)); string(in.RemoteConfig.GetConfig().GetConfigMap()[""].GetBody()) != "one: 1" {
		t.Errorf("answered with %v", in)
	}
}

func TestAConfigurationThatCannotBeReadIsGivenWhenItCan(t *testing.T) {
	storage := plugintest.NewCounting(&logical.InmemStorage{})
	engine := plugintest.Start(t, plugintest.WithStorage(storage))
	engine.Configure(t, "wss://127.0.0.1:4320/v1/opamp")
	w := &world{t: t, engine: engine, vault: engine.Client(t)}
	w.startEdge()
	body(t, w.vault, "base", "one: 1")
	gives(t, w.vault, "web", "base")
	var all []*runner
	for _, start := range transports {
		a := w.accepting("")
		into(t, w.vault, a, apitype.AgentUpdateRequest{Group: ptr("web")})
		r := start(a)
		r.say(r.wantGiven("one: 1"), isApplied, "")
		all = append(all, r)
	}
	var written atomic.Bool
	storage.Before(func(_ context.Context, op plugintest.Op) error {
		if op.Key != "configuration/-/base" {
			return nil
		}
		if op.Kind == "get" && written.Load() {
			return errors.New("the storage is down")
		}
		written.Store(op.Kind == "put" || written.Load())
		return nil
	})
	body(t, w.vault, "base", "two: 2")
	w.eventually("it was tried", patience, func() bool { return w.counted("put_off") > "0" })
	storage.Before(nil)
	for _, r := range all {
		r.wantGiven("two: 2")
	}
}

func TestATenantsAgentIsGivenItsTenantsConfiguration(t *testing.T) {
	w := newWorld(t)
	acme := w.vault.ForTenant("acme")
	own := &world{t: t, engine: w.engine, vault: w.vault}
	own.startEdge(func(o *edge.Options) { o.Name, o.Tenant = "edge-acme", "acme" })
	body(t, w.vault, "base", "everybody's: 1")
	gives(t, w.vault, "web", "base")
	body(t, acme, "base", "acme's: 1")
	gives(t, acme, "web", "base")
	for _, at := range []*world{w, own} {
		a := at.accepting("acme")
		into(t, acme, a, apitype.AgentUpdateRequest{Group: ptr("web")})
		r := transports["WebSocket"](a)
		r.say(r.wantGiven("acme's: 1"), isApplied, "")
	}
}
