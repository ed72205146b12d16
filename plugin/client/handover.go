package client

import (
	"context"
	"net/http"

	"github.com/ampora/ampora/plugin/apitype"
)

// Handover makes the token with which an agent moves to a peer.
func (c *Client) Handover(ctx context.Context, agentID string, in apitype.HandoverRequest) (*apitype.HandoverToken, error) {
	return write[apitype.HandoverToken](ctx, c, c.scoped(apitype.PathAgents+"/"+agentID+"/handover"), in)
}

// InspectHandover says what a handover token is and what redeeming it would do. It changes nothing.
func (c *Client) InspectHandover(ctx context.Context, in apitype.HandoverRedeemRequest) (*apitype.HandoverInspection, error) {
	return write[apitype.HandoverInspection](ctx, c, c.scoped(apitype.PathHandoverInspect), in)
}

// RedeemHandover takes an agent over from a peer.
func (c *Client) RedeemHandover(ctx context.Context, in apitype.HandoverRedeemRequest) (*apitype.HandoverRedemption, error) {
	return write[apitype.HandoverRedemption](ctx, c, c.scoped(apitype.PathHandoverRedeem), in)
}

// HandoverInfo reads a handover.
func (c *Client) HandoverInfo(ctx context.Context, id string) (*apitype.Handover, error) {
	return read[apitype.Handover](ctx, c, c.scoped(apitype.PathHandovers+"/"+id), nil)
}

// Handovers lists handovers in the order of their ids.
func (c *Client) Handovers(ctx context.Context, page apitype.Page) (*apitype.ListResponse[apitype.Handover], error) {
	return read[apitype.ListResponse[apitype.Handover]](ctx, c, c.scoped(apitype.PathHandovers), pageQuery(page))
}

// EndHandover cancels a handover at its source, or gives it up at its target.
func (c *Client) EndHandover(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodDelete, c.scoped(apitype.PathHandovers+"/"+id), nil, nil, nil)
}

// ForceHandover takes a released agent back at its source.
func (c *Client) ForceHandover(ctx context.Context, id string) (*apitype.Handover, error) {
	return write[apitype.Handover](ctx, c, c.scoped(apitype.PathHandovers+"/"+id), apitype.HandoverUpdateRequest{Force: true})
}
