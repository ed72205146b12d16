package ampora

import (
	"context"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

func (b *backend) pathsHandover() []*framework.Path {
	token := map[string]*framework.FieldSchema{
		"token":         {Type: framework.TypeString, Description: "The handover token, as agents/<agent_id>/handover answered it at the source."},
		"group":         {Type: framework.TypeString, Description: "Group for the agent; empty for none. Default: the one that it has at the source, if it is here and allowed."},
		"configuration": {Type: framework.TypeString, Description: "Configuration for the agent; empty for none. Default: the one that the token names, which must be here and allowed."},
	}
	id := map[string]*framework.FieldSchema{
		"handover_id": {Type: framework.TypeString, Description: "Id of the handover, the same on both sides."},
	}
	page := responses("Ids, with key_info for each.", apitype.ListResponse[apitype.Handover]{})
	one := responses("The handover as this side has it.", apitype.Handover{})
	var paths []*framework.Path
	for _, p := range []*framework.Path{
		{
			Pattern:      "agents/" + segment("agent_id") + "/handover$",
			DisplayAttrs: display("agent"),
			Fields: map[string]*framework.FieldSchema{
				"agent_id":      {Type: framework.TypeString, Description: "Id of the agent, as it stands in its certificate."},
				"peer":          {Type: framework.TypeString, Description: "Name of the peer that the agent is to move to."},
				"configuration": {Type: framework.TypeString, Description: "Configuration that it is to have there. Default: the name of the one it has here."},
				"ttl":           {Type: framework.TypeDurationSecond, Description: "How long the token can be redeemed. Default: handover_ttl."},
			},
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.UpdateOperation: forwarded(serve(b, b.handOver), "Make the token with which an agent moves to a peer.",
					responses("The handover token.", apitype.HandoverToken{}), "hand-over"),
			},
			HelpSynopsis: "Make the token with which an agent moves to a peer.",
			HelpDescription: `Redeem the token at the peer: "vault write ampora/handover/redeem token=...". Until that has happened the agent goes on here, and
"vault delete ampora/handovers/<handover_id>" takes the token back.`,
		},
		{
			Pattern:      "handover/inspect$",
			DisplayAttrs: display("handover"),
			Fields:       token,
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.UpdateOperation: forwarded(serve(b, b.inspectHandover), "Look at a handover token.",
					responses("What it says, and what redeeming it would do.", apitype.HandoverInspection{}), "inspect"),
			},
			HelpSynopsis:    "Look at a handover token of a peer.",
			HelpDescription: "Says who would come, from where, until when, and what redeeming the token would do, with what stands against it. Nothing is changed.",
		},
		{
			Pattern:      "handover/redeem$",
			DisplayAttrs: display("handover"),
			Fields:       token,
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.UpdateOperation: forwarded(serve(b, b.redeemHandover), "Take an agent over from a peer.",
					responses("The handover, which waits for the source to let go.", apitype.HandoverRedemption{}), "redeem"),
			},
			HelpSynopsis: "Take an agent over from a peer.",
			HelpDescription: `The agent's row is made, or found again when the agent comes home. Edges tell the source, which lets go; then the agent gets
its new home there and comes. Without a route between the sides, write 'receipt' to handover/receipt of the source, and its
answer to handover/receipt here.`,
		},
		{
			Pattern:      "handovers/?$",
			DisplayAttrs: display("handovers"),
			Fields: with(pageFields, map[string]*framework.FieldSchema{
				"state": {Type: framework.TypeString, Query: true, Description: "Only those in this state."},
			}),
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.ListOperation: forwarded(serve(b, b.listHandovers), "List handovers.", page, ""),
				logical.ReadOperation: forwarded(serve(b, b.listHandovers), "List handovers, page by page.", page, "page"),
			},
			HelpSynopsis:    "List the handovers.",
			HelpDescription: "Lists handovers to peers and from peers with the state of each, and since when. Read with 'after' and 'limit' to page.",
		},
		{
			Pattern:      "handovers/" + segment("handover_id") + "$",
			DisplayAttrs: display("handover"),
			Fields: with(id, map[string]*framework.FieldSchema{
				"force": {Type: framework.TypeBool, Description: "Take a released agent back although the peer may have it: only for a peer that is lost for good."},
			}),
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.ReadOperation:   forwarded(serve(b, b.readHandover), "Read a handover.", one, ""),
				logical.UpdateOperation: forwarded(serve(b, b.forceHandover), "Take a released agent back by force.", one, "force"),
				logical.DeleteOperation: forwarded(serve(b, b.endHandover), "End a handover.", noContent("The handover is over."), "end"),
			},
			HelpSynopsis: "Read or end a handover.",
			HelpDescription: `Deleting cancels a handover at its source as long as the peer has not redeemed it, and gives it up at its target as long as
the agent has not come. A released one only the target ends, by itself after a day; write force=true when the target is lost
for good.`,
		},
	} {
		paths = append(paths, scoped(p)...)
	}
	return append(paths,
		&framework.Path{
			Pattern:      "handover/receipt$",
			DisplayAttrs: display("handover-receipt"),
			Fields: map[string]*framework.FieldSchema{
				"receipt": {Type: framework.TypeString, Description: "The receipt of a peer."},
			},
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.UpdateOperation: forwarded(serve(b, b.takeReceipt), "Take in a receipt of a peer.",
					responses("What came of it, with the answer for the peer.", apitype.ReceiptResponse{}), "take"),
			},
			HelpSynopsis:    "Take in a receipt of a peer.",
			HelpDescription: "Edges carry receipts between peers. Without a route, people do: the same string may be brought any number of times.",
		},
		&framework.Path{
			Pattern:      "handover/outbox$",
			DisplayAttrs: display("handover-outbox"),
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.ReadOperation: forwarded(serve(b, b.readOutbox), "Read the receipts that wait to be carried to peers.",
					responses("The receipts, the oldest first.", apitype.Outbox{}), ""),
			},
			HelpSynopsis:    "Read the receipts that wait to be carried to peers.",
			HelpDescription: "Each waits until its peer has answered it, and the answer was written to handover/receipt.",
		},
	)
}

