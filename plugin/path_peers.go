package ampora

import (
	"context"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

// pathsPeers are the peers and our own card for them. They belong to the mount and to no tenant.
func (b *backend) pathsPeers() []*framework.Path {
	row := responses("The peer's row.", apitype.Peer{})
	page := responses("Names, with key_info for each.", apitype.ListResponse[apitype.Peer]{})
	text := func(d string) *framework.FieldSchema {
		return &framework.FieldSchema{Type: framework.TypeString, Description: d}
	}
	many := func(d string) *framework.FieldSchema {
		return &framework.FieldSchema{Type: framework.TypeCommaStringSlice, Description: d}
	}
	name := text("Name of the peer, which is ours for it.")
	return []*framework.Path{
		{
			Pattern:      "peers/?$",
			DisplayAttrs: display("peers"),
			Fields:       pageFields,
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.ListOperation: forwarded(serve(b, b.listPeers), "List peers.", page, ""),
				logical.ReadOperation: forwarded(serve(b, b.listPeers), "List peers, page by page.", page, "page"),
			},
			HelpSynopsis:    "List the peers.",
			HelpDescription: "Lists the other installations that agents move to and come from. Read with 'after' and 'limit' to page.",
		},
		{
			Pattern:      "peers/" + segment("peer") + "$",
			DisplayAttrs: display("peer"),
			Fields: map[string]*framework.FieldSchema{
				"peer":                   name,
				"peer_id":                text("What the peer calls itself: its config.peer_id. Fixed once written, and one peer's alone."),
				"trust_domain":           text("SPIFFE trust domain of its agents."),
				"endpoint":               text("wss URL of its edges, which agents that move there are given."),
				"endpoint_ca_bundle":     text("PEM roots that verify its edges, which agents that move there are given; empty: the system's roots."),
				"federation_url":         text("https URL of its edges' /federation, which our edges talk to; empty where there is no route."),
				"ca_bundle":              text("PEM: its issuers. What their keys have signed counts as the peer's word."),
				"bundle_jws":             text("The same, signed by one of them, with the sequence by which newer ones are told from older ones."),
				"allowed_tenants":        many("Tenants that agents may come into: names, '*' (the default) for all; an empty entry is no tenant."),
				"allowed_groups":         many("Groups that agents may land in as the peer says: names, '*' (the default) for all."),
				"allowed_configurations": many("Configurations that agents may get as the peer says: names, '*' (the default) for all."),
				"suspended":              {Type: framework.TypeBool, Description: "Nothing that the peer signs counts, and what is pending with it is cancelled."},
			},
			ExistenceCheck: func(ctx context.Context, _ *logical.Request, data *framework.FieldData) (bool, error) {
				return b.peers.Exists(ctx, data.Get("peer").(string))
			},
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.CreateOperation: forwarded(serve(b, b.writePeer), "Make a peer.", row, ""),
				logical.UpdateOperation: forwarded(serve(b, b.writePeer), "Change the fields that are given.", row, ""),
				logical.ReadOperation:   forwarded(serve(b, b.readPeer), "Read a peer, and how edges last found it.", row, ""),
				logical.DeleteOperation: forwarded(serve(b, b.deletePeer), "Delete a peer.", noContent("The peer is gone."), ""),
			},
			HelpSynopsis: "Make, read, change or delete a peer.",
			HelpDescription: `A peer is another installation that agents move to and come from. Make it from the other side's bundle file, and the other way
round: there "vault read -format=json -field=data ampora/federation/bundle > bundle.json", here
"vault write ampora/peers/<name> @bundle.json". What an operator writes of its keys counts as it is; afterwards a newer bundle counts
when a key that is pinned has signed it, and edges bring it by themselves. Addresses change by an operator's hand only.
Suspending or deleting a peer cancels what is pending with it.`,
		},
		{
			Pattern:      "peers/" + segment("peer") + "/bundle$",
			DisplayAttrs: display("peer-bundle"),
			Fields: map[string]*framework.FieldSchema{
				"peer":       name,
				"bundle_jws": text("The peer's newer bundle, as its federation/bundle answers it."),
			},
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.UpdateOperation: forwarded(serve(b, b.updatePeerBundle), "Follow a peer's change of its issuers.", row, "update"),
			},
			HelpSynopsis: "Take over a newer bundle of a peer, as edges do.",
			HelpDescription: `The bundle counts when a key has signed it that is pinned and stays, and its sequence is higher. It changes keys and nothing
else. The one that is pinned already changes nothing.`,
		},
		{
			Pattern:      "federation/bundle$",
			DisplayAttrs: display("federation-bundle"),
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.ReadOperation: forwarded(serve(b, b.federationBundle), "Read our card for peers.", responses("What the other side writes to its peers/<name>.", apitype.FederationBundle{}), ""),
			},
			HelpSynopsis: "Read what a peer needs to know of this installation.",
			HelpDescription: `The answer is a file for the other side: "vault read -format=json -field=data ampora/federation/bundle > bundle.json". No Vault
token is needed, and there is no secret in it. peer_id, trust_domain and endpoint must be configured, and an issuer be there.`,
		},
	}
}

func (b *backend) writePeer(ctx context.Context, c call, in apitype.PeerRequest) (apitype.Peer, error) {
	b.admin.Lock() // our own peer_id stays
	defer b.admin.Unlock()
	peer, err := b.peers.Write(ctx, c.origin, c.text("peer"), in)
	return b.withReach(ctx, peer, err)
}

func (b *backend) updatePeerBundle(ctx context.Context, c call, in apitype.PeerBundleRequest) (apitype.Peer, error) {
	peer, err := b.peers.UpdateBundle(ctx, c.origin, c.text("peer"), in)
	return b.withReach(ctx, peer, err)
}

func (b *backend) readPeer(ctx context.Context, c call, _ nothing) (apitype.Peer, error) {
	peer, err := b.peers.Read(ctx, c.text("peer"))
	return b.withReach(ctx, peer, err)
}

func (b *backend) deletePeer(ctx context.Context, c call, _ nothing) (nothing, error) {
	return nothing{}, b.peers.Delete(ctx, c.origin, c.text("peer"))
}

func (b *backend) listPeers(ctx context.Context, c call, _ nothing) (apitype.ListResponse[apitype.Peer], error) {
	var none apitype.ListResponse[apitype.Peer]
	p, err := page(c.data)
	if err != nil {
		return none, err
	}
	out, err := b.peers.List(ctx, p)
	if err != nil {
		return none, err
	}
	reach, err := b.edges.reach(ctx)
	if err != nil {
		return none, err
	}
	for name, peer := range out.KeyInfo {
		peer.Reachability = append(peer.Reachability, reach[name]...)
		out.KeyInfo[name] = peer
	}
	return out, nil
}

// withReach completes a peer with how edges last found it, or passes the error on.
func (b *backend) withReach(ctx context.Context, peer apitype.Peer, err error) (apitype.Peer, error) {
	if err != nil {
		return apitype.Peer{}, err
	}
	reach, err := b.edges.reach(ctx)
	peer.Reachability = append(peer.Reachability, reach[peer.Name]...)
	return peer, err
}

func (b *backend) federationBundle(ctx context.Context, _ call, _ nothing) (apitype.FederationBundle, error) {
	return b.peers.Card(ctx)
}
