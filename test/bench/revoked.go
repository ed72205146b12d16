package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/ampora/ampora/edge/trust"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"
)

// wholeTime is how long the engine may take, after a start, to read what was revoked and to sign a list of it.
const wholeTime = 15 * time.Minute

// measureRevoked says what it costs to have very many revoked agents: for one more revocation, beside a mount without any, for the
// list of them, and for an edge's memory; and how soon a revocation closes sessions on two edges.
//
// The revoked agents are rows in Vault's storage, copied from the one that the engine wrote when an agent was deleted, as
// many.go does for expired tokens. The engine then starts again and reads them as its own.
func (b *bench) measureRevoked(ctx context.Context) error {
	if err := b.prepareRevoked(ctx); err != nil {
		return err
	}
	full, none := b.withRevoked, b.withoutRevoked
	if err := b.vault.server.ReloadPlugin(ctx, pluginName); err != nil {
		return err
	}
	if err := b.awaitLists(ctx, full, none); err != nil {
		return err
	}
	if err := b.measureSet(ctx, full); err != nil {
		return err
	}
	if err := b.compareRevoke(ctx, full, none); err != nil {
		return err
	}
	return b.measureClosing(ctx, full)
}

// prepareRevoked makes the two mounts, unless that has been done.
func (b *bench) prepareRevoked(ctx context.Context) (err error) {
	if b.withRevoked != nil {
		return nil
	}
	if b.withoutRevoked, err = b.vault.newMount(ctx, "none-revoked"); err != nil {
		return err
	}
	if b.withRevoked, err = b.vault.newMount(ctx, "revoked"); err != nil {
		return err
	}
	return b.fillRevoked(ctx, b.withRevoked)
}

// enrolOn enrols agents on the mount.
func (b *bench) enrolOn(ctx context.Context, m *mount, n int) ([]*applicant, error) {
	all, err := newApplicants(n)
	if err != nil {
		return nil, err
	}
	if err := m.give(ctx, all); err != nil {
		return nil, err
	}
	_, err = perSecond(ctx, all, b.parallel, m.redeem)
	return all, err
}

func (b *bench) fillRevoked(ctx context.Context, m *mount) error {
	b.say("making %d revoked agents", b.revoked)
	p, err := m.past(ctx)
	if err != nil {
		return err
	}
	one, err := b.enrolOn(ctx, m, 1)
	if err != nil {
		return err
	}
	id := one[0].identity.AgentID
	if err := m.DeleteAgent(ctx, id); err != nil {
		return err
	}
	like, err := p.read(ctx, "revoked/"+id[:2]+"/"+id)
	if err != nil {
		return err
	}
	return inFlight(ctx, b.revoked-1, 4*b.parallel, func(ctx context.Context, _ int) error { return p.revokedAgent(ctx, like) })
}

// revokedAgent writes another tombstone like the row. Its event is left out, as where many were revoked together.
func (p *past) revokedAgent(ctx context.Context, like storedRow) error {
	whole, row, err := inner(like)
	if err != nil {
		return err
	}
	id := uuid.NewString()
	row["agent_id"] = id
	delete(row, "record")
	return p.write(ctx, "revoked/"+id[:2]+"/"+id, whole)
}

// awaitLists waits until the mounts have signed their lists.
func (b *bench) awaitLists(ctx context.Context, mounts ...*mount) error {
	started := time.Now()
	b.say("waiting for the first lists of revoked certificates")
	for _, m := range mounts {
		var last error
		done, err := b.within(ctx, wholeTime, func() (bool, error) {
			_, last = m.CRL(ctx, apitype.CRLRequest{})
			return last == nil, nil
		})
		if err != nil || !done {
			return errors.Join(err, fmt.Errorf("no list after %v: %w", wholeTime, last))
		}
	}
	b.report.note("%.0f s after a start of the engine its list of %d revoked certificates could be had.", time.Since(started).Seconds(), b.revoked)
	return nil
}

