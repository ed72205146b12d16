package ampora_test

import (
	"slices"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/handover"
	"github.com/ampora/ampora/plugin/identity"
	"github.com/hashicorp/vault/sdk/logical"
)

// Moves between mounts that are peers of each other, with receipts carried by hand.

// peerMount is a mount that others know as peer id.
func peerMount(t *testing.T, id string, c *clock) *mount {
	t.Helper()
	m := mountOn(t, &logical.InmemStorage{}, c)
	m.ok(write, "config", data{
		"peer_id": id, "trust_domain": id + ".example", "endpoint": "wss://edge." + id + ".example:4320/v1/opamp",
		"federation_url": "https://edge." + id + ".example:4320/federation",
	})
	m.ok(write, "ca/root", nil)
	return m
}

// federate makes all of them peers of each other, each known by its id.
func federate(mounts map[string]*mount) {
	for id, m := range mounts {
		for other, o := range mounts {
			if id != other {
				m.ok(logical.CreateOperation, "peers/"+other, o.ok(read, "federation/bundle", nil).Data)
			}
		}
	}
}

// twoPeers are eu and west, at one time.
func twoPeers(t *testing.T) (eu, west *mount) {
	t.Helper()
	c := &clock{t: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	eu, west = peerMount(t, "eu", c), peerMount(t, "west", c)
	federate(map[string]*mount{"eu": eu, "west": west})
	return eu, west
}

// movable is an agent that can be handed over.
func (m *mount) movable(body data) apitype.Identity {
	m.Helper()
	issued := m.issue(body)
	return m.redeem(data{
		"token": issued.Token, "csr": newCSR(m), "capabilities": apitype.CapabilityAcceptsOpAMP, "instance_uid": "01890a5d-ac96-774b-bcce-b302099a8057",
		"display_name": "collector-1", "description": `{"identifyingAttributes":[{"key":"service.name","value":{"stringValue":"otelcol"}}]}`,
	})
}

func (m *mount) handOver(agentID, peer string, body data) apitype.HandoverToken {
	m.Helper()
	all := data{"peer": peer}
	for k, v := range body {
		all[k] = v
	}
	return call[apitype.HandoverToken](m, write, "agents/"+agentID+"/handover", all)
}

func (m *mount) take(token string, body data) apitype.HandoverRedemption {
	m.Helper()
	all := data{"token": token}
	for k, v := range body {
		all[k] = v
	}
	return call[apitype.HandoverRedemption](m, write, "handover/redeem", all)
}

func (m *mount) receipt(text string) apitype.ReceiptResponse {
	m.Helper()
	return call[apitype.ReceiptResponse](m, write, "handover/receipt", data{"receipt": "\n" + text + " \r\n"}) // as people paste it
}

func (m *mount) handoverState(id string) string {
	m.Helper()
	return call[apitype.Handover](m, read, "handovers/"+id, nil).State
}

// carry takes everything out of one side's outbox to the other side, and the answers back, until there is nothing.
func carry(from, to *mount) {
	from.Helper()
	for range 5 {
		box := call[apitype.Outbox](from, read, "handover/outbox", nil)
		peer := call[apitype.Config](to, read, "config", nil).PeerID
		messages := slices.DeleteFunc(box.Messages, func(m apitype.OutboxMessage) bool { return m.Peer != peer })
		if len(messages) == 0 {
			return
		}
		for _, message := range messages {
			if answer := to.receipt(message.Receipt); answer.Receipt != "" {
				from.receipt(answer.Receipt)
			}
		}
	}
	from.Fatal("the outbox does not get empty")
}

func (m *mount) guest(agentID string) *apitype.SyncGuest {
	m.Helper()
	guests := m.sync("").Guests
	if i := slices.IndexFunc(guests, func(g apitype.SyncGuest) bool { return g.AgentID == agentID }); i >= 0 {
		return &guests[i]
	}
	return nil
}

// comes reports the session of a guest, and answers what its leaf counts as.
func (m *mount) comes(agentID string) apitype.SessionAnswer {
	m.Helper()
	guest := m.guest(agentID)
	if guest == nil {
		m.Fatal("the agent is no guest")
	}
	serial, err := identity.LeafSerial(agentID, guest.Generation)
	if err != nil {
		m.Fatal(err)
	}
	return m.seen(agentID, serial.String(), "")
}

func (m *mount) seen(agentID, serial, applied string) apitype.SessionAnswer {
	m.Helper()
	answer := call[apitype.ReportResponse](m, write, "edge/report", data{
		"name": "edge-1", "sessions": []any{data{"agent_id": agentID, "serial_number": serial, "applied": applied}},
	})
	return answer.Sessions[0]
}

// settlesIn gives an agent that has come a leaf of its new home, and confirms it.
func (m *mount) settlesIn(agentID string) apitype.Identity {
	m.Helper()
	next := call[apitype.Identity](m, write, "agents/"+agentID+"/renew", data{"fingerprint": m.agent(agentID).Fingerprint})
	if got := m.seen(agentID, next.SerialNumber, next.Fingerprint); got.Leaf != apitype.LeafCurrent {
		m.Fatalf("its own leaf is %s", got.Leaf)
	}
	return next
}

// moves moves an agent and answers its id there.
func moves(from, to *mount, agentID, peer string) string {
	from.Helper()
	taken := to.take(from.handOver(agentID, peer, nil).HandoverToken, nil)
	carry(to, from)
	if got := to.comes(taken.AgentID); got.Leaf != apitype.LeafCurrent {
		to.Fatalf("the leaf that it came with is %s", got.Leaf)
	}
	carry(to, from)
	return taken.AgentID
}

func TestAnAgentMovesToAPeer(t *testing.T) {
	eu, west := twoPeers(t)
	id := eu.movable(nil)
	token := eu.handOver(id.AgentID, "west", nil)
	if a := eu.agent(id.AgentID); a.State != apitype.AgentStateHandoverPending || a.Peer != "west" {
		t.Fatalf("after issuing: %+v", a)
	}

	look := call[apitype.HandoverInspection](west, write, "handover/inspect", data{"token": token.HandoverToken})
	if look.DisplayName != "collector-1" || look.Peer != "eu" || look.Fingerprint != id.Fingerprint || len(look.Problems) != 0 ||
		!slices.Contains(look.Labels, "service.name=otelcol") || !slices.Contains(look.Capabilities, "AcceptsOpAMPConnectionSettings") {
		t.Fatalf("inspect: %+v", look)
	}
	west.no(apitype.AgentUnknown, read, "agents/"+look.AgentID, nil) // nothing was changed

	taken := west.take(token.HandoverToken, nil)
	if taken.AgentID != look.AgentID || taken.State != apitype.AgentStateAwaitingRelease || taken.Receipt == "" {
		t.Fatalf("redeem: %+v", taken)
	}
	if g := west.guest(taken.AgentID); g == nil || g.State != apitype.AgentStateAwaitingRelease || g.Fingerprint != id.Fingerprint || g.SourceAgentID != id.AgentID {
		t.Fatalf("guest: %+v", g)
	}
	if got := west.comes(taken.AgentID); got.Leaf != apitype.LeafPending {
		t.Fatalf("admitted before the source has let go: %s", got.Leaf)
	}

	carry(west, eu)
	if got := eu.handoverState(token.HandoverID); got != apitype.AgentStateReleased {
		t.Fatalf("source: %s", got)
	}
	if moved := eu.sync("").Moves; len(moved) != 1 || moved[0].Fingerprint != id.Fingerprint || moved[0].Peer != "west" {
		t.Fatalf("moves: %+v", moved)
	}
	if got := eu.seen(id.AgentID, id.SerialNumber, ""); got.Leaf != apitype.LeafMoved {
		t.Fatalf("at the source its leaf is %s", got.Leaf)
	}
	eu.no(apitype.AgentMoved, write, "agents/"+id.AgentID+"/renew", data{"fingerprint": id.Fingerprint})

	if got := west.comes(taken.AgentID); got.Leaf != apitype.LeafCurrent {
		t.Fatalf("the agent came with %s", got.Leaf)
	}
	carry(west, eu)
	a := eu.agent(id.AgentID)
	if a.State != apitype.AgentStateMoved || a.StateText != "MovedToPeer west" {
		t.Fatalf("source: %+v", a)
	}
	b := west.agent(taken.AgentID)
	if b.State != apitype.AgentStateActive || b.Origin != "eu" || b.DisplayName != "collector-1" || b.InstanceUID != a.InstanceUID ||
		b.Description != a.Description || b.Capabilities != a.Capabilities || b.Fingerprint != id.Fingerprint {
		t.Fatalf("target: %+v", b)
	}

	own := west.settlesIn(taken.AgentID)
	if own.Fingerprint == id.Fingerprint || west.guest(taken.AgentID) != nil {
		t.Fatal("it still is a guest")
	}
	issued := eu.events(data{"action": apitype.ActionHandoverIssued})
	redeemed := west.events(data{"action": apitype.ActionHandoverRedeemed})
	if len(issued) != 1 || len(redeemed) != 1 || redeemed[0].RelatedEvent != issued[0].ID || redeemed[0].EntityID != issued[0].EntityID || redeemed[0].OriginPeerID != "eu" {
		t.Fatalf("the trails do not meet: %+v %+v", issued, redeemed)
	}
	for m, want := range map[*mount][]string{
		eu:   {apitype.ActionHandoverCompleted, apitype.ActionHandoverReleased, apitype.ActionHandoverIssued},
		west: {apitype.ActionHandoverConnected, apitype.ActionHandoverReleased, apitype.ActionHandoverRedeemed},
	} {
		if got := m.actions(data{"entity_type": "handover"}); !slices.Equal(got, want) {
			t.Errorf("events %v instead of %v", got, want)
		}
	}
}

func TestAnAgentComesHomeToItsOwnRow(t *testing.T) {
	c := &clock{t: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	eu, west, south := peerMount(t, "eu", c), peerMount(t, "west", c), peerMount(t, "south", c)
	federate(map[string]*mount{"eu": eu, "west": west, "south": south})
	id := eu.movable(nil)

	atWest := moves(eu, west, id.AgentID, "west")
	west.no(apitype.RenewalPending, write, "agents/"+atWest+"/handover", data{"peer": "eu"}) // it has no leaf of west's yet
	west.settlesIn(atWest)
	if home := moves(west, eu, atWest, "eu"); home != id.AgentID {
		t.Fatalf("home is %s instead of %s", home, id.AgentID)
	}
	if a := eu.agent(id.AgentID); a.State != apitype.AgentStateActive {
		t.Fatalf("at home: %+v", a)
	}
	eu.settlesIn(id.AgentID)

	atWest = moves(eu, west, id.AgentID, "west")
	west.settlesIn(atWest)
	atSouth := moves(west, south, atWest, "south")
	south.settlesIn(atSouth)
	if home := moves(south, eu, atSouth, "eu"); home != id.AgentID {
		t.Fatalf("round the ring home is %s instead of %s", home, id.AgentID)
	}
	last := call[apitype.ListResponse[apitype.Handover]](eu, list, "handovers", nil)
	if len(last.Keys) != 4 {
		t.Fatalf("eu remembers %d handovers", len(last.Keys))
	}
}

func TestAHandoverEndsWithoutAMove(t *testing.T) {
	t.Run("the source cancels before the target redeems", func(t *testing.T) {
		eu, west := twoPeers(t)
		id := eu.movable(nil)
		token := eu.handOver(id.AgentID, "west", nil)
		eu.ok(remove, "handovers/"+token.HandoverID, nil)
		eu.ok(remove, "handovers/"+token.HandoverID, nil)
		taken := west.take(token.HandoverToken, nil)
		carry(west, eu)
		west.no(apitype.AgentUnknown, read, "agents/"+taken.AgentID, nil)
		if h := call[apitype.Handover](west, read, "handovers/"+token.HandoverID, nil); h.State != string(handover.Rejected) || h.Code != string(apitype.HandoverCancelled) {
			t.Fatalf("%+v", h)
		}
		if a := eu.agent(id.AgentID); a.State != apitype.AgentStateActive {
			t.Fatalf("%+v", a)
		}
		west.no(apitype.HandoverReplayed, write, "handover/redeem", data{"token": token.HandoverToken})
		moves(eu, west, id.AgentID, "west")
	})
	t.Run("the token expires", func(t *testing.T) {
		eu, west := twoPeers(t)
		id := eu.movable(nil)
		token := eu.handOver(id.AgentID, "west", data{"ttl": "10m"})
		taken := west.take(token.HandoverToken, nil)
		eu.clock.advance(11 * time.Minute)
		carry(west, eu)
		west.no(apitype.AgentUnknown, read, "agents/"+taken.AgentID, nil)
		if got := eu.handoverState(token.HandoverID); got != string(handover.Expired) {
			t.Fatalf("source: %s", got)
		}
	})
	t.Run("the target gives up before and after the release", func(t *testing.T) {
		for _, released := range []bool{false, true} {
			eu, west := twoPeers(t)
			id := eu.movable(nil)
			token := eu.handOver(id.AgentID, "west", nil)
			taken := west.take(token.HandoverToken, nil)
			if released {
				carry(west, eu)
				eu.no(apitype.HandoverPending, remove, "handovers/"+token.HandoverID, nil)
			}
			west.ok(remove, "handovers/"+token.HandoverID, nil)
			carry(west, eu)
			if a := eu.agent(id.AgentID); a.State != apitype.AgentStateActive || len(eu.sync("").Moves) != 0 {
				t.Fatalf("%+v", a)
			}
			west.no(apitype.AgentUnknown, read, "agents/"+taken.AgentID, nil)
			west.no(apitype.HandoverReplayed, write, "handover/redeem", data{"token": token.HandoverToken})
		}
	})
	t.Run("the agent never comes", func(t *testing.T) {
		eu, west := twoPeers(t)
		id := eu.movable(nil)
		token := eu.handOver(id.AgentID, "west", nil)
		west.take(token.HandoverToken, nil)
		carry(west, eu)
		west.clock.advance(25 * time.Hour)
		if got := west.handoverState(token.HandoverID); got != string(handover.Lapsed) {
			t.Fatalf("target: %s", got)
		}
		carry(west, eu)
		if a := eu.agent(id.AgentID); a.State != apitype.AgentStateActive {
			t.Fatalf("%+v", a)
		}
	})
	t.Run("the source takes a released agent back by force", func(t *testing.T) {
		eu, west := twoPeers(t)
		id := eu.movable(nil)
		token := eu.handOver(id.AgentID, "west", nil)
		taken := west.take(token.HandoverToken, nil)
		carry(west, eu)
		eu.ok(write, "handovers/"+token.HandoverID, data{"force": true})
		if got := west.comes(taken.AgentID); got.Leaf != apitype.LeafCurrent {
			t.Fatalf("%+v", got)
		}
		carry(west, eu)
		west.no(apitype.AgentUnknown, read, "agents/"+taken.AgentID, nil)
	})
	t.Run("the leaf was rotated", func(t *testing.T) {
		eu, west := twoPeers(t)
		issued := eu.issue(nil)
		csr := newCSR(eu)
		id := eu.redeem(data{"token": issued.Token, "csr": csr, "capabilities": apitype.CapabilityAcceptsOpAMP})
		token := eu.handOver(id.AgentID, "west", nil)
		eu.no(apitype.HandoverPending, write, "agents/"+id.AgentID+"/renew", data{"fingerprint": id.Fingerprint})
		eu.ok(write, "agents/"+id.AgentID+"/renew", data{"fingerprint": id.Fingerprint, "csr": csr})
		if got := eu.handoverState(token.HandoverID); got != string(handover.Rotated) {
			t.Fatalf("source: %s", got)
		}
		west.take(token.HandoverToken, nil)
		carry(west, eu)
		if h := call[apitype.Handover](west, read, "handovers/"+token.HandoverID, nil); h.Code != string(apitype.FingerprintMismatch) {
			t.Fatalf("%+v", h)
		}
	})
	t.Run("the agent is revoked on either side", func(t *testing.T) {
		eu, west := twoPeers(t)
		id := eu.movable(nil)
		token := eu.handOver(id.AgentID, "west", nil)
		taken := west.take(token.HandoverToken, nil)
		eu.ok(write, "agents/"+id.AgentID+"/revoke", nil)
		carry(west, eu)
		west.no(apitype.AgentUnknown, read, "agents/"+taken.AgentID, nil)

		id = eu.movable(nil)
		token = eu.handOver(id.AgentID, "west", nil)
		taken = west.take(token.HandoverToken, nil)
		carry(west, eu)
		west.ok(write, "agents/"+taken.AgentID+"/revoke", nil)
		carry(west, eu)
		if a := eu.agent(id.AgentID); a.State != apitype.AgentStateActive {
			t.Fatalf("revoked at the target before it came: %+v", a)
		}
	})
}

// TestARevokedAgentStaysOnTheListWhateverItsPeerTells: what becomes of a handover afterwards is written into the agent's row.
func TestARevokedAgentStaysOnTheListWhateverItsPeerTells(t *testing.T) {
	for name, tell := range map[string]func(eu, west *mount, there string){
		"it has come": func(eu, west *mount, there string) { west.comes(there); carry(west, eu) },
		"it was given up": func(eu, west *mount, there string) {
			west.ok(remove, "handovers/"+call[apitype.ListResponse[apitype.Handover]](west, list, "handovers/", nil).Keys[0], nil)
			carry(west, eu)
		},
	} {
		t.Run(name, func(t *testing.T) {
			eu, west := twoPeers(t)
			id := eu.movable(nil)
			taken := west.take(eu.handOver(id.AgentID, "west", nil).HandoverToken, nil)
			carry(west, eu)
			eu.ok(write, "edge/crl", nil) // memory knows from here on what is told to it
			eu.ok(write, "agents/"+id.AgentID+"/revoke", data{"reason": "keyCompromise"})
			tell(eu, west, taken.AgentID)
			eu.named(id.IssuingCA, nil, map[string]int{certificate(t, id.Certificate).SerialNumber.String(): 1})
			if a := eu.agent(id.AgentID); a.State != apitype.AgentStateRevoked {
				t.Errorf("the row is %+v", a)
			}
		})
	}
}
