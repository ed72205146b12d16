package e2e

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
)

// TestUpgradeAndRollBackUnderLiveAgents does with Vault's own commands what the README says: register beside, tune, reload.
func TestUpgradeAndRollBackUnderLiveAgents(t *testing.T) {
	t.Parallel()
	in := install(t)
	e := in.edge("one")
	live := in.agent(e.endpoint("wss"), in.token().Token, filepath.Join(in.dir, "live"))
	live.AwaitEnrolled()
	calm := len(live.All())

	const next = "v0.0.1-next"
	program := filepath.Join(t.TempDir(), pluginName)
	// With the flags of 'make build', whose cache it finds.
	build := exec.CommandContext(in.ctx(), "go", "build", "-buildvcs=false", "-trimpath", "-o", program,
		"-ldflags", "-s -w -X github.com/ampora/ampora/plugin/apitype.Version="+next, "github.com/ampora/ampora/cmd/"+pluginName)
	build.Env = append(environment(), "CGO_ENABLED=0", "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	out, err := exec.CommandContext(in.ctx(), program, "--version").Output()
	if err != nil || strings.TrimSpace(string(out)) != pluginName+" "+next {
		t.Fatalf("its --version says %q, %v", out, err)
	}
	must(t, in.vault.RegisterPlugin(in.ctx(), api.PluginTypeSecrets, pluginName, program, next))

	waiting := in.token() // issued by the one version, redeemed by the next
	for _, version := range []string{next, in.version} {
		_, err := in.vault.Client().Logical().WriteWithContext(in.ctx(), "sys/mounts/ampora/tune", map[string]any{"plugin_version": version})
		must(t, err)
		before := time.Now()
		must(t, in.vault.ReloadPlugin(in.ctx(), pluginName))
		mounts, err := in.vault.Client().Sys().ListMountsWithContext(in.ctx())
		must(t, err)
		if got := mounts["ampora/"].RunningVersion; got != version {
			t.Errorf("Vault runs %s, want %s", got, version)
		}
		t.Logf("%s runs after %v", version, time.Since(before).Round(time.Millisecond))
		a := in.agent(e.endpoint("wss"), waiting.Token, filepath.Join(in.dir, version), "--exit-enrolled")
		a.AwaitEnrolled()
		in.wantEnrolled(waiting)
		waiting = in.token()
	}
	if n := len(in.agents()); n != 3 {
		t.Errorf("there are %d agents, want three", n)
	}
	if events := live.All(); len(events) != calm {
		t.Errorf("the live agent noticed something: %s", asJSON(events[calm:]))
	}
	e.awaitReady()
}
