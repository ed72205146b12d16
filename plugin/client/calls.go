package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"github.com/ampora/ampora/plugin/apitype"
)

// Config reads the configuration.
func (c *Client) Config(ctx context.Context) (*apitype.Config, error) {
	return read[apitype.Config](ctx, c, apitype.PathConfig, nil)
}

// UpdateConfig changes the named fields and leaves the others.
func (c *Client) UpdateConfig(ctx context.Context, fields map[string]any) error {
	return c.call(ctx, http.MethodPut, apitype.PathConfig, nil, fields, nil)
}

// CARoot makes a self-signed issuer and activates it when there is no active one.
func (c *Client) CARoot(ctx context.Context, in apitype.CARootRequest) (*apitype.CAIssuer, error) {
	return write[apitype.CAIssuer](ctx, c, apitype.PathCARoot, in)
}

// CAIntermediate makes a key and a CSR for it.
func (c *Client) CAIntermediate(ctx context.Context, in apitype.CARootRequest) (*apitype.CAIntermediateResponse, error) {
	return write[apitype.CAIntermediateResponse](ctx, c, apitype.PathCAIntermediate, in)
}

// CASetSigned brings the signed chain back and activates the issuer when there is no active one.
func (c *Client) CASetSigned(ctx context.Context, in apitype.CASetSignedRequest) (*apitype.CAIssuer, error) {
	return write[apitype.CAIssuer](ctx, c, apitype.PathCASetSigned, in)
}

// CABundle is what agents must trust. It needs no Vault token.
func (c *Client) CABundle(ctx context.Context) (*apitype.CABundle, error) {
	return read[apitype.CABundle](ctx, c, apitype.PathCABundle, nil)
}

// IssueToken issues one bootstrap token.
func (c *Client) IssueToken(ctx context.Context, in apitype.TokenIssueRequest) (*apitype.IssuedToken, error) {
	return write[apitype.IssuedToken](ctx, c, c.scoped(apitype.PathTokensIssue), in)
}

// Tokens lists token rows. An empty list is no error.
func (c *Client) Tokens(ctx context.Context, page apitype.Page) (*apitype.ListResponse[apitype.TokenInfo], error) {
	return read[apitype.ListResponse[apitype.TokenInfo]](ctx, c, c.scoped(apitype.PathTokens), pageQuery(page))
}

// Token reads one token row.
func (c *Client) Token(ctx context.Context, id string) (*apitype.TokenInfo, error) {
	return read[apitype.TokenInfo](ctx, c, c.scoped(apitype.PathTokens)+"/"+id, nil)
}

// RevokeToken ends one token.
func (c *Client) RevokeToken(ctx context.Context, id string, in apitype.RevokeRequest) (*apitype.TokenInfo, error) {
	return write[apitype.TokenInfo](ctx, c, c.scoped(apitype.PathTokens)+"/"+id+"/revoke", in)
}

// RedeemCheck asks whether a token is good right now and consumes nothing.
func (c *Client) RedeemCheck(ctx context.Context, in apitype.RedeemCheckRequest) (*apitype.RedeemCheckResponse, error) {
	return write[apitype.RedeemCheckResponse](ctx, c, c.scoped(apitype.PathRedeemCheck), in)
}

// Redeem turns a token into an agent. After an error of unknown outcome, ask again with the same IdempotencyKey.
func (c *Client) Redeem(ctx context.Context, in apitype.RedeemRequest) (*apitype.Identity, error) {
	return write[apitype.Identity](ctx, c, c.scoped(apitype.PathRedeem), in)
}

// Agents lists agent rows.
func (c *Client) Agents(ctx context.Context, page apitype.Page) (*apitype.ListResponse[apitype.Agent], error) {
	return read[apitype.ListResponse[apitype.Agent]](ctx, c, c.scoped(apitype.PathAgents), pageQuery(page))
}

// Agent reads one agent row.
func (c *Client) Agent(ctx context.Context, id string) (*apitype.Agent, error) {
	return read[apitype.Agent](ctx, c, c.scoped(apitype.PathAgents)+"/"+id, nil)
}

// UpdateAgent changes the fields that are set.
func (c *Client) UpdateAgent(ctx context.Context, id string, in apitype.AgentUpdateRequest) (*apitype.Agent, error) {
	return write[apitype.Agent](ctx, c, c.scoped(apitype.PathAgents)+"/"+id, in)
}

// DeleteAgent revokes the agent and leaves a tombstone.
func (c *Client) DeleteAgent(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodDelete, c.scoped(apitype.PathAgents)+"/"+id, nil, nil, nil)
}

