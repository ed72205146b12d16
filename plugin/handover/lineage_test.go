package handover_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/handover"
)

// opened opens a good text.
func opened(t *testing.T, text, self string, known handover.Peers) *handover.Opened {
	t.Helper()
	o, err := handover.Open(text, self, known, now)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func TestAChainWithAGapLeadsNowhere(t *testing.T) {
	a, b, c, d := newSide("a"), newSide("b"), newSide("c"), newSide("d")
	first := a.sign(a.token(b))
	second := b.onward(first, c, nil)
	third := c.onward(second, d, nil)
	fourth := d.onward(third, a, nil)
	parts := strings.Split(fourth, "~")

	for name, text := range map[string]string{
		"one is left out":    parts[0] + "~" + parts[1] + "~" + parts[3],
		"the newest is left": parts[0] + "~" + parts[2] + "~" + parts[3],
		"two are swapped":    parts[0] + "~" + parts[2] + "~" + parts[1] + "~" + parts[3],
		"one stands twice":   parts[0] + "~" + parts[1] + "~" + parts[1] + "~" + parts[2] + "~" + parts[3],
		"another one behind": fourth + "~" + a.sign(a.token(b)),
		"itself":             parts[0] + "~" + parts[0],
		"a receipt":          parts[0] + "~" + must(handover.Sign(a.issuer.key, handover.TypeReceipt, handover.Receipt{})),
		"nothing":            parts[0] + "~",
		"blanks":             parts[0] + "~ " + parts[1],
		"somebody else's":    d.onward(a.sign(a.token(b)), a, nil), // a has sent that agent to b, and d shows it
		"not for the sender": d.onward(second, a, nil),
		"prev of another":    d.onward(third, a, func(c *handover.Token) { c.Previous = handover.Hash(first) }),
		"no prev":            d.onward(third, a, func(c *handover.Token) { c.Previous = "" }),
	} {
		_, err := handover.Open(text, a.id, peers{b, c, d}, now)
		if apitype.CodeOf(err) != apitype.HandoverMalformed {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Cut off at its end it is a token as good as any, and leads to no row of ours.
	for n := 1; n < len(parts); n++ {
		o := opened(t, strings.Join(parts[:n], "~"), a.id, peers{b, c, d})
		if home, err := o.Home(a.id, peers{b, c, d}); home != nil || err != nil {
			t.Errorf("%d tokens: %+v, %v", n, home, err)
		}
	}
	if home, _ := opened(t, fourth, a.id, peers{d}).Home(a.id, peers{d}); home == nil || home.Compact != first {
		t.Errorf("the whole: %+v", home)
	}
}

func TestEveryTokenOnTheWayHomeIsVouchedFor(t *testing.T) {
	a, b, c := newSide("a"), newSide("b"), newSide("c")
	first := a.sign(a.token(b))

	// b has another key by now than a's token says: only what is pinned for it helps.
	renewed := newSide("b")
	third := c.onward(renewed.onward(first, c, nil), a, nil)
	o := opened(t, third, a.id, peers{c})
	if home, err := o.Home(a.id, peers{c}); home != nil || err != nil {
		t.Errorf("an unknown key: %+v, %v", home, err)
	}
	if home, err := o.Home(a.id, peers{c, b}); home != nil || err != nil {
		t.Errorf("the key from before is pinned: %+v, %v", home, err)
	}
	if home, err := o.Home(a.id, peers{c, renewed}); home == nil || err != nil {
		t.Errorf("the new key is pinned: %+v, %v", home, err)
	}
	if hops, err := o.Hops(peers{c}); len(hops) != 0 || err != nil {
		t.Errorf("what nobody vouches for is not shown: %+v, %v", hops, err)
	}
	if hops, err := o.Hops(peers{c, renewed}); len(hops) != 1 || hops[0].From != "b" || err != nil {
		t.Errorf("what a pinned key has signed is shown: %+v, %v", hops, err)
	}

	// c forges the whole way: a token of ours that is none, and b's. It cannot forge the hash that our row has stored.
	forged := a.token(b)
	forged.Target.CABundle = pemOf(c.issuer.cert)
	ours := (&side{"a", c.issuer}).sign(forged)
	theirs := (&side{"b", c.issuer}).onward(ours, c, nil)
	o = opened(t, c.onward(theirs, a, nil), a.id, peers{c})
	home, err := o.Home(a.id, peers{c})
	if err != nil || home == nil || home.Hash == handover.Hash(first) || home.Compact != ours {
		t.Errorf("%+v, %v", home, err)
	}
	if hops, err := o.Hops(append(peers{c}, a)); len(hops) != 0 || err != nil {
		t.Errorf("a forged way is shown: %+v, %v", hops, err)
	}

	// The newest token of ours counts, whatever is older.
	again := a.onward(b.onward(first, a, nil), b, nil)
	o = opened(t, b.onward(again, a, nil), a.id, peers{b})
	if home, err := o.Home(a.id, peers{b}); err != nil || home == nil || home.Hash != handover.Hash(strings.Split(again, "~")[0]) {
		t.Errorf("%+v, %v", home, err)
	}
	if hops, _ := o.Hops(peers{a, b}); len(hops) != 3 {
		t.Errorf("%+v", hops)
	}
}

func TestABrokenStoreOfPeersIsNoGap(t *testing.T) {
	a, b, c := newSide("a"), newSide("b"), newSide("c")
	o := opened(t, c.onward(b.onward(a.sign(a.token(b)), c, nil), a, nil), a.id, peers{c})
	broken := errors.New("storage")
	if home, err := o.Home(a.id, failing{broken}); !errors.Is(err, broken) || home != nil {
		t.Errorf("%+v, %v", home, err)
	}
	if hops, err := o.Hops(failing{broken}); !errors.Is(err, broken) || hops != nil {
		t.Errorf("%+v, %v", hops, err)
	}
	suspended := failing{apitype.Errorf(apitype.PeerSuspended, "b")}
	if home, err := o.Home(a.id, suspended); home == nil || err != nil {
		t.Errorf("what a's own token vouches for: %+v, %v", home, err)
	}
}

// TestAVagrantLeavesItsOldestTokensBehind moves an agent more often than a string has room for.
func TestAVagrantLeavesItsOldestTokensBehind(t *testing.T) {
	a, b := newSide("a"), newSide("b")
	text := a.sign(a.token(b))
	from, to := b, a
	for range 3 * handover.MaxLineage {
		opened(t, text, from.id, peers{to})
		text = from.onward(text, to, nil)
		from, to = to, from
	}
	o := opened(t, text, from.id, peers{to})
	if len(o.Lineage) != handover.MaxLineage-1 || o.Text() != text {
		t.Errorf("%d tokens", len(o.Lineage))
	}
	if home, err := o.Home(from.id, peers{to}); home == nil || err != nil || home.Compact != o.Lineage[0] {
		t.Errorf("%+v, %v", home, err)
	}
	// So does one whose tokens are large.
	large := func(c *handover.Token) { c.Agent.Description = strings.Repeat("<", 60<<10) }
	for range handover.MaxLineage {
		text = from.onward(text, to, large)
		if len(text) > handover.MaxString {
			t.Fatalf("%d bytes", len(text))
		}
		from, to = to, from
	}
	opened(t, text, from.id, peers{to})
}
