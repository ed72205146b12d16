package identity_test

import (
	"crypto/rand"
	"math/big"
	"strings"
	"testing"

	"github.com/ampora/ampora/plugin/identity"
)

const agentID = "630dcd29-66c4-8366-9112-5448bbb25b4f"

func TestALeafsSerialHoldsItsAgentAndGeneration(t *testing.T) {
	for generation, text := range map[uint32]string{
		1:                      "01:63:0d:cd:29:66:c4:83:66:91:12:54:48:bb:b2:5b:4f:00:00:01",
		0x010203:               "01:63:0d:cd:29:66:c4:83:66:91:12:54:48:bb:b2:5b:4f:01:02:03",
		identity.MaxGeneration: "01:63:0d:cd:29:66:c4:83:66:91:12:54:48:bb:b2:5b:4f:ff:ff:ff",
	} {
		s, err := identity.LeafSerial(agentID, generation)
		if err != nil {
			t.Fatal(err)
		}
		if s.String() != text || s.Kind() != identity.KindLeaf || s.AgentID() != agentID || s.Generation() != generation {
			t.Errorf("%d: %s", generation, s)
		}
		if back, ok := identity.ParseSerial(s.Big()); !ok || back != s {
			t.Errorf("%s does not come back from a number", s)
		}
		if back, ok := identity.ParseSerialText(text); !ok || back != s {
			t.Errorf("%s does not come back from its text", s)
		}
		if s.Big().Sign() <= 0 || len(s.Big().Bytes()) != identity.SerialBytes {
			t.Errorf("%s is not positive with 20 octets", s)
		}
	}
}

func TestWhatIsNoAgentHasNoLeafSerial(t *testing.T) {
	for _, id := range []string{"", "x", agentID[1:], "{" + agentID + "}", "urn:uuid:" + agentID, strings.ReplaceAll(agentID, "-", "")} {
		if _, err := identity.LeafSerial(id, 1); err == nil {
			t.Errorf("%q is taken", id)
		}
	}
	if _, err := identity.LeafSerial(agentID, identity.MaxGeneration+1); err == nil {
		t.Error("a generation of 25 bits is taken")
	}
}

func TestRandomSerialsAreOfTheirKindAndNeverTheSame(t *testing.T) {
	seen := map[identity.Serial]bool{}
	for _, kind := range []identity.Kind{identity.KindEdge, identity.KindIssuer} {
		for range 1000 {
			s := identity.RandomSerial(kind)
			if back, ok := identity.ParseSerial(s.Big()); !ok || back != s || s.Kind() != kind || seen[s] {
				t.Fatalf("%s", s)
			}
			seen[s] = true
		}
	}
}

func TestForeignSerialsAreNotOurs(t *testing.T) {
	ours, _ := identity.LeafSerial(agentID, 1)
	random, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 64))
	if err != nil {
		t.Fatal(err)
	}
	for name, n := range map[string]*big.Int{
		"none": nil, "zero": new(big.Int), "negative": new(big.Int).Neg(ours.Big()), "short": random, "one": big.NewInt(1),
		"21 octets": new(big.Int).Lsh(ours.Big(), 8), "kind 0": new(big.Int).SetBytes(ours[1:]),
		"kind 4":   new(big.Int).SetBytes(append([]byte{4}, ours[1:]...)),
		"kind 127": new(big.Int).SetBytes(append([]byte{127}, ours[1:]...)),
	} {
		if s, ok := identity.ParseSerial(n); ok {
			t.Errorf("%s: %s", name, s)
		}
	}
	text := ours.String()
	for _, bad := range []string{"", text[:len(text)-3], text + ":00", strings.ToUpper(text), strings.ReplaceAll(text, ":", ""), strings.ReplaceAll(text, ":", "-"), " " + text, text + "\n", "04" + text[2:], "00" + text[2:], ":" + text} {
		if s, ok := identity.ParseSerialText(bad); ok {
			t.Errorf("%q: %s", bad, s)
		}
	}
}

// FuzzParseSerialText holds that whatever parses is spelled in the one way.
func FuzzParseSerialText(f *testing.F) {
	for _, kind := range []identity.Kind{identity.KindLeaf, identity.KindEdge, identity.KindIssuer} {
		f.Add(identity.RandomSerial(kind).String())
	}
	f.Add("")
	f.Add(strings.Repeat(":", 59))
	f.Fuzz(func(t *testing.T, text string) {
		s, ok := identity.ParseSerialText(text)
		if !ok {
			if s != (identity.Serial{}) && s.String() == text {
				t.Errorf("%q is refused, and spelled right", text)
			}
			return
		}
		if s.String() != text {
			t.Errorf("%q is a second spelling of %s", text, s)
		}
		if back, ok := identity.ParseSerial(s.Big()); !ok || back != s {
			t.Errorf("%s does not come back", s)
		}
	})
}
