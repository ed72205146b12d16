package federation

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/ampora/ampora/edge/vaultgate"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/handover"
)

// followed is how far this edge has followed a peer's bundle.
type followed struct {
	next  time.Time
	retry retry
	// judged is the last bundle that Vault has refused, with the sequence that was pinned then: it is not shown again.
	judged struct {
		hash     string
		sequence uint64
	}
}

func (p *peer) bundleDue() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bundle.retry.why != "" {
		return p.bundle.retry.at
	}
	return p.bundle.next
}

// follow looks at the peer's card, which is also how this edge knows that the peer is there, and brings Vault another bundle.
func (p *peer) follow(ctx context.Context, row Peer, l *line) {
	err := p.look(ctx, row, l)
	if ctx.Err() != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bundle.next = time.Now().Add(around(p.Timing.Bundle))
	if err == nil {
		p.bundle.retry = retry{}
		return
	}
	p.bundle.retry = p.bundle.retry.after(why(err), p.Timing, 0)
	if p.bundle.next.Before(p.bundle.retry.at) { // short periods are for tests
		p.bundle.retry.at = p.bundle.next
	}
}

// look is one look.
func (p *peer) look(ctx context.Context, row Peer, l *line) error {
	reply, err := p.call(ctx, l, request{path: pathBundle, most: maxCard})
	if err != nil {
		return err
	}
	var card apitype.FederationBundle
	var claims handover.Bundle
	if reply.status != http.StatusOK || json.Unmarshal(reply.body, &card) != nil || handover.Unverified(card.BundleJWS, handover.TypeBundle, &claims) != nil {
		return p.wrong(l, "it answers with something else than a card: is federation_url right?")
	}
	if card.PeerID != row.PeerID || claims.Issuer != row.PeerID {
		return p.wrong(l, "another installation answers there: its peer_id is not that of the row")
	}
	hash := handover.Hash(card.BundleJWS)
	p.mu.Lock()
	pinned, judged := p.row.Sequence, p.bundle.judged
	p.mu.Unlock()
	if claims.Sequence == pinned || judged.hash == hash && judged.sequence == pinned {
		return nil
	}
	_, err = p.Engine.UpdatePeerBundle(ctx, p.name, apitype.PeerBundleRequest{BundleJWS: card.BundleJWS})
	code := apitype.CodeOf(err)
	switch {
	case err == nil:
		p.Logger.Info("a peer has a newer bundle, and Vault has taken it", "peer", p.name, "sequence", claims.Sequence)
		return nil
	case code == "" || code.VaultStatus() >= 500:
		p.Logger.Debug("a peer's bundle cannot be brought to Vault now", "peer", p.name, "error", vaultgate.Cause(err))
		return err
	}
	p.Logger.Warn("Vault does not take a peer's bundle", "peer", p.name, "code", code, "error", vaultgate.Cause(err))
	p.mu.Lock()
	p.bundle.judged.hash, p.bundle.judged.sequence = hash, pinned
	p.mu.Unlock()
	return nil
}

// wrong is that there is somebody, but not the peer.
func (p *peer) wrong(l *line, text string) error {
	err := &fault{text: text}
	p.found(l, err, 0)
	return err
}
