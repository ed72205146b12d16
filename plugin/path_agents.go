package ampora

import (
	"context"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

func (b *backend) pathsAgents() []*framework.Path {
	id := map[string]*framework.FieldSchema{
		"agent_id": {Type: framework.TypeString, Description: "Id of the agent, as it stands in its certificate."},
	}
	reason := map[string]*framework.FieldSchema{
		"reason": {Type: framework.TypeString, Description: "RFC 5280 reason: unspecified (default), keyCompromise, affiliationChanged, superseded, cessationOfOperation or privilegeWithdrawn."},
	}
	var paths []*framework.Path
	for _, p := range []*framework.Path{
		{
			Pattern:      "agents/?$",
			DisplayAttrs: display("agents"),
			Fields: with(pageFields, filterFields, map[string]*framework.FieldSchema{
				"state": {Type: framework.TypeString, Query: true, Description: "Only those in this state."},
			}),
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.ListOperation: forwarded(serve(b, b.listAgents), "List agents.",
					responses("Ids, with key_info for each.", apitype.ListResponse[apitype.Agent]{}), ""),
				logical.ReadOperation: forwarded(serve(b, b.listAgents), "List agents, page by page.",
					responses("Ids, with key_info for each.", apitype.ListResponse[apitype.Agent]{}), "page"),
			},
			HelpSynopsis:    "List the agents.",
			HelpDescription: "Lists agents with what is known of each. Read with 'after' and 'limit' to page.",
		},
		{
			Pattern:      "agents/summary$",
			DisplayAttrs: display("agents"),
			Fields: map[string]*framework.FieldSchema{
				"after": {Type: framework.TypeString, Query: true, Description: "The next_after of the part before; empty to begin."},
			},
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.ReadOperation: forwarded(serve(b, b.summarizeAgents), "Count the agents, part by part.",
					responses("A part of the counts.", apitype.AgentsSummary{}), "summarize"),
			},
			HelpSynopsis: "Count the agents by state, by the month in which their certificates expire, and those to be renewed.",
			HelpDescription: `The agents are counted in parts, so that no request takes long: read on with 'after' until next_after is empty, and add
the parts up. 'ampora status' does that.`,
		},
		{
			Pattern:      "agents/group$",
			DisplayAttrs: display("agents"),
			Fields: map[string]*framework.FieldSchema{
				"agent_ids": {Type: framework.TypeCommaStringSlice, Description: "Ids of the agents, 1 to 1000, comma-separated."},
				"group":     {Type: framework.TypeString, Description: "Group to put them into; empty for none."},
			},
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.UpdateOperation: forwarded(serve(b, b.assignAgents), "Put agents into a group.",
					responses("The agents that were not in it before.", apitype.AssignResponse{}), "assign"),
			},
			HelpSynopsis:    "Put many agents into a group, or into none.",
			HelpDescription: "All are checked before anything is changed: if one is unknown, or the group is missing, nothing is. Each change is told by an event.",
		},
		{
			Pattern:      "agents/revoke$",
			DisplayAttrs: display("agents"),
			Fields: with(reason, map[string]*framework.FieldSchema{
				"agent_ids": {Type: framework.TypeCommaStringSlice, Description: "Ids of the agents, 1 to 1000, comma-separated."},
				"group":     {Type: framework.TypeString, Description: "All agents of this group."},
				"pool":      {Type: framework.TypeString, Description: "All agents that came from this pool; its name or id."},
				"all":       {Type: framework.TypeBool, Description: "All agents of the tenant that stands in the path."},
			}),
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.UpdateOperation: forwarded(serve(b, b.revokeAgents), "Revoke every certificate of many agents.",
					responses("How many were revoked.", apitype.RevokeAgentsResponse{}), "revoke"),
			},
			HelpSynopsis: "Revoke every certificate of many agents and close their sessions.",
			HelpDescription: `Give one of agent_ids, group, pool and all. One event tells how many there were. When this answers, all of them are revoked;
after an error the others soon are.`,
		},
		{
			Pattern:      "agents/" + segment("agent_id") + "/renew$",
			DisplayAttrs: display("agent"),
			Fields: with(id, map[string]*framework.FieldSchema{
				"fingerprint":     {Type: framework.TypeString, Description: "SHA-256 of the certificate that the agent presents, in hex."},
				"csr":             {Type: framework.TypeString, Description: "PEM certificate request. Only the key is taken from it. Without it and generate_key the next certificate is for the same key."},
				"proof":           {Type: framework.TypeString, Description: "Signature of the presented certificate's key over the new one, in base64, when that is another key."},
				"generate_key":    {Type: framework.TypeBool, Description: "Make the key here, for an agent that enrolled that way."},
				"source_ip":       {Type: framework.TypeString, Description: "Address of the agent."},
				"idempotency_key": {Type: framework.TypeString, Description: "16 to 128 printable ASCII characters of the caller's choice."},
			}),
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.UpdateOperation: forwarded(serve(b, b.renewAgent), "Give an agent its next certificate.",
					responses("The agent's next certificate.", apitype.Identity{}), "renew"),
			},
			HelpSynopsis: "Give an agent its next certificate.",
			HelpDescription: `The current one goes on until the next has been confirmed. A certificate for another key needs the current key's signature
over it, unless renew_proof says otherwise.`,
		},
		{
			Pattern:      "agents/" + segment("agent_id") + "/revoke$",
			DisplayAttrs: display("agent"),
			Fields:       with(id, reason),
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.UpdateOperation: forwarded(serve(b, b.revokeAgent), "Revoke every certificate of an agent.",
					responses("The revocation.", apitype.AgentRevocation{}), "revoke"),
			},
			HelpSynopsis:    "Revoke every certificate of an agent and close its sessions.",
			HelpDescription: "Ends the agent's certificates for good; its live sessions close within seconds. The row stays. Revoking again changes nothing.",
		},
		{
			Pattern:      "agents/" + segment("agent_id") + "$",
			DisplayAttrs: display("agent"),
			Fields: with(id, map[string]*framework.FieldSchema{
				"display_name":  {Type: framework.TypeString, Description: "Name for people."},
				"group":         {Type: framework.TypeString, Description: "Group of the agent; empty for none."},
				"configuration": {Type: framework.TypeString, Description: "Configuration of the agent's own, before that of its group; empty for none."},
			}),
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.ReadOperation:   forwarded(serve(b, b.readAgent), "Read an agent's row.", responses("The agent's row.", apitype.Agent{}), ""),
				logical.UpdateOperation: forwarded(serve(b, b.updateAgent), "Change an agent's row.", responses("The agent's row.", apitype.Agent{}), ""),
				logical.DeleteOperation: forwarded(serve(b, b.deleteAgent), "Delete an agent.", noContent("The agent is gone."), ""),
			},
			HelpSynopsis:    "Read, change or delete an agent.",
			HelpDescription: "Deleting revokes the agent's certificates and leaves a tombstone, so that neither they nor its token ever work again.",
		},
	} {
		paths = append(paths, scoped(p)...)
	}
	return paths
}

