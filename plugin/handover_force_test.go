package ampora_test

import (
	"testing"

	"github.com/ampora/ampora/plugin/apitype"
)

// TestForceOnTheWayHomeLeavesTheAgentOnOneSide: the agent has come home, and its source takes it back before it has heard so.
func TestForceOnTheWayHomeLeavesTheAgentOnOneSide(t *testing.T) {
	eu, west := twoPeers(t)
	id := eu.movable(nil)
	there := moves(eu, west, id.AgentID, "west")
	west.settlesIn(there)
	back := west.handOver(there, "eu", nil)
	taken := eu.take(back.HandoverToken, nil)
	carry(eu, west)
	if got := eu.comes(taken.AgentID); got.Leaf != apitype.LeafCurrent {
		t.Fatalf("it does not come: %s", got.Leaf)
	}
	call[apitype.Handover](west, write, "handovers/"+back.HandoverID, data{"force": true})
	carry(eu, west)
	if a := west.agent(there); a.State != apitype.AgentStateActive {
		t.Errorf("at the source that has taken it back: %s", a.State)
	}
	for range 2 { // as memory has it, and as storage does
		a := eu.agent(id.AgentID)
		if moves := eu.sync("").Moves; a.State != apitype.AgentStateMoved || a.Peer != "west" || len(moves) != 1 || moves[0].AgentID != id.AgentID {
			t.Errorf("at home: %s, moves %+v", a.State, moves)
		}
		eu = mountOn(t, eu.storage, eu.clock)
	}
	// And it can come home again.
	again := west.handOver(there, "eu", nil)
	if got := eu.take(again.HandoverToken, nil); got.AgentID != id.AgentID {
		t.Errorf("it comes back as %s", got.AgentID)
	}
}
