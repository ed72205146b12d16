package feed

import "github.com/ampora/ampora/plugin/apitype"

// Place is where a handover has put an agent. It may be on its way from here and from elsewhere at a time: one that comes home
// is still away until its peer has let go.
type Place struct {
	AgentID string
	Move    *apitype.SyncMove  // nil: it is served here
	Guest   *apitype.SyncGuest // nil: it has a leaf of ours, or none
}

// Placed tells where an agent is now. Call it after the Put.
func (f *Feed) Placed(p Place) {
	f.enter(func(m *memory) {
		if m.placeOf(p.AgentID).same(p) {
			return
		}
		if p.Move == nil && p.Guest == nil {
			delete(m.places, p.AgentID)
		} else {
			m.places[p.AgentID] = p
		}
		m.add(change{kind: placed, agentID: p.AgentID})
	})
}

func (m *memory) placeOf(agentID string) Place {
	p := m.places[agentID]
	p.AgentID = agentID
	return p
}

func (p Place) same(q Place) bool {
	return (p.Move == nil) == (q.Move == nil) && (p.Guest == nil) == (q.Guest == nil) &&
		(p.Move == nil || *p.Move == *q.Move) && (p.Guest == nil || *p.Guest == *q.Guest)
}

// whole adds the agent to a full snapshot.
func (p Place) whole(r *apitype.SyncResponse) {
	if p.Move != nil {
		r.Moves = append(r.Moves, *p.Move)
	}
	if p.Guest != nil {
		r.Guests = append(r.Guests, *p.Guest)
	}
}

// delta adds the agent to a change: what it is not any more is said as well.
func (p Place) delta(r *apitype.SyncResponse) {
	p.whole(r)
	if p.Move == nil {
		r.Moves = append(r.Moves, apitype.SyncMove{AgentID: p.AgentID, Over: true})
	}
	if p.Guest == nil {
		r.Guests = append(r.Guests, apitype.SyncGuest{AgentID: p.AgentID, Over: true})
	}
}
