package handover_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/handover"
	"github.com/google/uuid"
)

// manifest is one of the tokens, in their order; change may falsify it.
func (s *side) manifest(target *side, tokens []string, change func(*handover.Manifest)) string {
	m := handover.Manifest{Issuer: s.id, Audience: target.id, ID: uuid.NewString(), IssuedAt: now.Unix(), Expires: now.Unix() + 3600, Group: "web"}
	for _, text := range tokens {
		compact, _, err := handover.Split(text)
		var claims handover.Token
		if err != nil || handover.Unverified(compact, handover.TypeHandover, &claims) != nil {
			panic("no token")
		}
		m.Entries = append(m.Entries, handover.ManifestEntry{HandoverID: claims.ID, TokenHash: handover.Hash(compact)})
	}
	if change != nil {
		change(&m)
	}
	return must(handover.Sign(s.issuer.key, handover.TypeManifest, m))
}

// tokens are n of them, each for an agent of its own.
func (s *side) tokens(target *side, n int) []string {
	var all []string
	for range n {
		all = append(all, s.sign(s.token(target)))
	}
	return all
}

func lines(all ...string) []byte { return []byte(strings.Join(all, "\n") + "\n") }

func TestAHandoverFileIsReadAsItWasWritten(t *testing.T) {
	a, b := newSide("a"), newSide("b")
	tokens := append(a.tokens(b, 3), a.onward(b.sign(b.token(a)), b, nil))
	signed := a.manifest(b, tokens, nil)
	f, err := handover.NewFile(signed, tokens)
	if err != nil {
		t.Fatal(err)
	}
	if want := lines(append([]string{signed}, tokens...)...); !bytes.Equal(f.Bytes(), want) {
		t.Errorf("%q is written as %q", want, f.Bytes())
	}
	if f.Manifest.Group != "web" || len(f.Tokens) != 4 || f.Tokens[3].Text != tokens[3] || f.Tokens[0].Token.Agent.DisplayName != "edge-7" {
		t.Errorf("%+v", f)
	}
}

func TestAFileThatIsNotAsItWasMadeIsRefusedByLine(t *testing.T) {
	a, b, c := newSide("a"), newSide("b"), newSide("c")
	good := a.tokens(b, 4)
	home := a.onward(b.sign(b.token(a)), b, nil)
	signed := a.manifest(b, good, nil)
	whole := append([]string{signed}, good...)
	change := func(f func([]string) []string) []byte { return lines(f(slices.Clone(whole))...) }
	elsewhere := a.sign(a.token(c))
	for name, test := range map[string]struct {
		file []byte
		want string
	}{
		"empty":                    {nil, "line 1: this is empty"},
		"the manifest alone":       {[]byte(signed), "only its first line"},
		"no tokens":                {lines(signed), "ends after line 1, and 4 more tokens"},
		"cut between two lines":    {change(func(l []string) []string { return l[:3] }), "ends after line 3, and 2 more tokens"},
		"cut in a line":            {lines(whole...)[:len(lines(whole...))-7], "line 5 does not end"},
		"cut before the last LF":   {lines(whole...)[:len(lines(whole...))-1], "line 5 does not end"},
		"a line is missing":        {change(func(l []string) []string { return slices.Delete(l, 2, 3) }), "line 3 belongs in line 4"},
		"two lines are exchanged":  {change(func(l []string) []string { l[2], l[4] = l[4], l[2]; return l }), "line 3 belongs in line 5"},
		"a line twice":             {change(func(l []string) []string { return slices.Insert(l, 3, l[2]) }), "line 4 is line 3 again"},
		"a line too many":          {change(func(l []string) []string { return append(l, a.sign(a.token(b))) }), "line 6 has a token that does not belong"},
		"a foreign token":          {change(func(l []string) []string { l[3] = a.sign(a.token(b)); return l }), "line 4 has a token that does not belong"},
		"a token for another":      {change(func(l []string) []string { l[3] = elsewhere; return l }), "line 4 has a token between other peers"},
		"a token of another":       {change(func(l []string) []string { l[3] = c.sign(c.token(b)); return l }), "line 4 has a token between other peers"},
		"a changed token":          {change(func(l []string) []string { l[1] = l[1][:len(l[1])-4] + "AAAA"; return l }), "line 2"},
		"a bootstrap token":        {change(func(l []string) []string { l[1] = "amp-bs.x"; return l }), "line 2: this is a bootstrap token"},
		"an empty line":            {change(func(l []string) []string { return slices.Insert(l, 2, "") }), "line 3 is empty"},
		"an empty line at the end": {append(lines(whole...), '\n'), "line 6 is empty"},
		"white space":              {change(func(l []string) []string { l[2] += " "; return l }), "line 3 is empty, or has white space"},
		"Windows line ends":        {bytes.ReplaceAll(lines(whole...), []byte("\n"), []byte("\r\n")), "CR LF"},
		"tokens without manifest":  {lines(good...), "line 1: it is a handover token, where the manifest of a handover file belongs"},
		"a receipt in a line": {change(func(l []string) []string {
			l[2] = must(handover.Sign(a.issuer.key, handover.TypeReceipt, handover.Receipt{Issuer: "a"}))
			return l
		}), "line 3: it is a receipt"},
		"a lineage that was not there": {change(func(l []string) []string { l[2] += "~" + home; return l }), "line 3: its lineage"},
		"another handover's id": {lines(append([]string{a.manifest(b, good, func(m *handover.Manifest) {
			m.Entries[1].HandoverID = uuid.NewString()
		})}, good...)...), "line 3 has another handover's token"},
		"a token for another that is listed": {lines(a.manifest(b, []string{elsewhere}, nil), elsewhere), "line 2 has a token between other peers"},
		"larger than any":                    {make([]byte, handover.MaxFile+1), "more than 64 MiB"},
	} {
		t.Run(name, func(t *testing.T) {
			f, err := handover.ParseFile(test.file)
			if apitype.CodeOf(err) != apitype.HandoverMalformed || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v instead of %q", err, test.want)
			}
			if err != nil && f != nil {
				t.Error("an error and a file")
			}
			for _, line := range whole {
				if err != nil && strings.Contains(err.Error(), line[len(line)/2:len(line)/2+20]) {
					t.Error("the error quotes the file")
				}
			}
		})
	}
}

