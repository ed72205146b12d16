package client

import (
	"context"
	"net/url"

	"github.com/ampora/ampora/plugin/apitype"
)

// AgentsSummary counts all agents, part by part.
func (c *Client) AgentsSummary(ctx context.Context) (*apitype.AgentsSummary, error) {
	var sum apitype.AgentsSummary
	for {
		q := url.Values{}
		if sum.NextAfter != "" {
			q.Set("after", sum.NextAfter)
		}
		part, err := read[apitype.AgentsSummary](ctx, c, c.scoped(apitype.PathAgentsSummary), q)
		if err != nil {
			return nil, err
		}
		sum.Add(*part)
		if sum.NextAfter == "" {
			return &sum, nil
		}
	}
}

// Edges lists the edges that were seen lately.
func (c *Client) Edges(ctx context.Context, page apitype.Page) (*apitype.ListResponse[apitype.EdgeInfo], error) {
	return read[apitype.ListResponse[apitype.EdgeInfo]](ctx, c, c.scoped(apitype.PathEdges), pageQuery(page))
}
