package edge

import (
	"sync"
	"time"

	"github.com/ampora/ampora/edge/federation"
	"github.com/ampora/ampora/edge/refused"
	"github.com/ampora/ampora/edge/trust"
	"github.com/ampora/ampora/plugin/handover"
)

// wireFederation makes the part that speaks with peers' edges.
func (e *Edge) wireFederation(refusals *refused.Table) (err error) {
	e.federation, err = federation.New(federation.Options{
		Engine: e.gate, View: func() *federation.View { return e.peers.of(e.feed.Current()) }, Lists: e.pki, Refused: refusals,
		Metrics: e.metrics, Logger: e.options.Logger.Named("federation"), Timing: e.options.Federation,
		Ended: func(string) { e.desk.PeerRevocationsChanged() },
	})
	return err
}

// peersView keeps what was made of the last snapshot, for it is asked for with every receipt.
type peersView struct {
	mu   sync.Mutex
	from *trust.Snapshot
	view *federation.View
}

func (v *peersView) of(s *trust.Snapshot) *federation.View {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.from != s {
		v.from, v.view = s, peersOf(s)
	}
	return v.view
}

// peersOf is what of a snapshot is about peers.
func peersOf(s *trust.Snapshot) *federation.View {
	if s == nil {
		return nil
	}
	v := &federation.View{Peers: make([]federation.Peer, len(s.Peers)), CRLExpiry: time.Duration(s.Settings.CRLExpiry) * time.Second}
	at := make(map[string]*federation.Peer, len(s.Peers))
	for i, p := range s.Peers {
		v.Peers[i] = federation.Peer{
			Name: p.Name, PeerID: p.PeerID, URL: p.FederationURL, Roots: p.EndpointCABundle, Sequence: p.BundleSequence, Suspended: p.Suspended,
			Pinned: p.Issuers,
		}
		at[p.Name] = &v.Peers[i]
	}
	for g := range s.Guests() {
		if p := at[g.Peer]; p != nil {
			p.Waiting = p.Waiting || g.State == handover.AwaitingRelease
			p.Guests = p.Guests || g.State != handover.AwaitingRelease
		}
	}
	return v
}
