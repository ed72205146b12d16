package ampora

import (
	"context"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

// pathsEdges are the edges as people see them; what edges themselves ask for is in pathsEdge.
func (b *backend) pathsEdges() []*framework.Path {
	page := responses("Names, with key_info for each.", apitype.ListResponse[apitype.EdgeInfo]{})
	return scoped(&framework.Path{
		Pattern:      "edges/?$",
		DisplayAttrs: display("edges"),
		Fields:       pageFields,
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ListOperation: forwarded(serve(b, b.listEdges), "List edges.", page, ""),
			logical.ReadOperation: forwarded(serve(b, b.listEdges), "List edges, page by page.", page, "page"),
		},
		HelpSynopsis: "List the edges that were seen within the last day.",
		HelpDescription: `Lists what each edge last said of itself: its version, the revision that it decides by, its sessions, and when that was. With a
tenant in the path, the edges that serve that tenant alone; without one, all of them, with <tenant>/ before the names of those.`,
	})
}

func (b *backend) listEdges(ctx context.Context, c call, _ nothing) (apitype.ListResponse[apitype.EdgeInfo], error) {
	p, err := page(c.data)
	if err != nil {
		return apitype.ListResponse[apitype.EdgeInfo]{}, err
	}
	return b.edges.list(ctx, c.tenant, p)
}
