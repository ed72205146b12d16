// Package away takes a real Vault away from a real edge in every way that there is, or spoils the edge's login.
package away

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ampora/ampora/edge"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/client"
	"github.com/ampora/ampora/test/fleet"
	"github.com/ampora/ampora/test/relay"
	"github.com/ampora/ampora/test/vaulttest"
)

const pluginName = "vault-plugin-secrets-ampora"

// world is a Vault with the engine, set up for some edges.
type world struct {
	t           *testing.T
	vault       *vaulttest.Vault
	engine      *client.Client // as root
	credentials string         // directory, see fleet.AppRole
	roots       string         // PEM
}

func newWorld(t *testing.T, edges ...string) *world {
	t.Helper()
	w := &world{t: t, vault: vaulttest.Start(t)}
	version, err := w.vault.RegisterAmpora(t.Context(), "")
	must(t, err)
	w.credentials = fleet.Setup(t, w.vault.Env(), w.vault.PluginDir, version, edges...)
	w.engine, err = client.New(w.vault.Client(), "ampora")
	must(t, err)
	bundle, err := w.engine.CABundle(t.Context())
	must(t, err)
	w.roots = bundle.Bundle
	return w
}

// within is the world for a subtest.
func (w *world) within(t *testing.T) *world {
	sub := *w
	sub.t = t
	return &sub
}

// edge starts an edge of that name, whose way to Vault begins at the given URL.
func (w *world) edge(name, url string, change ...func(*edge.Options)) *fleet.Edge {
	w.t.Helper()
	o := edge.Options{Name: name}
	o.Vault.Auth = fleet.AppRole(w.credentials, name)
	for _, f := range change {
		f(&o)
	}
	return fleet.StartEdge(w.t, url, o)
}

func (w *world) token() *apitype.IssuedToken {
	w.t.Helper()
	issued, err := w.engine.IssueToken(w.t.Context(), apitype.TokenIssueRequest{})
	must(w.t, err)
	return issued
}

// agent is a new agent.
func (w *world) agent() *fleet.Agent {
	w.t.Helper()
	a, err := fleet.New(w.roots)
	must(w.t, err)
	return a
}

// enrolled is an agent that has its certificate from that edge.
func (w *world) enrolled(e *fleet.Edge) *fleet.Agent {
	w.t.Helper()
	a := w.agent()
	must(w.t, a.Enrol(w.t.Context(), e.Address(), w.token().Token))
	return a
}

// live is an agent with a session.
func (w *world) live(e *fleet.Edge) (*fleet.Agent, *fleet.Session) {
	w.t.Helper()
	a := w.enrolled(e)
	return a, w.connect(a, e.Address())
}

func (w *world) connect(a *fleet.Agent, addr string) *fleet.Session {
	w.t.Helper()
	s, err := a.Connect(w.t.Context(), addr)
	must(w.t, err)
	w.t.Cleanup(s.Close)
	return s
}

// madeBy are the agents that a token has made.
func (w *world) madeBy(issued *apitype.IssuedToken) (ids []string) {
	w.t.Helper()
	list, err := w.engine.Agents(w.t.Context(), apitype.Page{})
	must(w.t, err)
	for id, row := range list.KeyInfo {
		if row.TokenID == issued.TokenID {
			ids = append(ids, id)
		}
	}
	return ids
}

// events are an agent's of one kind.
func (w *world) events(agentID, action string) []apitype.Event {
	w.t.Helper()
	page, err := w.engine.Events(w.t.Context(), apitype.EventsRequest{AgentID: agentID, Action: action})
	must(w.t, err)
	return page.Events
}

// weather is a proxy before Vault that can be told to behave badly.
type weather struct {
	*httputil.ReverseProxy
	delay  atomic.Int64 // nanoseconds by which answers come late
	only   string       // end of the paths that delay is for; empty for all
	status atomic.Int64 // answered in Vault's place, 0 for none
}

// proxy starts one, and answers its URL. Delays are for paths that end like this.
func (w *world) proxy(only string) (p *weather, addr string) {
	w.t.Helper()
	to, err := url.Parse(w.vault.Addr)
	must(w.t, err)
	p = &weather{ReverseProxy: httputil.NewSingleHostReverseProxy(to), only: only}
	p.ErrorHandler = func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) } // the caller has gone
	p.ModifyResponse = func(r *http.Response) error {                                                // what was asked for has happened by now
		if !strings.HasSuffix(r.Request.URL.Path, p.only) {
			return nil
		}
		select {
		case <-time.After(time.Duration(p.delay.Load())):
			return nil
		case <-r.Request.Context().Done():
			return r.Request.Context().Err()
		}
	}
	server := httptest.NewServer(p)
	w.t.Cleanup(server.Close)
	return p, server.URL
}

func (p *weather) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	if status := int(p.status.Load()); status != 0 {
		http.Error(rw, "<html><body>Something is wrong here.</body></html>", status)
		return
	}
	p.ReverseProxy.ServeHTTP(rw, r)
}

// line is a TCP relay before Vault.
func (w *world) line() (l *relay.Relay, addr string) {
	w.t.Helper()
	l, err := relay.New(strings.TrimPrefix(w.vault.Addr, "http://"))
	must(w.t, err)
	w.t.Cleanup(l.Close)
	return l, "http://" + l.Addr()
}

// role is the path of an edge's AppRole.
func role(edge string) string { return "auth/approle/role/ampora-edge-" + edge }

// revokeLogins revokes the tokens that an edge has got by AppRole.
func (w *world) revokeLogins(edge string) {
	w.t.Helper()
	ctx, v, revoked := w.t.Context(), w.vault.Client(), 0
	list, err := v.Logical().ListWithContext(ctx, "auth/token/accessors")
	must(w.t, err)
	for _, accessor := range list.Data["keys"].([]any) {
		token, err := v.Auth().Token().LookupAccessorWithContext(ctx, accessor.(string))
		if err != nil {
			continue // it has expired since
		}
		meta, _ := token.Data["meta"].(map[string]any)
		if name, _ := meta["role_name"].(string); strings.HasSuffix(role(edge), "/"+name) {
			must(w.t, v.Auth().Token().RevokeAccessorWithContext(ctx, accessor.(string)))
			revoked++
		}
	}
	if revoked == 0 {
		w.t.Errorf("edge %s has no token", edge)
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	must(t, os.WriteFile(path, []byte(content), 0o600))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	must(t, err)
	return string(raw)
}
