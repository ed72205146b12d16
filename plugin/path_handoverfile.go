package ampora

import (
	"context"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

// pathsHandoverFile are what handover files are made of, and followed by; 'ampora handover' is their user.
func (b *backend) pathsHandoverFile() []*framework.Path {
	peer := &framework.FieldSchema{Type: framework.TypeString, Description: "Name of the peer that the agents are to move to."}
	var paths []*framework.Path
	for _, p := range []*framework.Path{
		{
			Pattern:      "handover/issue$",
			DisplayAttrs: display("handovers"),
			Fields: map[string]*framework.FieldSchema{
				"peer":          peer,
				"group":         {Type: framework.TypeString, Description: "All agents of this group."},
				"agent_ids":     {Type: framework.TypeCommaStringSlice, Description: "Ids of the agents, 1 to 1000, comma-separated, in the place of a group."},
				"configuration": {Type: framework.TypeString, Description: "Configuration that they are to have there. Default: the name of the one that each has here."},
				"ttl":           {Type: framework.TypeDurationSecond, Description: "How long the tokens can be redeemed. Default: handover_ttl."},
				"after":         {Type: framework.TypeString, Description: "The next_after of the part before; empty to begin."},
				"limit":         {Type: framework.TypeInt, Description: "Look at this many agents at most. Default, and most: 100."},
			},
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.UpdateOperation: forwarded(serve(b, b.issueHandovers), "Make handover tokens for agents of a group, part by part.",
					responses("The tokens of this part, and the agents that got none.", apitype.HandoverIssueResponse{}), "issue"),
			},
			HelpSynopsis: "Make the tokens with which the agents of a group move to a peer, part by part.",
			HelpDescription: `Ask again with 'after' until next_after is empty: 'ampora handover make' does that, and puts the tokens into one file.
An agent that cannot be moved is told among the refused with the reason. Nothing is made twice: an agent that has a token
already is refused (handover_pending) until that is cancelled or has ended.`,
		},
		{
			Pattern:      "handover/manifest$",
			DisplayAttrs: display("handover-manifest"),
			Fields: map[string]*framework.FieldSchema{
				"peer":         peer,
				"group":        {Type: framework.TypeString, Description: "The group that all of the agents were in, if that is to be said."},
				"handover_ids": {Type: framework.TypeCommaStringSlice, Description: "Ids of the handovers, 1 to 5000, in the order of the file, comma-separated."},
			},
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.UpdateOperation: forwarded(serve(b, b.handoverManifest), "Sign the list of the tokens of a handover file.",
					responses("The manifest, which is the first line of the file.", apitype.HandoverManifest{}), "sign"),
			},
			HelpSynopsis:    "Sign the list of the tokens of a handover file.",
			HelpDescription: "Each has to be a handover from here to that peer. Nothing is stored, and no agent is moved by it.",
		},
		{
			Pattern:      "handover/progress$",
			DisplayAttrs: display("handover-progress"),
			Fields: map[string]*framework.FieldSchema{
				"manifest": {Type: framework.TypeString, Description: "The first line of the handover file."},
				"after":    {Type: framework.TypeString, Description: "The next_after of the part before; empty to begin."},
				"limit":    {Type: framework.TypeInt, Description: "Tell of this many handovers at most. Default, and most: 1000."},
			},
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.UpdateOperation: forwarded(serve(b, b.handoverProgress), "Say how far the handovers of a file have come.",
					responses("The handovers of this part with their states on this side.", apitype.HandoverProgress{}), "read"),
			},
			HelpSynopsis:    "Check the manifest of a handover file, and say how far its handovers have come on this side.",
			HelpDescription: "Asked at the source and at the target alike. A handover that this side does not have has no state, and counts as absent.",
		},
	} {
		paths = append(paths, scoped(p)...)
	}
	return paths
}

func (b *backend) issueHandovers(ctx context.Context, c call, in apitype.HandoverIssueRequest) (apitype.HandoverIssueResponse, error) {
	return b.enroll.IssueHandovers(ctx, c.origin, c.tenant, in)
}

func (b *backend) handoverManifest(ctx context.Context, c call, in apitype.HandoverManifestRequest) (apitype.HandoverManifest, error) {
	return b.enroll.HandoverManifest(ctx, c.tenant, in)
}

func (b *backend) handoverProgress(ctx context.Context, c call, in apitype.HandoverProgressRequest) (apitype.HandoverProgress, error) {
	return b.enroll.HandoverProgress(ctx, c.tenant, in)
}
