package federation

import (
	"context"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/named"
)

// Read reads a peer, without its reachability.
func (p *Peers) Read(ctx context.Context, peer string) (apitype.Peer, error) {
	r, err := p.rows.Read(ctx, "", peer)
	if err != nil {
		return apitype.Peer{}, err
	}
	return r.info(), nil
}

// List lists the peers by name.
func (p *Peers) List(ctx context.Context, page apitype.Page) (apitype.ListResponse[apitype.Peer], error) {
	return named.List(ctx, p.rows, "", page, (*row).info)
}

// Exists reports whether there is such a peer.
func (p *Peers) Exists(ctx context.Context, peer string) (bool, error) {
	return p.rows.Exists(ctx, "", peer)
}

// Sync is the peers as edges take them, by name.
func (p *Peers) Sync(ctx context.Context) ([]apitype.SyncPeer, error) {
	all := []apitype.SyncPeer{}
	peers, err := p.byName(ctx)
	for _, peer := range peers {
		all = append(all, apitype.SyncPeer{
			Name: peer.Name, PeerID: peer.PeerID, Endpoint: peer.Endpoint, EndpointCABundle: peer.EndpointCABundle,
			FederationURL: peer.FederationURL, CABundle: peer.CABundle, BundleSequence: peer.BundleSequence, Suspended: peer.Suspended,
		})
	}
	return all, err
}
