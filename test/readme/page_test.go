// Package readme keeps the README pages honest: what they tell readers to run is run, against a real Vault and real agents, and
// the tables that repeat what programs know are compared with the programs.
//
// A comment before a fenced block says what becomes of it; every block of commands must have one:
//
//	<!-- test: run [name] -->         run by bash, must succeed; exported and plain variables live on in the blocks after it
//	<!-- test: eventually -->         run again and again until it succeeds and prints what the block after it says
//	<!-- test: background name -->    started and left running; a name used again replaces the first
//	<!-- test: edge [name] -->        an edge that must become ready, and is then ended
//	<!-- test: unit -->               a systemd unit; its ExecStart is started with its Environment, and left running
//	<!-- test: file path -->          written to that path
//	<!-- test: gitlab -->             a pipeline's file: linted, and its job run as a runner would; likewise github
//	<!-- test: elsewhere where -->    run by another test
//	<!-- test: example -->            not run; the page's text must say so
//	<!-- output: last -->             what the block before it printed, with "..." for what was left out
//	<!-- output: demo -->             likewise what make demo prints; or dev: 'ampora dev'
//
// Text between <!-- begin: name --> and <!-- end: name --> is made by 'go test ./test/readme -update'; but that of clicks is written by
// hand, and each of its commands is run.
package readme

import (
	"fmt"
	"os"
	"regexp"
	"strings"
)

// block is one fenced block.
type block struct {
	line   int
	kind   string // of the comment: run, output, ...; empty without one
	name   string // the rest of the comment
	lang   string
	text   string
	output *block // that follows it
}

var (
	fence   = regexp.MustCompile("^```([a-z]*)$")
	comment = regexp.MustCompile(`^<!-- (test|output): ([a-z]+)(?: (.+))? -->$`)
)

// blocks are a page's fenced blocks in order.
func blocks(text string) ([]*block, error) {
	var all []*block
	var open *block
	kind, name := "", ""
	for i, line := range strings.Split(text, "\n") {
		m := fence.FindStringSubmatch(line)
		switch {
		case open != nil && line == "```":
			all = append(all, open)
			open = nil
		case open != nil:
			open.text += line + "\n"
		case m != nil:
			open = &block{line: i + 1, kind: kind, name: name, lang: m[1]}
			kind, name = "", ""
		case strings.HasPrefix(line, "```"):
			return nil, fmt.Errorf("line %d: a fence that the test does not understand: %s", i+1, line)
		default:
			if kind != "" {
				return nil, fmt.Errorf("line %d: the comment before it belongs to no block", i+1)
			}
			if m := comment.FindStringSubmatch(line); m != nil {
				kind, name = m[2], m[3]
				if m[1] == "output" {
					kind, name = "output", m[2]
				}
			} else if strings.HasPrefix(line, "<!-- test") || strings.HasPrefix(line, "<!-- output") {
				return nil, fmt.Errorf("line %d: a comment that the test does not understand: %s", i+1, line)
			}
		}
	}
	if open != nil {
		return nil, fmt.Errorf("line %d: the block does not end", open.line)
	}
	for i, b := range all {
		if b.kind == "output" && b.name == "last" {
			if i == 0 {
				return nil, fmt.Errorf("line %d: output of nothing", b.line)
			}
			all[i-1].output = b
		}
	}
	return all, nil
}

// section is what lies between begin and end.
func section(text, name string) (body string, err error) {
	begin, end := marks(name)
	_, rest, found := strings.Cut(text, begin)
	body, _, closed := strings.Cut(rest, end)
	if !found || !closed {
		return "", fmt.Errorf("there is no section %q", name)
	}
	return body, nil
}

// replaceSection writes a page with another body of a section.
func replaceSection(path, name, body string) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	begin, end := marks(name)
	old, err := section(string(raw), name)
	if err != nil {
		return err
	}
	return os.WriteFile(path, []byte(strings.Replace(string(raw), begin+old+end, begin+body+end, 1)), 0o644)
}

func marks(name string) (begin, end string) {
	return "<!-- begin: " + name + " -->\n", "<!-- end: " + name + " -->"
}

// What differs from run to run, in the order in which it is replaced.
var varying = []struct {
	pattern *regexp.Regexp
	by      string
}{
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`), "TIME"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \+0000 UTC`), "TIME"},
	{regexp.MustCompile(`amp-[bp]s\.[a-z2-7]+\.[a-z2-7]+`), "TOKEN"},
	{regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`), "UUID"},
	{regexp.MustCompile(`([0-9a-f]{2}:){15,}[0-9a-f]{2}`), "SERIAL"},
	{regexp.MustCompile(`\bv0\.0\.0[0-9A-Za-z.+-]*`), "VERSION"},
	{regexp.MustCompile(`[0-9a-f]{64}`), "HASH"},
	{regexp.MustCompile(`/[^ ]*ampora-(demo|dev)-\d+`), "DIR"},
	{regexp.MustCompile(`127\.0\.0\.1:\d+`), "ADDRESS"},
	{regexp.MustCompile(`\b1\d{9}\b`), "UNIX"},
	{regexp.MustCompile(`\b[0-9.]+ seconds`), "N seconds"},
	{regexp.MustCompile(`\b\d\d:\d\d:\d\d\.\d{3}\b`), "CLOCK"},
	{regexp.MustCompile(`\b(Handover\.[A-Z][a-z]+) [0-9a-f]{8}\b`), "$1 ID"},
	{regexp.MustCompile(`[ \t]+`), " "},
}

func normal(line string) string {
	for _, v := range varying {
		line = v.pattern.ReplaceAllString(line, v.by)
	}
	return strings.TrimSpace(line)
}

// shows reports whether the page's rendering of an output is that output: line by line, with "..." for any number of lines.
func shows(rendering, output string) error {
	lines := strings.Split(strings.TrimSpace(output), "\n")
	at, skip := 0, true // the beginning may be left out
	for _, want := range strings.Split(strings.TrimSpace(rendering), "\n") {
		if want == "..." {
			skip = true
			continue
		}
		for skip && at < len(lines) && normal(lines[at]) != normal(want) {
			at++
		}
		if at >= len(lines) {
			return fmt.Errorf("the page shows a line that was not printed: %s", want)
		}
		if normal(lines[at]) != normal(want) {
			return fmt.Errorf("the page shows\n  %s\nwhere this was printed:\n  %s", want, lines[at])
		}
		at++
		skip = false
	}
	return nil
}
