package readme

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ampora/ampora/test/proc"
	"github.com/ampora/ampora/test/vaulttest"
	"github.com/hashicorp/vault/api"
)

// TestAClusterNodeWithoutTheProgram proves what the top page says of clusters: that such a node takes over, what it answers
// then, that the checksums show it before, and how it heals.
func TestAClusterNodeWithoutTheProgram(t *testing.T) {
	t.Parallel()
	_, all := page(t, "README.md")
	var compare *block // the two checksums
	for _, b := range all {
		if strings.HasPrefix(b.text, "vault plugin info ") {
			compare = b
		}
	}
	if compare == nil {
		t.Fatal("the page does not say how to compare checksums")
	}
	const reload = "vault plugin reload -type=secret -plugin vault-plugin-secrets-ampora"
	if text, _ := page(t, "README.md"); !strings.Contains(text, "`"+reload+"`") {
		t.Fatalf("the page does not say %s", reload)
	}

	one, two := startNode(t, "one"), startNode(t, "two")
	init, err := one.client.Sys().InitWithContext(t.Context(), &api.InitRequest{SecretShares: 1, SecretThreshold: 1})
	must(t, err)
	for _, n := range []*clusterNode{one, two} {
		n.client.SetToken(init.RootToken)
	}
	one.unseal(init.Keys[0])
	one.await("active", func(h *api.HealthResponse) bool { return !h.Sealed && !h.Standby })
	// A newcomer may be elected after a second instead of ten.
	_, err = one.client.Logical().WriteWithContext(t.Context(), "sys/storage/raft/autopilot/configuration", map[string]any{"server_stabilization_time": "1s"})
	must(t, err)
	_, err = two.client.Sys().RaftJoinWithContext(t.Context(), &api.RaftJoinRequest{LeaderAPIAddr: one.client.Address()})
	must(t, err)
	two.unseal(init.Keys[0])
	two.await("standby", func(h *api.HealthResponse) bool { return !h.Sealed && h.Standby })

	run := func(n *clusterNode, command string) (string, error) {
		t.Helper()
		bin, err := vaulttest.BinDir()
		must(t, err)
		cmd := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", "VERSION=$(vault-plugin-secrets-ampora --version | cut -d' ' -f2)\n"+
			strings.NewReplacer("/etc/vault.d/plugins", n.plugins, "bin/vault-", bin+"/vault-").Replace(command))
		cmd.Env = append(environment(), "VAULT_ADDR="+n.client.Address(), "VAULT_TOKEN="+init.RootToken, "PATH="+bin+":"+os.Getenv("PATH"), "HOME="+n.dir)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	const install = "install -m 0755 bin/vault-plugin-secrets-ampora /etc/vault.d/plugins/vault-plugin-secrets-ampora_$VERSION\n"
	out, err := run(one, install+"ampora setup --plugin /etc/vault.d/plugins/vault-plugin-secrets-ampora_$VERSION --peer-id north --trust-domain north.example.com")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}

	out, err = run(one, compare.text)
	if sums := strings.Fields(out); err != nil || len(sums) != 2 || sums[0] != sums[1] {
		t.Errorf("the checksums on the node that has the program: %v\n%s", err, out)
	}
	if out, err = run(two, compare.text); err == nil {
		t.Errorf("the checksums do not show that the program is missing:\n%s", out)
	}

	one.eventually("the second node may be elected", func() error {
		state, err := one.client.Sys().RaftAutopilotStateWithContext(t.Context())
		if err == nil && (state.Servers["two"] == nil || state.Servers["two"].Status != "voter") {
			err = fmt.Errorf("%+v", state.Servers["two"])
		}
		return err
	})
	must(t, one.client.Sys().StepDownWithContext(t.Context())) // for ten seconds it does not stand for election again
	two.await("active", func(h *api.HealthResponse) bool { return !h.Sealed && !h.Standby })
	_, err = two.client.Logical().WriteWithContext(t.Context(), "ampora/tokens/issue", nil)
	var answer *api.ResponseError
	if !errors.As(err, &answer) || answer.StatusCode != 404 {
		t.Fatalf("a node without the program answers %v", err)
	}
	if out, err = run(two, install+reload+"\nvault read -field=peer_id ampora/config"); err != nil || !strings.HasSuffix(strings.TrimSpace(out), "north") {
		t.Errorf("it does not heal: %v\n%s", err, out)
	}
}

// clusterNode is one member of a cluster.
type clusterNode struct {
	t       *testing.T
	dir     string
	plugins string
	client  *api.Client
}

func startNode(t *testing.T, name string) *clusterNode {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	must(t, err)
	n := &clusterNode{t: t, dir: dir, plugins: filepath.Join(dir, "plugins")}
	must(t, os.Mkdir(n.plugins, 0o700))
	must(t, os.Mkdir(filepath.Join(dir, "raft"), 0o700))
	listen, cluster := freePort(t), freePort(t)
	config, err := json.Marshal(map[string]any{
		"storage":          map[string]any{"raft": map[string]any{"path": filepath.Join(dir, "raft"), "node_id": name, "performance_multiplier": "1"}},
		"listener":         []any{map[string]any{"tcp": map[string]any{"address": listen, "cluster_address": cluster, "tls_disable": true}}},
		"api_addr":         "http://" + listen,
		"cluster_addr":     "https://" + cluster,
		"plugin_directory": n.plugins,
		"disable_mlock":    true,
	})
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "config.json"), config, 0o600))
	log, err := os.Create(filepath.Join(dir, "log"))
	must(t, err)
	defer log.Close()
	cmd := exec.Command(vaulttest.RequireBin(t, "vault"), "server", "-config="+filepath.Join(dir, "config.json"))
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, log, log
	cmd.Env = append(environment(), "HOME="+dir)
	child, err := proc.Start(cmd)
	must(t, err)
	t.Cleanup(func() {
		plugins := proc.Children(child.PID())
		child.End(syscall.SIGTERM, 20*time.Second)
		for _, p := range plugins {
			p.Signal(syscall.SIGKILL)
		}
		if t.Failed() {
			raw, _ := os.ReadFile(log.Name())
			t.Logf("the log of node %s:\n%s", name, raw)
		}
	})
	reach := api.DefaultConfig()
	reach.Address, reach.MaxRetries = "http://"+listen, 0
	n.client, err = api.NewClient(reach)
	must(t, err)
	n.client.ClearToken()
	n.await("listening", func(*api.HealthResponse) bool { return true })
	return n
}

func (n *clusterNode) unseal(key string) {
	n.t.Helper()
	_, err := n.client.Sys().UnsealWithContext(n.t.Context(), key)
	must(n.t, err)
}

func (n *clusterNode) await(what string, is func(*api.HealthResponse) bool) {
	n.t.Helper()
	n.eventually("the node is "+what, func() error {
		h, err := n.client.Sys().HealthWithContext(n.t.Context())
		if err == nil && !is(h) {
			err = fmt.Errorf("%+v", h)
		}
		return err
	})
}

func (n *clusterNode) eventually(what string, try func() error) {
	n.t.Helper()
	var last error
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if last = try(); last == nil {
			return
		}
	}
	n.t.Fatalf("not within %s: %s: %v", patience, what, last)
}
