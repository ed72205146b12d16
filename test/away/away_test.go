package away

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ampora/ampora/edge"
	"github.com/ampora/ampora/edge/vaultgate"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/test/fleet"
	"github.com/ampora/ampora/test/relay"
	"github.com/gorilla/websocket"
	vaultapi "github.com/hashicorp/vault/api"
	"golang.org/x/sync/errgroup"
)

// outage is one way in which an edge may lose its Vault.
type outage struct {
	edge *fleet.Edge
	harm func()
	heal func()
}

// outages by name, which is that of the edge as well. A Vault that is killed or sealed is TestVaultIsAwayAndComesBack in
// test/e2e, and one whose leader changes is test/cluster.
var outages = map[string]func(*world) outage{
	"unreachable": func(w *world) outage {
		line, addr := w.line()
		return outage{w.edge("unreachable", addr), line.Down, func() { must(w.t, line.Up()) }}
	},
	"silent": func(w *world) outage {
		line, addr := w.line()
		return outage{w.edge("silent", addr), func() { line.Hold(func(string) bool { return true }) }, func() { line.Hold(nil) }}
	},
	"slow": func(w *world) outage {
		p, addr := w.proxy("")
		return outage{w.edge("slow", addr), func() { p.delay.Store(int64(10 * time.Second)) }, func() { p.delay.Store(0) }}
	},
	"failing": func(w *world) outage {
		p, addr := w.proxy("")
		return outage{w.edge("failing", addr), func() { p.status.Store(http.StatusBadGateway) }, func() { p.status.Store(0) }}
	},
	// Somebody else keeps the token's file, and is late with the next one.
	"expired": func(w *world) outage {
		file, tokens := filepath.Join(w.t.TempDir(), "token"), w.vault.Client().Auth().Token()
		renew := func(life string) string {
			token, err := tokens.CreateOrphanWithContext(w.t.Context(), &vaultapi.TokenCreateRequest{
				Policies: []string{"ampora-edge"}, NoDefaultPolicy: true, ExplicitMaxTTL: life, TTL: life,
			})
			must(w.t, err)
			write(w.t, file, token.Auth.ClientToken)
			return token.Auth.ClientToken
		}
		first := renew("1h")
		e := w.edge("expired", w.vault.Addr, func(o *edge.Options) {
			o.Vault.Auth = vaultgate.AuthOptions{Auth: vaultgate.AuthTokenFile, TokenFile: file}
		})
		harm := func() {
			brief := renew("5s")
			fleet.Eventually(w.t, "the token has expired", func() bool {
				_, err := tokens.LookupWithContext(w.t.Context(), brief)
				return err != nil
			})
			must(w.t, tokens.RevokeTreeWithContext(w.t.Context(), first)) // an edge that was too slow to take the other one up has this still
			down(w.t, e)
		}
		return outage{e, harm, func() { renew("1h") }}
	},
	// The secret ID was destroyed with everything that had come of it, and the new one comes later.
	"rotated": func(w *world) outage {
		e := w.edge("rotated", w.vault.Addr)
		file := fleet.AppRole(w.credentials, "rotated").AppRoleSecretIDFile
		logical := w.vault.Client().Logical()
		harm := func() {
			_, err := logical.WriteWithContext(w.t.Context(), role("rotated")+"/secret-id/destroy", map[string]any{"secret_id": strings.TrimSpace(read(w.t, file))})
			must(w.t, err)
			w.revokeLogins("rotated")
			down(w.t, e)
		}
		heal := func() {
			secret, err := logical.WriteWithContext(w.t.Context(), role("rotated")+"/secret-id", nil)
			must(w.t, err)
			write(w.t, file, secret.Data["secret_id"].(string))
		}
		return outage{e, harm, heal}
	},
}

// down waits until an edge knows that it has no Vault.
func down(t *testing.T, e *fleet.Edge) {
	t.Helper()
	fleet.Eventually(t, "the edge knows that Vault is away", func() bool { _, state := e.Ready(); return !state.Vault.Up })
}

