package ampora

import (
	"context"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

// pathsEdgeConfigurations are how edges come to know what their agents are to run. They are a tenant's, as edge/sync is not.
func (b *backend) pathsEdgeConfigurations() []*framework.Path {
	all := scoped(&framework.Path{
		Pattern:      "edge/configurations/?$",
		DisplayAttrs: display("edge-configurations"),
		Fields: map[string]*framework.FieldSchema{
			"since": {Type: framework.TypeString, Query: true, Description: "Revision that the last answer had; empty for everything."},
		},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ReadOperation: forwarded(serve(b, b.edgeConfigurations), "Read which configuration each group gives, and the configurations' hashes.",
				responses("Everything, or what changed.", apitype.EdgeConfigurations{}), ""),
		},
		HelpSynopsis: "Read which configuration each group gives, and the hash of each configuration.",
		HelpDescription: `For edges, when edge/sync says that configurations have changed. With a tenant in the path, what is that tenant's; without
one, what is everybody's. 503 while memory is being filled.`,
	})
	return append(all, scoped(&framework.Path{
		Pattern:      "edge/configurations/" + segment("configuration") + "$",
		DisplayAttrs: display("edge-configuration"),
		Fields: map[string]*framework.FieldSchema{
			"configuration": {Type: framework.TypeString, Description: "Name of the configuration."},
			"tenant":        {Type: framework.TypeString, Query: true, Description: "Tenant that it belongs to; empty for none. One in the path stands before it."},
		},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ReadOperation: forwarded(serve(b, b.edgeConfiguration), "Read a configuration as agents are given it.",
				responses("Body, content type and hash.", apitype.EdgeConfiguration{}), ""),
		},
		HelpSynopsis:    "Read a configuration as agents are given it.",
		HelpDescription: "For edges, which keep the body for as long as its hash is the same.",
	})...)
}

func (b *backend) edgeConfigurations(ctx context.Context, c call, in apitype.EdgeConfigurationsRequest) (apitype.EdgeConfigurations, error) {
	return b.feed.Configurations(ctx, c.tenant, in.Since)
}

func (b *backend) edgeConfiguration(ctx context.Context, c call, _ nothing) (apitype.EdgeConfiguration, error) {
	tenant := c.tenant
	if tenant == "" {
		tenant = c.text(tenantField)
	}
	return b.configurations.ForEdge(ctx, tenant, c.text("configuration"))
}
