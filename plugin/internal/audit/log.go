package audit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ampora/ampora/plugin/internal/store"
	"github.com/ampora/ampora/plugin/internal/together"
	"github.com/google/uuid"
)

// maxTogether is how many records one row may hold. Its key names them all, and must be short enough for every storage that
// Vault has: one whose keys are files allows 255 characters.
const maxTogether = 10

// Log stores records and reads them back. It is safe for concurrent use.
//
// A row's key is event/<day>/<sequence>.<id>, with further ids where records were written together. The sequence is given
// when the row is written (microseconds since 1970, raised until it is new), so keys are in the order of telling and a reader
// that follows misses nothing.
type Log struct {
	store *store.Store
	now   func() time.Time

	writes *together.Writes[*Record]
	index  *index

	load sync.Mutex // held while the keys are read in; taken before mu

	mu        sync.Mutex
	loaded    bool
	indexed   bool                   // see Load
	stored    map[uuid.UUID]struct{} // ids of records known to be stored
	last      uint64                 // the highest sequence given
	inflight  map[uint64]struct{}    // given, and not yet known to be stored
	storing   map[string]*storing    // by record id
	uncertain map[string]string      // record id -> key of a write without an answer
	untold    map[string]*Record     // of commits, see Tell
	tidied    time.Time              // see tidiedRow
	retention time.Duration
}

// NewLog makes a Log. It reads nothing before it is used.
func NewLog(s *store.Store, now func() time.Time, retention time.Duration) *Log {
	l := &Log{
		store: s, now: now, retention: retention, index: newIndex(), storing: map[string]*storing{},
		stored: map[uuid.UUID]struct{}{}, inflight: map[uint64]struct{}{}, uncertain: map[string]string{}, untold: map[string]*Record{},
	}
	l.writes = together.New(maxTogether, l.put, nil)
	return l
}

// SetRetention says how old an event may grow.
func (l *Log) SetRetention(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.retention = d
}

// storing is an Ensure that is at work. Of those who meet the same record at once, as the tokens of one batch do, one stores it.
type storing struct {
	done chan struct{}
	err  error
}

// Ensure stores the records that are not stored yet. A nil record, or one that retention has outlived, is no work. After an
// error it may be called again at any time, also by a later process.
func (l *Log) Ensure(ctx context.Context, records ...*Record) error {
	if !slices.ContainsFunc(records, func(r *Record) bool { return r != nil }) {
		return nil
	}
	if err := l.ensureLoaded(ctx); err != nil {
		return err
	}
	others, err := l.storeMine(ctx, records)
	for _, o := range others { // only now that nobody waits for us
		<-o.done
		err = errors.Join(err, o.err)
	}
	return err
}

var errAbandoned = errors.New("audit: whoever stored the record gave up")

// storeMine stores the records that nobody else is storing, and answers whom to wait for.
func (l *Log) storeMine(ctx context.Context, records []*Record) (others []*storing, err error) {
	me := &storing{done: make(chan struct{}), err: errAbandoned}
	var mine []*Record
	l.mu.Lock()
	for _, r := range records {
		switch {
		case r == nil || l.done(r):
		case l.storing[r.ID] != nil:
			others = append(others, l.storing[r.ID])
		default:
			l.storing[r.ID] = me
			mine = append(mine, r)
		}
	}
	l.mu.Unlock()
	if len(mine) == 0 {
		return others, nil
	}
	defer func() { // also after a panic underneath
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, r := range mine {
			delete(l.storing, r.ID)
		}
		close(me.done)
	}()
	me.err = l.write(ctx, mine)
	return others, me.err
}

// write stores records, together with those of others where there is one, and else as few rows as they fit into.
func (l *Log) write(ctx context.Context, records []*Record) error {
	var missing []*Record
	for _, r := range records {
		found, err := l.arrived(ctx, r)
		if err != nil {
			return err
		}
		if !found {
			missing = append(missing, r)
		}
	}
	if len(missing) == 1 {
		return l.writes.Do(ctx, missing[0])
	}
	for some := range slices.Chunk(missing, maxTogether) {
		if err := l.put(ctx, some); err != nil {
			return err
		}
	}
	return nil
}

