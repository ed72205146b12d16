package federation

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/handover"
)

// Acknowledged notes that the peer has pinned our bundle of that sequence, which decides who signs for it. An older one than is
// known of, or one of a peer that is suspended, changes nothing. The caller has checked who says so.
func (p *Peers) Acknowledged(ctx context.Context, peer string, seq uint64) error {
	is, err := p.Get(ctx, peer)
	if err != nil || seq <= is.AcknowledgedSequence || is.Suspended {
		return err
	}
	set, err := p.authority.Set(ctx)
	if err != nil {
		return err
	}
	seq = min(seq, set.Sequence()) // it may be from before we were restored; what comes next is not known there
	return p.note(ctx, peer, func(r *row) bool {
		if seq <= r.Known || r.Suspended {
			return false
		}
		r.Known = seq
		return true
	})
}

// Told notes that the peer knows which of its bundles is pinned here, so that Pending need not say it again.
func (p *Peers) Told(ctx context.Context, peer string, seq uint64) error {
	is, err := p.Get(ctx, peer)
	if err != nil || seq <= is.told || seq > is.BundleSequence {
		return err
	}
	return p.note(ctx, peer, func(r *row) bool {
		if seq <= r.Told || seq > r.Pinned {
			return false
		}
		r.Told = seq
		return true
	})
}

// note stores something of a peer that no event tells of.
func (p *Peers) note(ctx context.Context, peer string, note func(*row) bool) error {
	p.change.Lock()
	defer p.change.Unlock()
	defer p.memory.change()()
	return p.rows.Note(ctx, "", peer, note)
}

// Pending is what peers are to be told of the bundles that are pinned here: a receipt for each that has not been told of its
// newest, by name. While nothing can be signed there is none.
func (p *Peers) Pending(ctx context.Context) ([]apitype.OutboxMessage, error) {
	peers, err := p.byName(ctx)
	if err != nil {
		return nil, err
	}
	var waiting []apitype.OutboxMessage
	for _, peer := range peers {
		if peer.Suspended || peer.told >= peer.BundleSequence {
			continue
		}
		receipt, err := p.pinned(ctx, peer)
		switch apitype.CodeOf(err) {
		case apitype.NotConfigured, apitype.IssuerMissing:
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		waiting = append(waiting, apitype.OutboxMessage{
			ID: peer.Name, Peer: peer.Name, Step: string(handover.StepPinned), Receipt: receipt, Since: peer.pinnedAt.Format(time.RFC3339),
		})
	}
	return waiting, nil
}

// pinned is the receipt for the bundle of the peer that is pinned.
func (p *Peers) pinned(ctx context.Context, peer *Peer) (string, error) {
	self, err := p.Self(ctx)
	if err != nil {
		return "", err
	}
	return p.Sign(ctx, peer, handover.TypeReceipt, handover.Receipt{
		Issuer: self, Audience: peer.PeerID, IssuedAt: p.Now().Unix(), Step: handover.StepPinned, Sequence: peer.BundleSequence,
	})
}

// byName is every peer, by name.
func (p *Peers) byName(ctx context.Context) ([]*Peer, error) {
	all, err := p.all(ctx)
	if err != nil {
		return nil, err
	}
	var peers []*Peer
	for _, name := range slices.Sorted(maps.Keys(all)) {
		peers = append(peers, all[name].at(p.Now()))
	}
	return peers, nil
}
