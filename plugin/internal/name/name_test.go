package name_test

import (
	"strings"
	"testing"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/name"
	"github.com/ampora/ampora/plugin/token"
)

const id = "630dcd29-66c4-8366-9112-5448bbb25b4f"

func TestNames(t *testing.T) {
	for _, good := range []string{"a", "0", "web", "eu-west_1", "a--b", strings.Repeat("a", 64), "amp", "amp_bs", strings.Repeat("z", 36)} {
		if err := name.Check("group", good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{
		"", "-", "_", "a-", "-a", "_a", "A", "a b", "a.b", "a/b", "..", "ä", "a\n", "a\x00", strings.Repeat("a", 65), "amp-", "amp-bs", "amp-x",
		id, strings.ReplaceAll(id, "-", ""), token.New(token.Bootstrap).Reveal(),
	} {
		err := name.Check("group", bad)
		if apitype.CodeOf(err) != apitype.NameInvalid || !strings.Contains(err.Error(), "group is no valid name") || len(bad) > 3 && bad != "amp-" && strings.Contains(err.Error(), bad) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestEveryCharacterOfANameIsTried(t *testing.T) {
	for c := range rune(0x300) {
		fine := c >= 'a' && c <= 'z' || c >= '0' && c <= '9'
		inside := fine || c == '-' || c == '_'
		for text, want := range map[string]bool{string(c): fine, "a" + string(c): fine, "a" + string(c) + "a": inside} {
			if err := name.Check("x", text); (err == nil) != want {
				t.Errorf("%q: %v", text, err)
			}
		}
	}
}

func TestFreeText(t *testing.T) {
	for _, good := range []string{"", "rack 7", "Zürich", "日本", "a\u00a0b", strings.Repeat("a", 20), "amp-bs", "bs.amp"} {
		if err := name.Text("label", good, 20); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	secret := token.New(token.PoolSecret).Reveal()
	for _, bad := range []string{
		strings.Repeat("a", 21), "a\nb", "a\rb", "a\tb", "\x00", "\x1b[31m", "\x7f", "\u0085", "\u200b", "\u202e", "\u2066", "\u2028", "\u2029", "\ufeff", "\xff", "a\xc3",
		secret[:20], "AMP-BS.x", "x amp-bs.",
	} {
		if err := name.Text("label", bad, 20); apitype.CodeOf(err) != apitype.FieldInvalid || !strings.HasPrefix(err.(*apitype.Error).Detail, "label ") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestIDsAreUUIDsInTheirOneSpelling(t *testing.T) {
	if err := name.CheckID(id, apitype.AgentUnknown); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"", "x", strings.ToUpper(id), "{" + id + "}", "urn:uuid:" + id, strings.ReplaceAll(id, "-", ""), id + " ", "../" + id} {
		if err := name.CheckID(bad, apitype.AgentUnknown); apitype.CodeOf(err) != apitype.AgentUnknown {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
