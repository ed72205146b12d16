package session

import (
	"math/rand/v2"
	"sync"
	"time"

	"github.com/ampora/ampora/edge/recent"
	"github.com/ampora/ampora/edge/trust"
)

const (
	longestHome   = time.Hour      // between two offers of a new home to one agent
	rememberHome  = 25 * time.Hour // longer than a target waits for an agent
	homeTriesMost = 10             // that make the pause longer
)

// departures remember when the agents that have gone to a peer were last sent there, over all of their sessions: one that
// cannot get there comes back again and again.
type departures struct {
	mu    sync.Mutex
	known *recent.Map[[16]byte, departure]
}

type departure struct {
	move  trust.Move
	tries int
	again int64 // when the next offer may be made, Unix seconds
	// failed says that the agent has told that it could not take the last offer.
	failed bool
}

func newDepartures() *departures {
	return &departures{known: recent.NewMap[[16]byte, departure](rememberedAgents)}
}

// next is when the agent may be offered its new home (again), Unix seconds; 0: at once.
func (q *departures) next(agent [16]byte, move trust.Move) int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.of(agent, move).again
}

// of is called under the lock.
func (q *departures) of(agent [16]byte, move trust.Move) departure {
	if d, found := q.known.Get(agent); found && d.move == move {
		return d
	}
	return departure{move: move}
}

// claim reports whether the agent is to be offered its new home now, which whoever has asked then does, and how often it was
// before, this time included.
func (q *departures) claim(agent [16]byte, move trust.Move, now time.Time, pause time.Duration) (bool, int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	d := q.of(agent, move)
	if d.again > now.Unix() {
		return false, d.tries
	}
	wait := min(pause<<min(d.tries, homeTriesMost), max(longestHome, pause))
	d.again = now.Add(wait*9/10 + rand.N(wait/5)).Unix()
	d.tries, d.failed = d.tries+1, false
	q.known.Put(agent, d, rememberHome)
	return true, d.tries
}

// failed notes that the agent could not take the last offer, and reports whether that is news: agents repeat it.
func (q *departures) failed(agent [16]byte, move trust.Move) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	d := q.of(agent, move)
	if d.failed {
		return false
	}
	d.failed = true
	q.known.Put(agent, d, rememberHome)
	return true
}

func (q *departures) forget(agent [16]byte) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.known.Forget(agent)
}
