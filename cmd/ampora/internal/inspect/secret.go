package inspect

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/token"
)

// inspectSecret looks at text that is no PEM. Nothing of the text ever reaches the answer: what it says is derived from the
// hash of an intact secret, or is a count.
func inspectSecret(text string) Item {
	text = strings.TrimSpace(text)
	kind, item := kindOf(text)
	if kind == "" {
		item.Problem = "this is no secret, certificate or key of ours"
		if text == "" {
			item.Problem = "there is nothing in it"
		}
		item.Guesses = guessWrapping(text)
		return item
	}
	secret, err := token.Parse(kind, text)
	if err == nil {
		item.Intact = true
		item.Fields = secretFields(secret)
		return item
	}
	item.Problem = problemOf(err)
	item.Guesses = guess(kind, text)
	return item
}

func secretFields(s token.Secret) Fields {
	var f Fields
	if s.Kind() == token.Bootstrap {
		f.add("token_id", s.ID())
		f.add("agent_id", s.AgentID())
		return f
	}
	f.add("secret_id", s.ID())
	return f
}

// kindOf tells a secret by its beginning, also when it is wrapped or upper-cased.
func kindOf(text string) (token.Kind, Item) {
	plain := strings.ToLower(strip(text))
	for kind, name := range map[token.Kind]string{token.Bootstrap: KindBootstrapToken, token.PoolSecret: KindPoolSecret} {
		if strings.HasPrefix(plain, string(kind)) {
			return kind, Item{Kind: name}
		}
	}
	return "", Item{Kind: KindUnknown}
}

// looksSecret tells a pasted secret from the name of a file.
func looksSecret(arg string) bool {
	kind, _ := kindOf(arg)
	return kind != "" && len(arg) > token.Length/2
}

func problemOf(err error) string {
	var e *apitype.Error
	if errors.As(err, &e) {
		return fmt.Sprintf("%s: %s", e.Code, e.Detail)
	}
	return "it cannot be read"
}

// A repair is one thing that happens to text on its way through terminals, mails and shells, undone.
type repair struct {
	says string
	undo func(string) string
}

func repairs() []repair {
	return []repair{
		{"there are quotes or brackets around it", func(s string) string { return strings.Trim(s, "\"'`<>“”‘’«»,;") }},
		{"'Bearer', 'token' or another word stands before it", dropPrefix},
		{"there are line breaks or blanks inside", func(s string) string { return strings.Join(strings.Fields(s), "") }},
		{"there are invisible characters in it", dropInvisible},
		{"letters were turned into capitals", strings.ToLower},
	}
}

// strip undoes every repair but the last, that of letters.
func strip(text string) string {
	all := repairs()
	for _, r := range all[:len(all)-1] {
		text = r.undo(text)
	}
	return text
}

// guess tells what may have happened to a secret that has the beginning of one. When undoing it gives an intact secret the
// guess is a certainty, and says so.
func guess(kind token.Kind, text string) []string {
	var applied []string
	repaired := text
	for _, r := range repairs() {
		if next := r.undo(repaired); next != repaired {
			applied, repaired = append(applied, r.says), next
		}
	}
	_, err := token.Parse(kind, repaired)
	if err == nil {
		return append(applied, "nothing else is wrong: without that it is intact")
	}
	switch n := len([]rune(repaired)); {
	case n < token.Length:
		applied = append(applied, fmt.Sprintf("%d of %d characters are missing: it was cut off", token.Length-n, token.Length))
	case n > token.Length:
		applied = append(applied, fmt.Sprintf("there are %d characters too many: something else was copied along", n-token.Length))
	case apitype.CodeOf(err) == apitype.TokenChecksum:
		applied = append(applied, "at least one character was changed: it was mistyped, or copied from an image")
	case strings.ContainsAny(repaired[len(kind):], "0189"):
		applied = append(applied, "0, 1, 8 and 9 never stand in it: an o, l, b or g was misread")
	}
	return applied
}

// guessWrapping recognises the answers of Vault that people paste whole.
func guessWrapping(text string) []string {
	var answer struct {
		Data map[string]any `json:"data"`
	}
	switch {
	case json.Unmarshal([]byte(text), &answer) == nil && answer.Data["token"] != nil:
		return []string{"this is Vault's whole JSON answer: take only data.token, as in vault write -f -field=token ampora/tokens/issue"}
	case strings.Contains(text, "amp-bs.") || strings.Contains(text, "amp-ps."):
		return []string{"a secret stands somewhere inside: copy only that, as from vault write -f -field=token ampora/tokens/issue"}
	case strings.HasPrefix(text, "hvs.") || strings.HasPrefix(text, "hvb.") || strings.HasPrefix(text, "s."):
		return []string{"this looks like a token of Vault itself"}
	}
	return nil
}

func dropPrefix(s string) string {
	for _, kind := range []token.Kind{token.Bootstrap, token.PoolSecret} {
		i := indexFold(s, string(kind))
		// Only a word or an assignment before it; more is another text, which guessWrapping handles.
		if i > 0 && i <= 40 && !strings.ContainsAny(s[:i], "\n{") {
			return s[i:]
		}
	}
	return s
}

// indexFold is strings.Index whatever the case. It looks at s itself: the lower case of some letters has another length, so
// an index into strings.ToLower(s) is none into s.
func indexFold(s, substr string) int {
	for i := 0; i+len(substr) <= len(s); i++ {
		if strings.EqualFold(s[i:i+len(substr)], substr) {
			return i
		}
	}
	return -1
}

func dropInvisible(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) {
			return -1
		}
		return r
	}, s)
}