func (b *backend) listAgents(ctx context.Context, c call, _ nothing) (apitype.ListResponse[apitype.Agent], error) {
	p, err := page(c.data)
	if err != nil {
		return apitype.ListResponse[apitype.Agent]{}, err
	}
	return b.enroll.Agents(ctx, c.tenant, p)
}

func (b *backend) summarizeAgents(ctx context.Context, c call, _ nothing) (apitype.AgentsSummary, error) {
	return b.enroll.Summary(ctx, c.tenant, c.text("after"))
}

func (b *backend) readAgent(ctx context.Context, c call, _ nothing) (apitype.Agent, error) {
	return b.enroll.Agent(ctx, c.tenant, c.text("agent_id"))
}

func (b *backend) updateAgent(ctx context.Context, c call, in apitype.AgentUpdateRequest) (apitype.Agent, error) {
	return b.enroll.UpdateAgent(ctx, c.origin, c.tenant, c.text("agent_id"), in)
}

func (b *backend) deleteAgent(ctx context.Context, c call, _ nothing) (nothing, error) {
	return nothing{}, b.enroll.DeleteAgent(ctx, c.origin, c.tenant, c.text("agent_id"))
}

func (b *backend) revokeAgent(ctx context.Context, c call, in apitype.RevokeRequest) (apitype.AgentRevocation, error) {
	return b.enroll.RevokeAgent(ctx, c.origin, c.tenant, c.text("agent_id"), in.Reason)
}

func (b *backend) revokeAgents(ctx context.Context, c call, in apitype.RevokeAgentsRequest) (apitype.RevokeAgentsResponse, error) {
	return b.enroll.RevokeAgents(ctx, c.origin, c.tenant, in)
}

func (b *backend) renewAgent(ctx context.Context, c call, in apitype.RenewRequest) (identified, error) {
	return identify(b.enroll.Renew(ctx, c.origin, c.tenant, c.text("agent_id"), in))
}

func (b *backend) assignAgents(ctx context.Context, c call, in apitype.AssignRequest) (apitype.AssignResponse, error) {
	if _, given := c.data.Raw["group"]; !given {
		return apitype.AssignResponse{}, apitype.Errorf(apitype.FieldInvalid, "group is missing (an empty one is none)")
	}
	return b.enroll.Assign(ctx, c.origin, c.tenant, in)
}
