package setup_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/client"
	"github.com/ampora/ampora/test/vaulttest"
)

// TestUpgradeAndRollBack moves a mount to another version and back, with its rows.
func TestUpgradeAndRollBack(t *testing.T) {
	v := vaulttest.Start(t)
	o := options(t, v)
	run(t, v.Client(), o)
	c, err := client.New(v.Client(), "ampora")
	must(t, err)
	issued, err := c.IssueToken(t.Context(), apitype.TokenIssueRequest{})
	must(t, err)

	next := o
	next.PluginVersion = "v99.0.0"
	next.Plugin = filepath.Join(v.PluginDir, "vault-plugin-secrets-ampora_"+next.PluginVersion)
	build(t, next.Plugin, next.PluginVersion)
	for _, step := range []struct {
		name string
		o    func() string
		runs string
	}{
		{"upgrade", func() string { return run(t, v.Client(), next) }, "v99.0.0"},
		{"roll back", func() string { return run(t, v.Client(), o) }, o.PluginVersion},
	} {
		if out := step.o(); !contains(out, "changed", "runs "+step.runs) {
			t.Errorf("%s:\n%s", step.name, out)
		}
		mounts, err := v.Client().Sys().ListMountsWithContext(t.Context())
		must(t, err)
		if got := mounts["ampora/"].RunningVersion; got != step.runs {
			t.Errorf("%s: Vault runs %s", step.name, got)
		}
		row, err := c.Token(t.Context(), issued.TokenID)
		if err != nil || row.State != apitype.TokenStateIssued {
			t.Errorf("%s: the row: %+v %v", step.name, row, err)
		}
	}

	// Other bytes under the same version, as a developer makes them.
	again := next
	build(t, again.Plugin+"b", next.PluginVersion)
	data, err := os.ReadFile(again.Plugin + "b")
	must(t, err)
	again.Plugin += "c"
	must(t, os.WriteFile(again.Plugin, append(data, 0), 0o700))
	run(t, v.Client(), next)
	if out := run(t, v.Client(), again); !contains(out, "changed", "the program that is registered now") {
		t.Errorf("other bytes:\n%s", out)
	}
	if out := run(t, v.Client(), again); changed(out) != 0 {
		t.Errorf("the second run changed something:\n%s", out)
	}
}

func build(t *testing.T, to, version string) {
	t.Helper()
	cmd := exec.Command("go", "build", "-o", to, "-ldflags", "-X github.com/ampora/ampora/plugin/apitype.Version="+version,
		"github.com/ampora/ampora/cmd/vault-plugin-secrets-ampora")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}
