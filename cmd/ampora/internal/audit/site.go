package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ampora/ampora/cmd/ampora/internal/console"
	"github.com/ampora/ampora/cmd/ampora/internal/hint"
	"github.com/ampora/ampora/cmd/ampora/internal/vaultenv"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/client"
)

// site is one installation's audit trail.
type site interface {
	// Name is what people call the installation.
	Name() string
	// Events are those of an agent, or of a handover, whichever is not "". The oldest comes first.
	Events(ctx context.Context, agentID, handoverID string) ([]apitype.Event, error)
}

// liveSite is that of an engine.
type liveSite struct {
	name   string
	engine *client.Client
}

func (l *liveSite) Name() string { return l.name }

func (l *liveSite) Events(ctx context.Context, agentID, handoverID string) ([]apitype.Event, error) {
	query := apitype.EventsRequest{AgentID: agentID}
	if handoverID != "" {
		query = apitype.EventsRequest{EntityType: entityHandover, EntityID: handoverID}
	}
	var all []apitype.Event
	err := eachPage(ctx, l.engine, query, 0, func(events []apitype.Event) (bool, error) {
		all = append(all, events...)
		return true, nil
	})
	slices.Reverse(all)
	return all, vaultenv.Explain(l.engine.Vault(), err)
}

// ownSite is that of the Vault which the VAULT_* variables name. It is called as its peers know it, if it has such a name.
func ownSite(ctx context.Context, con *console.Console, e vaultenv.Engine) (*liveSite, error) {
	engine, err := e.Client(con)
	if err != nil {
		return nil, err
	}
	own := &liveSite{name: "here", engine: engine}
	if card, err := engine.FederationBundle(ctx); err == nil && card.PeerID != "" {
		own.name = card.PeerID
	}
	return own, nil
}

// entityHandover is the entity_type of the events that both sides of a handover have.
const entityHandover = "handover"

// fileSite is one that was exported.
type fileSite struct {
	name   string
	events []apitype.Event // the oldest first
}

func (f *fileSite) Name() string { return f.name }

func (f *fileSite) Events(_ context.Context, agentID, handoverID string) ([]apitype.Event, error) {
	var found []apitype.Event
	for _, e := range f.events {
		if agentID != "" && (e.AgentID == agentID || e.EntityID == agentID) || handoverID != "" && e.EntityType == entityHandover && e.EntityID == handoverID {
			found = append(found, e)
		}
	}
	return found, nil
}

// maxExport bounds an exported trail in bytes.
const maxExport = 512 << 20

// readSite reads [NAME=]FILE: what 'ampora audit events --json' has written, or what Vault answers at audit/events.
func readSite(con *console.Console, text string) (*fileSite, error) {
	name, file, found := strings.Cut(text, "=")
	if !found {
		name, file = strings.TrimSuffix(filepath.Base(text), filepath.Ext(text)), text
	}
	data, err := con.ReadInput(file, maxExport)
	if err != nil {
		return nil, err
	}
	events, err := parseEvents(data)
	if err != nil {
		return nil, hint.Wrap(fmt.Errorf("%s is no exported audit trail: %w", file, err), "write one with 'ampora audit events --limit 0 --json'")
	}
	// Exports are the newest first, unless they were followed. Events of one moment keep their order.
	if len(events) > 1 && events[0].Time > events[len(events)-1].Time {
		slices.Reverse(events)
	}
	return &fileSite{name: name, events: events}, nil
}

// parseEvents reads events: one after the other, as a list, or as Vault's answer.
func parseEvents(data []byte) ([]apitype.Event, error) {
	var all []apitype.Event
	for decoder := json.NewDecoder(bytes.NewReader(data)); ; {
		var value struct {
			apitype.Event
			apitype.EventsResponse
			Data *apitype.EventsResponse `json:"data"`
		}
		var raw json.RawMessage
		switch err := decoder.Decode(&raw); {
		case errors.Is(err, io.EOF):
			return all, nil
		case err != nil:
			return nil, errors.New("it is no JSON")
		case raw[0] == '[':
			var list []apitype.Event
			if json.Unmarshal(raw, &list) != nil {
				return nil, errors.New("it holds a list of something else")
			}
			all = append(all, list...)
			continue
		case json.Unmarshal(raw, &value) != nil:
			return nil, errors.New("it holds something that is no event")
		}
		switch {
		case value.Data != nil:
			all = append(all, value.Data.Events...)
		case value.Action != "":
			all = append(all, value.Event)
		case value.EventsResponse.Events != nil:
			all = append(all, value.EventsResponse.Events...)
		default:
			return nil, errors.New("it holds something that is no event")
		}
	}
}
