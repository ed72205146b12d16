package ampora

import (
	"context"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

func (b *backend) pathsPools() []*framework.Path {
	pool := map[string]*framework.FieldSchema{
		"pool": {Type: framework.TypeString, Description: "Name of the pool."},
	}
	issue := with(pool, map[string]*framework.FieldSchema{
		"ttl":   {Type: framework.TypeDurationSecond, Description: "How long a token may wait to be redeemed. Default: the pool's default_ttl."},
		"label": {Type: framework.TypeString, Description: "What the tokens are for, in words; shown in lists and events."},
		"count": {Type: framework.TypeInt64, Description: "How many tokens, 1 to 1000. The answer is then a list, even of one."},
	})
	row := responses("The pool's row. The admin secret is there once, when it is made.", apitype.Pool{})
	issued := responses("The token, or the tokens; the plaintext is never shown again.", apitype.PoolIssueResponse{})
	var paths []*framework.Path
	for _, p := range []*framework.Path{
		{
			Pattern:      "pools/" + segment("pool") + "/issue$",
			DisplayAttrs: display("pool-tokens"),
			Fields:       issue,
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.UpdateOperation: forwarded(serve(b, b.issueFromPool), "Issue tokens from a pool.", issued, "issue"),
			},
			HelpSynopsis:    "Issue bootstrap tokens from a pool.",
			HelpDescription: `For pipelines, gated by a Vault policy on this very path: "vault write -f -field=token ampora/pools/<pool>/issue".`,
		},
		{
			Pattern:      "pools/" + segment("pool") + "/admin/issue$",
			DisplayAttrs: display("pool-tokens-with-secret"),
			Fields: with(pool, map[string]*framework.FieldSchema{
				"ttl":          issue["ttl"],
				"count":        issue["count"],
				"holder_label": {Type: framework.TypeString, Description: "The label, as the secret's holder asks for it."},
				"admin_secret": {Type: framework.TypeString, Description: "The pool's admin secret.", DisplayAttrs: &framework.DisplayAttributes{Sensitive: true}},
				"source_ip":    {Type: framework.TypeString, Description: "Address of the secret's holder, as the edge saw it."},
			}),
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.UpdateOperation: forwarded(serve(b, b.issueWithSecret), "Issue tokens for a holder of the pool's admin secret.", issued, "issue"),
			},
			HelpSynopsis:    "Issue bootstrap tokens for a holder of the pool's admin secret.",
			HelpDescription: "What edges call for the pool HTTP API. Here the pool may be named by its id, too.",
		},
		{
			Pattern:      "pools/" + segment("pool") + "/rotate-secret$",
			DisplayAttrs: display("pool-secret"),
			Fields:       with(pool, reasonFields),
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.UpdateOperation: forwarded(serve(b, b.rotatePoolSecret), "Make a new admin secret and end every token issued so far.", row, "rotate"),
			},
			HelpSynopsis:    "Make a new admin secret for the pool.",
			HelpDescription: "The secret before is dead, and so is every token that the pool has issued so far. Certificates already issued live on.",
		},
		{
			Pattern:      "pools/" + segment("pool") + "/revoke$",
			DisplayAttrs: display("pool"),
			Fields:       with(pool, reasonFields),
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.UpdateOperation: forwarded(serve(b, b.revokePool), "End every token issued so far, and the admin secret.", row, "revoke"),
			},
			HelpSynopsis: "End every token of the pool, and its admin secret.",
			HelpDescription: `One write ends them all, however many there are. Issuing by Vault policy goes on; the admin secret is dead until
rotate-secret makes a new one. Certificates already issued live on.`,
		},
		{
			Pattern:      "pools/?$",
			DisplayAttrs: display("pools"),
			Fields:       pageFields,
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.ListOperation: forwarded(serve(b, b.listPools), "List pools.", responses("Names, with key_info for each.", apitype.ListResponse[apitype.Pool]{}), ""),
				logical.ReadOperation: forwarded(serve(b, b.listPools), "List pools, page by page.", responses("Names, with key_info for each.", apitype.ListResponse[apitype.Pool]{}), "page"),
			},
			HelpSynopsis:    "List the pools.",
			HelpDescription: "Lists the tenant's pools; without a tenant in the path, those that belong to none. Read with 'after' and 'limit' to page.",
		},
		{
			Pattern:      "pools/" + segment("pool") + "$",
			DisplayAttrs: display("pool"),
			Fields: with(pool, map[string]*framework.FieldSchema{
				"default_ttl":     {Type: framework.TypeDurationSecond, Description: "Lifetime of a token when none is asked for. 0: config.token_ttl."},
				"max_ttl":         {Type: framework.TypeDurationSecond, Description: "Longest lifetime of a token. 0: config.token_max_ttl."},
				"leaf_ttl":        {Type: framework.TypeDurationSecond, Description: "Lifetime of the agents' certificates. 0: config.leaf_ttl."},
				"group":           {Type: framework.TypeString, Description: "Group that the agents land in; empty for none."},
				"bound_cidrs":     {Type: framework.TypeCommaStringSlice, Description: "Networks that the tokens may be redeemed from, comma-separated."},
				"max_outstanding": {Type: framework.TypeInt64, Description: "How many tokens may be outstanding at a time. 0: no cap."},
				"tenant":          {Type: framework.TypeString, Description: "Stands in the path: tenants/<tenant>/pools/<pool>. Refused here."},
			}),
			ExistenceCheck: existence("pool", b.pools.Exists),
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.CreateOperation: forwarded(serve(b, b.writePool), "Make a pool.", row, ""),
				logical.UpdateOperation: forwarded(serve(b, b.writePool), "Change the fields that are given.", row, ""),
				logical.ReadOperation:   forwarded(serve(b, b.readPool), "Read a pool.", row, ""),
				logical.DeleteOperation: forwarded(serve(b, b.deletePool), "Delete a pool.", noContent("The pool is gone."), ""),
			},
			HelpSynopsis: "Make, read, change or delete a pool.",
			HelpDescription: `A pool issues bootstrap tokens for automation. Making one answers its admin secret, once. Deleting one leaves nothing
redeemable, also when a pool of the same name is made again.`,
		},
	} {
		paths = append(paths, scoped(p)...)
	}
	return paths
}

