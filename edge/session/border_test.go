package session

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/ampora/ampora/edge/trust"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/handover"
	"github.com/ampora/ampora/plugin/identity"
	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"
)

// feeder is a change feed that tells what a test wants.
type feeder struct {
	mu    sync.Mutex
	queue []apitype.SyncResponse
	more  chan struct{}
}

func (f *feeder) Sync(ctx context.Context, in apitype.SyncRequest) (*apitype.SyncResponse, error) {
	wait := time.NewTimer(time.Duration(in.Wait) * time.Second)
	defer wait.Stop()
	for {
		f.mu.Lock()
		if len(f.queue) > 0 {
			next := f.queue[0]
			f.queue = f.queue[1:]
			f.mu.Unlock()
			return &next, nil
		}
		f.mu.Unlock()
		select {
		case <-f.more:
		case <-wait.C:
			return &apitype.SyncResponse{Revision: in.Since}, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// border is a fleet whose edge follows a feed, with a peer from which agents come and to which they go.
type border struct {
	*fleet
	feed  *feeder
	trust *trust.Feed
	peer  *authority
	log   *logSink

	revokedThere map[string]bool // fingerprints
	mu           sync.Mutex
}

func (b *border) PeerRevoked(peer string, cert *x509.Certificate) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return peer == "east" && b.revokedThere[identity.Fingerprint(cert.Raw)]
}

// logSink keeps what is logged.
type logSink struct {
	mu   sync.Mutex
	text []byte
}

func (l *logSink) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, p...)
	return len(p), nil
}

func (l *logSink) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.text)
}

const peerRoots = "PEM of the peer's roots"

func atBorder(t *testing.T, f func(*testing.T, *border), change ...func(*Options)) {
	t.Helper()
	inFleet(t, func(t *testing.T, w *fleet) {
		b := &border{fleet: w, feed: &feeder{more: make(chan struct{}, 1)}, peer: newAuthority(t), log: &logSink{}, revokedThere: map[string]bool{}}
		b.peer.domain = "east.example"
		b.trust = trust.NewFeed(b.feed, hclog.NewNullLogger())
		w.desk = newTestDesk(t, w.authority, w.engine, func(o *Options) {
			o.MaxStaleness, o.Timing, o.Trust, o.PeerRevocations = 1000*time.Hour, Timing{}, b.trust, b
			o.Logger = hclog.New(&hclog.LoggerOptions{Output: b.log, Level: hclog.Debug})
			for _, c := range change {
				c(o)
			}
		})
		b.trust.OnChange(w.desk.Changed)
		ctx, cancel := context.WithCancel(context.Background())
		var running sync.WaitGroup
		running.Go(func() { b.trust.Run(ctx) })
		defer running.Wait()
		defer cancel()
		b.tell(apitype.SyncResponse{
			Full: true, Settings: &apitype.SyncSettings{TrustDomain: domain, Endpoint: "wss://edge.example:4320"},
			Issuers: []apitype.SyncIssuer{{IssuerID: "i", Certificate: pemOf(w.authority.cert)}}, Peers: b.peers(),
		})
		f(t, b)
	})
}

func pemOf(c *x509.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
}

// peers is the one peer, changed.
func (b *border) peers(change ...func(*apitype.SyncPeer)) []apitype.SyncPeer {
	p := apitype.SyncPeer{Name: "east", PeerID: "east", Endpoint: "wss://east.example", EndpointCABundle: peerRoots, CABundle: pemOf(b.peer.cert)}
	for _, f := range change {
		f(&p)
	}
	return []apitype.SyncPeer{p}
}

// tell has the edge hear of a change, and waits until it has.
func (b *border) tell(in apitype.SyncResponse) {
	b.t.Helper()
	in.Revision = "e." + uuid.NewString()
	b.feed.mu.Lock()
	b.feed.queue = append(b.feed.queue, in)
	b.feed.mu.Unlock()
	b.feed.more <- struct{}{}
	eventually(b.t, "the edge has heard of it", func() bool { s := b.trust.Current(); return s != nil && s.Revision == in.Revision })
	time.Sleep(10 * time.Millisecond) // and has drawn its conclusions
}

// visitor is an agent of the peer, and its entry as a guest here.
func (b *border) visitor(state handover.TargetState, life time.Duration) (*x509.Certificate, apitype.SyncGuest) {
	b.t.Helper()
	there := uuid.NewString()
	cert := b.peer.leaf(there, 7, time.Now().Add(life))
	return cert, apitype.SyncGuest{
		AgentID: uuid.NewString(), Peer: "east", SourceAgentID: there, Fingerprint: identity.Fingerprint(cert.Raw), Generation: 1,
		State: string(state), NotAfter: cert.NotAfter.Unix(),
	}
}

// expect tells of the guest.
func (b *border) expect(g apitype.SyncGuest, state handover.TargetState) {
	b.t.Helper()
	g.State = string(state)
	b.tell(apitype.SyncResponse{Guests: []apitype.SyncGuest{g}})
}

func (b *border) admit(cert *x509.Certificate, transport Transport) (*member, error) {
	s, err := b.desk.Admit(b.t.Context(), Caller{Transport: transport, Source: netip.MustParseAddr("192.0.2.1"), Certificate: cert})
	if err != nil {
		return nil, err
	}
	return s.(*member), nil
}

// gone tells that the agent of that leaf has gone to the peer.
func (b *border) gone(cert *x509.Certificate) {
	b.t.Helper()
	b.tell(apitype.SyncResponse{Moves: []apitype.SyncMove{{AgentID: cert.Subject.CommonName, Fingerprint: identity.Fingerprint(cert.Raw), Peer: "east"}}})
}

// back tells that it is served here again.
func (b *border) back(cert *x509.Certificate) {
	b.t.Helper()
	b.tell(apitype.SyncResponse{Moves: []apitype.SyncMove{{AgentID: cert.Subject.CommonName, Over: true}}})
}

func retryAfter(err error) time.Duration {
	var r *Refusal
	if !errors.As(err, &r) {
		return 0
	}
	return r.RetryAfter
}
