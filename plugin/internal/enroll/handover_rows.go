package enroll

import (
	"context"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/handover"
	"github.com/ampora/ampora/plugin/internal/feed"
)

// # Handovers
//
// An agent's row holds its last handover away from here (Out) and its last one to here (In), so that each transition of
// package handover is one Put. handover/<shard>/<handover_id> leads from a handover to its agent; it is stored before the
// agent's row is, and leads nowhere when that does not happen. When the agent's row lets go of a handover, because of a newer
// one or because the row goes, what became of it is first written there.

// move is what both sides keep of a handover.
type move struct {
	ID            string    `json:"id"` // jti
	Peer          string    `json:"peer"`
	PeerID        string    `json:"peer_id"`
	PeerAgentID   string    `json:"peer_agent_id,omitempty"`
	TokenHash     string    `json:"token_hash"`
	Since         time.Time `json:"since"` // of the state
	CreatedAt     time.Time `json:"created_at"`
	ExpiresAt     time.Time `json:"expires_at"`
	Group         string    `json:"group,omitempty"`
	Configuration string    `json:"configuration,omitempty"`
	Fingerprint   string    `json:"fingerprint"`
	Restores      int       `json:"restores,omitempty"` // of the mount, when it began: one from a backup is over
	Event         string    `json:"event,omitempty"`    // the source's, by which its trail goes on here
}

// outgoing is a handover to a peer.
type outgoing struct {
	move
	State handover.SourceState `json:"state"`
	// After is the id of the incoming handover that the row had when this one began; another one is newer.
	After string `json:"after,omitempty"`
}

// incoming is a handover from a peer.
type incoming struct {
	move
	State handover.TargetState `json:"state"`
	Acked bool                 `json:"acked,omitempty"` // see TargetState.Sends
	Code  apitype.Code         `json:"code,omitempty"`  // why the source refused
	// Mismatched says that the agent was seen with another leaf, and that this was told.
	Mismatched bool `json:"mismatched,omitempty"`
	// Made says that the row is there because of this handover: until the agent has come there is no agent.
	Made bool `json:"made,omitempty"`
	// Token is the whole handover token with its lineage, which goes on when the agent does.
	Token string  `json:"token"`
	Leaf  leafRow `json:"leaf"` // as it comes
}

// handoverRow is handover/<shard>/<handover_id>.
type handoverRow struct {
	ID      string    `json:"id"`
	Side    string    `json:"side"`
	AgentID string    `json:"agent_id"`
	Made    time.Time `json:"made"`
	// Final is what the handover was when the agent's row let go of it.
	Final *apitype.Handover `json:"final,omitempty"`
	// PeerID and TokenHash are of a final one, for receipts that come late.
	PeerID    string `json:"peer_id,omitempty"`
	TokenHash string `json:"token_hash,omitempty"`
}

func (*handoverRow) SchemaName() string { return "handover" }
func (*handoverRow) SchemaVersion() int { return 1 }

// away reports whether the agent is not served here because a peer has it, or is about to.
func (a *agentRow) away() bool { return a.Out != nil && a.Out.State.Away() && !a.back() }

// back reports whether the agent has come, or may come, since its last handover away from here. That one stays in the row: should
// the peer take the agent back by force, then it is what counts again.
func (a *agentRow) back() bool {
	return a.Out != nil && a.In != nil && a.In.ID != a.Out.After &&
		(a.In.State == handover.AwaitingReconnect || a.In.State == handover.Active)
}

// absent reports whether there is no agent to this row, although there nearly was one.
func (a *agentRow) absent() bool {
	return a.In != nil && a.In.Made && (a.In.State == handover.Lapsed || a.In.State == handover.Rejected)
}

