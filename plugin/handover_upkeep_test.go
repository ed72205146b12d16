package ampora_test

import (
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/handover"
)

// What each step of a handover writes: what leads to it, the row, the event. Answers that are given again write nothing.
func TestBudgetsOfHandovers(t *testing.T) {
	eu, west := twoPeers(t)
	id := eu.movable(nil)
	eu.comesOnce(id)
	var token apitype.HandoverToken
	var taken apitype.HandoverRedemption
	var answer apitype.ReceiptResponse
	waits := func() data {
		for _, message := range call[apitype.Outbox](west, read, "handover/outbox", nil).Messages {
			if message.ID == token.HandoverID {
				return data{"receipt": message.Receipt}
			}
		}
		t.Fatal("nothing waits")
		return nil
	}
	tell := func() { answer = call[apitype.ReceiptResponse](eu, write, "handover/receipt", waits()) }
	hear := func() { west.receipt(answer.Receipt) }
	for _, c := range []struct {
		name   string
		at     *mount
		writes int
		run    func()
	}{
		{"making a token", eu, 3, func() { token = eu.handOver(id.AgentID, "west", nil) }},
		{"inspecting it", west, 0, func() { west.ok(write, "handover/inspect", data{"token": token.HandoverToken}) }},
		{"redeeming it", west, 3, func() { taken = west.take(token.HandoverToken, nil) }},
		{"redeeming it again", west, 0, func() { west.take(token.HandoverToken, nil) }},
		{"being told of that", eu, 2, tell},
		{"being told again", eu, 0, tell},
		{"the answer", west, 2, hear},
		{"the answer again", west, 0, hear},
		{"the arrival", west, 4, func() { west.comes(taken.AgentID) }}, // with the agent's last_seen, and the edge's row
		{"being told of the arrival", eu, 2, tell},
		{"its answer, which no event tells", west, 1, hear},
		{"reading the outbox", west, 0, func() { west.ok(read, "handover/outbox", nil) }},
		{"reading a handover", eu, 0, func() { eu.ok(read, "handovers/"+token.HandoverID, nil) }},
		{"listing them", eu, 0, func() { eu.ok(list, "handovers", nil) }},
	} {
		c.at.storage.Reset()
		c.run()
		if w := c.at.storage.Writes(); len(w) != c.writes {
			t.Errorf("%s: %d writes instead of %d: %v", c.name, len(w), c.writes, w)
		}
	}
}

// comesOnce reports a session of an agent of ours.
func (m *mount) comesOnce(id apitype.Identity) {
	m.Helper()
	m.seen(id.AgentID, id.SerialNumber, "")
}

// A mount that was put back to a backup knows of handovers that others have gone on with. Those that are open end on its side.
func TestAfterARestoreOpenHandoversAreOver(t *testing.T) {
	eu, west := twoPeers(t)
	ours, theirs := eu.movable(nil), west.movable(nil)
	out := eu.handOver(ours.AgentID, "west", nil)
	in := west.handOver(theirs.AgentID, "eu", nil)
	taken := eu.take(in.HandoverToken, nil)
	eu = mountOn(t, eu.backup(), eu.clock)
	eu.ok(write, "config/after-restore", nil)
	if got := eu.handoverState(out.HandoverID); got != string(handover.Cancelled) {
		t.Errorf("a handover from here is %s", got)
	}
	if got := eu.handoverState(in.HandoverID); got != string(handover.Lapsed) {
		t.Errorf("a handover to here is %s", got)
	}
	if a := eu.agent(ours.AgentID); a.State != apitype.AgentStateActive {
		t.Errorf("the agent is %s", a.State)
	}
	eu.no(apitype.AgentUnknown, read, "agents/"+taken.AgentID, nil)
	// The peer hears of both, and may begin anew.
	west.take(out.HandoverToken, nil)
	carry(west, eu)
	carry(eu, west)
	if a := west.agent(theirs.AgentID); a.State != apitype.AgentStateActive {
		t.Errorf("at the peer its agent is %s", a.State)
	}
	moves(eu, west, ours.AgentID, "west")
	moves(west, eu, theirs.AgentID, "eu")
}

// A source that was put back to before it made the token knows nothing of the handover, and says so: nothing is repeated for ever.
func TestASourceThatHasForgottenAHandoverRefusesIt(t *testing.T) {
	eu, west := twoPeers(t)
	id := eu.movable(nil)
	backup := eu.backup()
	token := eu.handOver(id.AgentID, "west", nil)
	taken := west.take(token.HandoverToken, nil)
	restored := mountOn(t, backup, eu.clock)
	carry(west, restored)
	west.no(apitype.AgentUnknown, read, "agents/"+taken.AgentID, nil)
	if h := call[apitype.Handover](west, read, "handovers/"+token.HandoverID, nil); h.State != string(handover.Rejected) || h.Code != string(apitype.HandoverUnknown) {
		t.Errorf("%+v", h)
	}
	if a := restored.agent(id.AgentID); a.State != apitype.AgentStateActive {
		t.Errorf("at the source it is %s", a.State)
	}
}