func TestVaultIsAway(t *testing.T) {
	names := []string{"stale", "late", "busy", "left", "right", "here", "there"}
	for name := range outages {
		names = append(names, name)
	}
	w := newWorld(t, names...)
	t.Run("away", func(t *testing.T) {
		for name, prepare := range outages {
			t.Run(name, func(t *testing.T) { t.Parallel(); w.within(t).outlives(prepare) })
		}
		t.Run("for so long that the edge knows too little", func(t *testing.T) { t.Parallel(); w.within(t).grownStale() })
		t.Run("with an answer that comes too late", func(t *testing.T) { t.Parallel(); w.within(t).answeredLate() })
		t.Run("not at all, and two use one certificate", func(t *testing.T) { t.Parallel(); w.within(t).sharedOverEdges() })
	})
	// These touch everybody's Vault.
	for name, harm := range map[string]func(context.Context) error{
		"the plugin is reloaded under load": func(ctx context.Context) error { return w.vault.ReloadPlugin(ctx, pluginName) },
		"the plugin is killed under load":   func(context.Context) error { return w.vault.KillPlugin(pluginName) },
	} {
		t.Run(name, func(t *testing.T) { w.within(t).enrolsWhile(harm) })
	}
	t.Run("two edges behind one address", func(t *testing.T) { w.within(t).roundRobin() })
}

// outlives has an edge go through an outage.
func (w *world) outlives(prepare func(*world) outage) {
	t, ctx := w.t, w.t.Context()
	o := prepare(w)
	_, session := w.live(o.edge)
	known, newcomer, issued := w.enrolled(o.edge), w.agent(), w.token()

	o.harm()
	err := newcomer.Enrol(ctx, o.edge.Address(), issued.Token)
	refused, _ := errors.AsType[*fleet.Refused](err)
	if refused == nil || refused.Status != http.StatusServiceUnavailable || refused.Code != apitype.VaultUnavailable {
		t.Fatalf("a token is answered with %v", err)
	}
	if refused.RetryAfter < time.Second || refused.RetryAfter > time.Minute {
		t.Errorf("Retry-After is %v", refused.RetryAfter)
	}
	if strings.Contains(refused.Detail, "127.0.0.1") {
		t.Errorf("the answer tells too much: %s", refused.Detail)
	}
	must(t, known.Poll(ctx, o.edge.Address()))
	w.connect(known, o.edge.Address())
	if status, state := o.edge.Ready(); status != http.StatusOK {
		t.Errorf("the edge is not ready for known agents: %d %+v", status, state)
	}
	if made := w.madeBy(issued); len(made) != 0 {
		t.Errorf("the token has made %v meanwhile", made)
	}

	o.heal()
	must(t, comesAgain(ctx, newcomer, o.edge, issued))
	w.wantMade(newcomer, issued)
	o.edge.AwaitReady()
	if err := session.Ended(); err != nil {
		t.Errorf("the live session has ended: %v", err)
	}
}

// comesAgain enrols an agent that does not give up while it is told that it may come again.
func comesAgain(ctx context.Context, a *fleet.Agent, e *fleet.Edge, issued *apitype.IssuedToken) error {
	ctx, cancel := context.WithTimeout(ctx, fleet.Patience)
	defer cancel()
	for {
		err := a.Enrol(ctx, e.Address(), issued.Token)
		if refused, _ := errors.AsType[*fleet.Refused](err); refused == nil || !refused.Passing() {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(time.Second): // sooner than it was told
		}
	}
}

// wantMade checks that the token has made this one agent, once.
func (w *world) wantMade(a *fleet.Agent, issued *apitype.IssuedToken) {
	w.t.Helper()
	if made := w.madeBy(issued); len(made) != 1 || made[0] != a.ID() {
		w.t.Errorf("the token has made %v, the agent is %s", made, a.ID())
	}
	row, err := w.engine.Agent(w.t.Context(), a.ID())
	must(w.t, err)
	if row.SerialNumber != a.Serial() {
		w.t.Errorf("the agent has the leaf %s, its row %s", a.Serial(), row.SerialNumber)
	}
	for _, action := range []string{apitype.ActionTokenRedeemed, apitype.ActionCertificateIssued} {
		if n := len(w.events(a.ID(), action)); n != 1 {
			w.t.Errorf("there are %d events %s", n, action)
		}
	}
}

