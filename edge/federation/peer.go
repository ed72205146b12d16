package federation

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ampora/ampora/edge/metrics"
	"github.com/ampora/ampora/plugin/apitype"
)

// peer is what this edge knows of a peer with a federation_url.
type peer struct {
	*Handler
	name string
	wake chan struct{} // holds one when the row has changed

	mu     sync.Mutex
	row    Peer
	line   *line // nil: the row makes none
	reach  reach
	bundle followed
	lists  lists
	post   post
}

// reach is how the last call went.
type reach struct {
	at      time.Time // zero: there was none
	up      bool
	why     string
	latency time.Duration
}

// meet brings the peers up to date with the view.
func (h *Handler) meet(ctx context.Context, running *sync.WaitGroup) {
	view := h.View()
	if view == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, row := range view.Peers {
		if row.URL == "" { // an air gap: people carry the receipts
			continue
		}
		p := h.peers[row.Name]
		if p != nil && p.row.PeerID != row.PeerID { // another one under the same name
			p.end()
			p = nil
		}
		if p == nil {
			ctx, cancel := context.WithCancel(ctx)
			p = &peer{Handler: h, name: row.Name, wake: make(chan struct{}, 1)}
			p.post.cancel = cancel
			h.peers[row.Name] = p
			p.is(row)
			running.Go(func() { p.run(ctx) })
			continue
		}
		p.is(row)
	}
	for name, p := range h.peers {
		if !slices.ContainsFunc(view.Peers, func(row Peer) bool { return row.Name == name && row.URL != "" }) {
			p.end()
			delete(h.peers, name)
		}
	}
}

// peer is the one of that name, nil when there is none that can be reached.
func (h *Handler) peer(name string) *peer {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.peers[name]
}

// all is the peers in the order of their names.
func (h *Handler) all() []*peer {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := make([]*peer, 0, len(h.peers))
	for _, p := range h.peers {
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b *peer) int { return strings.Compare(a.name, b.name) })
	return all
}

// is takes the peer's row.
func (p *peer) is(row Peer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	was := p.row
	p.row = row
	p.lists.keepOnly(row.Pinned)
	if was.Suspended && !row.Suspended || was.URL != row.URL || was.Roots != row.Roots {
		if p.line != nil {
			p.line.close()
		}
		p.reach, p.bundle, p.lists.retry, p.post.retry = reach{}, followed{}, retry{}, retry{}
		var err error
		if p.line, err = newLine(row); err != nil {
			p.reach = reach{at: time.Now(), why: err.Error()}
			p.Logger.Warn("a peer cannot be reached", "peer", p.name, "error", err)
		}
	}
	poke(p.wake)
}

// end stops what is under way with the peer.
func (p *peer) end() {
	p.post.cancel()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.line != nil {
		p.line.close()
	}
}

// now is the row and the way to the peer; nil while there is none.
func (p *peer) now() (Peer, *line) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.row, p.line
}

// call makes one call and takes note of how it went.
func (p *peer) call(ctx context.Context, l *line, in request) (*reply, error) {
	if in.timeout == 0 {
		in.timeout = p.Timing.Call
	}
	began := time.Now()
	out, err := l.do(ctx, in)
	if ctx.Err() == nil {
		p.found(l, err, time.Since(began))
	}
	return out, err
}

// found takes note of how a call went. A peer that refuses what it has understood is there.
func (p *peer) found(l *line, err error, took time.Duration) {
	f, failed := errors.AsType[*fault](err)
	next := reach{at: time.Now(), up: err == nil || failed && f.answered, latency: took}
	if !next.up {
		next.why = why(err)
	}
	p.mu.Lock()
	if p.line != l { // of an address that counts no longer
		p.mu.Unlock()
		return
	}
	was := p.reach
	p.reach = next
	p.mu.Unlock()
	switch {
	case !next.up && (was.up || was.why != next.why):
		p.Logger.Warn("a peer cannot be reached", "peer", p.name, "error", next.why)
	case next.up && !was.up && !was.at.IsZero():
		p.Logger.Info("a peer can be reached again", "peer", p.name)
		p.outbox.hurry()
	}
}

// run follows the peer's bundle and lists until ctx ends.
func (p *peer) run(ctx context.Context) {
	first := p.Timing.Bundle / 10
	p.mu.Lock()
	p.bundle.next = time.Now().Add(min(around(first), 2*p.Timing.Spread))
	p.mu.Unlock()
	for ctx.Err() == nil {
		next := time.Now().Add(p.Timing.LastRetry) // after a panic
		_ = p.guard("a peer", func() { next = p.round(ctx) })
		timer := time.NewTimer(time.Until(next))
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-p.wake:
		}
		timer.Stop()
	}
}

// round does what is due, and says when something is due next.
func (p *peer) round(ctx context.Context) (next time.Time) {
	row, l := p.now()
	next = time.Now().Add(time.Hour)
	if l == nil || row.Suspended {
		return next
	}
	if due := p.bundleDue(); !time.Now().Before(due) {
		p.follow(ctx, row, l)
	}
	next = earlier(next, p.bundleDue())
	if !row.Guests {
		return next
	}
	if due := p.listsDue(); !time.Now().Before(due) {
		p.fetch(ctx, row, l)
	}
	return earlier(next, p.listsDue())
}

// Report is how this edge found its peers, for Vault.
func (h *Handler) Report() []apitype.PeerReport {
	var out []apitype.PeerReport
	all := h.all()
	for _, p := range all[:min(len(all), apitype.MaxPeerReports)] {
		p.mu.Lock()
		if !p.reach.at.IsZero() {
			out = append(out, apitype.PeerReport{
				Name: p.name, Up: p.reach.up, Error: p.reach.why, LatencyMS: max(p.reach.latency.Milliseconds(), 0), CheckedAt: p.reach.at.Unix(),
				CRLTime: seconds(p.lists.made()),
			})
		}
		p.mu.Unlock()
	}
	return out
}

// states is the same for a scrape.
func (h *Handler) states() []metrics.PeerState {
	var out []metrics.PeerState
	for _, p := range h.all() {
		p.mu.Lock()
		s := metrics.PeerState{Name: p.name, Up: p.reach.up, Latency: p.reach.latency}
		s.ListsTime, s.NextUpdate, s.Revoked = p.lists.made(), p.lists.nextUpdate(), p.lists.len()
		p.mu.Unlock()
		out = append(out, s)
	}
	return out
}

func seconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return max(t.Unix(), 0) // a peer's list says what it likes
}