func (b *backend) writePool(ctx context.Context, c call, in apitype.PoolRequest) (apitype.Pool, error) {
	if err := c.tenantInPath(apitype.PathPools); err != nil {
		return apitype.Pool{}, err
	}
	return b.pools.Write(ctx, c.origin, c.tenant, c.text("pool"), in)
}

func (b *backend) readPool(ctx context.Context, c call, _ nothing) (apitype.Pool, error) {
	return b.pools.Read(ctx, c.tenant, c.text("pool"))
}

func (b *backend) listPools(ctx context.Context, c call, _ nothing) (apitype.ListResponse[apitype.Pool], error) {
	p, err := page(c.data)
	if err != nil {
		return apitype.ListResponse[apitype.Pool]{}, err
	}
	return b.pools.List(ctx, c.tenant, p)
}

func (b *backend) deletePool(ctx context.Context, c call, _ nothing) (nothing, error) {
	return nothing{}, b.pools.Delete(ctx, c.origin, c.tenant, c.text("pool"))
}

func (b *backend) rotatePoolSecret(ctx context.Context, c call, in apitype.RevokeRequest) (apitype.Pool, error) {
	return b.pools.Rotate(ctx, c.origin, c.tenant, c.text("pool"), in.Reason)
}

func (b *backend) revokePool(ctx context.Context, c call, in apitype.RevokeRequest) (apitype.Pool, error) {
	return b.pools.Revoke(ctx, c.origin, c.tenant, c.text("pool"), in.Reason)
}

func (b *backend) issueFromPool(ctx context.Context, c call, in apitype.PoolIssueRequest) (apitype.PoolIssueResponse, error) {
	if err := positive(c.data, "ttl"); err != nil {
		return apitype.PoolIssueResponse{}, err
	}
	return b.enroll.IssueFromPool(ctx, c.origin, c.tenant, c.text("pool"), in)
}

func (b *backend) issueWithSecret(ctx context.Context, c call, in apitype.PoolAdminIssueRequest) (apitype.PoolIssueResponse, error) {
	if err := positive(c.data, "ttl"); err != nil {
		return apitype.PoolIssueResponse{}, err
	}
	return b.enroll.IssueWithSecret(ctx, c.origin, c.tenant, c.text("pool"), in)
}
