package handover_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"regexp"
	"strings"
	"testing"

	"github.com/ampora/ampora/plugin/handover"
)

// table reads the lines of the package comment below the heading that begins with the first line given, as cells.
func table(t *testing.T, heading, first string) [][]string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "doc.go", nil, parser.ParseComments|parser.PackageClauseOnly)
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(comment(file), "# "+heading+"\n")
	if !found {
		t.Fatalf("the comment has no part %q", heading)
	}
	section, _, _ = strings.Cut(section, "\n# ")
	var lines [][]string
	inside := false
	for _, line := range strings.Split(section, "\n") {
		if inside = inside || strings.HasPrefix(line, "\t"+first); inside && strings.HasPrefix(line, "\t") {
			lines = append(lines, regexp.MustCompile(` {2,}`).Split(strings.TrimSpace(line), -1))
		}
	}
	return lines
}

func comment(file *ast.File) string { return file.Doc.Text() }

// text is what a cell of the tables says for a value.
func text[T ~string](value T) string {
	if value == "" {
		return "-"
	}
	return string(value)
}

// find answers the one line for a state and an input whose conditions all hold, without these three cells.
func find(t *testing.T, lines [][]string, state, input string, holds map[string]bool) []string {
	t.Helper()
	var found [][]string
	for _, line := range lines {
		if line[0] != state || line[1] != input {
			continue
		}
		fits := true
		for _, condition := range strings.Split(line[2], ", ") {
			value, known := holds[condition]
			if !known {
				t.Fatalf("a condition %q in %v", condition, line)
			}
			fits = fits && value
		}
		if fits {
			found = append(found, line[3:])
		}
	}
	if len(found) != 1 {
		t.Fatalf("%s, %s, %v: %d lines", state, input, holds, len(found))
	}
	return found[0]
}

// TestTheSourceDoesWhatItsTableSays walks every cell.
func TestTheSourceDoesWhatItsTableSays(t *testing.T) {
	lines := table(t, "State table of the source", "state ")[1:]
	walked := 0
	for _, state := range handover.SourceStates() {
		for _, input := range handover.SourceInputs() {
			for _, timeUp := range []bool{false, true} {
				want := find(t, lines, string(state), string(input), map[string]bool{"-": true, "in time": !timeUp, "time up": timeUp})
				got := state.On(input, timeUp)
				if cells := []string{text(got.Next), text(got.Event), text(got.Answer), text(got.Code)}; !equal(cells, want) {
					t.Errorf("%s, %s, time up %v: %v, the table says %v", state, input, timeUp, cells, want)
				}
				if got.Code != "" && !got.Code.Known() {
					t.Errorf("%s, %s: no such code", state, input)
				}
				if got.Answer != "" && !got.Answer.Answer() {
					t.Errorf("%s, %s: %s is no answer", state, input, got.Answer)
				}
				if (got.Event != "") != (got.Next != state) {
					t.Errorf("%s, %s: a change without an event, or the other way round", state, input)
				}
				walked++
			}
		}
	}
	holdsEachOnce(t, lines, walked)
}

// TestTheTargetDoesWhatItsTableSays walks every cell.
func TestTheTargetDoesWhatItsTableSays(t *testing.T) {
	lines := table(t, "State table of the target", "state ")[1:]
	walked := 0
	for _, state := range handover.TargetStates() {
		for _, input := range handover.TargetInputs() {
			for _, acked := range []bool{false, true} {
				for _, forced := range []bool{false, true} {
					want := find(t, lines, string(state), string(input), map[string]bool{
						"-": true, "acked": acked, "not acked": !acked, "forced": forced, "not forced": !forced,
					})
					got := state.On(input, acked, forced)
					wantAcked := map[string]bool{"yes": true, "no": false, "kept": acked}[want[2]]
					if cells := []string{text(got.Next), text(got.Event), want[2], text(got.Code)}; !equal(cells, want) || got.Acked != wantAcked {
						t.Errorf("%s, %s, acked %v, forced %v: %v %v, the table says %v", state, input, acked, forced, cells, got.Acked, want)
					}
					if got.Code != "" && !got.Code.Known() {
						t.Errorf("%s, %s: no such code", state, input)
					}
					if got.Next != state && got.Event == "" {
						t.Errorf("%s, %s: a change without an event", state, input)
					}
					walked++
				}
			}
		}
	}
	holdsEachOnce(t, lines, walked)
}

func TestTheTargetSendsWhatItsTableSays(t *testing.T) {
	lines := table(t, "Receipts", "awaiting_release")
	if len(lines) != len(handover.TargetStates()) {
		t.Fatalf("%d lines", len(lines))
	}
	for i, state := range handover.TargetStates() {
		send, untilAcked := strings.CutSuffix(lines[i][1], ", until acked")
		if lines[i][0] != string(state) || text(state.Sends(false)) != send {
			t.Errorf("%s: %s, the table says %v", state, state.Sends(false), lines[i])
		}
		if want := map[bool]string{true: "-", false: send}[untilAcked]; text(state.Sends(true)) != want {
			t.Errorf("%s, acked: %s, the table says %v", state, state.Sends(true), lines[i])
		}
	}
}

// holdsEachOnce fails when a table has lines for states or inputs that are none.
func holdsEachOnce(t *testing.T, lines [][]string, walked int) {
	t.Helper()
	states, inputs := map[string]bool{}, map[string]bool{}
	for _, line := range lines {
		if len(line) != 7 {
			t.Errorf("%d cells in %v", len(line), line)
		}
		states[line[0]], inputs[line[1]] = true, true
	}
	if variants := walked / (len(states) * len(inputs)); variants*len(states)*len(inputs) != walked || variants > 4 {
		t.Errorf("the table has %d states and %d inputs, %d cells were walked", len(states), len(inputs), walked)
	}
	t.Logf("%d lines, %d cells walked", len(lines), walked)
}

func equal(a, b []string) bool { return strings.Join(a, "|") == strings.Join(b, "|") }

func TestEveryStepIsAReceiptOrAnAnswer(t *testing.T) {
	for _, input := range handover.SourceInputs()[:3] {
		if handover.Step(input).Answer() {
			t.Errorf("%s", input)
		}
	}
	for _, input := range handover.TargetInputs()[:4] {
		if !handover.Step(input).Answer() {
			t.Errorf("%s", input)
		}
	}
	if !handover.Pending.Open() || !handover.Released.Open() || handover.Moved.Open() || handover.Pending.Away() || !handover.Moved.Away() {
		t.Error("open, away")
	}
}
