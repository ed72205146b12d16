package audit

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sort"
	"strconv"
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
	before, err := parseCursor(q.Cursor)
	if err != nil {
		return nil, "", err
	}
	if w := l.watermark(); w <= before.seq {
		before = cursor{seq: w}
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
			if !ok || seq > before.seq || seq == before.seq && before.records == 0 {
				continue
			}
			var r row
			found, err := l.store.Get(ctx, store.EventPrefix+d+k, &r)
			if err != nil {
				return nil, "", err
			}
			if !found { // tidied meanwhile
				continue
			}
			records := r.records()
			if seq == before.seq {
				records = records[:min(before.records, len(records))]
			}
			for n, record := range slices.Backward(records) {
				for _, e := range slices.Backward(record.Events) {
					if q.matches(record.Time, e) {
						events = append(events, e)
					}
				}
				if len(events) >= q.Limit {
					return events, cursor{seq, n}.String(), nil
				}
			}
		}
	}
	return events, "", nil
}

// cursor is a place between records: after it, going back in time, come the first so many records of the row of that
// sequence, and all rows before it.
type cursor struct {
	seq     uint64
	records int
}

func (c cursor) String() string {
	if c.records == 0 {
		return fmt.Sprintf("%016x", c.seq)
	}
	return fmt.Sprintf("%016x.%d", c.seq, c.records)
}

// parseCursor reads what String has written. The empty one is the end of all rows.
func parseCursor(text string) (c cursor, err error) {
	if text == "" {
		return cursor{seq: math.MaxUint64}, nil
	}
	head, records, within := strings.Cut(text, ".")
	c.seq, err = strconv.ParseUint(head, 16, 64)
	if within && err == nil {
		c.records, err = strconv.Atoi(records)
	}
	if err != nil || c.records < 0 {
		return cursor{}, apitype.Errorf(apitype.FieldInvalid, "cursor is not one that an earlier page answered")
	}
	return c, nil
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
