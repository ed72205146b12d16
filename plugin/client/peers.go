package client

import (
	"context"
	"net/http"

	"github.com/ampora/ampora/plugin/apitype"
)

// WritePeer makes a peer or changes the fields that are set. Peers belong to no tenant.
func (c *Client) WritePeer(ctx context.Context, name string, in apitype.PeerRequest) (*apitype.Peer, error) {
	return write[apitype.Peer](ctx, c, apitype.PathPeers+"/"+name, in)
}

// Peer reads a peer.
func (c *Client) Peer(ctx context.Context, name string) (*apitype.Peer, error) {
	return read[apitype.Peer](ctx, c, apitype.PathPeers+"/"+name, nil)
}

// Peers lists peers by name.
func (c *Client) Peers(ctx context.Context, page apitype.Page) (*apitype.ListResponse[apitype.Peer], error) {
	return read[apitype.ListResponse[apitype.Peer]](ctx, c, apitype.PathPeers, pageQuery(page))
}

// DeletePeer removes a peer with which nothing is under way.
func (c *Client) DeletePeer(ctx context.Context, name string) error {
	return c.call(ctx, http.MethodDelete, apitype.PathPeers+"/"+name, nil, nil, nil)
}

// UpdatePeerBundle brings a newer bundle of a peer, which a key of the pinned one has signed.
func (c *Client) UpdatePeerBundle(ctx context.Context, name string, in apitype.PeerBundleRequest) (*apitype.Peer, error) {
	return write[apitype.Peer](ctx, c, apitype.PathPeers+"/"+name+"/bundle", in)
}

// FederationBundle is the installation's own card, which the other side writes to its peers/<name>.
func (c *Client) FederationBundle(ctx context.Context) (*apitype.FederationBundle, error) {
	return read[apitype.FederationBundle](ctx, c, apitype.PathFederationBundle, nil)
}