// arrived reports whether an earlier write of the record that got no answer has stored it all the same.
func (l *Log) arrived(ctx context.Context, r *Record) (bool, error) {
	before := l.uncertainKey(r.ID)
	if before == "" {
		return false, nil
	}
	found, err := l.store.Get(ctx, before, &row{})
	if found && err == nil {
		l.settled("", []*Record{r}, true)
	}
	return found, err
}

// done reports whether nothing is to be stored of the record. The caller holds mu.
func (l *Log) done(r *Record) bool {
	id, _ := parseID(r.ID)
	_, stored := l.stored[id]
	return stored || l.now().Sub(r.Time) > l.retention || r.Time.Before(l.tidied)
}

// put writes records as one row.
func (l *Log) put(ctx context.Context, records []*Record) error {
	seq := l.begin(records)
	key, stored := recordsKey(seq, records), false
	// Deferred, since a panic underneath must not leave the sequence in flight: nothing newer would ever be shown.
	defer func() {
		l.settled(key, records, stored)
		l.end(seq)
	}()
	err := l.store.Put(ctx, key, newRow(records))
	stored = err == nil
	return err
}

// begin gives the row of records a sequence, which is in flight until end.
func (l *Log) begin(records []*Record) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = max(l.last+1, uint64(l.now().UnixMicro()))
	l.inflight[l.last] = struct{}{}
	l.index.add(l.last, records)
	return l.last
}

func (l *Log) end(seq uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.inflight, seq)
}

// settled notes what has become of records that were to be stored under key.
func (l *Log) settled(key string, records []*Record, stored bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range records {
		if stored {
			id, _ := parseID(r.ID)
			l.stored[id] = struct{}{}
			delete(l.uncertain, r.ID)
		} else {
			l.uncertain[r.ID] = key
		}
	}
}

func (l *Log) uncertainKey(id string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.uncertain[id]
}

// ensureLoaded reads the keys of all stored records once.
func (l *Log) ensureLoaded(ctx context.Context) error {
	l.load.Lock()
	defer l.load.Unlock()
	if l.isLoaded() {
		return nil
	}
	var tidied tidiedRow
	if _, err := l.store.Get(ctx, store.TidiedKey, &tidied); err != nil {
		return err
	}
	days, err := l.days(ctx)
	if err != nil {
		return err
	}
	var stored []uuid.UUID
	var last uint64
	for _, name := range days {
		keys, err := l.store.List(ctx, store.EventPrefix+name+"/")
		if err != nil {
			return err
		}
		for _, k := range keys {
			if seq, ids, ok := parseKey(k); ok {
				for _, text := range ids {
					id, _ := parseID(text)
					stored = append(stored, id)
				}
				last = max(last, seq)
			}
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, id := range stored { // besides what was written meanwhile, see Forget
		l.stored[id] = struct{}{}
	}
	l.last, l.tidied, l.loaded = max(l.last, last), tidied.Before, true
	return nil
}

func (l *Log) isLoaded() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.loaded
}

// watermark is the sequence below which everything that was ever going to be told has been told.
func (l *Log) watermark() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	low := l.last + 1
	for seq := range l.inflight {
		low = min(low, seq)
	}
	return low
}

const dayFormat = "20060102"

func day(t time.Time) string { return t.UTC().Format(dayFormat) }

// recordsKey is the key of the row of these records.
func recordsKey(seq uint64, records []*Record) string {
	ids := make([]string, len(records))
	for i, r := range records {
		ids[i] = r.ID
	}
	return rowKey(seq, ids)
}

// eventKey is the same of records whose ids are spelled as NewRecord spells them.
func eventKey(seq uint64, ids []uuid.UUID) string {
	texts := make([]string, len(ids))
	for i, id := range ids {
		texts[i] = formatID(id)
	}
	return rowKey(seq, texts)
}

func rowKey(seq uint64, ids []string) string {
	return fmt.Sprintf("%s%s/%016x.%s", store.EventPrefix, day(seqTime(seq)), seq, strings.Join(ids, "."))
}

func parseKey(name string) (seq uint64, ids []string, ok bool) {
	head, rest, found := strings.Cut(name, ".")
	seq, err := strconv.ParseUint(head, 16, 64)
	return seq, strings.Split(rest, "."), found && err == nil
}
