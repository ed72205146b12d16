// Package cluster runs edges and agents on a Vault of three nodes, and takes the leader away under them.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/ampora/ampora/edge"
	"github.com/ampora/ampora/edge/vaultgate"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/client"
	"github.com/ampora/ampora/test/fleet"
	"github.com/ampora/ampora/test/relay"
	"github.com/ampora/ampora/test/vaulttest"
)

// world is a cluster, two edges on it, and one address in front of the edges. Edges and operator reach Vault through a TCP
// round robin over all its nodes, which knows nothing of who leads.
type world struct {
	t      *testing.T
	vault  *vaulttest.Cluster
	engine *client.Client // as root
	edges  []*fleet.Edge
	front  *relay.Relay // agents may land on either edge
	roots  string       // PEM
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, vault: vaulttest.StartCluster(t)}
	version, err := w.vault.RegisterAmpora(t.Context(), "")
	must(t, err)
	credentials := fleet.Setup(t, w.vault.Env(), w.vault.Nodes[0].PluginDir, version, "one", "two")
	w.engine, err = client.New(w.vault.Client(), "ampora")
	must(t, err)
	bundle, err := w.engine.CABundle(t.Context())
	must(t, err)
	w.roots = bundle.Bundle
	var addrs []string
	for _, name := range []string{"one", "two"} {
		e := fleet.StartEdge(t, w.vault.Addr, edge.Options{Name: name, Vault: vaultgate.Options{Auth: fleet.AppRole(credentials, name)}})
		w.edges = append(w.edges, e)
		addrs = append(addrs, e.Address())
	}
	w.front, err = relay.New(addrs...)
	must(t, err)
	t.Cleanup(w.front.Close)
	return w
}

// insist makes a call until it succeeds: Vault is away for a while, again and again. What a lost answer has done stays done.
func insist[T any](ctx context.Context, call func(context.Context) (T, error)) (out T, err error) {
	for {
		try, cancel := context.WithTimeout(ctx, 5*time.Second)
		out, err = call(try)
		cancel()
		if err == nil || ctx.Err() != nil {
			return out, err
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// issue issues a token. An issue whose answer got lost leaves another one, which nobody ever sees.
func (w *world) issue(ctx context.Context) (*apitype.IssuedToken, error) {
	return insist(ctx, func(ctx context.Context) (*apitype.IssuedToken, error) {
		return w.engine.IssueToken(ctx, apitype.TokenIssueRequest{})
	})
}

// enrol makes an agent at an edge, as an agent does: it comes again while it is told that this may help.
func (w *world) enrol(ctx context.Context, addr, token string) (*fleet.Agent, error) {
	a, err := fleet.New(w.roots)
	if err != nil {
		return nil, err
	}
	for {
		err := a.Enrol(ctx, addr, token)
		refused, answered := errors.AsType[*fleet.Refused](err)
		switch {
		case err == nil:
			return a, nil
		case !answered || !refused.Passing():
			return nil, err
		case refused.RetryAfter <= 0:
			return nil, fmt.Errorf("told to come again, but not when: %w", err)
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), err)
		case <-time.After(time.Second): // sooner than it was told
		}
	}
}

// load is a stream of enrolments.
type load struct {
	w     *world
	stop  chan struct{}
	end   context.CancelFunc
	works sync.WaitGroup

	mu     sync.Mutex
	issued []string                // token ids
	agents map[string]*fleet.Agent // by token id
	failed map[string]error        // by token id
}

// ahead is how many tokens lie ready: when Vault goes away, agents have theirs and want to use them.
const ahead = 20

// enrolments starts the stream. Each agent stays with the edge that it has tried first, and the edges take turns.
func (w *world) enrolments(workers int) *load {
	ctx, end := context.WithCancel(context.Background())
	l := &load{w: w, stop: make(chan struct{}), end: end, agents: map[string]*fleet.Agent{}, failed: map[string]error{}}
	tokens := make(chan *apitype.IssuedToken, ahead)
	l.works.Go(func() { l.issue(ctx, tokens) })
	for i := range workers {
		l.works.Go(func() { l.enrol(ctx, tokens, w.edges[i%len(w.edges)].Address()) })
	}
	w.t.Cleanup(l.finish)
	return l
}

func (l *load) issue(ctx context.Context, tokens chan<- *apitype.IssuedToken) {
	for {
		issued, err := l.w.issue(ctx)
		if err != nil {
			l.note("which was not issued", nil, err)
			return
		}
		l.mu.Lock()
		l.issued = append(l.issued, issued.TokenID)
		l.mu.Unlock()
		select {
		case <-l.stop:
			return
		case tokens <- issued:
		}
	}
}

func (l *load) enrol(ctx context.Context, tokens <-chan *apitype.IssuedToken, addr string) {
	for {
		select {
		case <-l.stop:
			return
		case issued := <-tokens:
			a, err := l.w.enrol(ctx, addr, issued.Token)
			l.note(issued.TokenID, a, err)
		}
		time.Sleep(100 * time.Millisecond) // there is to be room for everybody else as well
	}
}

func (l *load) note(tokenID string, a *fleet.Agent, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.failed[tokenID] = err
		return
	}
	l.agents[tokenID] = a
}

