package ampora

import (
	"context"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

func (b *backend) pathsGroups() []*framework.Path {
	row := responses("The group's row.", apitype.Group{})
	page := responses("Names, with key_info for each.", apitype.ListResponse[apitype.Group]{})
	var paths []*framework.Path
	for _, p := range []*framework.Path{
		{
			Pattern:      "groups/?$",
			DisplayAttrs: display("groups"),
			Fields:       pageFields,
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.ListOperation: forwarded(serve(b, b.listGroups), "List groups.", page, ""),
				logical.ReadOperation: forwarded(serve(b, b.listGroups), "List groups, page by page.", page, "page"),
			},
			HelpSynopsis:    "List the groups.",
			HelpDescription: "Lists the tenant's groups; without a tenant in the path, those that belong to none. Read with 'after' and 'limit' to page.",
		},
		{
			Pattern:      "groups/" + segment("group") + "$",
			DisplayAttrs: display("group"),
			Fields: map[string]*framework.FieldSchema{
				"group":         {Type: framework.TypeString, Description: "Name of the group."},
				"configuration": {Type: framework.TypeString, Description: "Name of the configuration that the group gives its agents; empty for none."},
				"description":   {Type: framework.TypeString, Description: "What the group is for, in words."},
				"renew_proof":   {Type: framework.TypeString, Description: "What renewals of the group's agents rest on: key or edge (see config); empty for what the mount says."},
				"tenant":        {Type: framework.TypeString, Description: "Stands in the path: tenants/<tenant>/groups/<group>. Refused here."},
			},
			ExistenceCheck: existence("group", b.groups.Exists),
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.CreateOperation: forwarded(serve(b, b.writeGroup), "Make a group.", row, ""),
				logical.UpdateOperation: forwarded(serve(b, b.writeGroup), "Change the fields that are given.", row, ""),
				logical.ReadOperation:   forwarded(serve(b, b.readGroup), "Read a group.", row, ""),
				logical.DeleteOperation: forwarded(serve(b, b.deleteGroup), "Delete a group.", noContent("The group is gone."), ""),
			},
			HelpSynopsis: "Make, read, change or delete a group.",
			HelpDescription: `Agents land in the group that their token, or its pool, names, and get the group's configuration. A group that
tokens, pools or agents refer to cannot be deleted. From the command line "vault write -f ampora/groups/<group>" (with -f when no field is given).`,
		},
	} {
		paths = append(paths, scoped(p)...)
	}
	return paths
}

func (b *backend) writeGroup(ctx context.Context, c call, in apitype.GroupRequest) (apitype.Group, error) {
	if err := c.tenantInPath(apitype.PathGroups); err != nil {
		return apitype.Group{}, err
	}
	return b.groups.Write(ctx, c.origin, c.tenant, c.text("group"), in)
}

func (b *backend) readGroup(ctx context.Context, c call, _ nothing) (apitype.Group, error) {
	if err := c.tenantInPath(apitype.PathGroups); err != nil {
		return apitype.Group{}, err
	}
	return b.groups.Read(ctx, c.tenant, c.text("group"))
}

func (b *backend) deleteGroup(ctx context.Context, c call, _ nothing) (nothing, error) {
	if err := c.tenantInPath(apitype.PathGroups); err != nil {
		return nothing{}, err
	}
	return nothing{}, b.groups.Delete(ctx, c.origin, c.tenant, c.text("group"))
}

func (b *backend) listGroups(ctx context.Context, c call, _ nothing) (apitype.ListResponse[apitype.Group], error) {
	p, err := page(c.data)
	if err != nil {
		return apitype.ListResponse[apitype.Group]{}, err
	}
	return b.groups.List(ctx, c.tenant, p)
}
