package audit

import (
	"context"
	"errors"

	"github.com/ampora/ampora/plugin/internal/store"
)

// Tell stores the records of transitions that are committed. The commit stands whatever comes of it, so a failure is no
// failure of the caller's: the records wait here for Retell, and in the rows that carry them for the next process.
func (l *Log) Tell(ctx context.Context, records ...*Record) {
	ctx, cancel := store.Commit(ctx)
	defer cancel()
	if err := l.Ensure(ctx, records...); err != nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, r := range records {
			l.untold[r.ID] = r
		}
	}
}

// Untold reports whether a record waits for Retell.
func (l *Log) Untold() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.untold) > 0
}

// Retell stores the records that Tell could not.
func (l *Log) Retell(ctx context.Context) error {
	l.mu.Lock()
	waiting := l.untold
	l.untold = map[string]*Record{}
	l.mu.Unlock()
	var all []error
	for id, r := range waiting {
		if err := l.Ensure(ctx, r); err != nil {
			all = append(all, err)
			l.mu.Lock()
			l.untold[id] = r
			l.mu.Unlock()
		}
	}
	return errors.Join(all...)
}