// flows waits until so many more agents have enrolled.
func (l *load) flows(more int) {
	l.w.t.Helper()
	done := func() int { l.mu.Lock(); defer l.mu.Unlock(); return len(l.agents) }
	target := done() + more
	fleet.Eventually(l.w.t, fmt.Sprintf("%d more agents have enrolled", more), func() bool { return done() >= target })
}

// finish lets what is under way come to its end, and no more.
func (l *load) finish() {
	select {
	case <-l.stop:
		return
	default:
		close(l.stop)
	}
	patience := time.AfterFunc(fleet.Patience, l.end)
	defer patience.Stop()
	l.works.Wait()
	l.end()
}

// rows are all agents, read in pages.
func (w *world) rows() map[string]apitype.Agent {
	w.t.Helper()
	return pages(w.t, func(ctx context.Context, page apitype.Page) (*apitype.ListResponse[apitype.Agent], error) {
		return w.engine.Agents(ctx, page)
	})
}

// outstanding are all tokens that can still be redeemed.
func (w *world) outstanding() map[string]apitype.TokenInfo {
	w.t.Helper()
	all := pages(w.t, func(ctx context.Context, page apitype.Page) (*apitype.ListResponse[apitype.TokenInfo], error) {
		return w.engine.Tokens(ctx, page)
	})
	maps.DeleteFunc(all, func(_ string, token apitype.TokenInfo) bool { return token.State != apitype.TokenStateIssued })
	return all
}

func pages[T any](t *testing.T, read func(context.Context, apitype.Page) (*apitype.ListResponse[T], error)) map[string]T {
	t.Helper()
	all := map[string]T{}
	for after := ""; ; {
		list, err := read(t.Context(), apitype.Page{After: after, Limit: 1000})
		must(t, err)
		maps.Copy(all, list.KeyInfo)
		if after = list.NextAfter; after == "" {
			return all
		}
	}
}

// events counts the events of an action by agent.
func (w *world) events(action string) map[string]int {
	w.t.Helper()
	count, seen := map[string]int{}, map[string]bool{}
	for cursor := ""; ; {
		page, err := w.engine.Events(w.t.Context(), apitype.EventsRequest{Action: action, Limit: 1000, Cursor: cursor})
		must(w.t, err)
		for _, e := range page.Events {
			if seen[e.ID] {
				w.t.Errorf("the event %s is listed twice", e.ID)
			}
			seen[e.ID] = true
			count[e.AgentID]++
		}
		if cursor = page.NextCursor; cursor == "" {
			return count
		}
	}
}

// loads are the epochs of the whole snapshots that an edge has taken, in order: one for each time that the engine's memory
// was new to it.
func loads(e *fleet.Edge) (epochs []string) {
	for _, line := range e.Logged("trust snapshot") {
		if m := snapshotLine.FindStringSubmatch(line); m != nil {
			epochs = append(epochs, m[1])
		}
	}
	return epochs
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