func (b *backend) handOver(ctx context.Context, c call, in apitype.HandoverRequest) (apitype.HandoverToken, error) {
	return b.enroll.Handover(ctx, c.origin, c.tenant, c.text("agent_id"), in)
}

func (b *backend) inspectHandover(ctx context.Context, c call, in apitype.HandoverRedeemRequest) (apitype.HandoverInspection, error) {
	return b.enroll.InspectHandover(ctx, c.tenant, in)
}

func (b *backend) redeemHandover(ctx context.Context, c call, in apitype.HandoverRedeemRequest) (apitype.HandoverRedemption, error) {
	return b.enroll.RedeemHandover(ctx, c.origin, c.tenant, in)
}

func (b *backend) listHandovers(ctx context.Context, c call, _ nothing) (apitype.ListResponse[apitype.Handover], error) {
	p, err := page(c.data)
	if err != nil {
		return apitype.ListResponse[apitype.Handover]{}, err
	}
	return b.enroll.Handovers(ctx, c.tenant, p)
}

func (b *backend) readHandover(ctx context.Context, c call, _ nothing) (apitype.Handover, error) {
	return b.enroll.HandoverInfo(ctx, c.tenant, c.text("handover_id"))
}

func (b *backend) forceHandover(ctx context.Context, c call, in apitype.HandoverUpdateRequest) (apitype.Handover, error) {
	if !in.Force {
		return apitype.Handover{}, apitype.Errorf(apitype.FieldInvalid, "only force=true can be written to a handover")
	}
	return b.enroll.EndHandover(ctx, c.origin, c.tenant, c.text("handover_id"), true)
}

func (b *backend) endHandover(ctx context.Context, c call, _ nothing) (nothing, error) {
	_, err := b.enroll.EndHandover(ctx, c.origin, c.tenant, c.text("handover_id"), false)
	return nothing{}, err
}

func (b *backend) takeReceipt(ctx context.Context, c call, in apitype.ReceiptRequest) (apitype.ReceiptResponse, error) {
	return b.enroll.Receipt(ctx, c.origin, in)
}

func (b *backend) readOutbox(ctx context.Context, _ call, _ nothing) (apitype.Outbox, error) {
	return b.enroll.Outbox(ctx)
}
