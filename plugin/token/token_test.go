package token_test

import (
	"bytes"
	"encoding/base32"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/token"
)

// vectors were made with Python's hashlib, base64 and zlib from the payload bytes.
var vectors = []struct {
	name, payload, bootstrap, pool, hash, tokenID, agentID string
}{
	{
		"zeros", "0000000000000000000000000000000000000000000000000000000000000000",
		"amp-bs.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.vv7uyja",
		"amp-ps.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.utibdry",
		"66687aadf862bd776c8fc18b8e9f8e20089714856ee233b3902a591d0d5f2925",
		"66687aad-f862-8d77-ac8f-c18b8e9f8e20", "8cab0227-e6a8-8a19-9693-720789e131f9",
	},
	{
		"ones", "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
		"amp-bs.777777777777777777777777777777777777777777777777777q.tglisvq",
		"amp-ps.777777777777777777777777777777777777777777777777777q.sa45jni",
		"af9613760f72635fbdb44a5a0a63c39f12af30f950a6ee5c971be188e89c4051",
		"af961376-0f72-835f-bdb4-4a5a0a63c39f", "4e734984-fdde-85cc-b3c5-2100452276af",
	},
	{
		"counting", "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
		"amp-bs.aaaqeayeaudaocajbifqydiob4ibceqtcqkrmfyydenbwha5dypq.5jvqv5y",
		"amp-ps.aaaqeayeaudaocajbifqydiob4ibceqtcqkrmfyydenbwha5dypq.4pcfofa",
		"630dcd2966c4336691125448bbb25b4ff412a49c732db2c8abc1b8581bd710dd",
		"630dcd29-66c4-8366-9112-5448bbb25b4f", "168ebc90-119e-887f-b750-88f3042876db",
	},
}

func TestVectors(t *testing.T) {
	for _, v := range vectors {
		for kind, text := range map[token.Kind]string{token.Bootstrap: v.bootstrap, token.PoolSecret: v.pool} {
			s, err := token.Parse(kind, text)
			if err != nil {
				t.Fatalf("%s, %s: %v", v.name, kind, err)
			}
			payload, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(strings.ToUpper(strings.Split(text, ".")[1]))
			if err != nil || hex.EncodeToString(payload) != v.payload {
				t.Errorf("%s: payload %x", v.name, payload)
			}
			hash := s.Hash()
			if s.Reveal() != text || s.Kind() != kind || hex.EncodeToString(hash[:]) != v.hash || s.ID() != v.tokenID || s.AgentID() != v.agentID {
				t.Errorf("%s, %s: %s %x %s %s", v.name, kind, s.Reveal(), hash, s.ID(), s.AgentID())
			}
			if !hash.Equal(hash[:]) || hash.Equal(hash[:31]) || hash.Equal(nil) {
				t.Errorf("%s: Equal", v.name)
			}
		}
	}
}

func TestEverySecretIsNewAndHasItsLength(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		s := token.New(token.Bootstrap)
		if seen[s.Reveal()] || len(s.Reveal()) != token.Length {
			t.Fatalf("%d characters, seen %v", len(s.Reveal()), seen[s.Reveal()])
		}
		seen[s.Reveal()] = true
		if back, err := token.Parse(token.Bootstrap, s.Reveal()); err != nil || back != s {
			t.Fatalf("%v", err)
		}
	}
}

func good(t testing.TB) string {
	t.Helper()
	return vectors[len(vectors)-1].bootstrap
}

func refused(t testing.TB, kind token.Kind, text string) apitype.Code {
	t.Helper()
	s, err := token.Parse(kind, text)
	if err == nil {
		t.Fatalf("%q is taken", text)
	}
	if s != (token.Secret{}) {
		t.Errorf("%q leaves a secret beside the error", text)
	}
	var e *apitype.Error
	if !errors.As(err, &e) || e.Code != apitype.TokenMalformed && e.Code != apitype.TokenChecksum {
		t.Fatalf("%q: %v", text, err)
	}
	if core := strings.TrimSpace(text); len(core) > 30 && strings.Contains(err.Error(), core[10:25]) {
		t.Errorf("the error quotes the text: %v", err)
	}
	return e.Code
}