func TestAManifestIsRefusedWhenItsClaimsAreNotThose(t *testing.T) {
	a, b := newSide("a"), newSide("b")
	tokens := a.tokens(b, 2)
	for name, change := range map[string]func(*handover.Manifest){
		"iss":           func(m *handover.Manifest) { m.Issuer = "" },
		"aud":           func(m *handover.Manifest) { m.Audience = "x\x1b[2J" },
		"group":         func(m *handover.Manifest) { m.Group = strings.Repeat("x", 200) },
		"jti":           func(m *handover.Manifest) { m.ID = "1" },
		"iat":           func(m *handover.Manifest) { m.IssuedAt = -1 },
		"exp":           func(m *handover.Manifest) { m.Expires = 1 << 50 },
		"entries empty": func(m *handover.Manifest) { m.Entries = nil },
		"entries has an entry without": func(m *handover.Manifest) {
			m.Entries[0].TokenHash = strings.ToUpper(m.Entries[0].TokenHash)
		},
		"entries names a token twice": func(m *handover.Manifest) { m.Entries[1] = m.Entries[0] },
		"entries has more than 5000": func(m *handover.Manifest) {
			for n := range handover.MaxFileTokens {
				m.Entries = append(m.Entries, entry(n))
			}
		},
	} {
		claim, _, _ := strings.Cut(name, " ")
		if _, err := handover.ReadManifest(a.manifest(b, tokens, change)); apitype.CodeOf(err) != apitype.HandoverMalformed || !strings.Contains(err.Error(), claim) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func entry(n int) handover.ManifestEntry {
	return handover.ManifestEntry{HandoverID: uuid.NewString(), TokenHash: handover.Hash(fmt.Sprint(n))}
}

// The longest manifest goes into one string of Vault.
func TestAManifestOfMostTokensFitsIntoOneString(t *testing.T) {
	a := newSideWith("a", keys["RSA"]())
	m := handover.Manifest{Issuer: strings.Repeat("a", 64), Audience: strings.Repeat("b", 64), ID: uuid.NewString(), IssuedAt: now.Unix(), Expires: now.Unix(), Group: strings.Repeat("g", 64)}
	for n := range handover.MaxFileTokens {
		m.Entries = append(m.Entries, entry(n))
	}
	text, err := handover.Sign(a.issuer.key, handover.TypeManifest, m)
	if err != nil || len(text) >= 1<<20 {
		t.Fatalf("%d bytes, %v", len(text), err)
	}
	if _, err := handover.ReadManifest(text); err != nil {
		t.Fatal(err)
	}
}

func TestAHandoverFileWhereATokenBelongsIsSaidByName(t *testing.T) {
	a, b := newSide("a"), newSide("b")
	tokens := a.tokens(b, 2)
	_, err := handover.Open(string(lines(a.manifest(b, tokens, nil), tokens[0], tokens[1])), b.id, peers{a}, now)
	if apitype.CodeOf(err) != apitype.HandoverMalformed || !strings.Contains(err.Error(), "ampora handover redeem") {
		t.Errorf("%v", err)
	}
	_, err = handover.Open(a.manifest(b, tokens, nil), b.id, peers{a}, now)
	if apitype.CodeOf(err) != apitype.HandoverMalformed || !strings.Contains(err.Error(), "the manifest of a handover file") {
		t.Errorf("%v", err)
	}
}

// FuzzParseFile: whatever parses is written again as it was, and what does not has a code.
func FuzzParseFile(f *testing.F) {
	a, b := newSideWith("a", keys["Ed25519"]()), newSide("b")
	tokens := append(a.tokens(b, 2), a.onward(b.sign(b.token(a)), b, nil))
	base := string(lines(append([]string{a.manifest(b, tokens, nil)}, tokens...)...))
	f.Add(uint16(0), uint16(0), "")
	f.Add(uint16(len(base)), uint16(0), "\n")
	f.Add(uint16(strings.IndexByte(base, '\n')), uint16(1), "~")
	f.Add(uint16(0), uint16(60000), "\n\n")
	f.Fuzz(func(t *testing.T, at, cut uint16, insert string) {
		text := spliced(base, at, cut, insert)
		file, err := handover.ParseFile([]byte(text))
		switch {
		case err != nil && (apitype.CodeOf(err) == "" || file != nil):
			t.Fatalf("%v", err)
		case err == nil && string(file.Bytes()) != text:
			t.Fatalf("%q came of %q", file.Bytes(), text)
		}
	})
}
