package audit

import (
	"context"
	"sort"
	"strings"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/store"
)

// Bounds of a page of events.
const (
	DefaultLimit = 100
	MaxLimit     = 1000
)

// Query selects events. Empty fields select everything.
type Query struct {
	Tenant     *string // nil = all tenants
	EntityType string
	EntityID   string
	AgentID    string
	Action     string
	Since      time.Time
	Until      time.Time
	Limit      int
	Cursor     string
}

// Page reads events newest first. The cursor of a page names its last record, so pages neither repeat nor lose events
// while new ones arrive; a record's events are never torn apart, so a page may hold a few more than the limit.
func (l *Log) Page(ctx context.Context, q Query) ([]apitype.Event, string, error) {
	if err := l.ensureLoaded(ctx); err != nil {
		return nil, "", err
	}
	if q.Limit <= 0 {
		q.Limit = DefaultLimit
	}
	q.Limit = min(q.Limit, MaxLimit)
	before := l.watermark()
	if q.Cursor != "" {
		seq, _, ok := parseKey(q.Cursor + ".")
		if !ok {
			return nil, "", apitype.Errorf(apitype.FieldInvalid, "cursor is not one that an earlier page answered")
		}
		before = min(before, seq)
	}
	days, err := l.store.List(ctx, store.EventPrefix)
	if err != nil {
		return nil, "", err
	}
	sort.Sort(sort.Reverse(sort.StringSlice(days)))
	events := []apitype.Event{}
	for _, d := range days {
		// A record is written after its action, so days before Since hold nothing that is wanted.
		if !q.Since.IsZero() && strings.TrimSuffix(d, "/") < day(q.Since) {
			break
		}
		keys, err := l.store.List(ctx, store.EventPrefix+d)
		if err != nil {
			return nil, "", err
		}
		sort.Sort(sort.Reverse(sort.StringSlice(keys)))
		for _, k := range keys {
			seq, _, ok := parseKey(k)
			if !ok || seq >= before {
				continue
			}
			var r Record
			found, err := l.store.Get(ctx, store.EventPrefix+d+k, &r)
			if err != nil {
				return nil, "", err
			}
			if !found { // tidied meanwhile
				continue
			}
			for i := len(r.Events) - 1; i >= 0; i-- {
				if q.matches(r.Time, r.Events[i]) {
					events = append(events, r.Events[i])
				}
			}
			if len(events) >= q.Limit {
				head, _, _ := strings.Cut(k, ".")
				return events, head, nil
			}
		}
	}
	return events, "", nil
}

func (q Query) matches(t time.Time, e apitype.Event) bool {
	t = t.Truncate(time.Millisecond) // as the event shows it, so that its own time as a bound includes it
	return (q.Tenant == nil || *q.Tenant == e.Tenant) &&
		(q.EntityType == "" || q.EntityType == e.EntityType) &&
		(q.EntityID == "" || q.EntityID == e.EntityID) &&
		(q.AgentID == "" || q.AgentID == e.AgentID) &&
		(q.Action == "" || q.Action == e.Action) &&
		(q.Since.IsZero() || !t.Before(q.Since)) &&
		(q.Until.IsZero() || !t.After(q.Until))
}
