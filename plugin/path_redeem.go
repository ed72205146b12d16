package ampora

import (
	"context"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

func (b *backend) pathsRedeem() []*framework.Path {
	shared := map[string]*framework.FieldSchema{
		"token":     {Type: framework.TypeString, Description: "The bootstrap token.", DisplayAttrs: &framework.DisplayAttributes{Sensitive: true}},
		"source_ip": {Type: framework.TypeString, Description: "Address that the agent came from, as the edge saw it."},
	}
	var paths []*framework.Path
	for _, p := range []*framework.Path{
		{
			Pattern:      "redeem$",
			DisplayAttrs: display("token"),
			Fields: with(shared, map[string]*framework.FieldSchema{
				"csr":             {Type: framework.TypeString, Description: "PEM certificate request for the agent's own key. Only the key is taken from it."},
				"generate_key":    {Type: framework.TypeBool, Description: "Make a key on the server and answer it, instead of csr."},
				"instance_uid":    {Type: framework.TypeString, Description: "OpAMP instance_uid of the agent, as a UUID."},
				"display_name":    {Type: framework.TypeString, Description: "Name of the agent for people. Default: the token's label."},
				"description":     {Type: framework.TypeString, Description: "OpAMP AgentDescription as one JSON string."},
				"capabilities":    {Type: framework.TypeInt64, Description: "OpAMP AgentCapabilities bit mask."},
				"idempotency_key": {Type: framework.TypeString, Description: "16 to 128 printable characters; the same key gets the same answer for 10 minutes."},
			}),
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.UpdateOperation: forwarded(serve(b, b.redeem), "Turn a bootstrap token into an agent.",
					responses("The agent's certificate.", apitype.Identity{}), "redeem"),
			},
			HelpSynopsis: "Turn a bootstrap token into an agent's certificate.",
			HelpDescription: `Takes the token, makes the agent and answers its certificate, all in one commit: after it the token is spent, and without
it nothing has happened. A refusal consumes nothing. Ask again with the same idempotency_key when the answer was lost.`,
		},
		{
			Pattern:      "redeem/check$",
			DisplayAttrs: display("token"),
			Fields:       shared,
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.UpdateOperation: forwarded(serve(b, b.redeemCheck), "Ask whether a token is good right now.",
					responses("What the token is good for.", apitype.RedeemCheckResponse{}), "check"),
			},
			HelpSynopsis:    "Ask whether a bootstrap token would be taken right now.",
			HelpDescription: "Answers what the token is good for, or the refusal that redeem would give. Nothing is consumed.",
		},
	} {
		paths = append(paths, scoped(p)...)
	}
	return paths
}

// identified is the answer of a redemption or a renewal.
type identified struct{ apitype.Identity }

func (i identified) warning() string {
	if !i.TTLCut {
		return ""
	}
	return "the certificate ends with its issuer, before leaf_ttl has passed"
}

// identify makes the answer of an identity.
func identify(identity *apitype.Identity, err error) (identified, error) {
	if err != nil {
		return identified{}, err
	}
	return identified{*identity}, nil
}

func (b *backend) redeem(ctx context.Context, c call, in apitype.RedeemRequest) (identified, error) {
	return identify(b.enroll.Redeem(ctx, c.origin, c.tenant, in))
}

func (b *backend) redeemCheck(ctx context.Context, c call, in apitype.RedeemCheckRequest) (apitype.RedeemCheckResponse, error) {
	return b.enroll.Check(ctx, c.tenant, in)
}