// grownStale leaves an edge alone until it refuses everybody.
func (w *world) grownStale() {
	t, ctx := w.t, w.t.Context()
	line, addr := w.line()
	e := w.edge("stale", addr, func(o *edge.Options) { o.MaxStaleness = 15 * time.Second })
	_, session := w.live(e)
	known := w.enrolled(e)
	line.Down()
	must(t, known.Poll(ctx, e.Address()))
	fleet.Eventually(t, "/readyz says that the edge knows too little", func() bool {
		status, state := e.Ready()
		return status == http.StatusServiceUnavailable && strings.Contains(state.Reason, "the last sync is") && strings.Contains(state.Reason, "Vault cannot be reached")
	})
	if err := session.Ended(); err != nil {
		t.Errorf("a live session has ended too early: %v", err)
	}
	_, dialled := known.Connect(ctx, e.Address())
	for how, err := range map[string]error{"poll": known.Poll(ctx, e.Address()), "connection": dialled} {
		refused, _ := errors.AsType[*fleet.Refused](err)
		if refused == nil || refused.Status != http.StatusServiceUnavailable || refused.Code != apitype.VaultUnavailable || refused.RetryAfter < time.Second {
			t.Errorf("a known agent's %s is answered with %v", how, err)
		}
	}
	fleet.Eventually(t, "live sessions are closed", func() bool { return session.Ended() != nil })
	if closed, _ := errors.AsType[*websocket.CloseError](session.Ended()); closed == nil || closed.Code != websocket.ClosePolicyViolation || closed.Text != string(apitype.VaultUnavailable) {
		t.Errorf("the live session was closed with %v", session.Ended())
	}
	must(t, line.Up())
	e.AwaitReady()
	w.connect(known, e.Address())
}

// answeredLate lets Vault redeem a token and keeps the answer back until the edge has given up.
func (w *world) answeredLate() {
	t := w.t
	p, addr := w.proxy("/redeem")
	e := w.edge("late", addr)
	newcomer, issued := w.agent(), w.token()
	p.delay.Store(int64(time.Hour))
	err := newcomer.Enrol(t.Context(), e.Address(), issued.Token)
	refused, _ := errors.AsType[*fleet.Refused](err)
	if refused == nil || refused.Code != apitype.OutcomeUnknown || !refused.Passing() {
		t.Fatalf("the redemption is answered with %v", err)
	}
	if made := w.madeBy(issued); len(made) != 1 {
		t.Fatalf("the token has made %v: nothing is tested", made)
	}
	p.delay.Store(0)
	must(t, comesAgain(t.Context(), newcomer, e, issued))
	w.wantMade(newcomer, issued)
}

// enrolsWhile does harm to the engine again and again while agents enrol.
func (w *world) enrolsWhile(harm func(context.Context) error) {
	t := w.t
	e := w.edge("busy", w.vault.Addr)
	known, session := w.live(e)
	const agents, leastHarm = 24, 3
	newcomers, tokens := make([]*fleet.Agent, agents), make([]*apitype.IssuedToken, agents)
	for i := range agents {
		newcomers[i], tokens[i] = w.agent(), w.token()
	}
	var harms atomic.Int64
	enrolled, over := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(over)
		for {
			if err := harm(t.Context()); err != nil {
				t.Errorf("harm %d: %v", harms.Load(), err)
				return
			}
			harms.Add(1)
			// Not again before it is up: a plugin that dies while Vault 1.21 starts it stays dead.
			for end := time.Now().Add(fleet.Patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
				if _, err := w.engine.Config(t.Context()); err == nil {
					break
				}
			}
			select {
			case <-enrolled:
				return
			case <-time.After(200 * time.Millisecond):
			}
		}
	}()
	var group errgroup.Group
	group.SetLimit(4)
	for i, a := range newcomers {
		group.Go(func() error {
			for harms.Load() < int64(i*leastHarm/agents) { // so that all harm falls among the enrolments
				select {
				case <-time.After(20 * time.Millisecond):
				case <-over:
					return errors.New("no harm was done")
				}
			}
			if err := comesAgain(t.Context(), a, e, tokens[i]); err != nil {
				return err
			}
			return a.Poll(t.Context(), e.Address())
		})
	}
	err := group.Wait()
	close(enrolled)
	<-over
	t.Logf("%d agents have enrolled, harm was done %d times", agents, harms.Load())
	must(t, err)
	e.AwaitReady()
	for i, a := range newcomers {
		w.wantMade(a, tokens[i])
	}
	must(t, known.Poll(t.Context(), e.Address()))
	if err := session.Ended(); err != nil {
		t.Errorf("the live session has ended: %v", err)
	}
}

