package audit

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/ampora/ampora/cmd/ampora/internal/console"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/client"
	vault "github.com/hashicorp/vault/api"
)

// follow shows events in the order in which they were told, and goes on with new ones. It lives through times in which Vault
// cannot answer, and then goes on where it was.
func (c *EventsCmd) follow(ctx context.Context, con *console.Console, engine *client.Client, query apitype.EventsRequest, show func([]apitype.Event) error) error {
	last, first, away := "", true, false
	for {
		events, err := fresh(ctx, engine, query, last, first, c.Limit)
		switch {
		case ctx.Err() != nil:
			return nil // that is how it ends
		case err != nil && (first || !passing(err)):
			return err
		case err != nil && !away:
			away = true
			con.Sayf("Vault does not answer; going on when it does: %v", oneLine(err))
		case err == nil && away:
			away = false
			con.Sayf("Vault answers again.")
		}
		if len(events) > 0 {
			last = events[0].ID
			slices.Reverse(events)
			if err := show(events); err != nil {
				return err
			}
		}
		first = first && err != nil
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(c.Interval):
		}
	}
}

// fresh are the events that are newer than the one of the id last, the newest first. The first time they are those since
// query.Since, or a number of the newest.
func fresh(ctx context.Context, engine *client.Client, query apitype.EventsRequest, last string, first bool, limit int) ([]apitype.Event, error) {
	if !first || query.Since != "" {
		limit = 0
	}
	var all []apitype.Event
	err := eachPage(ctx, engine, query, limit, func(events []apitype.Event) (bool, error) {
		known := slices.IndexFunc(events, func(e apitype.Event) bool { return e.ID == last })
		if known >= 0 {
			events = events[:known]
		}
		all = append(all, events...)
		return known < 0, nil
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

// passing reports whether asking again later may help.
func passing(err error) bool {
	if code := apitype.CodeOf(err); code != "" {
		return code.VaultStatus() >= http.StatusInternalServerError
	}
	answer, answered := errors.AsType[*vault.ResponseError](err)
	// Without an answer; sealed, starting or without a leader; or while the mount is being reloaded or moved.
	return !answered || answer.StatusCode >= 500 || answer.StatusCode == http.StatusTooManyRequests || answer.StatusCode == http.StatusNotFound
}
