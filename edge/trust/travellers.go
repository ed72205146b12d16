package trust

import (
	"encoding/hex"
	"errors"
	"iter"
	"slices"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/handover"
	"github.com/ampora/ampora/plugin/identity"
	"github.com/google/uuid"
)

// Fingerprint is the SHA-256 of a certificate's DER.
type Fingerprint = [32]byte

// Move is an agent that is not served here any more: the leaf with that fingerprint is given the way to its new home, and
// every other one of the agent is refused.
type Move struct {
	Fingerprint Fingerprint
	Peer        string
}

// Guest is an agent that comes, or has come, from a peer with a leaf of that peer.
type Guest struct {
	AgentID       string // here
	Tenant        string
	Peer          string
	SourceAgentID string // as its leaf names it
	Fingerprint   Fingerprint
	// Serial is the one by which revocation and reports name the leaf here. The certificate's own is the peer's.
	Serial identity.Serial
	State  handover.TargetState
}

// source is how a peer calls one of its agents.
type source struct{ peer, agentID string }

// travellers are the agents that have left, and those that have come. An agent has at most one entry of each kind. Of one leaf
// there may be more guests for a while, when a second handover began before the target had heard that the first is off.
type travellers struct {
	moves    layered[agentID, Move]
	guests   layered[agentID, *Guest]
	byLeaf   layered[Fingerprint, []agentID]
	bySource layered[source, []agentID]
}

// Move is where the agent has gone to.
func (s *Snapshot) Move(agent [16]byte) (Move, bool) { return s.travellers.moves.get(agent) }

// MoveCount is how many agents have gone.
func (s *Snapshot) MoveCount() int { return s.travellers.moves.len() }

// Guest is the guest whose leaf has that fingerprint, nil when there is none.
func (s *Snapshot) Guest(leaf Fingerprint) *Guest {
	ids, _ := s.travellers.byLeaf.get(leaf)
	return s.travellers.farthest(ids)
}

// GuestFrom is the guest that a peer's agent of that id is, or is to become, nil when there is none.
func (s *Snapshot) GuestFrom(peer, sourceAgentID string) *Guest {
	ids, _ := s.travellers.bySource.get(source{peer, sourceAgentID})
	return s.travellers.farthest(ids)
}

// farthest is the guest that may do most.
func (t travellers) farthest(ids []agentID) (best *Guest) {
	for _, id := range ids {
		if g, found := t.guests.get(id); found && (best == nil || best.State == handover.AwaitingRelease) {
			best = g
		}
	}
	return best
}

// Guests are all of them, in no order.
func (s *Snapshot) Guests() iter.Seq[*Guest] {
	return func(yield func(*Guest) bool) {
		for _, g := range s.travellers.guests.all() {
			if !yield(g) {
				return
			}
		}
	}
}

// GuestCount is how many there are.
func (s *Snapshot) GuestCount() int { return s.travellers.guests.len() }

// with is the travellers after an answer of the feed.
func (t travellers) with(moves []apitype.SyncMove, guests []apitype.SyncGuest) (travellers, error) {
	gone := make(map[agentID]change[Move], len(moves))
	for _, m := range moves {
		id, leaf, err := named(m.AgentID, m.Fingerprint, m.Over)
		if err != nil {
			return travellers{}, err
		}
		gone[id] = change[Move]{value: Move{Fingerprint: leaf, Peer: m.Peer}, gone: m.Over}
	}
	book := guestBook{travellers: t, guests: map[agentID]change[*Guest]{}, leaves: map[Fingerprint]change[[]agentID]{}, sources: map[source]change[[]agentID]{}}
	for _, in := range guests {
		if err := book.enter(in); err != nil {
			return travellers{}, err
		}
	}
	return travellers{
		moves: t.moves.with(gone), guests: t.guests.with(book.guests), byLeaf: t.byLeaf.with(book.leaves), bySource: t.bySource.with(book.sources),
	}, nil
}

// guestBook collects what is to change of the guests and of the ways to them.
type guestBook struct {
	travellers
	guests  map[agentID]change[*Guest]
	leaves  map[Fingerprint]change[[]agentID]
	sources map[source]change[[]agentID]
}

func (b *guestBook) enter(in apitype.SyncGuest) error {
	id, leaf, err := named(in.AgentID, in.Fingerprint, in.Over)
	if err != nil {
		return err
	}
	old, had := current(b.travellers.guests, b.guests, id)
	switch {
	case in.Over && !had, in.Over && leaf != Fingerprint{} && leaf != old.Fingerprint:
		return nil // the end of an earlier visit is none of a later one
	case had:
		point(b.byLeaf, b.leaves, old.Fingerprint, id, false)
		point(b.bySource, b.sources, source{old.Peer, old.SourceAgentID}, id, false)
	}
	if in.Over {
		b.guests[id] = change[*Guest]{gone: true}
		return nil
	}
	g, err := guest(in, leaf)
	if err != nil {
		return err
	}
	b.guests[id] = change[*Guest]{value: g}
	point(b.byLeaf, b.leaves, leaf, id, true)
	point(b.bySource, b.sources, source{g.Peer, g.SourceAgentID}, id, true)
	return nil
}

// current is an entry as the changes so far have left it.
func current[K comparable, V any](l layered[K, V], changes map[K]change[V], key K) (V, bool) {
	if c, changed := changes[key]; changed {
		return c.value, !c.gone
	}
	return l.get(key)
}

// point makes, or takes out, a way to an agent's entry.
func point[K comparable](l layered[K, []agentID], changes map[K]change[[]agentID], key K, id agentID, here bool) {
	old, _ := current(l, changes, key)
	ids := slices.DeleteFunc(slices.Clone(old), func(other agentID) bool { return other == id })
	if here {
		ids = append(ids, id)
	}
	changes[key] = change[[]agentID]{value: ids, gone: len(ids) == 0}
}

// named reads whom an entry is about. One that is over needs no fingerprint.
func named(agent, fingerprint string, over bool) (agentID, Fingerprint, error) {
	id, err := uuid.Parse(agent)
	if err != nil {
		return agentID{}, Fingerprint{}, errors.New("trust: the feed names an agent whose id is no UUID")
	}
	var leaf Fingerprint
	if over && fingerprint == "" {
		return agentID(id), leaf, nil
	}
	if n, err := hex.Decode(leaf[:], []byte(fingerprint)[:min(len(fingerprint), 2*len(leaf))]); err != nil || n != len(leaf) || len(fingerprint) != 2*n {
		return agentID{}, Fingerprint{}, errors.New("trust: the feed names a leaf whose fingerprint is no SHA-256 in hex")
	}
	return agentID(id), leaf, nil
}

func guest(in apitype.SyncGuest, leaf Fingerprint) (*Guest, error) {
	serial, err := identity.LeafSerial(in.AgentID, in.Generation)
	if err != nil {
		return nil, errors.New("trust: the feed names a guest of no generation")
	}
	return &Guest{
		AgentID: in.AgentID, Tenant: in.Tenant, Peer: in.Peer, SourceAgentID: in.SourceAgentID, Fingerprint: leaf, Serial: serial,
		State: handover.TargetState(in.State),
	}, nil
}
