package audit

import (
	"context"
	"time"

	"github.com/ampora/ampora/plugin/internal/pace"
	"github.com/ampora/ampora/plugin/internal/store"
)

// tidiedRow is audit/tidied: the events of the time before were removed. A record from then is not stored again, though rows
// of agents still carry it, and though the retention was raised meanwhile.
type tidiedRow struct {
	Before time.Time `json:"before"`
}

func (*tidiedRow) SchemaName() string { return "audit tidied" }
func (*tidiedRow) SchemaVersion() int { return 1 }

// Tidy removes whole days that lie before the retention, and reports how many records went.
func (l *Log) Tidy(ctx context.Context) (int, error) {
	if err := l.ensureLoaded(ctx); err != nil {
		return 0, err
	}
	l.mu.Lock()
	before := l.now().Add(-l.retention).UTC().Truncate(24 * time.Hour)
	l.mu.Unlock()
	days, err := l.days(ctx)
	if err != nil {
		return 0, err
	}
	removed, noted, steps := 0, false, pace.Pace{}
	for _, name := range days {
		if name >= day(before) {
			continue
		}
		if !noted {
			if err := l.noteTidied(ctx, before); err != nil {
				return 0, err
			}
			noted = true
		}
		rows, err := l.listDay(ctx, name)
		if err != nil {
			return removed, err
		}
		for _, r := range rows {
			if err := steps.Step(ctx); err != nil {
				return removed, err
			}
			if err := l.store.Delete(ctx, r.key); err != nil {
				return removed, err
			}
			removed += l.forget(r.key)
		}
	}
	l.index.tidied(day(before))
	return removed, nil
}

// noteTidied stores that what lies before is being removed, unless that is known.
func (l *Log) noteTidied(ctx context.Context, before time.Time) error {
	l.mu.Lock()
	known := !l.tidied.Before(before)
	l.mu.Unlock()
	if known {
		return nil
	}
	if err := l.store.Put(ctx, store.TidiedKey, &tidiedRow{Before: before}); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tidied = before
	return nil
}

// forget drops the ids of a row that was removed, and counts them.
func (l *Log) forget(key string) int {
	_, ids, _ := parseKey(key[len(store.EventPrefix)+len(dayFormat)+1:])
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, text := range ids {
		id, _ := parseID(text)
		delete(l.stored, id)
	}
	return len(ids)
}
