package enroll

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/identity"
	"github.com/ampora/ampora/plugin/internal/audit"
	"github.com/ampora/ampora/plugin/internal/store"
	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// Two live sessions of one leaf are both served: it may be an agent that left one behind. But somebody should know. One edge
// sees them; on two edges it shows when the older one is reported again although a newer one has begun since. An agent that
// has merely moved leaves a session that its edge soon finds dead: the older one must have outlived that.
const (
	remembered = 1 << 17 // agents
	earlier    = 4       // sessions of each, before the newest
)

// outlived is after how long a session that its agent has left is no longer there: an edge waits for three heartbeats, and at
// least 90 s.
func outlived(cfg apitype.Config) time.Duration {
	return max(90*time.Second, 3*time.Duration(cfg.HeartbeatInterval)*time.Second) + 30*time.Second
}

// session is one of an agent's, as its edge tells them apart.
type session struct {
	edge  string
	since int64
}

// sighting is the newest session of an agent, and those before it, all of one leaf.
type sighting struct {
	serial  identity.Serial
	newest  session
	at      time.Time
	earlier []session
}

// sightings remembers who was seen where. The zero value is ready.
type sightings struct {
	mu  sync.Mutex
	lru *simplelru.LRU[string, *sighting]
}

// twice notes a session and reports whether it goes on so long after the beginning of another one of the same leaf, and where
// that is.
func (s *sightings) twice(serial identity.Serial, now session, at time.Time, long time.Duration) (other string, twice bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lru == nil {
		s.lru, _ = simplelru.NewLRU[string, *sighting](remembered, nil) // fails only for a size below one
	}
	id := serial.AgentID()
	last, found := s.lru.Get(id)
	switch {
	case !found || last.serial != serial:
		s.lru.Add(id, &sighting{serial: serial, newest: now, at: at})
	case last.newest == now:
	case slices.Contains(last.earlier, now):
		return last.newest.edge, at.Sub(last.at) >= long
	default:
		last.earlier = append(last.earlier, last.newest)
		if len(last.earlier) > earlier {
			last.earlier = last.earlier[1:]
		}
		last.newest, last.at = now, at
	}
	return "", false
}

// seenTwice tells, once for each leaf, that two sessions of it were live at a time.
func (e *Enroller) seenTwice(ctx context.Context, origin audit.Origin, row *agentRow, edge string, serial identity.Serial, in apitype.SessionReport) (*agentRow, error) {
	cfg, err := e.Settings.Get(ctx)
	if err != nil {
		return nil, err
	}
	other, twice := e.lives.twice(serial, session{edge, in.Since}, e.Now(), outlived(cfg))
	if in.Shared {
		other, twice = edge, true
	}
	if !twice || row.SharedAt == serial.Generation() {
		return row, nil
	}
	next := *row
	next.SharedAt = serial.Generation()
	next.Record = audit.NewRecord(origin.ForAgent(row.AgentID, in.SourceIP), e.Now(), apitype.Event{
		EntityType: "certificate", EntityID: in.SerialNumber, Action: apitype.ActionCertificateSuspected, Tenant: row.Tenant, AgentID: row.AgentID,
		Details: map[string]any{"live_sessions": []string{edge, other}},
	})
	if err := e.Store.Put(ctx, store.Sharded(store.AgentPrefix, row.AgentID), &next); err != nil {
		return nil, err
	}
	e.finish(ctx, row.AgentID, &met{agent: &next})
	return &next, nil
}
