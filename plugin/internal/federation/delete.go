package federation

import (
	"context"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/audit"
	"github.com/ampora/ampora/plugin/internal/name"
)

// Delete deletes a peer, once nothing is pending with it any more. One that is not there is no error.
func (p *Peers) Delete(ctx context.Context, origin audit.Origin, peer string) error {
	if err := name.Check("peer", peer); err != nil {
		return err
	}
	p.deleting.Lock()
	defer p.deleting.Unlock()
	// From here on nobody begins anything with the peer: those who hold it now are waited for, and no later one comes through.
	p.leaving.Store(peer, true)
	defer p.leaving.Delete(peer)
	err := p.rows.Note(ctx, "", peer, func(*row) bool { return false })
	if apitype.CodeOf(err) == apitype.PeerUnknown {
		return nil
	}
	if err != nil {
		return err
	}
	if err := p.gone(ctx, peer, Deletion); err != nil {
		return err
	}
	defer p.changed()
	p.change.Lock()
	defer p.change.Unlock()
	defer p.memory.change()()
	return p.rows.Delete(ctx, origin, "", peer)
}

// Sweep finishes what crashes left.
func (p *Peers) Sweep(ctx context.Context) error {
	if err := p.rows.Sweep(ctx); err != nil {
		return err
	}
	all, err := p.all(ctx)
	if err != nil {
		return err
	}
	for name, peer := range all {
		if !peer.Suspended {
			continue
		}
		if err := p.gone(ctx, name, Suspension); err != nil {
			return err
		}
	}
	return nil
}
