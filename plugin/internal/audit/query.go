package audit

import (
	"context"
	"fmt"
	"iter"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
)

// Bounds of a page of events.
const (
	DefaultLimit = 100
	MaxLimit     = 1000
)

// maxBatch is how many rows are read before it is looked whether that is enough.
const maxBatch = 64

// Query selects events. Empty fields select everything.
type Query struct {
	Tenant     *string // nil = all tenants
	EntityType string
	EntityID   string
	AgentID    string
	Action     string
	SourceIP   string
	Pool       string // name or id, of the events that have one in their details
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
	events := []apitype.Event{}
	for batch, err := range l.batches(ctx, q, before) {
		if err != nil {
			return nil, "", err
		}
		read, err := l.readRows(ctx, batch)
		if err != nil {
			return nil, "", err
		}
		for i, r := range read {
			if r == nil { // tidied meanwhile, or never arrived
				continue
			}
			seq, records := batch[i].seq, r.records()
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

// batches are the rows that may hold what the query asks for, newest first, as many at a time as are worth reading ahead.
func (l *Log) batches(ctx context.Context, q Query, before cursor) iter.Seq2[[]rowRef, error] {
	return func(yield func([]rowRef, error) bool) {
		size := min(max(q.Limit, readers), maxBatch)
		var batch []rowRef
		for ref, err := range l.candidates(ctx, q) {
			if err != nil {
				yield(nil, err)
				return
			}
			if ref.seq > before.seq || ref.seq == before.seq && before.records == 0 {
				continue
			}
			if batch = append(batch, ref); len(batch) < size {
				continue
			}
			if !yield(batch, nil) {
				return
			}
			batch, size = nil, maxBatch
		}
		if len(batch) > 0 {
			yield(batch, nil)
		}
	}
}

// candidates are the same one by one: those that the index names, and all that it does not know of.
func (l *Log) candidates(ctx context.Context, q Query) iter.Seq2[rowRef, error] {
	return func(yield func(rowRef, error) bool) {
		days, whole := l.index.all()
		if !whole {
			var err error
			if days, err = l.days(ctx); err != nil {
				yield(rowRef{}, err)
				return
			}
		}
		wanted := l.index.wanted(q)
		for _, name := range days {
			// A record is written after its action, so days before Since hold nothing that is wanted.
			if !q.Since.IsZero() && name < day(q.Since) {
				return
			}
			known := l.index.day(name)
			for seq, key := range known.matching(wanted) {
				if !yield(rowRef{seq, key}, nil) {
					return
				}
			}
			if known.from == 0 {
				continue
			}
			rows, err := l.listDay(ctx, name)
			if err != nil {
				yield(rowRef{}, err)
				return
			}
			for _, ref := range slices.Backward(rows) {
				if ref.seq < known.from && !yield(ref, nil) {
					return
				}
			}
		}
	}
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
		(q.SourceIP == "" || q.SourceIP == e.SourceIP) &&
		(q.Pool == "" || q.Pool == detail(e, detailPool) || q.Pool == poolID(e)) &&
		(q.Since.IsZero() || !t.Before(q.Since)) &&
		(q.Until.IsZero() || !t.After(q.Until))
}

// detailPool is what events call the pool that they are about.
const detailPool = "pool"

// poolID is the id of the pool that the event is about.
func poolID(e apitype.Event) string {
	if e.EntityType == "pool" {
		return e.EntityID
	}
	return detail(e, "pool_id")
}

// detail is one of the event's details, if it is text.
func detail(e apitype.Event, name string) string {
	text, _ := e.Details[name].(string)
	return text
}
