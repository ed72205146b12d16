package trust

import (
	"encoding/hex"
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/handover"
	"github.com/google/uuid"
)

func follow(t *testing.T, s *Snapshot, in apitype.SyncResponse) *Snapshot {
	t.Helper()
	next, err := apply(s, &in, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return next
}

func print32(n byte) (Fingerprint, string) {
	f := Fingerprint{n}
	return f, hex.EncodeToString(f[:])
}

func TestMovesComeAndGo(t *testing.T) {
	id := uuid.New()
	leaf, text := print32(1)
	first := follow(t, nil, apitype.SyncResponse{Full: true, Peers: []apitype.SyncPeer{{Name: "west", Endpoint: "wss://west.example", CABundle: "no PEM"}}})
	moved := follow(t, first, apitype.SyncResponse{Moves: []apitype.SyncMove{{AgentID: id.String(), Fingerprint: text, Peer: "west"}}})
	if m, found := moved.Move(id); !found || m.Fingerprint != leaf || m.Peer != "west" || moved.MoveCount() != 1 {
		t.Errorf("%+v, %v", m, found)
	}
	if _, found := first.Move(id); found {
		t.Error("the older snapshot has changed")
	}
	if p := moved.Peer("west"); p == nil || p.Endpoint != "wss://west.example" || len(p.Issuers) != 0 || moved.Peer("east") != nil {
		t.Errorf("the peer is %+v", p)
	}
	back := follow(t, moved, apitype.SyncResponse{Moves: []apitype.SyncMove{{AgentID: id.String(), Over: true}}, Peers: []apitype.SyncPeer{}})
	if _, found := back.Move(id); found || back.MoveCount() != 0 || back.Peer("west") != nil {
		t.Error("the move, or its peer, is still there")
	}
	if whole := follow(t, moved, apitype.SyncResponse{Full: true}); whole.MoveCount() != 0 || len(whole.Peers) != 0 {
		t.Error("a whole snapshot keeps something of the one before")
	}
}

func TestTheEndOfOneVisitIsNotThatOfAnother(t *testing.T) {
	a, b := uuid.NewString(), uuid.NewString()
	leaf, text := print32(1)
	visit := func(id string, state handover.TargetState) apitype.SyncGuest {
		return apitype.SyncGuest{AgentID: id, Peer: "east", SourceAgentID: "x", Fingerprint: text, Generation: 1, State: string(state)}
	}
	over := func(id, fingerprint string) apitype.SyncGuest {
		return apitype.SyncGuest{AgentID: id, Fingerprint: fingerprint, Over: true}
	}
	// A first handover was never released, a second one of the same leaf was; in any order, and whichever ends.
	for _, order := range [][]apitype.SyncGuest{
		{visit(a, handover.AwaitingRelease), visit(b, handover.Active)}, {visit(b, handover.Active), visit(a, handover.AwaitingRelease)},
	} {
		s := follow(t, nil, apitype.SyncResponse{Full: true, Guests: order})
		if g := s.Guest(leaf); g == nil || g.AgentID != b || s.GuestFrom("east", "x") != g || s.GuestCount() != 2 {
			t.Errorf("the guest is %+v", g)
		}
		s = follow(t, s, apitype.SyncResponse{Guests: []apitype.SyncGuest{over(a, text)}})
		if g := s.Guest(leaf); g == nil || g.AgentID != b || s.GuestFrom("east", "x") != g {
			t.Errorf("with the first one over the guest is %+v", g)
		}
		s = follow(t, s, apitype.SyncResponse{Guests: []apitype.SyncGuest{over(b, hex.EncodeToString(make([]byte, 32))[:62]+"ff")}})
		if s.Guest(leaf) == nil {
			t.Error("the end of another leaf's visit has ended this one")
		}
		s = follow(t, s, apitype.SyncResponse{Guests: []apitype.SyncGuest{over(b, "")}})
		if s.Guest(leaf) != nil || s.GuestFrom("east", "x") != nil || s.GuestCount() != 0 {
			t.Error("a guest is left")
		}
	}
}

// TestTravellersAreWhatAPlainListSays compares with a list that is kept in the simplest way.
func TestTravellersAreWhatAPlainListSays(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	ids := make([]uuid.UUID, 40)
	for i := range ids {
		ids[i] = uuid.New()
	}
	type plain struct {
		moves  map[uuid.UUID]byte
		guests map[uuid.UUID]apitype.SyncGuest
	}
	want := plain{map[uuid.UUID]byte{}, map[uuid.UUID]apitype.SyncGuest{}}
	s := follow(t, nil, apitype.SyncResponse{Full: true})
	for range 600 {
		in := apitype.SyncResponse{}
		for range random.IntN(8) {
			id, n := ids[random.IntN(len(ids))], byte(random.IntN(12))
			_, text := print32(n)
			switch random.IntN(4) {
			case 0:
				in.Moves = append(in.Moves, apitype.SyncMove{AgentID: id.String(), Fingerprint: text, Peer: "west"})
				want.moves[id] = n
			case 1:
				in.Moves = append(in.Moves, apitype.SyncMove{AgentID: id.String(), Over: true})
				delete(want.moves, id)
			case 2:
				g := apitype.SyncGuest{AgentID: id.String(), Peer: "east", SourceAgentID: fmt.Sprint(n), Fingerprint: text, Generation: uint32(n) + 1, State: "active"}
				in.Guests = append(in.Guests, g)
				want.guests[id] = g
			case 3:
				in.Guests = append(in.Guests, apitype.SyncGuest{AgentID: id.String(), Fingerprint: want.guests[id].Fingerprint, Over: true})
				delete(want.guests, id)
			}
		}
		before, kept := s, maps.Collect(s.travellers.moves.all())
		s = follow(t, s, in)
		if !maps.Equal(kept, maps.Collect(before.travellers.moves.all())) {
			t.Fatal("the older snapshot has changed")
		}
	}
	if s.MoveCount() != len(want.moves) || s.GuestCount() != len(want.guests) {
		t.Fatalf("%d moves and %d guests, want %d and %d", s.MoveCount(), s.GuestCount(), len(want.moves), len(want.guests))
	}
	for id, n := range want.moves {
		if m, found := s.Move(id); !found || m.Fingerprint[0] != n {
			t.Errorf("%s has moved with %v, want %d", id, m, n)
		}
	}
	for n := range byte(12) {
		leaf, text := print32(n)
		expected := 0
		for _, g := range want.guests {
			if g.Fingerprint == text {
				expected++
			}
		}
		g := s.Guest(leaf)
		if (g != nil) != (expected > 0) || (g != nil) != (s.GuestFrom("east", fmt.Sprint(n)) != nil) {
			t.Errorf("leaf %d: %+v, want one of %d", n, g, expected)
		}
		if g != nil && want.guests[uuid.MustParse(g.AgentID)].Fingerprint != text {
			t.Errorf("leaf %d leads to another one's guest", n)
		}
	}
}

func TestOneMoveCopiesLittle(t *testing.T) {
	_, text := print32(1)
	all := make([]apitype.SyncMove, 10_000)
	for i := range all {
		all[i] = apitype.SyncMove{AgentID: uuid.NewString(), Fingerprint: text, Peer: "west"}
	}
	s := follow(t, nil, apitype.SyncResponse{Full: true, Moves: all})
	one := apitype.SyncResponse{Moves: []apitype.SyncMove{{AgentID: uuid.NewString(), Fingerprint: text, Peer: "west"}}}
	if n := testing.AllocsPerRun(10, func() { follow(t, s, one) }); n > 50 {
		t.Errorf("%v allocations", n)
	}
	for range 3 * foldAt {
		s = follow(t, s, apitype.SyncResponse{Moves: []apitype.SyncMove{{AgentID: uuid.NewString(), Fingerprint: text, Peer: "west"}}})
	}
	if s.MoveCount() != len(all)+3*foldAt || len(s.travellers.moves.recent) > foldAt {
		t.Errorf("%d moves, %d of them in the small layer", s.MoveCount(), len(s.travellers.moves.recent))
	}
}
