package ampora

import (
	"context"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

func (b *backend) pathsTokens() []*framework.Path {
	id := map[string]*framework.FieldSchema{
		"token_id": {Type: framework.TypeString, Description: "Id of the token, as answered when it was issued."},
	}
	var paths []*framework.Path
	for _, p := range []*framework.Path{
		{
			Pattern:      "tokens/revoke-all$",
			DisplayAttrs: display("all-tokens"),
			Fields:       reasonFields,
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.UpdateOperation: forwarded(serve(b, b.revokeAllTokens), "End every outstanding token.",
					responses("When it happened.", apitype.RevokeAllResponse{}), "revoke"),
			},
			HelpSynopsis: "End every outstanding token at once, or every one of the tenant.",
			HelpDescription: `For a leak of unknown size. One write ends them all, however many there are, and when it answers nothing older can
still be redeemed. Pools' admin secrets and certificates already issued live on.`,
		},
		{
			Pattern:      "tokens/issue$",
			DisplayAttrs: display("token"),
			Fields: map[string]*framework.FieldSchema{
				"label":       {Type: framework.TypeString, Description: "What the token is for, in words; shown in lists and events."},
				"ttl":         {Type: framework.TypeDurationSecond, Description: "How long the token may wait to be redeemed. Default: config.token_ttl."},
				"tenant":      {Type: framework.TypeString, Description: "Tenant that the agent will belong to."},
				"group":       {Type: framework.TypeString, Description: "Group that the agent will land in."},
				"bound_cidrs": {Type: framework.TypeCommaStringSlice, Description: "Networks that the token may be redeemed from, comma-separated."},
			},
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.UpdateOperation: forwarded(serve(b, b.issueToken), "Issue a bootstrap token.",
					responses("The token; its plaintext is never shown again.", apitype.IssuedToken{}), "issue"),
			},
			HelpSynopsis: "Issue a single-use bootstrap token.",
			HelpDescription: `Issues a token that turns one agent into a member of the fleet. The answer is the only place that ever shows the
plaintext: use -wrap-ttl to hand it to a person. From the command line "vault write -f ampora/tokens/issue" (with -f when no field is given).`,
		},
		{
			Pattern:      "tokens/?$",
			DisplayAttrs: display("tokens"),
			Fields: with(pageFields, filterFields, map[string]*framework.FieldSchema{
				"state": {Type: framework.TypeString, Query: true, Description: "Only those in this state: issued, revoked or expired."},
			}),
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.ListOperation: forwarded(serve(b, b.listTokens), "List outstanding tokens.",
					responses("Ids, with key_info for each.", apitype.ListResponse[apitype.TokenInfo]{}), ""),
				logical.ReadOperation: forwarded(serve(b, b.listTokens), "List outstanding tokens, page by page.",
					responses("Ids, with key_info for each.", apitype.ListResponse[apitype.TokenInfo]{}), "page"),
			},
			HelpSynopsis:    "List the tokens that have not been redeemed.",
			HelpDescription: "Lists tokens with what is known of each, never the plaintext. Read with 'after' and 'limit' to page, and with filters.",
		},
		{
			Pattern:      "tokens/" + segment("token_id") + "/revoke$",
			DisplayAttrs: display("token"),
			Fields: with(id, map[string]*framework.FieldSchema{
				"reason": {Type: framework.TypeString, Description: "Why, in words; kept in the row and in the event."},
			}),
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.UpdateOperation: forwarded(serve(b, b.revokeToken), "Revoke a token.", responses("The token's row.", apitype.TokenInfo{}), "revoke"),
			},
			HelpSynopsis:    "Revoke a token that has not been redeemed.",
			HelpDescription: "Ends the token. Whoever presents it is told that it was revoked. Revoking again changes nothing.",
		},
		{
			Pattern:      "tokens/" + segment("token_id") + "$",
			DisplayAttrs: display("token"),
			Fields:       id,
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.ReadOperation: forwarded(serve(b, b.readToken), "Read a token's row.", responses("The token's row, without its secret.", apitype.TokenInfo{}), ""),
			},
			HelpSynopsis:    "Read a token's row.",
			HelpDescription: "Shows a token that has not been redeemed, never its plaintext. For a redeemed one, look at its agent.",
		},
	} {
		paths = append(paths, scoped(p)...)
	}
	return paths
}

func (b *backend) issueToken(ctx context.Context, c call, in apitype.TokenIssueRequest) (apitype.IssuedToken, error) {
	if err := positive(c.data, "ttl"); err != nil {
		return apitype.IssuedToken{}, err
	}
	return b.enroll.Issue(ctx, c.origin, in) // the path's tenant has overridden the body's
}

func (b *backend) listTokens(ctx context.Context, c call, _ nothing) (apitype.ListResponse[apitype.TokenInfo], error) {
	p, err := page(c.data)
	if err != nil {
		return apitype.ListResponse[apitype.TokenInfo]{}, err
	}
	return b.enroll.Tokens(ctx, c.tenant, p)
}

func (b *backend) readToken(ctx context.Context, c call, _ nothing) (apitype.TokenInfo, error) {
	return b.enroll.Token(ctx, c.tenant, c.text("token_id"))
}

func (b *backend) revokeToken(ctx context.Context, c call, in apitype.RevokeRequest) (apitype.TokenInfo, error) {
	return b.enroll.RevokeToken(ctx, c.origin, c.tenant, c.text("token_id"), in.Reason)
}

func (b *backend) revokeAllTokens(ctx context.Context, c call, in apitype.RevokeRequest) (apitype.RevokeAllResponse, error) {
	return b.epoch.RevokeAll(ctx, c.origin, c.tenant, in.Reason)
}

// positive refuses a lifetime that is given and is nothing: whoever leaves it out gets what is usual.
func positive(data *framework.FieldData, field string) error {
	if value, given := data.GetOk(field); given && value.(int) <= 0 {
		return apitype.Errorf(apitype.TTLOutOfRange, "%s is not positive", field)
	}
	return nil
}

var reasonFields = map[string]*framework.FieldSchema{
	"reason": {Type: framework.TypeString, Description: "Why, in words; kept in the row and in the event."},
}
