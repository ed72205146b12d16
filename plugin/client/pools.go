package client

import (
	"context"
	"net/http"

	"github.com/ampora/ampora/plugin/apitype"
)

func (c *Client) pool(pool, verb string) string {
	return c.scoped(apitype.PathPools) + "/" + pool + verb
}

// WritePool makes a pool or changes the fields that are set. The answer to making one holds its admin secret, once.
func (c *Client) WritePool(ctx context.Context, pool string, in apitype.PoolRequest) (*apitype.Pool, error) {
	return write[apitype.Pool](ctx, c, c.pool(pool, ""), in)
}

// Pool reads a pool's row.
func (c *Client) Pool(ctx context.Context, pool string) (*apitype.Pool, error) {
	return read[apitype.Pool](ctx, c, c.pool(pool, ""), nil)
}

// Pools lists pools by name.
func (c *Client) Pools(ctx context.Context, page apitype.Page) (*apitype.ListResponse[apitype.Pool], error) {
	return read[apitype.ListResponse[apitype.Pool]](ctx, c, c.scoped(apitype.PathPools), pageQuery(page))
}

// DeletePool removes a pool. None of its tokens can be redeemed afterwards.
func (c *Client) DeletePool(ctx context.Context, pool string) error {
	return c.call(ctx, http.MethodDelete, c.pool(pool, ""), nil, nil, nil)
}

// IssueFromPool issues tokens by Vault policy.
func (c *Client) IssueFromPool(ctx context.Context, pool string, in apitype.PoolIssueRequest) (*apitype.PoolIssueResponse, error) {
	return write[apitype.PoolIssueResponse](ctx, c, c.pool(pool, "/issue"), in)
}

// IssueWithSecret issues tokens for a holder of the pool's admin secret. The pool may be named by its id.
func (c *Client) IssueWithSecret(ctx context.Context, pool string, in apitype.PoolAdminIssueRequest) (*apitype.PoolIssueResponse, error) {
	return write[apitype.PoolIssueResponse](ctx, c, c.pool(pool, "/admin/issue"), in)
}

// RotatePoolSecret ends every token that the pool has issued so far and answers a new admin secret, once.
func (c *Client) RotatePoolSecret(ctx context.Context, pool string, in apitype.RevokeRequest) (*apitype.Pool, error) {
	return write[apitype.Pool](ctx, c, c.pool(pool, "/rotate-secret"), in)
}

// RevokePool ends every token that the pool has issued so far, and its admin secret until that is rotated.
func (c *Client) RevokePool(ctx context.Context, pool string, in apitype.RevokeRequest) (*apitype.Pool, error) {
	return write[apitype.Pool](ctx, c, c.pool(pool, "/revoke"), in)
}

// RevokeAllTokens ends every outstanding token, or every one of the tenant.
func (c *Client) RevokeAllTokens(ctx context.Context, in apitype.RevokeRequest) (*apitype.RevokeAllResponse, error) {
	return write[apitype.RevokeAllResponse](ctx, c, c.scoped(apitype.PathTokensRevokeAll), in)
}

// AfterRestore ends what a backup of Vault has brought back to life.
func (c *Client) AfterRestore(ctx context.Context, in apitype.RevokeRequest) (*apitype.RestoreResponse, error) {
	return write[apitype.RestoreResponse](ctx, c, apitype.PathAfterRestore, in)
}
