package handover_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/handover"
)

// refused fails unless the text is refused with the code, and nothing of it stands in the error.
func refused(t *testing.T, err error, code apitype.Code, detail string) {
	t.Helper()
	if apitype.CodeOf(err) != code {
		t.Errorf("wanted %s, got %v", code, err)
		return
	}
	if !strings.Contains(err.Error(), detail) {
		t.Errorf("wanted %q in %v", detail, err)
	}
}

func TestAGoodTokenOpensWithEveryKindOfKey(t *testing.T) {
	for name, key := range keys {
		t.Run(name, func(t *testing.T) {
			source, target := newSideWith("eu", key()), newSide("us")
			want := source.token(target)
			text := source.sign(want)
			got, err := handover.Open("\n "+text+"\r\n", target.id, peers{source}, now)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got.Token, want) || got.Text() != text || got.Hash != handover.Hash(text) || got.Peer.PeerID != source.id {
				t.Errorf("%+v", got)
			}
			if got.Identity.AgentID != want.Agent.AgentID || handover.Thumbprint(got.Leaf) != want.Confirmation.X5TS256 {
				t.Errorf("%+v", got.Identity)
			}
		})
	}
}

func TestWhatIsReadIsWhatOpens(t *testing.T) {
	a, b := newSide("a"), newSide("b")
	text := b.onward(a.sign(a.token(b)), a, nil)
	opened, err := handover.Open(text, a.id, peers{b}, now)
	if err != nil {
		t.Fatal(err)
	}
	read, err := handover.Read(text)
	if err != nil || !reflect.DeepEqual(read.Token, opened.Token) || read.Hash != opened.Hash || read.Text() != text || !read.Leaf.Equal(opened.Leaf) {
		t.Errorf("%+v, %v", read, err)
	}
	if hops := read.ClaimedHops(); len(hops) != 1 || hops[0].From != "a" || hops[0].To != "b" {
		t.Errorf("%+v", hops)
	}
	for _, bad := range []string{"", text + "~", "amp-bs.", b.sign(handover.Token{})} {
		if _, err := handover.Read(bad); apitype.CodeOf(err) != apitype.HandoverMalformed {
			t.Errorf("%.20q: %v", bad, err)
		}
	}
	if certs, err := handover.Issuers(pemOf(a.issuer.cert) + pemOf(b.issuer.cert)); err != nil || len(certs) != 2 {
		t.Errorf("%d, %v", len(certs), err)
	}
	for _, bad := range []string{"", "x", privateKeyPEM, pemOf(a.issuer.cert) + privateKeyPEM, strings.Repeat(pemOf(a.issuer.cert), handover.MaxBundle+1)} {
		if _, err := handover.Issuers(bad); apitype.CodeOf(err) != apitype.BundleInvalid || strings.Contains(err.Error(), "AAAA") {
			t.Errorf("%.20q: %v", bad, err)
		}
	}
}

func TestOnlyAPeersPinnedKeyCounts(t *testing.T) {
	source, target, other := newSide("eu"), newSide("us"), newSide("eu")
	text := source.sign(source.token(target))
	_, err := handover.Open(text, target.id, peers{}, now)
	refused(t, err, apitype.PeerUnknown, "")
	_, err = handover.Open(text, target.id, peers{other}, now)
	refused(t, err, apitype.HandoverSignatureInvalid, "no pinned key")
	_, err = handover.Open(text, "asia", peers{source}, now)
	refused(t, err, apitype.HandoverWrongAudience, "another peer")
	_, err = handover.Open(text, source.id, peers{source}, now)
	refused(t, err, apitype.HandoverWrongAudience, "itself")
	suspended := apitype.Errorf(apitype.PeerSuspended, "no")
	_, err = handover.Open(text, target.id, failing{suspended}, now)
	if !errors.Is(err, suspended) {
		t.Error(err)
	}
}

// failing finds no peer.
type failing struct{ err error }

func (f failing) ByID(string) (handover.PeerKeys, error) { return handover.PeerKeys{}, f.err }

func TestARingLeadsHome(t *testing.T) {
	a, b, c := newSide("a"), newSide("b"), newSide("c")
	first := a.sign(a.token(b))
	second := b.onward(first, c, nil)
	third := c.onward(second, a, nil)
	for name, known := range map[string]peers{"with every peer pinned": {b, c}, "with the last alone": {c}} {
		t.Run(name, func(t *testing.T) {
			o, err := handover.Open(third, a.id, known, now)
			if err != nil {
				t.Fatal(err)
			}
			home, err := o.Home(a.id, known)
			if err != nil || home == nil || home.Compact != first || home.Hash != handover.Hash(first) || home.Token.Issuer != a.id {
				t.Fatalf("%+v, %v", home, err)
			}
			if away, err := o.Home("d", known); away != nil || err != nil {
				t.Errorf("%+v, %v", away, err)
			}
			// With our own issuers at hand the whole way is shown, else what a pinned key has signed.
			hops, err := o.Hops(append(known, a))
			if err != nil || len(hops) != 2 || hops[0].From != a.id || hops[0].To != b.id || hops[1].From != b.id || hops[1].To != c.id {
				t.Errorf("%+v, %v", hops, err)
			}
		})
	}
}