// measureSet follows the mount's change feed in this process, and weighs what an edge keeps of it.
func (b *bench) measureSet(ctx context.Context, m *mount) error {
	heap := func() uint64 {
		var s runtime.MemStats
		runtime.GC()
		runtime.GC() // what the first one has only moved out of pools
		runtime.ReadMemStats(&s)
		return s.HeapAlloc
	}
	feed := trust.NewFeed(m.Client, hclog.NewNullLogger())
	used, err := b.vault.usage(ctx)
	if err != nil {
		return err
	}
	before := heap()
	life, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	start := time.Now()
	go func() { defer close(ended); feed.Run(life) }()
	whole, err := b.within(ctx, wholeTime, func() (bool, error) {
		s := feed.Current()
		return s != nil && s.RevokedCount() >= b.revoked, nil
	})
	took := time.Since(start)
	stop()
	<-ended
	if err != nil || !whole {
		return errors.Join(err, fmt.Errorf("the feed does not tell of all %d revoked agents: %s", b.revoked, feed.LastError()))
	}
	after := heap()
	runtime.KeepAlive(feed)
	spent, err := b.vault.usage(ctx)
	if err != nil {
		return err
	}
	b.report.add("revoked-set", figures{
		What: fmt.Sprintf("an edge's set of %d revoked agents", b.revoked), Unit: "MB", Ours: []float64{max(0, float64(after)-float64(before)) / 1e6},
	})
	b.report.add("revoked-sync", figures{What: "  until an edge that knows nothing has it", Unit: "s", Ours: []float64{took.Seconds()}})
	b.report.add("revoked-sync-cost", figures{
		What: "  processor time of Vault and the engine for that", Unit: "s", Ours: []float64{(spent.processor - used.processor).Seconds()},
	})
	return ctx.Err()
}

// compareRevoke revokes one agent after the other, on the two mounts by turns, so that a machine which is busy for a moment is so
// for both.
func (b *bench) compareRevoke(ctx context.Context, full, none *mount) error {
	b.say("revoking at %d revoked agents beside none: %d rounds of %d", b.revoked, b.rounds, b.alone)
	f := figures{What: fmt.Sprintf("revoke an agent at %d revoked / at none", b.revoked), Unit: "ms"}
	for round := range b.rounds + 1 { // the first one warms up
		var agents [2][]*applicant
		var took [2]time.Duration
		mounts := [2]*mount{full, none}
		for i, m := range mounts {
			var err error
			if agents[i], err = b.enrolOn(ctx, m, b.alone); err != nil {
				return err
			}
		}
		for n := range b.alone {
			for turn := range mounts {
				i := (turn + n) % len(mounts)
				start := time.Now()
				if err := mounts[i].revoke(ctx, agents[i][n]); err != nil {
					return err
				}
				took[i] += time.Since(start)
			}
		}
		if round > 0 {
			each := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) / float64(b.alone) }
			f.Ours, f.Theirs = append(f.Ours, each(took[0])), append(f.Theirs, each(took[1]))
		}
	}
	b.report.add("revoke", f)
	return nil
}

func (m *mount) revoke(ctx context.Context, a *applicant) error {
	_, err := m.RevokeAgent(ctx, a.identity.AgentID, apitype.RevokeRequest{Reason: "keyCompromise"})
	return err
}

// closeTime is how long a session may outlive its agent's revocation before the run gives up.
const closeTime = 30 * time.Second