// The last character of the payload carries 4 unused bits and that of the checksum 3, so that a decoder takes 16 and 8
// spellings. One is ours.
func TestOfAllSpellingsOneIsTaken(t *testing.T) {
	const alphabet = "abcdefghijklmnopqrstuvwxyz234567"
	text := good(t)
	for _, at := range []int{7 + 52 - 1, token.Length - 1} {
		taken, sameBytes := 0, 0
		decode := func(s string) []byte {
			part := strings.ToUpper(strings.Split(s, ".")[1])
			if at == token.Length-1 {
				part = strings.ToUpper(strings.Split(s, ".")[2])
			}
			b, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(part)
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		for _, c := range alphabet {
			spelled := text[:at] + string(c) + text[at+1:]
			if bytes.Equal(decode(spelled), decode(text)) {
				sameBytes++
			}
			if spelled == text {
				taken++
				continue
			}
			refused(t, token.Bootstrap, spelled)
		}
		if want := map[int]int{7 + 52 - 1: 16, token.Length - 1: 8}[at]; taken != 1 || sameBytes != want {
			t.Errorf("position %d: %d spellings of the same bytes, %d taken", at, sameBytes, taken)
		}
	}
}

func TestEveryChangeOfOneCharacterIsRefused(t *testing.T) {
	text := good(t)
	for at := range len(text) {
		for c := range 256 {
			if byte(c) == text[at] {
				continue
			}
			changed := []byte(text)
			changed[at] = byte(c)
			if (at == 0 || at == len(text)-1) && strings.TrimSpace(string(changed)) != string(changed) {
				continue // it is shorter then, see the next test
			}
			refused(t, token.Bootstrap, string(changed))
		}
	}
}

func TestEveryLossGainAndSwapIsRefused(t *testing.T) {
	text := good(t)
	for at := range len(text) {
		refused(t, token.Bootstrap, text[:at])
		if at > 0 {
			refused(t, token.Bootstrap, text[at:])
		}
		refused(t, token.Bootstrap, text[:at]+text[at+1:])
		for _, c := range []string{"a", "2", ".", " ", "\n", "\x00"} {
			if at > 0 || strings.TrimSpace(c) != "" {
				refused(t, token.Bootstrap, text[:at]+c+text[at:])
			}
		}
		if at+1 < len(text) && text[at] != text[at+1] {
			refused(t, token.Bootstrap, text[:at]+text[at+1:at+2]+text[at:at+1]+text[at+2:])
		}
	}
	refused(t, token.Bootstrap, text+text)
	refused(t, token.Bootstrap, strings.ToUpper(text))
	refused(t, token.Bootstrap, `"`+text+`"`)
}

func TestWhatWasCopiedBadlyIsToldFromWhatIsNoToken(t *testing.T) {
	text := good(t)
	swap := func(at int) string {
		c := byte('q')
		if text[at] == c {
			c = 'r'
		}
		return text[:at] + string(c) + text[at+1:]
	}
	for name, c := range map[string]struct {
		text string
		code apitype.Code
	}{
		"nothing":                     {"", apitype.TokenMalformed},
		"a truncated token":           {text[:40], apitype.TokenMalformed},
		"a digit that is not in it":   {text[:12] + "1" + text[13:], apitype.TokenMalformed},
		"capitals":                    {strings.ToUpper(text), apitype.TokenMalformed},
		"another letter":              {swap(12), apitype.TokenChecksum},
		"another letter in the check": {swap(token.Length - 3), apitype.TokenChecksum},
		"an unknown kind":             {"amp-xx" + text[6:], apitype.TokenMalformed},
	} {
		if got := refused(t, token.Bootstrap, c.text); got != c.code {
			t.Errorf("%s: %s", name, got)
		}
	}
}

func TestWhiteSpaceAroundASecretIsIgnored(t *testing.T) {
	for _, text := range []string{" " + good(t), good(t) + "\n", "\t\r\n " + good(t) + " \r\n", "\u00a0" + good(t) + "\u2003"} {
		if s, err := token.Parse(token.Bootstrap, text); err != nil || s.Reveal() != good(t) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestKindsAreNotMixedUp(t *testing.T) {
	v := vectors[0]
	if code := refused(t, token.PoolSecret, v.bootstrap); code != apitype.TokenMalformed {
		t.Errorf("%s", code)
	}
	_, err := token.Parse(token.Bootstrap, v.pool)
	if err == nil || !strings.Contains(err.Error(), "kind amp-ps where one of kind amp-bs belongs") {
		t.Errorf("%v", err)
	}
	// The checksum covers the kind.
	refused(t, token.PoolSecret, "amp-ps"+v.bootstrap[6:])
}

func TestASecretShowsItselfOnlyWhenRevealed(t *testing.T) {
	s, err := token.Parse(token.Bootstrap, good(t))
	if err != nil {
		t.Fatal(err)
	}
	in := struct {
		S token.Secret
		P *token.Secret
		M map[string]token.Secret
	}{s, &s, map[string]token.Secret{"x": s}}
	payload := strings.Split(good(t), ".")[1]
	raw, _ := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(strings.ToUpper(payload))
	var shown []string
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
		shown = append(shown, fmt.Sprintf(verb, s), fmt.Sprintf(verb, &s), fmt.Sprintf(verb, in))
	}
	text, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	for _, out := range append(shown, string(text), fmt.Sprint(s), errors.New(s.String()).Error()) {
		for _, secret := range []string{payload, payload[:16], hex.EncodeToString(raw)[:16], fmt.Sprint(raw)[1:20], strings.ToUpper(hex.EncodeToString(raw))[:16]} {
			if strings.Contains(out, secret) {
				t.Errorf("it shows itself in %s", out)
			}
		}
	}
}

// FuzzParse holds that whatever parses is spelled in the one way, and that errors never quote.
func FuzzParse(f *testing.F) {
	for _, v := range vectors {
		f.Add(v.bootstrap)
		f.Add(v.pool)
		f.Add(" " + v.bootstrap + "\n")
		f.Add(strings.ToUpper(v.bootstrap))
		f.Add(v.bootstrap[:40])
	}
	f.Add("amp-bs..")
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		for _, kind := range []token.Kind{token.Bootstrap, token.PoolSecret} {
			s, err := token.Parse(kind, text)
			if err != nil {
				refused(t, kind, text)
				continue
			}
			if s.Reveal() != strings.TrimSpace(text) || s.Kind() != kind {
				t.Errorf("%q is a second spelling of %q", text, s.Reveal())
			}
		}
	})
}
