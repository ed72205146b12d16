package vaulttest

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ampora/ampora/test/proc"
	"github.com/hashicorp/vault/api"
)

const kubernetesAuth = "vault-plugin-auth-kubernetes"

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestDataOutlivesKillRestartAndSeal(t *testing.T) {
	for _, c := range []struct {
		name string
		opts []Option
	}{{"plain", nil}, {"tls", []Option{WithTLS()}}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ctx := testContext(t)
			start := time.Now()
			v := Start(t, c.opts...)
			t.Logf("up after %v", time.Since(start))
			must(t, v.EnableSecrets(ctx, "kv", "kv", ""))
			_, err := v.Client().Logical().Write("kv/a", map[string]any{"is": "here"})
			must(t, err)
			check := func(after string) {
				t.Helper()
				s, err := v.Client().Logical().Read("kv/a")
				if err != nil || s == nil || s.Data["is"] != "here" {
					t.Fatalf("after %s kv/a is %v, %v", after, s, err)
				}
			}
			check("writing")

			v.Kill()
			if v.Pid() != 0 {
				t.Fatal("there is a process after Kill")
			}
			if _, err := v.Client().Logical().Read("kv/a"); err == nil {
				t.Fatal("a killed Vault answers")
			}
			start = time.Now()
			must(t, v.Restart(ctx))
			t.Logf("up again after %v", time.Since(start))
			check("Kill and Restart")

			must(t, v.Restart(ctx))
			check("Restart of a running one")

			must(t, v.Seal(ctx))
			if _, err := v.Client().Logical().Read("kv/a"); err == nil {
				t.Fatal("a sealed Vault answers")
			}
			must(t, v.Unseal(ctx))
			check("Seal and Unseal")
		})
	}
}

func TestLastIndexCountsWrites(t *testing.T) {
	ctx := testContext(t)
	v := Start(t)
	must(t, v.EnableSecrets(ctx, "kv", "kv", ""))
	before, err := v.LastIndex(ctx)
	must(t, err)
	time.Sleep(300 * time.Millisecond)
	idle, err := v.LastIndex(ctx)
	must(t, err)
	if idle != before {
		t.Errorf("an idle Vault went from %d to %d", before, idle)
	}
	client := v.Client()
	for range 10 {
		_, err := client.Logical().Write("kv/a", map[string]any{"n": 1})
		must(t, err)
		_, err = client.Logical().Read("kv/a")
		must(t, err)
	}
	after, err := v.LastIndex(ctx)
	must(t, err)
	if after-idle != 10 {
		t.Errorf("10 writes and 10 reads moved the index by %d, want 10", after-idle)
	}
}

func TestKilledPluginComesBack(t *testing.T) {
	ctx := testContext(t)
	path := RequireBin(t, kubernetesAuth)
	v, other := Start(t), Start(t)
	for _, v := range []*Vault{v, other} {
		must(t, v.RegisterPlugin(ctx, api.PluginTypeCredential, kubernetesAuth, path, "v0.23.1"))
		must(t, v.EnableAuth(ctx, "k8s", kubernetesAuth, "v0.23.1"))
		_, err := v.Client().Logical().Write("auth/k8s/role/a", map[string]any{
			"bound_service_account_names": "x", "bound_service_account_namespaces": "y", "audience": "vault",
		})
		must(t, err)
	}
	first, untouched := v.PluginPids(kubernetesAuth), other.PluginPids(kubernetesAuth)
	if len(first) != 1 || len(untouched) != 1 {
		t.Fatalf("plugin processes: %v and %v, want one each", first, untouched)
	}

	must(t, v.KillPlugin(kubernetesAuth))
	// Vault notices at the next request, and may give up that one and others that meet the dying process.
	err := errors.New("not asked")
	for deadline := time.Now().Add(time.Minute); err != nil && time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		var s *api.Secret
		if s, err = v.Client().Logical().Read("auth/k8s/role/a"); err == nil {
			if s == nil {
				t.Fatal("the role is gone")
			}
		}
	}
	must(t, err)
	second := v.PluginPids(kubernetesAuth)
	if len(second) != 1 || second[0] == first[0] {
		t.Errorf("the plugin ran as %v and, killed, runs as %v", first, second)
	}
	if now := other.PluginPids(kubernetesAuth); len(now) != 1 || now[0] != untouched[0] {
		t.Errorf("the other Vault's plugin went from %v to %v", untouched, now)
	}

	must(t, v.ReloadPlugin(ctx, kubernetesAuth))
	if _, err = v.Client().Logical().Read("auth/k8s/role/a"); err != nil {
		t.Errorf("after a reload: %v", err)
	}
	if err := v.KillPlugin("no-such-plugin"); err == nil {
		t.Error("a plugin that is not there was killed")
	}
}

