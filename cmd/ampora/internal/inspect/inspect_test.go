package inspect

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/handover"
	"github.com/ampora/ampora/plugin/token"
)

// secretFor makes a secret whose last payload character is a digit of base32 too, so that every damage below is one.
func secretFor(kind token.Kind) token.Secret { return token.New(kind) }

func TestAnIntactSecretIsNamedByItsPublicIDs(t *testing.T) {
	s := secretFor(token.Bootstrap)
	for _, text := range []string{s.Reveal(), "  " + s.Reveal() + "\r\n"} {
		r := Inspect([]byte(text), time.Now())
		item := r.Items[0]
		if !r.Intact() || item.Kind != KindBootstrapToken || item.Fields.Get("token_id") != s.ID() || item.Fields.Get("agent_id") != s.AgentID() {
			t.Fatalf("got %+v", item)
		}
	}
	ps := secretFor(token.PoolSecret)
	r := Inspect([]byte(ps.Reveal()), time.Now())
	if !r.Intact() || r.Items[0].Kind != KindPoolSecret || r.Items[0].Fields.Get("agent_id") != nil {
		t.Fatalf("got %+v", r.Items[0])
	}
}

func TestADamagedSecretIsToldFromAnIntactOneAndTheDamageIsNamed(t *testing.T) {
	for range 50 {
		for _, kind := range []token.Kind{token.Bootstrap, token.PoolSecret} {
			s := secretFor(kind).Reveal()
			for _, damage := range []struct{ name, text, guess string }{
				{"upper-cased", strings.ToUpper(s), "capitals"},
				{"one capital", capital(s), "capitals"},
				{"truncated", s[:40], "cut off"},
				{"without its checksum", s[:len(s)-8], "cut off"},
				{"quoted", `"` + s + `"`, "quotes"},
				{"in typographic quotes", "“" + s + "”", "quotes"},
				{"broken over two lines", s[:33] + "\n" + s[33:], "line breaks"},
				{"broken with an indent", s[:33] + "\r\n    " + s[33:], "line breaks"},
				{"with a zero width space", s[:33] + "\u200b" + s[33:], "invisible"},
				{"after Bearer", "Bearer " + s, "Bearer"},
				{"as an assignment", "AMPORA_TOKEN=" + s, "word"},
				{"as quoted JSON", `"token": "` + s + `",`, "word"},
				{"pasted twice", s + s, "too many"},
				{"with a character changed", change(s), "changed"},
			} {
				r := Inspect([]byte(damage.text), time.Now())
				item := r.Items[0]
				if r.Intact() || item.Problem == "" {
					t.Fatalf("%s: taken for intact: %+v", damage.name, item)
				}
				if all := strings.Join(item.Guesses, "\n"); !strings.Contains(all, damage.guess) {
					t.Fatalf("%s: guessed %q", damage.name, all)
				}
				noSecret(t, damage.name, s, r)
			}
		}
	}
}

func TestWholeAnswersAreRecognised(t *testing.T) {
	s := token.New(token.Bootstrap).Reveal()
	for _, text := range []string{
		`{"request_id":"x","data":{"token":"` + s + `","token_id":"y"}}`,
		"Key         Value\n---         -----\nexpires_at  2026-01-01T00:00:00Z\ntoken       " + s + "\n",
	} {
		r := Inspect([]byte(text), time.Now())
		if r.Intact() || r.Items[0].Kind != KindUnknown || !strings.Contains(strings.Join(r.Items[0].Guesses, ""), "-field=token") {
			t.Fatalf("got %+v", r.Items[0])
		}
		noSecret(t, "answer", s, r)
	}
}

// FuzzInspect: whatever comes in, it does not panic, and takes for an intact secret only what token.Parse takes.
func FuzzInspect(f *testing.F) {
	f.Add(token.New(token.Bootstrap).Reveal())
	f.Add("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----")
	f.Add("Bearer \"amp-ps.")
	f.Add(strings.Repeat("\u023a", 8) + "amp-ps.") // letters whose lower case is a byte longer
	f.Add("eyJhbGciOiJFUzI1NiIsInR5cCI6ImFtcG9yYS1yZWNlaXB0K2p3dCJ9.e30.AAAA")
	f.Add(`{"peer_id":"eu","ca_bundle":"-----BEGIN CERTIFICATE-----","bundle_jws":"eyJ"}`)
	f.Fuzz(func(t *testing.T, text string) {
		r := Inspect([]byte(text), time.Now())
		for _, item := range r.Items {
			if item.Kind == KindBootstrapToken && item.Intact {
				if _, err := token.Parse(token.Bootstrap, text); err != nil {
					t.Fatalf("taken for intact: %q", text)
				}
			}
			if item.Kind == KindHandoverToken && item.Intact {
				if _, err := handover.Read(text); err != nil {
					t.Fatalf("taken for intact: %q", text)
				}
			}
			if !item.Intact && item.Problem == "" {
				t.Fatalf("no problem named for %q", text)
			}
		}
	})
}

// noSecret holds that no run of 6 characters of the secret's payload stands in the report.
func noSecret(t *testing.T, name, secret string, r Report) {
	t.Helper()
	out, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	shown := strings.ToLower(fmt.Sprintf("%s %+v", out, r))
	for i := len("amp-bs."); i+6 <= len(secret); i++ {
		if strings.Contains(shown, secret[i:i+6]) {
			t.Fatalf("%s: a piece of the secret is shown: %s", name, shown)
		}
	}
}

// capital turns one letter of the payload into a capital.
func capital(s string) string {
	i := 7 + strings.IndexFunc(s[7:], func(r rune) bool { return r >= 'a' && r <= 'z' })
	return s[:i] + strings.ToUpper(s[i:i+1]) + s[i+1:]
}

// change replaces one character of the payload by another of the alphabet.
func change(s string) string {
	c := "a"
	if s[20] == 'a' {
		c = "b"
	}
	return s[:20] + c + s[21:]
}
