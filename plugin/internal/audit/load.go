package audit

import (
	"cmp"
	"context"
	"errors"
	"math"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/ampora/ampora/plugin/internal/store"
	"golang.org/x/sync/errgroup"
)

const (
	// readers is how many rows are read side by side: Vault answers each from another process.
	readers = 8
	// loadStep and loadPause keep Load from crowding out requests.
	loadStep  = 256
	loadPause = 10 * time.Millisecond
)

// Load reads the events into the index, newest first, in steps. Until it is through, and after an error, queries find what is
// missing by reading rows. What is in the index already is not read again.
func (l *Log) Load(ctx context.Context) error {
	if err := l.ensureLoaded(ctx); err != nil {
		return err
	}
	life := l.index.lifeNow()
	days, err := l.days(ctx)
	if err != nil {
		return err
	}
	whole := true
	for _, name := range days {
		from, wanted, busy := l.openDay(name, life)
		whole = whole && !busy
		if !wanted {
			continue
		}
		d, err := l.readDay(ctx, name, from)
		if err != nil {
			return err
		}
		l.index.prepend(name, life, d)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.indexed = whole && l.index.loaded(life)
	return nil
}

// Indexed reports whether Load has been through.
func (l *Log) Indexed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.indexed
}

// openDay sees to it that new rows of the day are noted from now on, and answers from which sequence on the day is known. What
// is known, or has no room, is not wanted. A day is busy while rows of it are under way that were not noted.
func (l *Log) openDay(name string, life int) (from uint64, wanted, busy bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	x := l.index
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.life != life || name <= x.noRoom {
		return 0, false, false
	}
	d := x.days[name]
	if d == nil {
		d = &indexedDay{from: l.last + 1}
	}
	for seq := range l.inflight {
		if seq < d.from && day(seqTime(seq)) == name {
			return 0, false, true
		}
	}
	x.days[name] = d
	return d.from, d.from > 0, false
}

// readDay reads the newest rows of a day below a sequence, as many as there is room for.
func (l *Log) readDay(ctx context.Context, name string, below uint64) (*indexedDay, error) {
	rows, err := l.listDay(ctx, name)
	if err != nil {
		return nil, err
	}
	n, _ := slices.BinarySearchFunc(rows, below, func(r rowRef, seq uint64) int { return cmp.Compare(r.seq, seq) })
	rows = rows[:n]
	d := &indexedDay{}
	if room := l.index.room(); len(rows) > room {
		d.from = below
		rows = rows[len(rows)-room:]
		if len(rows) > 0 {
			d.from = rows[0].seq
		}
	}
	for step := range slices.Chunk(rows, loadStep) {
		read, err := l.readRows(ctx, step)
		if err != nil {
			return nil, err
		}
		for i, r := range read {
			if r != nil && !d.append(l.index, step[i].seq, r.records()) {
				*d = indexedDay{from: step[i].seq + 1}
			}
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(loadPause):
		}
	}
	return d, nil
}

// rowRef is where a row is.
type rowRef struct {
	seq uint64
	key string
}

// days are the days that have rows, newest first.
func (l *Log) days(ctx context.Context) ([]string, error) {
	names, err := l.store.List(ctx, store.EventPrefix)
	if err != nil {
		return nil, err
	}
	for i, n := range names {
		names[i] = strings.TrimSuffix(n, "/")
	}
	sort.Sort(sort.Reverse(sort.StringSlice(names)))
	return names, nil
}

// listDay are the rows of a day, oldest first.
func (l *Log) listDay(ctx context.Context, name string) ([]rowRef, error) {
	prefix := store.EventPrefix + name + "/"
	keys, err := l.store.List(ctx, prefix)
	if err != nil {
		return nil, err
	}
	sort.Strings(keys)
	rows := make([]rowRef, 0, len(keys))
	for _, k := range keys {
		if seq, _, ok := parseKey(k); ok && seq < math.MaxUint64 {
			rows = append(rows, rowRef{seq, prefix + k})
		}
	}
	return rows, nil
}

// readRows reads rows side by side. One that is not there, because it was tidied or never arrived, is nil.
func (l *Log) readRows(ctx context.Context, refs []rowRef) ([]*row, error) {
	rows := make([]*row, len(refs))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(readers)
	for i, ref := range refs {
		group.Go(func() (err error) {
			defer func() {
				if recover() != nil { // it would end the process, and every mount with it
					err = errors.New("audit: reading a row panicked")
				}
			}()
			var r row
			found, err := l.store.Get(ctx, ref.key, &r)
			if found && err == nil {
				rows[i] = &r
			}
			return err
		})
	}
	return rows, group.Wait()
}
