package audit

import (
	"context"
	"encoding/json"
	"time"

	"github.com/ampora/ampora/cmd/ampora/internal/console"
	"github.com/ampora/ampora/cmd/ampora/internal/hint"
	"github.com/ampora/ampora/cmd/ampora/internal/vaultenv"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/client"
)

// pageSize is how many events are asked for at a time: the most that the API gives.
const pageSize = 1000

// EventsCmd is "ampora audit events".
type EventsCmd struct {
	Action          string        `placeholder:"NAME" help:"Only this action, like Token.Redeemed."`
	EntityType      string        `placeholder:"TYPE" help:"Only about a token, pool, certificate, agent, group, configuration, issuer, handover, peer, config or source."`
	EntityID        string        `name:"entity-id" placeholder:"ID" help:"Only about the one of this id."`
	Agent           string        `placeholder:"ID" help:"Only what concerns this agent."`
	Pool            string        `placeholder:"NAME" help:"Only what concerns this pool, by name or id."`
	SourceIP        string        `name:"source-ip" placeholder:"IP" help:"Only from this address."`
	Limit           int           `default:"100" help:"At most so many, the newest; 0 for all. With --follow: so many of before, unless --since says which."`
	JSON            bool          `name:"json" help:"One event of the API on each line."`
	Follow          bool          `short:"f" help:"Go on with new events as they come, the newest last, until interrupted."`
	Interval        time.Duration `default:"2s" hidden:""`
	window          `embed:""`
	vaultenv.Engine `embed:""`
}

// Run shows events.
func (c *EventsCmd) Run(ctx context.Context, con *console.Console) error {
	if c.Limit < 0 {
		return hint.New("--limit is negative", "give 0 for all")
	}
	if c.Follow && c.Until != "" {
		return hint.New("--follow and --until exclude each other")
	}
	since, until, err := c.times(time.Now())
	if err != nil {
		return err
	}
	engine, err := c.Client(con)
	if err != nil {
		return err
	}
	query := apitype.EventsRequest{
		Action: c.Action, EntityType: c.EntityType, EntityID: c.EntityID, AgentID: c.Agent, Pool: c.Pool, SourceIP: c.SourceIP,
		Since: rfc3339(since), Until: rfc3339(until),
	}
	show := c.printer(con)
	if c.Follow {
		return vaultenv.Explain(engine.Vault(), c.follow(ctx, con, engine, query, show))
	}
	shown := 0
	err = eachPage(ctx, engine, query, c.Limit, func(events []apitype.Event) (bool, error) {
		shown += len(events)
		return true, show(events)
	})
	if err == nil && shown == 0 {
		con.Sayf("There are no such events.")
	}
	return vaultenv.Explain(engine.Vault(), err)
}

// eachPage visits pages of events, the newest first, until visit answers false, or there have been limit events (0 for all).
func eachPage(ctx context.Context, engine *client.Client, query apitype.EventsRequest, limit int, visit func([]apitype.Event) (bool, error)) error {
	for left := limit; ; {
		query.Limit = pageSize
		if limit > 0 {
			query.Limit = min(left, pageSize)
		}
		page, err := engine.Events(ctx, query)
		if err != nil {
			return err
		}
		events := page.Events
		if limit > 0 && len(events) > left { // the events of one record come together
			events = events[:left]
		}
		more, err := visit(events)
		if left -= len(events); err != nil || !more || page.NextCursor == "" || limit > 0 && left == 0 {
			return err
		}
		query.Cursor = page.NextCursor
	}
}

// printer writes events as they are asked for.
func (c *EventsCmd) printer(con *console.Console) func([]apitype.Event) error {
	if c.JSON {
		enc := json.NewEncoder(con.Out)
		return func(events []apitype.Event) error {
			for _, e := range events {
				if err := enc.Encode(e); err != nil {
					return err
				}
			}
			return nil
		}
	}
	t := &table{out: con.Out}
	return t.write
}