// handoverState is the agent's state as far as handovers decide it, "" when they do not.
func (a *agentRow) handoverState() (state, peer string) {
	switch {
	case a.In != nil && a.In.State.Open():
		return string(a.In.State), a.In.Peer
	case a.Out != nil && a.Out.State == handover.Pending, a.away():
		return string(a.Out.State), a.Out.Peer
	}
	return "", ""
}

// over reports whether nothing is left to come of the agent that is not there.
func (a *agentRow) over() bool { return a.absent() && a.In.State.Sends(a.In.Acked) == "" }

// given reports whether the agent was given leaves here, which may outlive its row.
func (a *agentRow) given() bool { return a.Leaf.Peer == "" || a.Next != nil || len(a.Past) > 0 }

// lands reports whether the agent is still to come, to what its handover says.
func (a *agentRow) lands() bool { return a.In != nil && a.In.State.Open() }

// stateText says it to people.
func stateText(state, peer string) string {
	switch state {
	case apitype.AgentStateHandoverPending:
		return "HandoverPending " + peer
	case apitype.AgentStateReleased:
		return "Released " + peer
	case apitype.AgentStateMoved:
		return "MovedToPeer " + peer
	case apitype.AgentStateAwaitingRelease:
		return "AwaitingRelease " + peer
	}
	return "AwaitingReconnect " + peer
}

// stepOut takes a step that something else brings about, of a handover that waits for its peer. It answers what tells of it, nothing
// when there is no such handover. The step is stored with what has brought it about.
func (a *agentRow) stepOut(in handover.SourceInput, now time.Time) []apitype.Event {
	if a.Out == nil || a.Out.State != handover.Pending {
		return nil
	}
	out := *a.Out
	step := out.State.On(in, !now.Before(out.ExpiresAt))
	out.State, out.Since = step.Next, now.UTC()
	a.Out = &out
	return []apitype.Event{a.handoverEvent(apitype.HandoverSource, step.Event, nil)}
}

// lastHandover is the side on which the row has the handover with that id, "" when it does not have it (any more).
func (a *agentRow) lastHandover(id string) (side string) {
	switch {
	case a == nil:
	case a.Out != nil && a.Out.ID == id:
		return apitype.HandoverSource
	case a.In != nil && a.In.ID == id:
		return apitype.HandoverTarget
	}
	return ""
}

// place is where the agent is to be found, for the edges.
func (a *agentRow) place() feed.Place {
	p := feed.Place{AgentID: a.AgentID}
	if a.away() {
		p.Move = &apitype.SyncMove{AgentID: a.AgentID, Tenant: a.Tenant, Fingerprint: a.Out.Fingerprint, Peer: a.Out.Peer}
	}
	if l, state := a.guestLeaf(); l != nil {
		p.Guest = &apitype.SyncGuest{
			AgentID: a.AgentID, Tenant: a.Tenant, Peer: a.In.Peer, SourceAgentID: a.In.PeerAgentID,
			Fingerprint: l.Fingerprint, Generation: l.Generation, State: string(state), NotAfter: l.NotAfter.Unix(),
		}
	}
	return p
}

// guestLeaf is the leaf of a peer that the agent has, or is to come with.
func (a *agentRow) guestLeaf() (*leafRow, handover.TargetState) {
	switch {
	case a.In == nil:
	case a.In.State.Open() && a.In.Leaf.Peer != "":
		return &a.In.Leaf, a.In.State
	case a.In.State == handover.Active && a.Leaf.Peer != "":
		return &a.Leaf, a.In.State
	}
	return nil, ""
}

// tellPlace tells the edges where the agent is, after a Put of its row.
func (e *Enroller) tellPlace(row *agentRow) {
	if row.Out != nil || row.In != nil {
		e.Feed.Placed(row.place())
	}
}

// Places answers where handovers have put agents, for the change feed.
func (e *Enroller) Places(ctx context.Context) ([]feed.Place, error) {
	var all []feed.Place
	err := e.eachMoved(ctx, func(row *agentRow) { all = append(all, row.place()) })
	return all, err
}
