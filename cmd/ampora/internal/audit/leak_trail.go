package audit

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/client"
	"github.com/google/uuid"
	vault "github.com/hashicorp/vault/api"
)

// fromTrail asks the engine. The audit trail alone is enough; rows of agents and tokens add names, and how many tokens are
// outstanding, for who may read them.
func (c *LeakCmd) fromTrail(ctx context.Context, engine *client.Client, since, until time.Time) (*review, error) {
	t := &trail{engine: engine, review: &review{pools: map[poolOf]bool{}}, agents: map[string]*leaked{}, rows: true}
	query := apitype.EventsRequest{Action: apitype.ActionTokenRedeemed, Pool: c.Pool, Since: rfc3339(since), Until: rfc3339(until)}
	queries := []apitype.EventsRequest{query}
	if len(c.Token) > 0 {
		queries = nil
		for _, id := range c.Token {
			query.EntityID = id
			queries = append(queries, query)
		}
	}
	for _, q := range queries {
		if err := eachPage(ctx, engine, q, 0, t.redeemed); err != nil {
			return nil, err
		}
	}
	for _, a := range t.review.Agents {
		if err := t.standing(ctx, a); err != nil {
			return nil, err
		}
	}
	if c.Pool != "" {
		return t.review, t.outstanding(ctx, c.Pool)
	}
	return t.review, nil
}

// trail is one review by the engine's own records.
type trail struct {
	engine *client.Client
	review *review
	agents map[string]*leaked
	rows   bool // rows may be read, as far as is known
}

func (t *trail) redeemed(events []apitype.Event) (bool, error) {
	for _, e := range events {
		if t.agents[e.AgentID] != nil {
			continue
		}
		a := &leaked{AgentID: e.AgentID, SourceIP: e.SourceIP, RedeemedAt: e.Time, TokenID: e.EntityID, Tenant: e.Tenant, Certificate: stateUnknown}
		a.Pool, _ = e.Details["pool"].(string)
		a.PoolID, _ = e.Details["pool_id"].(string)
		t.agents[a.AgentID] = a
		t.review.Agents = append(t.review.Agents, a)
	}
	return true, nil
}

// standing finds the agent's newest certificate and what has become of it: the newest event about it decides.
func (t *trail) standing(ctx context.Context, a *leaked) error {
	ended := ""
	err := eachPage(ctx, t.engine, apitype.EventsRequest{AgentID: a.AgentID}, 0, func(events []apitype.Event) (bool, error) {
		for _, e := range events {
			fingerprint, _ := e.Details["fingerprint"].(string)
			switch e.Action {
			case apitype.ActionAgentDeleted:
				ended = stateDeleted
			case apitype.ActionAgentExpired:
				ended = stateExpired
			case apitype.ActionCertificateRevoked:
				if ended == "" {
					ended = stateRevoked
				}
			case apitype.ActionCertificateIssued:
				text, _ := e.Details["expires_at"].(string)
				expires, _ := time.Parse(time.RFC3339, text) // none: unknown
				a.Fingerprint, a.Certificate = fingerprint, stateOf(expires, time.Now())
				return false, nil
			}
		}
		return true, nil
	})
	if ended != "" {
		a.Certificate = ended
	}
	if err != nil || !t.rows || a.Certificate == stateDeleted {
		return err
	}
	row, err := t.engine.Agent(ctx, a.AgentID)
	switch {
	case forbidden(err):
		t.rows = false
		t.review.notes = append(t.review.notes, "The Vault token may not read agents: their names are missing, and certificates stand as the audit trail tells.")
		return nil
	case apitype.CodeOf(err) == apitype.AgentUnknown:
		return nil
	case err != nil:
		return err
	}
	a.DisplayName, a.Fingerprint = row.DisplayName, row.Fingerprint
	if a.Certificate = stateOf(time.Unix(row.Expiration, 0), time.Now()); row.State != apitype.AgentStateActive {
		a.Certificate = row.State
	}
	return nil
}

// outstanding counts the tokens that may still be redeemed, of a pool by its name or id.
func (t *trail) outstanding(ctx context.Context, pool string) error {
	id := ""
	if _, err := uuid.Parse(pool); err == nil { // tokens are listed by the pool's name
		named, err := t.engine.Events(ctx, apitype.EventsRequest{Pool: pool, Limit: 1})
		if err != nil || len(named.Events) == 0 {
			return err
		}
		id = pool
		pool, _ = named.Events[0].Details["pool"].(string)
	}
	n, page := 0, apitype.Page{Pool: pool, State: apitype.TokenStateIssued, Limit: pageSize}
	for {
		list, err := t.engine.Tokens(ctx, page)
		if forbidden(err) {
			t.review.notes = append(t.review.notes, "The Vault token may not list tokens: how many are outstanding is missing.")
			return nil
		}
		if err != nil {
			return err
		}
		for _, token := range list.KeyInfo {
			if id == "" || token.PoolID == id {
				n++
				t.review.pools[poolOf{token.Tenant, token.Pool}] = true
			}
		}
		if page.After = list.NextAfter; page.After == "" {
			t.review.Outstanding = &n
			return nil
		}
	}
}

func forbidden(err error) bool {
	answer, answered := errors.AsType[*vault.ResponseError](err)
	return answered && answer.StatusCode == http.StatusForbidden
}
