package client

import (
	"context"

	"github.com/ampora/ampora/plugin/apitype"
)

// IssueHandovers makes handover tokens for a part of the agents of a group.
func (c *Client) IssueHandovers(ctx context.Context, in apitype.HandoverIssueRequest) (*apitype.HandoverIssueResponse, error) {
	return write[apitype.HandoverIssueResponse](ctx, c, c.scoped(apitype.PathHandoverIssue), in)
}

// HandoverManifest signs the list of the tokens of a handover file.
func (c *Client) HandoverManifest(ctx context.Context, in apitype.HandoverManifestRequest) (*apitype.HandoverManifest, error) {
	return write[apitype.HandoverManifest](ctx, c, c.scoped(apitype.PathHandoverManifest), in)
}

// HandoverProgress checks who signed a manifest, and says how far a part of its handovers have come on this side.
func (c *Client) HandoverProgress(ctx context.Context, in apitype.HandoverProgressRequest) (*apitype.HandoverProgress, error) {
	return write[apitype.HandoverProgress](ctx, c, c.scoped(apitype.PathHandoverProgress), in)
}
