package vaulttest

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ampora/ampora/test/proc"
	"github.com/hashicorp/vault/api"
)

// TestVaultEndsWithItsParent kills a process that runs a Vault, as a time limit or
// an impatient person would: neither Vault nor its plugin may stay behind.
func TestVaultEndsWithItsParent(t *testing.T) {
	ctx := testContext(t)
	if os.Getenv("AMPORA_TEST_PARENT") != "" {
		v := Start(t)
		must(t, v.RegisterPlugin(ctx, api.PluginTypeCredential, kubernetesAuth, RequireBin(t, kubernetesAuth), "v0.23.1"))
		must(t, v.EnableAuth(ctx, "k8s", kubernetesAuth, "v0.23.1"))
		fmt.Printf("pid %d\n", v.Pid())
		<-ctx.Done()
		return
	}
	RequireBin(t, "vault")
	RequireBin(t, kubernetesAuth)

	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestVaultEndsWithItsParent$", "-test.v")
	cmd.Env = append(os.Environ(), "AMPORA_TEST_PARENT=1", "TMPDIR="+t.TempDir())
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	var pid int
	for lines := bufio.NewScanner(out); pid == 0 && lines.Scan(); {
		t.Log(lines.Text())
		if s, ok := strings.CutPrefix(lines.Text(), "pid "); ok {
			pid, err = strconv.Atoi(s)
			must(t, err)
		}
	}
	var running []proc.Process
	for _, p := range proc.Children(cmd.Process.Pid) {
		if p.PID == pid {
			running = append(proc.Children(pid), p)
		}
	}
	must(t, cmd.Process.Kill())
	_ = cmd.Wait() // it was killed, and says so
	if len(running) < 2 {
		t.Fatalf("want a Vault and its plugin, there was %v", running)
	}
	if !proc.Gone(running, 20*time.Second) {
		t.Errorf("of %v some still run", running)
		for _, p := range running {
			p.Signal(9)
		}
	}
}