func TestMovedAgentsAmongOthers(t *testing.T) {
	eu, west := twoPeers(t)
	eu.group("", "web", nil)
	moved, coming, stays := eu.movable(data{"group": "web"}), eu.movable(data{"group": "web"}), eu.movable(data{"group": "web"})
	there := moves(eu, west, moved.AgentID, "west")
	taken := west.take(eu.handOver(coming.AgentID, "west", nil).HandoverToken, nil)
	carry(west, eu)

	states := func(m *mount) map[string]int {
		count := map[string]int{}
		for _, a := range m.agents(nil).KeyInfo {
			count[a.State]++
		}
		return count
	}
	if got := states(eu); got["moved_to_peer"] != 1 || got["released"] != 1 || got["active"] != 1 {
		t.Errorf("listed at the source: %v", got)
	}
	if got := states(west); got["awaiting_reconnect"] != 1 || got["active"] != 1 {
		t.Errorf("listed at the target: %v", got)
	}
	if got := eu.agents(data{"state": "moved_to_peer"}).Keys; len(got) != 1 || got[0] != moved.AgentID {
		t.Errorf("those that have moved are %v", got)
	}
	if sum := eu.summary("agents/summary"); sum.Moved != 2 || sum.Active != 1 {
		t.Errorf("counted at the source: %+v", sum)
	}
	if sum := west.summary("agents/summary"); sum.Awaited != 1 || sum.Active != 1 {
		t.Errorf("counted at the target: %+v", sum)
	}

	// An agent that is to come is assigned to where it lands; one that has moved is kept until somebody deletes it.
	west.group("", "edge", nil)
	west.ok(write, "agents/group", data{"agent_ids": taken.AgentID, "group": "edge"})
	west.comes(taken.AgentID)
	if a := west.agent(taken.AgentID); a.Group != "edge" || a.State != apitype.AgentStateActive {
		t.Errorf("it came to %+v", a)
	}
	carry(west, eu)
	eu.clock.advance(400 * 24 * time.Hour)
	eu.sweep()
	eu.no(apitype.AgentUnknown, read, "agents/"+stays.AgentID, nil)
	if a := eu.agent(moved.AgentID); a.State != apitype.AgentStateMoved {
		t.Errorf("after more than a year: %+v", a)
	}
	eu.ok(write, "agents/revoke", data{"group": "web", "reason": "keyCompromise"})
	if a := eu.agent(moved.AgentID); a.State != apitype.AgentStateRevoked {
		t.Errorf("revoked with its group it is %s", a.State)
	}
	for _, id := range []string{moved.AgentID, coming.AgentID} {
		eu.ok(remove, "agents/"+id, nil)
		eu.no(apitype.AgentUnknown, read, "agents/"+id, nil)
	}
	if got := eu.sync("").Moves; len(got) != 0 {
		t.Errorf("edges still know of %+v", got)
	}
	_ = there
}

// Many receipts for a peer that is away keep nobody else's waiting.
func TestAPeerThatIsAwayHoldsUpNoOthersReceipts(t *testing.T) {
	c := &clock{t: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	eu, west, south := peerMount(t, "eu", c), peerMount(t, "west", c), peerMount(t, "south", c)
	federate(map[string]*mount{"eu": eu, "west": west, "south": south})
	for range 105 {
		south.take(eu.handOver(eu.movable(nil).AgentID, "south", nil).HandoverToken, nil)
	}
	c.advance(time.Minute)
	id := west.movable(nil)
	south.take(west.handOver(id.AgentID, "south", nil).HandoverToken, nil)
	count := map[string]int{}
	for _, message := range call[apitype.Outbox](south, read, "handover/outbox", nil).Messages {
		if message.Step == string(handover.StepRedeemed) {
			count[message.Peer]++
		}
	}
	if count["eu"] != 100 || count["west"] != 1 {
		t.Errorf("in the outbox: %v", count)
	}
}

// A peer goes only when no agent is between both sides; one that is lost for good is suspended first.
func TestAPeerIsNotDeletedWhileAgentsAreBetweenBothSides(t *testing.T) {
	eu, west := twoPeers(t)
	id := eu.movable(nil)
	token := eu.handOver(id.AgentID, "west", nil)
	taken := west.take(token.HandoverToken, nil)
	carry(west, eu)
	eu.no(apitype.InUse, remove, "peers/west", nil)
	west.no(apitype.InUse, remove, "peers/eu", nil)
	west.comes(taken.AgentID)
	west.no(apitype.InUse, remove, "peers/eu", nil) // which does not know yet
	west.ok(write, "peers/eu", data{"suspended": true})
	west.ok(remove, "peers/eu", nil)
	if a := west.agent(taken.AgentID); a.State != apitype.AgentStateActive {
		t.Errorf("the agent is %s", a.State)
	}
	eu.ok(write, "peers/west", data{"suspended": true})
	eu.no(apitype.InUse, remove, "peers/west", nil)
	eu.ok(write, "handovers/"+token.HandoverID, data{"force": true})
	eu.ok(remove, "peers/west", nil)
	eu.no(apitype.HandoverForced, remove, "handovers/"+token.HandoverID, nil)
	if a := eu.agent(id.AgentID); a.State != apitype.AgentStateActive {
		t.Errorf("the agent is %s", a.State)
	}
}

// The way home waits until the installation before has heard that the agent arrived: the row has room for one handover to here.
func TestTheWayHomeWaitsForReceiptsOfTheHandoverBefore(t *testing.T) {
	c := &clock{t: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	eu, west, south := peerMount(t, "eu", c), peerMount(t, "west", c), peerMount(t, "south", c)
	federate(map[string]*mount{"eu": eu, "west": west, "south": south})
	id := eu.movable(nil)
	there := west.take(eu.handOver(id.AgentID, "west", nil).HandoverToken, nil).AgentID
	carry(west, eu)
	west.comes(there) // eu is away from here on
	west.settlesIn(there)
	atSouth := moves(west, south, there, "south")
	south.settlesIn(atSouth)
	back := south.handOver(atSouth, "west", nil).HandoverToken
	west.no(apitype.HandoverPending, write, "handover/redeem", data{"token": back})
	carry(west, eu)
	if a := eu.agent(id.AgentID); a.State != apitype.AgentStateMoved {
		t.Errorf("eu has not heard: %s", a.State)
	}
	if taken := west.take(back, nil); taken.AgentID != there {
		t.Errorf("it came back as %s", taken.AgentID)
	}
}
