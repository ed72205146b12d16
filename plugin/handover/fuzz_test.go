package handover_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/handover"
)

// spliced is base with cut bytes at some place replaced by insert. So the fuzzer's own input stays small, and what it makes is
// near to what is good.
func spliced(base string, at, cut uint16, insert string) string {
	from := min(int(at), len(base))
	return base[:from] + insert + base[min(from+int(cut), len(base)):]
}

// FuzzOpen: whatever opens is spelled in one way, and what does not has a code.
func FuzzOpen(f *testing.F) {
	a, b := newSide("a"), newSide("b")
	text := a.sign(a.token(b))
	bases := []string{text, b.onward(text, a, nil), forge(header("none", nil), "{}", unsigned), ""}
	f.Add(uint8(0), uint16(0), uint16(0), " ")
	f.Add(uint8(1), uint16(len(text)), uint16(0), "~")
	f.Add(uint8(2), uint16(3), uint16(1), "A")
	f.Add(uint8(3), uint16(0), uint16(0), "amp-bs.")
	f.Add(uint8(3), uint16(0), uint16(0), "~~.~")
	f.Fuzz(func(t *testing.T, base uint8, at, cut uint16, insert string) {
		text := spliced(bases[int(base)%len(bases)], at, cut, insert)
		token, lineage, err := handover.Split(text)
		if err == nil && handover.Join(token, lineage) != strings.TrimSpace(text) {
			t.Fatalf("%q and %q came of %q", token, lineage, text)
		}
		for _, self := range []*side{a, b} {
			o, err := handover.Open(text, self.id, peers{a, b}, now)
			switch {
			case err != nil && (apitype.CodeOf(err) == "" || o != nil):
				t.Fatalf("%v", err)
			case err == nil && o.Text() != strings.TrimSpace(text):
				t.Fatalf("%q opened from %q", o.Text(), text)
			}
		}
	})
}

// FuzzClaims signs whatever comes with the pinned key: what opens says the same when it is written again.
func FuzzClaims(f *testing.F) {
	a, b := newSideWith("a", keys["Ed25519"]()), newSide("b")
	claims := a.token(b)
	bases := []string{string(must(json.Marshal(claims))), `{"iss":"a","aud":"b","cnf":{"x5t#S256":""},"agent":[]}`, ""}
	f.Add(uint8(0), uint16(0), uint16(0), " ")
	f.Add(uint8(0), uint16(1), uint16(0), `"iss":"a",`)
	f.Add(uint8(1), uint16(1), uint16(5), `"Iss"`)
	f.Add(uint8(2), uint16(0), uint16(0), "{}")
	f.Fuzz(func(t *testing.T, base uint8, at, cut uint16, insert string) {
		content := spliced(bases[int(base)%len(bases)], at, cut, insert)
		o, err := handover.Open(forge(header("EdDSA", nil), content, by(a.issuer.key)), b.id, peers{a}, now)
		if err != nil {
			if apitype.CodeOf(err) == "" {
				t.Fatalf("%v", err)
			}
			return
		}
		again, err := handover.Open(a.sign(o.Token), b.id, peers{a}, now)
		if err != nil || !reflect.DeepEqual(again.Token, o.Token) {
			t.Fatalf("%v: %+v is not %+v", err, again, o.Token)
		}
	})
}