// RevokeAgent ends every leaf of the agent.
func (c *Client) RevokeAgent(ctx context.Context, id string, in apitype.RevokeRequest) (*apitype.AgentRevocation, error) {
	return write[apitype.AgentRevocation](ctx, c, c.scoped(apitype.PathAgents)+"/"+id+"/revoke", in)
}

// Renew gives the agent its next leaf.
func (c *Client) Renew(ctx context.Context, id string, in apitype.RenewRequest) (*apitype.Identity, error) {
	return write[apitype.Identity](ctx, c, c.scoped(apitype.PathAgents)+"/"+id+"/renew", in)
}

// RevokeAgents ends every leaf of many agents.
func (c *Client) RevokeAgents(ctx context.Context, in apitype.RevokeAgentsRequest) (*apitype.RevokeAgentsResponse, error) {
	return write[apitype.RevokeAgentsResponse](ctx, c, c.scoped(apitype.PathAgentsRevoke), in)
}

// SetIssuerState activates or retires an issuer.
func (c *Client) SetIssuerState(ctx context.Context, id string, in apitype.IssuerRequest) (*apitype.CAIssuer, error) {
	return write[apitype.CAIssuer](ctx, c, apitype.PathCAIssuers+"/"+id, in)
}

// CRL is an issuer's list of revoked certificates, for an edge to serve.
func (c *Client) CRL(ctx context.Context, in apitype.CRLRequest) (*apitype.CRL, error) {
	return write[apitype.CRL](ctx, c, apitype.PathEdgeCRL, in)
}

// OCSP answers a question about a certificate's standing, for an edge to pass on.
func (c *Client) OCSP(ctx context.Context, in apitype.OCSPRequest) (*apitype.OCSPResponse, error) {
	return write[apitype.OCSPResponse](ctx, c, apitype.PathEdgeOCSP, in)
}

// Sync polls the change feed; it answers at once on a change, else after in.Wait.
func (c *Client) Sync(ctx context.Context, in apitype.SyncRequest) (*apitype.SyncResponse, error) {
	q := url.Values{}
	if in.Since != "" {
		q.Set("since", in.Since)
	}
	if in.Wait > 0 {
		q.Set("wait", strconv.FormatInt(in.Wait, 10))
	}
	return read[apitype.SyncResponse](ctx, c, apitype.PathEdgeSync, q)
}

// Report tells the engine of the edge and its sessions.
func (c *Client) Report(ctx context.Context, in apitype.ReportRequest) (*apitype.ReportResponse, error) {
	return write[apitype.ReportResponse](ctx, c, c.scoped(apitype.PathEdgeReport), in)
}

// EdgeConfigurations tells which configuration each group gives, and the hash of each configuration, as far as that has changed.
func (c *Client) EdgeConfigurations(ctx context.Context, in apitype.EdgeConfigurationsRequest) (*apitype.EdgeConfigurations, error) {
	q := url.Values{}
	if in.Since != "" {
		q.Set("since", in.Since)
	}
	return read[apitype.EdgeConfigurations](ctx, c, c.scoped(apitype.PathEdgeConfigurations), q)
}

// EdgeConfiguration reads a configuration for an edge to give to agents. A client that is bound to a tenant reads that one's.
func (c *Client) EdgeConfiguration(ctx context.Context, tenant, name string) (*apitype.EdgeConfiguration, error) {
	q := url.Values{}
	if tenant != "" && c.tenant == "" {
		q.Set("tenant", tenant)
	}
	return read[apitype.EdgeConfiguration](ctx, c, c.scoped(apitype.PathEdgeConfigurations)+"/"+name, q)
}

// EdgeCertificate signs a server certificate for an edge.
func (c *Client) EdgeCertificate(ctx context.Context, in apitype.EdgeCertificateRequest) (*apitype.EdgeCertificate, error) {
	return write[apitype.EdgeCertificate](ctx, c, apitype.PathEdgeCertificate, in)
}

// Events reads one page of audit events, newest first.
func (c *Client) Events(ctx context.Context, in apitype.EventsRequest) (*apitype.EventsResponse, error) {
	q := url.Values{}
	for k, v := range map[string]string{
		"entity_type": in.EntityType, "entity_id": in.EntityID, "agent_id": in.AgentID, "action": in.Action,
		"source_ip": in.SourceIP, "pool": in.Pool, "tenant": in.Tenant, "since": in.Since, "until": in.Until, "cursor": in.Cursor,
	} {
		if v != "" {
			q.Set(k, v)
		}
	}
	if in.Limit > 0 {
		q.Set("limit", strconv.Itoa(in.Limit))
	}
	return read[apitype.EventsResponse](ctx, c, c.scoped(apitype.PathAuditEvents), q)
}