func TestAmporaIsRegisteredUnderItsOwnVersion(t *testing.T) {
	ctx := testContext(t)
	RequireBin(t, ampora)
	v := Start(t)
	version, err := v.RegisterAmpora(ctx, "ampora")
	must(t, err)
	mounts, err := v.Client().Sys().ListMountsWithContext(ctx)
	must(t, err)
	m := mounts["ampora/"]
	if m == nil {
		t.Fatalf("not mounted: %v", mounts)
	}
	if m.PluginVersion != version || m.RunningVersion != version {
		t.Errorf("registered %s, mounted %s, running %s: want all the same", version, m.PluginVersion, m.RunningVersion)
	}
	must(t, v.KillPlugin(ampora))
	// The first requests after a crash may be the ones that find out.
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if _, err = v.Client().Logical().ReadWithContext(ctx, "ampora/config"); err == nil {
			break
		}
	}
	must(t, err)
}

func TestStopLeavesNothing(t *testing.T) {
	ctx := testContext(t)
	path := RequireBin(t, kubernetesAuth)
	for _, c := range []struct {
		name string
		end  func(*Vault) error
	}{
		{"Stop", (*Vault).Stop},
		{"Kill and Stop", func(v *Vault) error { v.Kill(); return v.Stop() }},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := Start(t)
			must(t, v.RegisterPlugin(ctx, api.PluginTypeCredential, kubernetesAuth, path, "v0.23.1"))
			must(t, v.EnableAuth(ctx, "k8s", kubernetesAuth, "v0.23.1"))
			running := proc.Children(v.Pid())
			if len(running) == 0 {
				t.Fatal("Vault runs no plugin")
			}
			must(t, c.end(v))
			if !proc.Gone(running, 0) {
				t.Errorf("of %v some still run", running)
			}
			if _, err := os.Stat(v.node.dir); !os.IsNotExist(err) {
				t.Errorf("the directory is still there: %v", err)
			}
		})
	}
}

func TestAuditDeviceRecordsRequests(t *testing.T) {
	v := Start(t)
	_, err := v.Client().Logical().Read("sys/mounts")
	must(t, err)
	raw, err := os.ReadFile(v.AuditLog())
	must(t, err)
	if !bytes.Contains(raw, []byte(`"path":"sys/mounts"`)) {
		t.Errorf("the audit log does not name the request:\n%s", raw)
	}
}

func TestSurroundingsDoNotMatter(t *testing.T) {
	for _, name := range []string{"VAULT_ADDR", "VAULT_AGENT_ADDR", "VAULT_PROXY_ADDR", "VAULT_HTTP_PROXY", "VAULT_API_ADDR", "VAULT_RAFT_PATH", "VAULT_RAFT_NODE_ID", "VAULT_CLUSTER_ADDR"} {
		t.Setenv(name, "http://192.0.2.1:1")
	}
	t.Setenv("VAULT_NAMESPACE", "elsewhere")
	t.Setenv("VAULT_TOKEN", "someone's")
	ctx := testContext(t)
	v := Start(t)
	h, err := v.Client().Sys().HealthWithContext(ctx)
	must(t, err)
	if !h.Initialized || h.Sealed {
		t.Errorf("health: %+v", h)
	}
	if strings.Contains(strings.Join(v.node.environment(), "\n"), "192.0.2.1") {
		t.Error("Vault sees the VAULT_* variables of its surroundings")
	}
}

func TestTakenPortIsReported(t *testing.T) {
	ctx := testContext(t)
	v := Start(t)
	o := Options{Binary: v.node.binary, LogLevel: "info"}
	dir := t.TempDir()
	for _, sub := range []string{"raft", "plugins", "home"} {
		must(t, os.Mkdir(dir+"/"+sub, 0o700))
	}
	n := node{id: "n", dir: dir, binary: o.Binary, options: o, tcp: v.node.tcp, cluster: v.node.cluster}
	err := n.start(ctx)
	defer n.end(15)
	if err == nil || !strings.Contains(err.Error(), errPortTaken.Error()) {
		t.Errorf("starting on a taken port: %v", err)
	}
}

func TestFilesOfDeadOwnersAreSwept(t *testing.T) {
	tmp := t.TempDir()
	alive, mark, err := makeDir(tmp)
	must(t, err)
	defer mark.Close()
	dead, deadMark, err := makeDir(tmp)
	must(t, err)
	must(t, os.WriteFile(dead+"/data", nil, 0o600))
	must(t, deadMark.Close()) // as the end of its process does
	unmarked := tmp + "/" + dirPrefix + "unmarked"
	must(t, os.Mkdir(unmarked, 0o700))
	sweep(tmp)
	for dir, stays := range map[string]bool{alive: true, unmarked: true, dead: false} {
		if _, err := os.Stat(dir); os.IsNotExist(err) == stays {
			t.Errorf("%s stays: %v, want %v", dir, !stays, stays)
		}
	}
}

func TestMissingProgramNamesItsTarget(t *testing.T) {
	t.Setenv("AMPORA_BIN", t.TempDir())
	for name, target := range map[string]string{"vault": "vault", "ampora": "build", "ampora-edge": "build", ampora: "build", "otelcol": "tools"} {
		_, err := Bin(name)
		if err == nil || !strings.Contains(err.Error(), "make "+target) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
