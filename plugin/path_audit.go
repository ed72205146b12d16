package ampora

import (
	"context"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/audit"
	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

func (b *backend) pathsAudit() []*framework.Path {
	query := func(description string) *framework.FieldSchema {
		return &framework.FieldSchema{Type: framework.TypeString, Query: true, Description: description}
	}
	return scoped(&framework.Path{
		Pattern:      "audit/events$",
		DisplayAttrs: display("audit-events"),
		Fields: map[string]*framework.FieldSchema{
			"entity_type": query("token, pool, certificate, agent, group, configuration, issuer, config or source."),
			"entity_id":   query("Id of the entity."),
			"agent_id":    query("Id of the agent concerned."),
			"source_ip":   query("Address that the agent came from; for refusals of IPv6, the /64."),
			"pool":        query("Name or id of the pool that it is about."),
			"tenant":      query("Name of the tenant. A tenant in the path goes before it."),
			"action":      query("Full name, like Token.Redeemed."),
			"since":       query("RFC 3339 time; events of then and later."),
			"until":       query("RFC 3339 time; events of then and earlier."),
			"cursor":      query("next_cursor of the page before."),
			"limit":       {Type: framework.TypeInt, Query: true, Description: "At most this many, 100 by default, 1000 at most."},
		},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ReadOperation: forwarded(serve(b, b.readEvents), "Read audit events, newest first.",
				responses("Events, and the cursor of the next page.", apitype.EventsResponse{}), ""),
		},
		HelpSynopsis:    "Read the engine's own audit trail.",
		HelpDescription: "Events are told if and only if the action happened. request_id joins each with the line of Vault's audit device.",
	})
}

func (b *backend) readEvents(ctx context.Context, c call, in apitype.EventsRequest) (apitype.EventsResponse, error) {
	var none apitype.EventsResponse
	q := audit.Query{
		EntityType: in.EntityType, EntityID: in.EntityID, AgentID: in.AgentID, Action: in.Action, Cursor: in.Cursor, Limit: in.Limit,
		SourceIP: in.SourceIP, Pool: in.Pool,
	}
	if in.Tenant != "" { // a tenant in the path has overridden it
		q.Tenant = &in.Tenant
	}
	if q.Limit < 0 || q.Limit > audit.MaxLimit {
		return none, apitype.Errorf(apitype.FieldInvalid, "limit must lie between 1 and %d", audit.MaxLimit)
	}
	var err error
	if q.Since, err = optionalTime("since", in.Since); err != nil {
		return none, err
	}
	if q.Until, err = optionalTime("until", in.Until); err != nil {
		return none, err
	}
	events, next, err := b.log.Page(ctx, q)
	return apitype.EventsResponse{Events: events, NextCursor: next}, err
}

func optionalTime(field, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, apitype.Errorf(apitype.FieldInvalid, "%s is no RFC 3339 time like 2026-01-02T15:04:05Z", field)
	}
	return t, nil
}
