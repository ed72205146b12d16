package handover

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/ampora/ampora/test/vaulttest"
)

// TestThePageMovesAnAgent runs what the top page says about federation, as it is written, each block against its side. Only the addresses are
// replaced.
func TestThePageMovesAnAgent(t *testing.T) {
	page, err := os.ReadFile("../../README.md")
	must(t, err)
	blocks := regexp.MustCompile("(?m)^<!-- test: elsewhere test/handover ([a-z-]+)( eventually)? -->\n```sh\n((?s:.*?))^```$").FindAllStringSubmatch(string(page), -1)
	if len(blocks) < 15 {
		t.Fatalf("the page has %d blocks about handovers", len(blocks))
	}
	sides := map[string]*region{}
	for _, r := range regions(t, options{}, "eu", "eu-west") {
		sides[r.name] = r
	}
	a := sides["eu"].agent("wss")
	dir := t.TempDir()
	for _, b := range blocks {
		r, text := sides[b[1]], b[3]
		for name, side := range sides {
			text = strings.ReplaceAll(text, "edge."+name+".example.com:4320", side.federation.Addr())
		}
		run := func() (string, error) {
			cmd := exec.CommandContext(t.Context(), "bash", "-c", "set -euo pipefail\n"+text)
			cmd.Dir = dir
			cmd.Env = append(append(environment(), r.vault.Env()...), "HOME="+dir, "AGENT="+a.id,
				"PATH="+filepath.Dir(vaulttest.RequireBin(t, "vault"))+":"+os.Getenv("PATH"))
			out, err := cmd.CombinedOutput()
			return string(out), err
		}
		out, err := run()
		if b[2] != "" {
			r.eventually(text, func() bool {
				if err != nil {
					out, err = run()
				}
				return err == nil
			}, func() string { return out })
		}
		if err != nil {
			t.Fatalf("in %s: %v\n%s\n%s", r.name, err, text, out)
		}
		t.Logf("in %s\n%s--\n%s", r.name, text, out)
	}
}
