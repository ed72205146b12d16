package client

import (
	"context"
	"net/http"

	"github.com/ampora/ampora/plugin/apitype"
)

// WriteGroup makes a group or changes the fields that are set.
func (c *Client) WriteGroup(ctx context.Context, name string, in apitype.GroupRequest) (*apitype.Group, error) {
	return write[apitype.Group](ctx, c, c.scoped(apitype.PathGroups)+"/"+name, in)
}

// Group reads a group.
func (c *Client) Group(ctx context.Context, name string) (*apitype.Group, error) {
	return read[apitype.Group](ctx, c, c.scoped(apitype.PathGroups)+"/"+name, nil)
}

// Groups lists groups by name.
func (c *Client) Groups(ctx context.Context, page apitype.Page) (*apitype.ListResponse[apitype.Group], error) {
	return read[apitype.ListResponse[apitype.Group]](ctx, c, c.scoped(apitype.PathGroups), pageQuery(page))
}

// DeleteGroup removes a group that nothing refers to.
func (c *Client) DeleteGroup(ctx context.Context, name string) error {
	return c.call(ctx, http.MethodDelete, c.scoped(apitype.PathGroups)+"/"+name, nil, nil, nil)
}

// WriteConfiguration makes a configuration or changes the fields that are set.
func (c *Client) WriteConfiguration(ctx context.Context, name string, in apitype.ConfigurationRequest) (*apitype.Configuration, error) {
	return write[apitype.Configuration](ctx, c, c.scoped(apitype.PathConfigurations)+"/"+name, in)
}

// Configuration reads a configuration with its body.
func (c *Client) Configuration(ctx context.Context, name string) (*apitype.Configuration, error) {
	return read[apitype.Configuration](ctx, c, c.scoped(apitype.PathConfigurations)+"/"+name, nil)
}

// Configurations lists configurations by name, without their bodies.
func (c *Client) Configurations(ctx context.Context, page apitype.Page) (*apitype.ListResponse[apitype.Configuration], error) {
	return read[apitype.ListResponse[apitype.Configuration]](ctx, c, c.scoped(apitype.PathConfigurations), pageQuery(page))
}

// DeleteConfiguration removes a configuration that nothing refers to.
func (c *Client) DeleteConfiguration(ctx context.Context, name string) error {
	return c.call(ctx, http.MethodDelete, c.scoped(apitype.PathConfigurations)+"/"+name, nil, nil, nil)
}

// AssignAgents puts agents into a group, or into none.
func (c *Client) AssignAgents(ctx context.Context, in apitype.AssignRequest) (*apitype.AssignResponse, error) {
	return write[apitype.AssignResponse](ctx, c, c.scoped(apitype.PathAgentsGroup), in)
}
