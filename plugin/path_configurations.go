package ampora

import (
	"context"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

func (b *backend) pathsConfigurations() []*framework.Path {
	written := responses("The configuration's row, without its body.", apitype.Configuration{})
	page := responses("Names, with key_info for each.", apitype.ListResponse[apitype.Configuration]{})
	var paths []*framework.Path
	for _, p := range []*framework.Path{
		{
			Pattern:      "configurations/?$",
			DisplayAttrs: display("agent-configurations"),
			Fields:       pageFields,
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.ListOperation: forwarded(serve(b, b.listConfigurations), "List configurations.", page, ""),
				logical.ReadOperation: forwarded(serve(b, b.listConfigurations), "List configurations, page by page.", page, "page"),
			},
			HelpSynopsis: "List the configurations.",
			HelpDescription: `Lists the tenant's configurations without their bodies; without a tenant in the path, those that belong to none. Read with
'after' and 'limit' to page.`,
		},
		{
			Pattern:      "configurations/" + segment("configuration") + "$",
			DisplayAttrs: display("agent-configuration"),
			Fields: map[string]*framework.FieldSchema{
				"configuration": {Type: framework.TypeString, Description: "Name of the configuration."},
				"body":          {Type: framework.TypeString, Description: "What agents are given: UTF-8 text of at most 512 KiB."},
				"content_type":  {Type: framework.TypeString, Description: "Media type of the body. Default: text/yaml."},
				"description":   {Type: framework.TypeString, Description: "What the configuration is for, in words."},
				"tenant":        {Type: framework.TypeString, Description: "Stands in the path: tenants/<tenant>/configurations/<configuration>. Refused here."},
			},
			ExistenceCheck: existence("configuration", b.configurations.Exists),
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.CreateOperation: forwarded(serve(b, b.writeConfiguration), "Make a configuration.", written, ""),
				logical.UpdateOperation: forwarded(serve(b, b.writeConfiguration), "Change the fields that are given.", written, ""),
				logical.ReadOperation: forwarded(serve(b, b.readConfiguration), "Read a configuration.",
					responses("The configuration's row with its body.", apitype.Configuration{}), ""),
				logical.DeleteOperation: forwarded(serve(b, b.deleteConfiguration), "Delete a configuration.", noContent("The configuration is gone."), ""),
			},
			HelpSynopsis: "Make, read, change or delete a configuration.",
			HelpDescription: `A named body for groups and agents to refer to: "vault write ampora/configurations/<configuration> body=@collector.yaml". Its
version goes up when body or content type change. A configuration that groups or agents refer to cannot be deleted.`,
		},
	} {
		paths = append(paths, scoped(p)...)
	}
	return paths
}

func (b *backend) writeConfiguration(ctx context.Context, c call, in apitype.ConfigurationRequest) (apitype.Configuration, error) {
	if err := c.tenantInPath(apitype.PathConfigurations); err != nil {
		return apitype.Configuration{}, err
	}
	return b.configurations.Write(ctx, c.origin, c.tenant, c.text("configuration"), in)
}

func (b *backend) readConfiguration(ctx context.Context, c call, _ nothing) (apitype.Configuration, error) {
	if err := c.tenantInPath(apitype.PathConfigurations); err != nil {
		return apitype.Configuration{}, err
	}
	return b.configurations.Read(ctx, c.tenant, c.text("configuration"))
}

func (b *backend) deleteConfiguration(ctx context.Context, c call, _ nothing) (nothing, error) {
	if err := c.tenantInPath(apitype.PathConfigurations); err != nil {
		return nothing{}, err
	}
	return nothing{}, b.configurations.Delete(ctx, c.origin, c.tenant, c.text("configuration"))
}

func (b *backend) listConfigurations(ctx context.Context, c call, _ nothing) (apitype.ListResponse[apitype.Configuration], error) {
	p, err := page(c.data)
	if err != nil {
		return apitype.ListResponse[apitype.Configuration]{}, err
	}
	return b.configurations.List(ctx, c.tenant, p)
}
