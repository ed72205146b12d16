package handover

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ampora/ampora/cmd/ampora/internal/console"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/handover"
)

func TestAFileOfTokensIsWholeOrNotThereAndNeverOverAnother(t *testing.T) {
	path := filepath.Join(t.TempDir(), "web")
	one, err := newOutput(path)
	if err != nil {
		t.Fatal(err)
	}
	other, err := newOutput(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Fatal("there is a file before anything is in it")
	}
	if err := one.commit([]byte("one")); err != nil {
		t.Fatal(err)
	}
	for _, write := range []func([]byte) error{other.commit, other.copy} {
		if err := write([]byte("other")); err == nil || !strings.Contains(err.Error(), "is there already") {
			t.Errorf("%v", err)
		}
	}
	one.drop()
	other.drop()
	if _, err := newOutput(path); err == nil {
		t.Error("a file that is there is begun again")
	}
	text, _ := os.ReadFile(path)
	left, _ := os.ReadDir(filepath.Dir(path))
	if string(text) != "one" || len(left) != 1 {
		t.Errorf("%q, %v", text, left)
	}
	where := filepath.Join(filepath.Dir(path), "second")
	if err := (&output{path: where}).copy([]byte("two")); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(where); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
}

func TestWatchingEndsWhenNothingIsUnderWayAnyMore(t *testing.T) {
	now := time.Unix(1000, 0)
	for name, c := range map[string]struct {
		side    string
		counts  map[string]int
		expires int64
		over    bool
	}{
		"a token is out":                 {apitype.HandoverSource, map[string]int{"handover_pending": 1, "moved_to_peer": 9}, 2000, false},
		"one is released":                {apitype.HandoverSource, map[string]int{"released": 1, "moved_to_peer": 9}, 2000, false},
		"all have moved":                 {apitype.HandoverSource, map[string]int{"moved_to_peer": 10}, 2000, true},
		"some have moved, some did not":  {apitype.HandoverSource, map[string]int{"moved_to_peer": 3, "expired": 3, "lapsed": 2, "forced": 1, "cancelled": 1}, 2000, true},
		"nothing is redeemed yet":        {apitype.HandoverTarget, map[string]int{apitype.StateAbsent: 10}, 2000, false},
		"nothing was redeemed in time":   {apitype.HandoverTarget, map[string]int{apitype.StateAbsent: 10}, 500, true},
		"one waits for the source":       {apitype.HandoverTarget, map[string]int{"awaiting_release": 1, "active": 9}, 2000, false},
		"one waits for the agent":        {apitype.HandoverTarget, map[string]int{"awaiting_reconnect": 1, "active": 9}, 2000, false},
		"what was redeemed has arrived":  {apitype.HandoverTarget, map[string]int{"active": 2, apitype.StateAbsent: 8}, 2000, true},
		"some have arrived, some lapsed": {apitype.HandoverTarget, map[string]int{"active": 5, "lapsed": 4, "rejected": 1}, 2000, true},
	} {
		p := &apitype.HandoverProgress{Side: c.side, Counts: c.counts, Total: 10}
		if got := over(p, &handover.Manifest{Expires: c.expires}, now); got != c.over {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestARunThatHasDoneAPartSaysSo(t *testing.T) {
	m := &maker{cmd: &MakeCmd{Group: "web", Peer: "west"}}
	var out bytes.Buffer
	con := &console.Console{Out: &out, Err: &out}
	m.refused = []apitype.HandoverRefusal{{AgentID: "a", Code: apitype.AgentRevoked, Detail: "x\x1b[2J"}}
	if err := m.tell(con, &apitype.HandoverManifest{}); err == nil || strings.Contains(out.String(), "\x1b") {
		t.Errorf("%v %q", err, out.String())
	}
	m.tokens = []apitype.IssuedHandover{{AgentID: "b"}}
	part, is := m.tell(con, &apitype.HandoverManifest{Count: 1}).(inPart)
	if !is || part.ExitCode() != 3 {
		t.Errorf("%v", part)
	}
}
