package handoverfile_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/ampora/ampora/test/handoverfile"
	"github.com/ampora/ampora/test/vaulttest"
)

// blocks are the commands of the page that are run here: the side, and the text.
var blocks = regexp.MustCompile("<!-- test: elsewhere test/handoverfile (source|target) -->\n```sh\n((?s:.*?))```")

// TestWhatThePageTellsOfHandoverFilesWorks runs the page's commands as they are written, each where it is said to be run.
func TestWhatThePageTellsOfHandoverFilesWorks(t *testing.T) {
	w := start(t)
	w.must(w.Enrol(t.Context(), 5, 2000))
	dir := t.TempDir()
	card, err := w.Source.FederationBundle(t.Context())
	w.must(err)
	text, err := json.Marshal(card)
	w.must(err)
	w.must(os.WriteFile(filepath.Join(dir, "eu.json"), text, 0o600))
	bin, err := vaulttest.BinDir()
	w.must(err)
	page, err := os.ReadFile(filepath.Join("..", "..", "cmd", "README.md"))
	w.must(err)
	all := blocks.FindAllStringSubmatch(string(page), -1)
	if len(all) < 5 || strings.Count(string(page), "elsewhere test/handoverfile") != len(all) {
		t.Fatalf("the page has %d blocks", len(all))
	}
	for _, block := range all {
		side := map[string]*handoverfile.Side{"source": w.Source, "target": w.Target}[block[1]]
		cmd := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", block[2])
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "VAULT_ADDR="+side.Vault.Addr, "VAULT_TOKEN="+side.Vault.RootToken)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s%v: %s", block[2], err, out)
		}
		t.Logf("%s%s", block[2], out)
	}
	w.wants(0, w.Target, []string{"progress", filepath.Join(dir, "web.handover")}, "awaiting_release     5")
}
