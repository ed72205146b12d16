package handover

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/ampora/ampora/plugin/apitype"
)

// File is a handover file: the tokens of a group of agents with their manifest.
type File struct {
	Manifest Manifest
	Signed   string      // the manifest as it is signed
	Tokens   []FileToken // in the manifest's order
}

// FileToken is one line of a handover file.
type FileToken struct {
	Text  string // with its lineage, as handover/redeem takes it
	Token Token  // what it says; nobody has checked yet who says so
}

// NewFile puts a file together, and refuses what ParseFile would.
func NewFile(manifest string, tokens []string) (*File, error) {
	var b strings.Builder
	for _, line := range append([]string{manifest}, tokens...) {
		b.WriteString(line)
		b.WriteByte('\n')
	}
	return ParseFile([]byte(b.String()))
}

// Bytes is the file as it is written.
func (f *File) Bytes() []byte {
	var b bytes.Buffer
	b.WriteString(f.Signed)
	b.WriteByte('\n')
	for _, t := range f.Tokens {
		b.WriteString(t.Text)
		b.WriteByte('\n')
	}
	return b.Bytes()
}

// ParseFile reads a handover file, and checks all that can be checked without keys: every token of the manifest is there, in its
// order, as it was when the manifest was signed, and nothing else is. Who signed the manifest and the tokens is for an
// installation to check. The error is handover_malformed; it names the line, and never quotes it.
func ParseFile(data []byte) (*File, error) {
	if len(data) > MaxFile {
		return nil, broken("it has more than %d MiB", MaxFile>>20)
	}
	if bytes.IndexByte(data, '\r') >= 0 {
		return nil, broken("its lines end as on Windows (CR LF), so it is not as it was made")
	}
	first, rest, _ := bytes.Cut(data, []byte("\n"))
	f := &File{Signed: string(first)}
	manifest, err := ReadManifest(f.Signed)
	if err != nil {
		return nil, inLine(1, err)
	}
	f.Manifest = *manifest
	if bytes.IndexByte(data, '\n') < 0 {
		return nil, broken("it has only its first line: it was cut, or that line was copied alone")
	}
	r := fileReader{file: f, at: make(map[string]int, len(manifest.Entries)), seen: make(map[string]int, len(manifest.Entries))}
	for n, entry := range manifest.Entries {
		r.at[entry.TokenHash] = n
	}
	if err := r.read(rest); err != nil {
		return nil, err
	}
	return f, nil
}

// fileReader reads the lines of tokens.
type fileReader struct {
	file *File
	at   map[string]int // where the manifest has a token, by its hash
	seen map[string]int // its line, by its hash
}

// lineOf is the line of the n-th token; the manifest has the first.
func lineOf(n int) int { return n + 2 }

func (r *fileReader) read(data []byte) error {
	entries := r.file.Manifest.Entries
	for n := 0; len(data) > 0; n++ {
		line, rest, whole := bytes.Cut(data, []byte("\n"))
		if !whole {
			return broken("line %d does not end: the file was cut", lineOf(n))
		}
		token, err := r.line(n, string(line))
		if err != nil {
			return err
		}
		r.file.Tokens, data = append(r.file.Tokens, token), rest
	}
	if missing := len(entries) - len(r.file.Tokens); missing > 0 {
		return broken("it ends after line %d, and %d more tokens belong in it: it was cut", 1+len(r.file.Tokens), missing)
	}
	return nil
}

// line reads the n-th token's line.
func (r *fileReader) line(n int, text string) (FileToken, error) {
	m, none := &r.file.Manifest, FileToken{}
	if text == "" || text != strings.TrimSpace(text) {
		return none, broken("line %d is empty, or has white space around it", lineOf(n))
	}
	compact, lineage, err := Split(text)
	if err != nil {
		return none, inLine(lineOf(n), err)
	}
	hash := Hash(compact)
	place, belongs := r.at[hash]
	switch before, doubled := r.seen[hash]; {
	case doubled:
		return none, broken("line %d is line %d again", lineOf(n), before)
	case !belongs:
		return none, r.foreign(n, compact)
	case place != n:
		return none, broken("line %d belongs in line %d: a line is missing, or the lines are in another order", lineOf(n), lineOf(place))
	}
	r.seen[hash] = lineOf(n)
	var claims Token
	if err := Unverified(compact, TypeHandover, &claims); err != nil {
		return none, inLine(lineOf(n), err)
	}
	switch {
	case claims.Issuer != m.Issuer || claims.Audience != m.Audience:
		return none, broken("line %d has a token between other peers than the manifest's", lineOf(n))
	case claims.ID != m.Entries[n].HandoverID:
		return none, broken("line %d has another handover's token than its entry says", lineOf(n))
	}
	if err := claims.check(); err != nil {
		return none, inLine(lineOf(n), err)
	}
	if _, err := (&Opened{Token: claims, Lineage: lineage}).ancestors(); err != nil {
		return none, inLine(lineOf(n), err)
	}
	return FileToken{Text: text, Token: claims}, nil
}

// foreign says of a token that is not the manifest's what it is.
func (r *fileReader) foreign(n int, compact string) error {
	var claims Token
	if err := Unverified(compact, TypeHandover, &claims); err != nil {
		return inLine(lineOf(n), err)
	}
	if claims.Issuer != r.file.Manifest.Issuer || claims.Audience != r.file.Manifest.Audience {
		return broken("line %d has a token between other peers than the manifest's", lineOf(n))
	}
	return broken("line %d has a token that does not belong in this file, or was changed", lineOf(n))
}

// broken says what is wrong with a file.
func broken(format string, args ...any) error {
	return apitype.Errorf(apitype.HandoverMalformed, "the handover file: %s", fmt.Sprintf(format, args...))
}

// inLine says in which line something is wrong.
func inLine(line int, err error) error {
	if is, ok := err.(*apitype.Error); ok {
		return apitype.Errorf(is.Code, "the handover file, line %d: %s", line, is.Detail)
	}
	return err
}
