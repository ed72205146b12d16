package audit

import (
	"cmp"
	"encoding/base64"
	"hash/maphash"
	"iter"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/google/uuid"
)

// maxIndexed is how many events the index holds at most, the newest; older ones are found by reading them. An event takes 52
// bytes where two share a row, as those of a redemption do, and 68 where it is alone: 70 MB for all of them.
const maxIndexed = 1 << 20

// index tells which rows may hold what a query asks for, so that the others need not be read. It knows hashes only: what it
// names is read and compared. It is safe for concurrent use.
//
// It knows each day from a sequence on, and below that nothing: a day that is being written is known from the first row that
// this process writes, and whole once Load has read what was there before. The oldest day may be cut.
type index struct {
	max  int
	seed maphash.Seed

	mu     sync.Mutex
	days   map[string]*indexedDay // by name, see day
	size   int                    // events in days
	noRoom string                 // days up to this one are not to be loaded: there is no room for them
	whole  bool                   // there are no rows but those in days
	life   int                    // how often everything was dropped
}

// indexedDay is what is known of a day. It is only ever appended to, or replaced; so whoever has a copy may read it.
type indexedDay struct {
	from  uint64 // the sequence from which on everything is known; 0 when it is the whole day
	rows  []indexedRow
	ids   []uuid.UUID // of the rows' records, in order
	marks []mark      // of the rows' events, in order
}

// indexedRow says which ids and marks are the row's: those from here to where the next row's begin.
type indexedRow struct {
	seq        uint64
	ids, marks uint32
}

// mark is one event: hashes of what can be asked for, and how many milliseconds before its row's sequence it happened.
type mark struct {
	kind, entity, agent, action, tenant, source, pool, poolID uint32
	lag                                                       uint32
}

// lagUnknown is the lag of an event from after its own row, as a clock that was set back makes one, or from long before.
const lagUnknown = math.MaxUint32

func newIndex() *index {
	return &index{max: maxIndexed, seed: maphash.MakeSeed(), days: map[string]*indexedDay{}}
}

// hash is never 0, which stands for anything.
func (x *index) hash(text string) uint32 {
	return max(uint32(maphash.String(x.seed, text)), 1)
}

// add takes in a row that is about to be written. Whether it arrives in storage does not matter: a row that is not there is
// no answer to any query. The caller adds rows in the order of their sequences.
func (x *index) add(seq uint64, records []*Record) {
	x.mu.Lock()
	defer x.mu.Unlock()
	name := day(seqTime(seq))
	d := x.days[name]
	if d == nil {
		d = &indexedDay{from: seq}
		if x.whole { // the day begins with this row
			d.from = 0
		}
		x.days[name] = d
	}
	before := len(d.marks)
	known := d.append(x, seq, records)
	x.size += len(d.marks) - before
	if !known {
		x.keepFrom(name, seq+1)
	}
	x.shrink()
}

// append adds a row. It answers false when the row has a record whose id is not spelled as NewRecord spells them: such a row
// must be read.
func (d *indexedDay) append(x *index, seq uint64, records []*Record) bool {
	row := indexedRow{seq: seq, ids: uint32(len(d.ids)), marks: uint32(len(d.marks))}
	known := true
	for _, r := range records {
		id, canonical := parseID(r.ID)
		known = known && canonical
		d.ids = append(d.ids, id)
		for _, e := range r.Events {
			d.marks = append(d.marks, x.mark(seq, r.Time, e))
		}
	}
	d.rows = append(d.rows, row)
	return known
}

func (x *index) mark(seq uint64, t time.Time, e apitype.Event) mark {
	lag := seqTime(seq).UnixMilli() - t.UnixMilli()
	if lag < 0 || lag > lagUnknown {
		lag = lagUnknown
	}
	return mark{
		kind: x.hash(e.EntityType), entity: x.hash(e.EntityID), agent: x.hash(e.AgentID), action: x.hash(e.Action),
		tenant: x.hash(e.Tenant), source: x.hash(e.SourceIP), pool: x.hash(detail(e, detailPool)), poolID: x.hash(poolID(e)),
		lag: uint32(lag),
	}
}

// prepend adds to a day what was there before the first row that is known of it. It does nothing after a reset.
func (x *index) prepend(name string, life int, older *indexedDay) {
	x.mu.Lock()
	defer x.mu.Unlock()
	d := x.days[name]
	if x.life != life || d == nil || d.from == 0 {
		return
	}
	if older.from > 0 {
		x.noRoom = max(x.noRoom, name)
	}
	whole := &indexedDay{
		from:  older.from,
		rows:  slices.Concat(older.rows, d.rows),
		ids:   slices.Concat(older.ids, d.ids),
		marks: slices.Concat(older.marks, d.marks),
	}
	for i := range d.rows {
		row := &whole.rows[len(older.rows)+i]
		row.ids += uint32(len(older.ids))
		row.marks += uint32(len(older.marks))
	}
	x.days[name] = whole
	x.size += len(older.marks)
	x.shrink()
}

// room is how many more events fit.
func (x *index) room() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return max(x.max-x.size, 0)
}

// shrink drops the oldest rows when there are too many, an eighth more than it must so that it need not soon do so again.
// Called under the lock.
func (x *index) shrink() {
	if x.size <= x.max {
		return
	}
	for least := x.max - x.max/8; x.size > least; {
		name := slices.Min(slices.Collect(maps.Keys(x.days)))
		d, over := x.days[name], x.size-least
		if over >= len(d.marks) {
			x.drop(name)
			continue
		}
		n, _ := slices.BinarySearchFunc(d.rows, uint32(over), func(r indexedRow, marks uint32) int { return cmp.Compare(r.marks, marks) })
		if n == len(d.rows) { // one row at least goes, whatever it holds
			x.drop(name)
			continue
		}
		x.keepFrom(name, d.rows[n].seq)
	}
}

