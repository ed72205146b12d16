// Package audit keeps the engine's own audit trail: what happened, by whom, in the order in which it was told.
//
// The rule that makes it trustworthy: the row that a transition changes carries the transition's record until that is
// stored. The row's Put is the commit of both, so an event exists if and only if the action happened; a crash in between
// leaves the record in the row, and whoever meets the row stores it (Ensure). A record has a fixed id, so storing it twice
// is storing it once.
package audit

import (
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/google/uuid"
)

// Origin is who asked, and through which request.
type Origin struct {
	Actor     apitype.Actor
	RequestID string // Vault's; empty for the system
	SourceIP  string // of the agent when the edge acts for one, else of Vault's client
}

// System is the origin of what nobody asked for.
func System() Origin { return Origin{Actor: apitype.Actor{DisplayName: "system"}} }

// ForAgent is the same origin acting for an agent that was seen at sourceIP.
func (o Origin) ForAgent(agentID, sourceIP string) Origin {
	o.Actor.AgentID = agentID
	if sourceIP != "" {
		o.SourceIP = sourceIP
	}
	return o
}

// Record is what one transition tells: one event or several.
type Record struct {
	ID     string          `json:"id"`
	Time   time.Time       `json:"time"`
	Events []apitype.Event `json:"events"`
}

// row is what is stored: one record, or several that were written together.
type row struct {
	Record
	More []*Record `json:"more,omitempty"`
}

func (*row) SchemaName() string { return "event" }
func (*row) SchemaVersion() int { return 1 }

func newRow(records []*Record) *row { return &row{Record: *records[0], More: records[1:]} }

// records are the row's, oldest first.
func (r *row) records() []*Record { return append([]*Record{&r.Record}, r.More...) }

// timeFormat is RFC 3339 with milliseconds.
const timeFormat = "2006-01-02T15:04:05.000Z07:00"

// FormatTime writes a time as events show it.
func FormatTime(t time.Time) string { return t.UTC().Format(timeFormat) }

// NewRecord makes the record of a transition. Each event needs its entity and action only; the rest is filled in.
func NewRecord(origin Origin, now time.Time, events ...apitype.Event) *Record {
	r := &Record{ID: formatID(uuid.New()), Time: now.UTC()}
	for _, e := range events {
		e.ID = uuid.NewString()
		e.Time = FormatTime(now)
		e.Actor = origin.Actor
		e.RequestID = origin.RequestID
		if e.SourceIP == "" {
			e.SourceIP = origin.SourceIP
		}
		r.Events = append(r.Events, e)
	}
	return r
}
