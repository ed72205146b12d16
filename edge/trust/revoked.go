package trust

import (
	"maps"
	"time"

	"github.com/ampora/ampora/plugin/identity"
)

type agentID [16]byte

func agentKey(serial identity.Serial) agentID { return agentID(serial[1:17]) }

// ending ends an agent's leaves up to and including a generation.
type ending struct {
	generation uint32
	notAfter   int64 // Unix seconds: from then on the leaves have expired anyway
}

// revokedSet is an immutable set. Adding one to 100,000 must not copy 100,000, so the newest lie in a small layer of their
// own, which is folded into the large one when it has grown.
type revokedSet struct {
	base   map[agentID]ending
	recent map[agentID]ending
}

// foldAt is how many entries the small layer may hold: few enough to copy on each change, enough that folding is rare.
const foldAt = 512

func (r revokedSet) covers(id agentID, generation uint32) bool {
	e, found := r.recent[id]
	if !found {
		e, found = r.base[id]
	}
	return found && generation <= e.generation
}

func (r revokedSet) len() int {
	n := len(r.base)
	for id := range r.recent {
		if _, both := r.base[id]; !both {
			n++
		}
	}
	return n
}

// with is the set with more entries; of two for one agent the higher generation counts.
func (r revokedSet) with(added map[agentID]ending, now time.Time) revokedSet {
	if len(r.recent)+len(added) <= foldAt {
		recent := make(map[agentID]ending, len(r.recent)+len(added))
		maps.Copy(recent, r.recent)
		for id, e := range added {
			recent[id] = later(r, id, e)
		}
		return revokedSet{base: r.base, recent: recent}
	}
	base := make(map[agentID]ending, len(r.base)+len(r.recent)+len(added))
	for id, e := range r.base {
		if e.notAfter > now.Unix() { // an expired leaf is refused for that
			base[id] = e
		}
	}
	maps.Copy(base, r.recent)
	for id, e := range added {
		base[id] = later(r, id, e)
	}
	return revokedSet{base: base}
}

// later is the farther reaching of a new ending and what the set knows.
func later(r revokedSet, id agentID, e ending) ending {
	for _, layer := range []map[agentID]ending{r.base, r.recent} {
		if old, found := layer[id]; found && old.generation > e.generation {
			e = old
		}
	}
	return e
}