// sharedOverEdges has two sessions of one certificate live on two edges for longer than an agent that moves would have.
func (w *world) sharedOverEdges() {
	t, ctx := w.t, w.t.Context()
	again := func(o *edge.Options) { o.Timing.Again = 10 * time.Second }
	here, there := w.edge("here", w.vault.Addr, again), w.edge("there", w.vault.Addr, again)
	a := w.agent()
	must(t, a.Enrol(ctx, here.Address(), w.token().Token))
	live := []*fleet.Session{w.connect(a, here.Address()), w.connect(a, there.Address())}
	begun := time.Now()
	fleet.Eventually(t, "it is not for a moment", func() bool { return time.Since(begun) > 100*time.Second })
	fleet.Eventually(t, "an event tells of two live sessions of one certificate", func() bool {
		return len(w.events(a.ID(), apitype.ActionCertificateSuspected)) > 0
	})
	told := w.events(a.ID(), apitype.ActionCertificateSuspected)
	if sessions := fmt.Sprint(told[0].Details["live_sessions"]); !strings.Contains(sessions, "here") || !strings.Contains(sessions, "there") {
		t.Errorf("told as %+v", told[0].Details)
	}
	for _, s := range live {
		if err := s.Ended(); err != nil {
			t.Errorf("a live session has ended: %v", err)
		}
	}
}

// roundRobin has agents land on either of two edges.
func (w *world) roundRobin() {
	t, ctx := w.t, w.t.Context()
	edges := []*fleet.Edge{w.edge("left", w.vault.Addr), w.edge("right", w.vault.Addr)}
	front, err := relay.New(edges[0].Address(), edges[1].Address())
	must(t, err)
	t.Cleanup(front.Close)
	sessions := func() (each [2]int) {
		for i, e := range edges {
			_, state := e.Ready()
			each[i] = state.Sessions
		}
		return each
	}

	// It takes its certificate from one and shows it to both.
	a := w.agent()
	must(t, a.Enrol(ctx, front.Addr(), w.token().Token))
	var live []*fleet.Session
	for range 2 {
		live = append(live, w.connect(a, front.Addr()))
	}
	if each := sessions(); each != [2]int{1, 1} {
		t.Fatalf("the sessions of one certificate are on the edges as %v", each)
	}
	for _, e := range edges {
		if n := e.Metric("ampora_edge_duplicate_sessions_total"); n != 0 {
			t.Errorf("an edge has counted %v sessions of the other one", n)
		}
	}
	// A third one shares an edge with the first: that edge sees it, and says so once.
	live = append(live, w.connect(a, front.Addr()), w.connect(a, front.Addr()))
	fleet.Eventually(t, "an event tells of two live sessions of one certificate", func() bool {
		return len(w.events(a.ID(), apitype.ActionCertificateSuspected)) > 0
	})
	for i, e := range edges {
		if n := e.Metric("ampora_edge_duplicate_sessions_total"); n != 1 {
			t.Errorf("edge %d has counted %v sessions too many", i, n)
		}
		must(t, a.Poll(ctx, e.Address()))
	}

	// Its edge goes: the agent comes back through the same address, to the other one.
	must(t, edges[0].Stop(ctx))
	ended := 0
	fleet.Eventually(t, "the sessions of the edge that went have ended", func() bool {
		ended = 0
		for _, s := range live {
			if s.Ended() != nil {
				ended++
			}
		}
		return ended == 2
	})
	w.connect(a, front.Addr())
	b := w.agent()
	must(t, b.Enrol(ctx, front.Addr(), w.token().Token))
	w.connect(b, front.Addr())
	if ended = 0; len(w.events(a.ID(), apitype.ActionCertificateSuspected)) != 1 {
		t.Errorf("the two live sessions were told of more than once")
	}
	for _, s := range live {
		if s.Ended() != nil {
			ended++
		}
	}
	if ended != 2 {
		t.Errorf("%d of four sessions have ended, want the two on the edge that went", ended)
	}
}