// measureClosing has agents connected to two edges at once and revokes one after the other.
func (b *bench) measureClosing(ctx context.Context, m *mount) (err error) {
	b.say("revoking %d agents that are connected to two edges", b.watched)
	all, err := b.enrolOn(ctx, m, b.watched)
	if err != nil {
		return err
	}
	identities := make([]identity, len(all))
	for i, a := range all {
		if identities[i], err = a.enrolled(); err != nil {
			return err
		}
	}
	bundle, err := m.CABundle(ctx)
	if err != nil {
		return err
	}
	if err := b.writeCrew(crewFile, bundle.Bundle, identities); err != nil {
		return err
	}
	token, err := b.vault.edgeTokenFor(ctx, m.name)
	if err != nil {
		return err
	}
	log, err := os.Create(b.file(logFile))
	if err != nil {
		return err
	}
	defer func() { err = b.explain(ctx, log, err) }()
	agents, err := startAgents(log, b.file(crewFile))
	if err != nil {
		return err
	}
	defer agents.end()
	var edges []*server
	for _, name := range []string{"one", "two"} {
		edge, err := b.startEdge(ctx, log, edgeOptions{name: name, mount: m.name, token: token})
		if err != nil {
			return err
		}
		defer edge.end()
		if _, err := tell(agents, order{Do: "connect", URL: edge.url, Agents: len(all), Heartbeat: b.heartbeat}); err != nil {
			return err
		}
		edges = append(edges, edge)
	}
	var took []float64
	for i, a := range all {
		start := time.Now()
		if err := m.revoke(ctx, a); err != nil {
			return err
		}
		last, err := b.awaitEnd(ctx, agents, edges, i)
		if err != nil {
			return err
		}
		took = append(took, last.Sub(start).Seconds())
	}
	for _, edge := range edges {
		if _, err := tell(agents, order{Do: "disconnect", URL: edge.url}); err != nil {
			return err
		}
		out, err := tell(agents, order{Do: "connect", URL: edge.url, Agents: len(all)})
		if out.Done > 0 || err == nil || !strings.Contains(err.Error(), string(apitype.CertificateRevoked)) {
			return fmt.Errorf("of %d revoked agents %d were let in again: %w", len(all), out.Done, err)
		}
	}
	b.report.add("revoke-closed", figures{
		What: "from the revocation to the last closed session of two edges, the slowest", Unit: "s", Ours: []float64{slices.Max(took)},
	})
	b.report.add("revoke-closed-half", figures{What: "  half of them", Unit: "s", Ours: []float64{quantile(took, 0.5)}})
	return b.measureList(ctx, m, edges[0], bundle.Bundle)
}

// awaitEnd waits until the agent's session has ended on all edges, and says when the last did.
func (b *bench) awaitEnd(ctx context.Context, agents *child, edges []*server, agent int) (last time.Time, err error) {
	for _, edge := range edges {
		done, err := b.within(ctx, closeTime, func() (bool, error) {
			out, err := tell(agents, order{Do: "look", URL: edge.url})
			if err != nil || out.Times[agent] == 0 {
				return false, err
			}
			if at := time.Unix(0, out.Times[agent]); at.After(last) {
				last = at
			}
			return true, nil
		})
		if err != nil || !done {
			return last, errors.Join(err, fmt.Errorf("a revoked agent's session was still open after %v", closeTime))
		}
	}
	return last, nil
}

// measureList fetches the list of everything revoked, as clients do: from an edge, and from Vault itself.
func (b *bench) measureList(ctx context.Context, m *mount, edge *server, roots string) error {
	b.say("fetching the list of %d revoked certificates: %d times", b.revoked, b.rounds)
	if err := m.UpdateConfig(ctx, map[string]any{"public_pki": true}); err != nil {
		return err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(roots))
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	defer transport.CloseIdleConnections()
	for _, from := range []struct{ key, what, url string }{ // both have it in memory
		{"crl", fmt.Sprintf("fetch the list of %d revoked certificates from an edge", b.revoked), edge.base + "/pki/crl.der"},
		{"crl-vault", "  from Vault", b.vault.server.Addr + "/v1/" + m.name + "/" + "crl"},
	} {
		f := figures{What: from.what, Unit: "ms"}
		var size int
		// The first one opens the connection; an edge that has just started may not have the list yet.
		if _, err := b.within(ctx, wholeTime, func() (bool, error) {
			der, err := fetch(ctx, transport, from.url)
			if err != nil {
				return false, nil
			}
			list, err := x509.ParseRevocationList(der)
			size = len(der)
			return err == nil && len(list.RevokedCertificateEntries) >= b.revoked, err
		}); err != nil {
			return err
		}
		for range b.rounds {
			start := time.Now()
			if _, err := fetch(ctx, transport, from.url); err != nil {
				return err
			}
			f.Ours = append(f.Ours, float64(time.Since(start))/float64(time.Millisecond))
		}
		b.report.add(from.key, f)
		if from.key == "crl" {
			b.report.note("The list of %d revoked certificates has %.1f MB.", b.revoked, float64(size)/1e6)
		}
	}
	return nil
}

func fetch(ctx context.Context, transport http.RoundTripper, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", url, resp.Status)
	}
	return body, err
}
