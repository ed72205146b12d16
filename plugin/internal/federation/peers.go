package federation

import (
	"context"
	"fmt"
	"sync"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/handover"
	"github.com/ampora/ampora/plugin/internal/authority"
	"github.com/ampora/ampora/plugin/internal/name"
	"github.com/ampora/ampora/plugin/internal/named"
	"github.com/ampora/ampora/plugin/internal/store"
)

// Why a peer is gone.
const (
	Suspension = "suspended"
	Deletion   = "deleted"
)

// Peers keeps the peers. It is safe for concurrent use.
type Peers struct {
	// PeerGone ends what is pending with a peer: after its suspension was committed, and before its deletion is, which it may
	// refuse (in_use, while agents are between both sides). Nothing new begins with the peer meanwhile. It takes locks of
	// store.Locks, does its work any number of times, and is called again by Sweep for a peer that stays suspended.
	PeerGone func(ctx context.Context, peer *Peer, why string) error
	// Changed is told after every change.
	Changed func()

	named.Ground
	authority *authority.Authority
	rows      *named.Rows[row, *row]
	memory    memory
	card      card

	change   sync.Mutex // held by whoever changes a peer, since no two may have one peer_id
	deleting sync.Mutex // held by whoever deletes one
	leaving  sync.Map   // names of peers that are being deleted
}

// New makes Peers.
func New(ground named.Ground, issuers *authority.Authority) *Peers {
	return &Peers{Ground: ground, authority: issuers, rows: named.New[row](named.Kind{
		Noun: "peer", Prefix: store.PeerPrefix, Missing: apitype.PeerUnknown, Unknown: apitype.PeerUnknown,
		Created: apitype.ActionPeerCreated, Updated: apitype.ActionPeerUpdated, Deleted: apitype.ActionPeerDeleted,
	}, ground)}
}

// Get is the peer of that name, or peer_unknown.
func (p *Peers) Get(ctx context.Context, peer string) (*Peer, error) {
	if err := name.Check("peer", peer); err != nil {
		return nil, err
	}
	all, err := p.all(ctx)
	if err != nil {
		return nil, err
	}
	found, ok := all[peer]
	if !ok {
		return nil, apitype.Errorf(apitype.PeerUnknown, "no peer has this name")
	}
	return found.at(p.Now()), nil
}

// ByID is the peer that calls itself so, or peer_unknown.
func (p *Peers) ByID(ctx context.Context, peerID string) (*Peer, error) {
	all, err := p.all(ctx)
	if err != nil {
		return nil, err
	}
	for _, peer := range all {
		if peer.PeerID == peerID && peerID != "" {
			return peer.at(p.Now()), nil
		}
	}
	return nil, apitype.Errorf(apitype.PeerUnknown, "no peer has this peer_id")
}

// Hold is Get for somebody who is about to begin something with the peer, which is peer_suspended when that may not be. Until
// release is called the peer is neither suspended, changed nor deleted. It is called after what is needed of store.Locks was
// taken.
func (p *Peers) Hold(ctx context.Context, peer string) (held *Peer, release func(), err error) {
	if err := name.Check("peer", peer); err != nil {
		return nil, nil, err
	}
	unlock, err := p.rows.Hold(ctx, "", peer)
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if release == nil { // an error, or a panic underneath
			unlock()
		}
	}()
	if held, err = p.Get(ctx, peer); err != nil {
		return nil, nil, err
	}
	if held.Suspended {
		return nil, nil, apitype.Errorf(apitype.PeerSuspended, "peer %s is suspended", peer)
	}
	if _, leaving := p.leaving.Load(peer); leaving {
		return nil, nil, apitype.Errorf(apitype.PeerUnknown, "peer %s is being deleted", peer)
	}
	return held, unlock, nil
}

// Self is our own peer_id, or not_configured.
func (p *Peers) Self(ctx context.Context) (string, error) {
	cfg, err := p.Settings.Get(ctx)
	if err == nil && cfg.PeerID == "" {
		err = apitype.Errorf(apitype.NotConfigured, "peer_id is not set")
	}
	return cfg.PeerID, err
}

// Sign signs a document for the peer: with the newest of our trust anchors of which we know that it has pinned it, and while
// nothing is known, with the oldest. A nil peer is anybody.
func (p *Peers) Sign(ctx context.Context, peer *Peer, typ string, claims any) (string, error) {
	set, err := p.authority.Set(ctx)
	if err != nil {
		return "", err
	}
	known := uint64(0)
	if peer != nil {
		known = peer.AcknowledgedSequence
	}
	issuer, err := set.Signer(p.Now(), handover.Leeway, known)
	if err != nil {
		return "", err
	}
	return handover.Sign(issuer.Key, typ, claims)
}

// Forget drops what is remembered, because storage changed behind our back.
func (p *Peers) Forget() { p.memory.change()() }

// all is every peer by name, from memory.
func (p *Peers) all(ctx context.Context) (map[string]*Peer, error) {
	peers, changes := p.memory.get()
	if peers != nil {
		return peers, nil
	}
	peers = map[string]*Peer{}
	var damaged error
	err := p.rows.Each(ctx, "", "", func(r *row) bool {
		peer, err := r.peer()
		if err != nil {
			damaged = fmt.Errorf("the row of peer %s is damaged: %w", r.Name, err)
			return false
		}
		peers[r.Name] = peer
		return true
	})
	if err == nil {
		err = damaged
	}
	if err != nil {
		return nil, err
	}
	p.memory.put(peers, changes)
	return peers, nil
}