// drop drops a day, and notes not to load it again. Called under the lock.
func (x *index) drop(name string) {
	x.size -= len(x.days[name].marks)
	delete(x.days, name)
	x.noRoom, x.whole = max(x.noRoom, name), false
}

// keepFrom drops the rows of a day below a sequence, and notes not to load them again. Called under the lock.
func (x *index) keepFrom(name string, seq uint64) {
	d := x.days[name]
	kept := &indexedDay{from: seq}
	n, _ := slices.BinarySearchFunc(d.rows, seq, func(r indexedRow, seq uint64) int { return cmp.Compare(r.seq, seq) })
	if n < len(d.rows) {
		first := d.rows[n]
		kept.rows, kept.ids, kept.marks = slices.Clone(d.rows[n:]), slices.Clone(d.ids[first.ids:]), slices.Clone(d.marks[first.marks:])
		for i := range kept.rows {
			kept.rows[i].ids -= first.ids
			kept.rows[i].marks -= first.marks
		}
	}
	x.size += len(kept.marks) - len(d.marks)
	x.days[name] = kept
	x.noRoom, x.whole = max(x.noRoom, name), false
}

// tidied drops the days before a day, which are gone.
func (x *index) tidied(before string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	whole := x.whole
	for name := range x.days {
		if name < before {
			x.drop(name)
		}
	}
	x.whole = whole
}

// loaded notes that all days were read for which there is room, and reports whether that is so: a day may have begun meanwhile.
func (x *index) loaded(life int) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.life != life {
		return false
	}
	x.whole = true
	for name, d := range x.days {
		x.whole = x.whole && d.from == 0 && name > x.noRoom
	}
	return x.whole || x.noRoom != ""
}

// all are the days, newest first, when there are no others.
func (x *index) all() (names []string, whole bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.whole {
		return nil, false
	}
	return slices.SortedFunc(maps.Keys(x.days), func(a, b string) int { return cmp.Compare(b, a) }), true
}

// reset drops everything.
func (x *index) reset() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.days, x.size, x.noRoom, x.whole = map[string]*indexedDay{}, 0, "", false
	x.life++
}

// lifeNow changes with every reset.
func (x *index) lifeNow() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.life
}

// day is what is known of a day, to be read without a lock.
func (x *index) day(name string) indexedDay {
	x.mu.Lock()
	defer x.mu.Unlock()
	if d := x.days[name]; d != nil {
		return *d
	}
	return indexedDay{from: math.MaxUint64}
}

// wanted is a query as the index compares it: 0 stands for anything.
type wanted struct {
	mark
	poolAny      uint32 // the pool's name or its id
	since, until int64  // Unix milliseconds; until 0 has no end
}

func (x *index) wanted(q Query) wanted {
	w := wanted{poolAny: x.asked(q.Pool)}
	w.kind, w.entity, w.agent, w.action = x.asked(q.EntityType), x.asked(q.EntityID), x.asked(q.AgentID), x.asked(q.Action)
	w.source = x.asked(q.SourceIP)
	if q.Tenant != nil {
		w.tenant = x.hash(*q.Tenant)
	}
	if !q.Since.IsZero() {
		w.since = q.Since.UnixMilli()
	}
	if !q.Until.IsZero() {
		w.until = max(q.Until.UnixMilli(), 1)
	}
	return w
}

func (x *index) asked(text string) uint32 {
	if text == "" {
		return 0
	}
	return x.hash(text)
}

// matching are the rows of a day that may hold an event that is wanted, newest first: their sequences and keys.
func (d indexedDay) matching(w wanted) iter.Seq2[uint64, string] {
	return func(yield func(uint64, string) bool) {
		ids, marks := uint32(len(d.ids)), uint32(len(d.marks))
		for _, row := range slices.Backward(d.rows) {
			if w.anyOf(row.seq, d.marks[row.marks:marks]) && !yield(row.seq, eventKey(row.seq, d.ids[row.ids:ids])) {
				return
			}
			ids, marks = row.ids, row.marks
		}
	}
}

func (w wanted) anyOf(seq uint64, marks []mark) bool {
	for i := range marks {
		m := &marks[i]
		if (w.kind == 0 || w.kind == m.kind) && (w.entity == 0 || w.entity == m.entity) && (w.agent == 0 || w.agent == m.agent) &&
			(w.action == 0 || w.action == m.action) && (w.tenant == 0 || w.tenant == m.tenant) && (w.source == 0 || w.source == m.source) &&
			(w.poolAny == 0 || w.poolAny == m.pool || w.poolAny == m.poolID) && w.inTime(seq, m) {
			return true
		}
	}
	return false
}

func (w wanted) inTime(seq uint64, m *mark) bool {
	if m.lag == lagUnknown {
		return true
	}
	t := seqTime(seq).UnixMilli() - int64(m.lag)
	return t >= w.since && (w.until == 0 || t <= w.until)
}

// formatID spells a record's id in 22 characters, since the keys of rows name several.
func formatID(id uuid.UUID) string { return base64.RawURLEncoding.EncodeToString(id[:]) }

// parseID reads a record's id, and reports whether it is spelled as NewRecord spells them. Any other has a stand-in.
func parseID(text string) (id uuid.UUID, canonical bool) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(raw) != len(id) {
		return uuid.NewSHA1(uuid.NameSpaceOID, []byte(text)), false
	}
	return uuid.UUID(raw), true
}

func seqTime(seq uint64) time.Time { return time.UnixMicro(int64(seq)) }
