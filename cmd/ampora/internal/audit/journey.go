package audit

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/ampora/ampora/plugin/apitype"
)

// entry is an event with the installation that has recorded it.
type entry struct {
	At string `json:"at"`
	apitype.Event
	site int
}

// journey is an agent's history, as far as the sites tell it.
type journey struct {
	entries []entry
	// handovers are those that were met, with what is known of their other sides.
	handovers map[string]*crossing
}

// crossing is a handover as the sites show it.
type crossing struct {
	sides map[string]bool // those that were seen, see apitype.HandoverSource
	other string          // the peer's id, as the side that was seen first has it
	moved bool            // the other side must know of it
}

// stay is an agent on one installation.
type stay struct {
	site    int
	agentID string
}

// follow gathers the events of an agent from all sites: an agent has another id on each installation, and the events of a
// handover, which has the same id on both sides, lead from one to the other. The entries are in the order of their times, and
// where these are the same in that of the sites.
func follow(ctx context.Context, sites []site, agentID string) (*journey, error) {
	j := &journey{handovers: map[string]*crossing{}}
	var queue []stay
	queued, told := map[stay]bool{}, map[string]bool{}
	visit := func(s stay) {
		if s.agentID != "" && !queued[s] {
			queued[s] = true
			queue = append(queue, s)
		}
	}
	for i := range sites {
		visit(stay{i, agentID})
	}
	for ; len(queue) > 0; queue = queue[1:] {
		at := sites[queue[0].site]
		events, err := at.Events(ctx, queue[0].agentID, "")
		if err != nil {
			return nil, fmt.Errorf("%s: %w", at.Name(), err)
		}
		for _, e := range events {
			if told[e.ID] {
				continue
			}
			told[e.ID] = true
			j.entries = append(j.entries, entry{At: at.Name(), Event: e, site: queue[0].site})
			if e.EntityType != entityHandover {
				continue
			}
			if j.cross(e) {
				if err := others(ctx, sites, e.EntityID, visit); err != nil {
					return nil, err
				}
			}
		}
	}
	slices.SortStableFunc(j.entries, func(a, b entry) int { return cmp.Or(strings.Compare(a.Time, b.Time), cmp.Compare(a.site, b.site)) })
	return j, nil
}

// cross notes an event of a handover, and answers true when it is the first one of it.
func (j *journey) cross(e apitype.Event) bool {
	c, known := j.handovers[e.EntityID]
	if !known {
		c = &crossing{sides: map[string]bool{}, other: detail(e, "peer_id")}
		j.handovers[e.EntityID] = c
	}
	side := detail(e, "side")
	c.sides[side] = true
	switch e.Action {
	case apitype.ActionHandoverReleased, apitype.ActionHandoverCompleted, apitype.ActionHandoverForced:
		c.moved = true
	}
	c.moved = c.moved || side == apitype.HandoverTarget
	return !known
}

// others finds the agents that a handover is about on every installation.
func others(ctx context.Context, sites []site, handoverID string, visit func(stay)) error {
	for i, t := range sites {
		events, err := t.Events(ctx, "", handoverID)
		if err != nil {
			return fmt.Errorf("%s: %w", t.Name(), err)
		}
		for _, e := range events {
			visit(stay{i, e.AgentID})
		}
	}
	return nil
}

// missing are the installations that have events of the agent, and whose sites were not given.
func (j *journey) missing() []string {
	var all []string
	for _, c := range j.handovers {
		if c.moved && len(c.sides) < 2 && !slices.Contains(all, c.other) {
			all = append(all, c.other)
		}
	}
	slices.Sort(all)
	return all
}

// detail is one of an event's details that is a text.
func detail(e apitype.Event, name string) string {
	text, _ := e.Details[name].(string)
	return text
}
