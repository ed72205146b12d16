package setup_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ampora/ampora/cmd/ampora/internal/console"
	"github.com/ampora/ampora/cmd/ampora/internal/hint"
	"github.com/ampora/ampora/cmd/ampora/internal/setup"
	"github.com/ampora/ampora/test/vaulttest"
	vault "github.com/hashicorp/vault/api"
)

func TestTheSecondRunChangesNothing(t *testing.T) {
	v := vaulttest.Start(t)
	o := options(t, v)
	o.CredentialsDir = filepath.Join(t.TempDir(), "edges")
	o.Config = map[string]string{"token_ttl": "12h", "edge_allowed_domains": "a.example,b.example", "retry_window": "90"}
	o.EdgeBoundCIDRs = []string{"127.0.0.1/32", "10.0.0.0/8"}

	first := run(t, v.Client(), o)
	for _, want := range []string{
		"plugin " + setup.PluginName, "ampora/ is mounted", "audit log", "ampora/config: edge_allowed_domains, endpoint, peer_id, retry_window, token_ttl, trust_domain",
		"self-signed issuer", "policy ampora-edge", "policy ampora-operator", "policy ampora-auditor", "policy ampora-token-issuer",
		"auth/approle/ is enabled", "role/ampora-edge-one", "role/ampora-edge-two", "two.secret_id",
	} {
		if !contains(first, "changed", want) {
			t.Errorf("the first run does not say that it changed %q:\n%s", want, first)
		}
	}

	before := lastIndex(t, v)
	second := run(t, v.Client(), o)
	if strings.Contains("\n"+second, "\nchanged") || !strings.Contains(second, "Nothing had to be changed") {
		t.Errorf("the second run changed something:\n%s", second)
	}
	if after := lastIndex(t, v); after != before {
		t.Errorf("the second run wrote %d times to Vault's storage", after-before)
	}
	credentialsWork(t, v, o.CredentialsDir)
}

func TestOneChangeIsOneChange(t *testing.T) {
	v := vaulttest.Start(t)
	o := options(t, v)
	run(t, v.Client(), o)
	ctx := t.Context()

	o.Config = map[string]string{"leaf_ttl": "30d"}
	if out := run(t, v.Client(), o); changed(out) != 1 || !contains(out, "changed", "config: leaf_ttl") {
		t.Errorf("after a changed setting:\n%s", out)
	}
	if out := run(t, v.Client(), o); changed(out) != 0 {
		t.Errorf("after the same setting:\n%s", out)
	}
	if err := v.Client().Sys().PutPolicyWithContext(ctx, "ampora-auditor", `path "x" { capabilities = ["read"] }`); err != nil {
		t.Fatal(err)
	}
	if out := run(t, v.Client(), o); changed(out) != 1 || !contains(out, "changed", "policy ampora-auditor") {
		t.Errorf("after a changed policy:\n%s", out)
	}
	if _, err := v.Client().Logical().WriteWithContext(ctx, "auth/approle/role/ampora-edge-two", map[string]any{"token_policies": "default"}); err != nil {
		t.Fatal(err)
	}
	if out := run(t, v.Client(), o); changed(out) != 1 || !contains(out, "changed", "role/ampora-edge-two") {
		t.Errorf("after a changed role:\n%s", out)
	}
	// A key that somebody opened stays open.
	if _, err := v.Client().Logical().WriteWithContext(ctx, "sys/mounts/ampora/tune", map[string]any{"audit_non_hmac_request_keys": []string{"mine"}}); err != nil {
		t.Fatal(err)
	}
	if out := run(t, v.Client(), o); changed(out) != 1 || !contains(out, "changed", "audit log") {
		t.Errorf("after changed audit keys:\n%s", out)
	}
	now, err := v.Client().Sys().MountConfigWithContext(ctx, "ampora")
	if err != nil || !contains(strings.Join(now.AuditNonHMACRequestKeys, " "), "mine", "label") {
		t.Errorf("keys: %v %v", now, err)
	}
}

func TestARemoteVaultIsSetUpByTheProgramsSum(t *testing.T) {
	v := vaulttest.Start(t, vaulttest.WithTLS())
	o := options(t, v)
	data, err := os.ReadFile(o.Plugin)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(data)
	o.Plugin, o.PluginSHA256, o.PluginCommand = "", hex.EncodeToString(sum[:]), filepath.Base(o.Plugin)
	run(t, v.Client(), o)
	if out := run(t, v.Client(), o); changed(out) != 0 {
		t.Errorf("the second run changed something:\n%s", out)
	}
	// Once it is registered nothing needs to be said of the program any more.
	o.PluginSHA256, o.PluginCommand = "", ""
	if out := run(t, v.Client(), o); changed(out) != 0 {
		t.Errorf("without the sum something changed:\n%s", out)
	}
}

func TestASecondMountHasPoliciesOfItsOwn(t *testing.T) {
	v := vaulttest.Start(t)
	o := options(t, v)
	run(t, v.Client(), o)
	o.Mount, o.Tenant = "fleet/ampora", []string{"globex"}
	if out := run(t, v.Client(), o); !contains(out, "changed", "policy fleet-ampora-tenant-operator-globex") {
		t.Errorf("there is no policy for the tenant:\n%s", out)
	}
	text, err := v.Client().Sys().GetPolicyWithContext(t.Context(), "fleet-ampora-edge")
	if err != nil || !strings.Contains(text, `"fleet/ampora/redeem"`) || strings.Contains(text, `path "ampora/redeem"`) {
		t.Errorf("policy %v:\n%s", err, text)
	}
	text, err = v.Client().Sys().GetPolicyWithContext(t.Context(), "fleet-ampora-tenant-operator-globex")
	if err != nil || !strings.Contains(text, `path "fleet/ampora/tenants/globex/*"`) || strings.Count(text, "path \"") != 1 {
		t.Errorf("the tenant's policy %v:\n%s", err, text)
	}
	if out := run(t, v.Client(), o); changed(out) != 0 {
		t.Errorf("the second run changed something:\n%s", out)
	}
}

func TestAPoolsIssuerHasAPolicyOfItsOwn(t *testing.T) {
	v := vaulttest.Start(t)
	o := options(t, v)
	o.Pool = []string{"web", "ci"}
	run(t, v.Client(), o)
	o.Tenant = []string{"acme"}
	if out := run(t, v.Client(), o); !contains(out, "changed", "policy ampora-pool-issuer-acme.web") {
		t.Errorf("there is no policy for the tenant's pool:\n%s", out)
	}
	for name, path := range map[string]string{
		"ampora-pool-issuer-ci": "ampora/pools/ci/issue", "ampora-pool-issuer-web": "ampora/pools/web/issue",
		"ampora-pool-issuer-acme.ci": "ampora/tenants/acme/pools/ci/issue", "ampora-pool-issuer-acme.web": "ampora/tenants/acme/pools/web/issue",
	} {
		text, err := v.Client().Sys().GetPolicyWithContext(t.Context(), name)
		if err != nil || !strings.Contains(text, "\npath \""+path+"\" {") || strings.Count(text, "\npath \"") != 1 {
			t.Errorf("policy %s: %v\n%s", name, err, text)
		}
	}
	if out := run(t, v.Client(), o); changed(out) != 0 {
		t.Errorf("the second run changed something:\n%s", out)
	}
}

func TestFailuresSayWhatToDo(t *testing.T) {
	v := vaulttest.Start(t)
	good := options(t, v)
	for _, c := range []struct {
		name   string
		change func(*setup.Options)
		client *vault.Client
		says   []string
	}{
		{"the plugin is not registered", func(o *setup.Options) { o.Plugin = "" }, nil, []string{"is not registered", "plugin_directory"}},
		{"the plugin's file is missing", func(o *setup.Options) { o.Plugin += "-none" }, nil, []string{"cannot be read"}},
		{"Vault has no such program", func(o *setup.Options) { o.PluginCommand = "none" }, nil, []string{"registering", "on every node"}},
		{"the program says another version", func(o *setup.Options) { o.PluginVersion = "v9.9.9" }, nil, []string{"--plugin-version"}},
		{"there is another engine", func(o *setup.Options) { o.Mount = "cubbyhole" }, nil, []string{"of type cubbyhole", "--mount"}},
		{"the Vault token is bad", func(*setup.Options) {}, v.ClientWithToken("hvs.none"), []string{"does not allow"}},
		{"a field is unknown", func(o *setup.Options) { o.Config = map[string]string{"colour": "red"} }, nil, []string{`no field "colour"`, "path-help"}},
		{"the engine refuses a value", func(o *setup.Options) { o.Config = map[string]string{"token_ttl": "99999h"} }, nil, []string{"token_ttl must lie"}},
		{"an edge's name is none", func(o *setup.Options) { o.Edge = []string{"../x"} }, nil, []string{"no name for an edge"}},
		{"no trust domain", func(o *setup.Options) { o.Mount, o.TrustDomain = "second", "" }, nil, []string{"--trust-domain"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := good
			c.change(&o)
			client := c.client
			if client == nil {
				client = v.Client()
			}
			var out bytes.Buffer
			err := setup.Run(t.Context(), &console.Console{Out: &out, Err: &out}, client, o)
			if err == nil {
				t.Fatalf("no error:\n%s", out.String())
			}
			var text bytes.Buffer
			hint.Print(&text, err)
			for _, want := range append(c.says, "hint: ") {
				if !strings.Contains(text.String(), want) {
					t.Errorf("the error does not say %q:\n%s", want, text.String())
				}
			}
		})
	}
}

// options place the plugin in Vault's plugin directory, as an administrator does, and ask for all there is.
func options(t *testing.T, v *vaulttest.Vault) setup.Options {
	t.Helper()
	plugin := vaulttest.RequireBin(t, setup.PluginName)
	return setup.Options{
		Mount: "ampora", Plugin: install(t, v, plugin), PluginVersion: versionOf(t, plugin),
		PeerID: "north", TrustDomain: "north.example", Endpoint: "wss://edge.north.example:4320/v1/opamp",
		Edge: []string{"one", "two"}, AppRolePath: "approle", EdgeTokenTTL: time.Hour, EdgeTokenMax: 24 * time.Hour,
	}
}

// versionOf asks the program, whose version was stamped when it was built; this test's was not.
func versionOf(t *testing.T, program string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), program, "--version").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(strings.TrimPrefix(string(out), setup.PluginName))
}

func install(t *testing.T, v *vaulttest.Vault, program string) string {
	t.Helper()
	data, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(v.PluginDir, filepath.Base(program))
	if err := os.WriteFile(path, data, 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func run(t *testing.T, client *vault.Client, o setup.Options) string {
	t.Helper()
	var out bytes.Buffer
	if err := setup.Run(t.Context(), &console.Console{Out: &out, Err: &out}, client, o); err != nil {
		var text bytes.Buffer
		hint.Print(&text, err)
		t.Fatalf("%s\n%s", out.String(), text.String())
	}
	return out.String()
}

// credentialsWork logs in with what was written, and holds that nobody else can read it.
func credentialsWork(t *testing.T, v *vaulttest.Vault, dir string) {
	t.Helper()
	read := func(name string) string {
		path := filepath.Join(dir, name)
		info, err := os.Stat(path)
		if err != nil || info.Mode() != fs.FileMode(0o600) {
			t.Fatalf("%s: %v %v", name, info, err)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(data))
	}
	for _, edge := range []string{"one", "two"} {
		login, err := v.ClientWithToken("").Logical().WriteWithContext(t.Context(), "auth/approle/login", map[string]any{
			"role_id": read(edge + ".role_id"), "secret_id": read(edge + ".secret_id"),
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(login.Auth.Policies, " "); got != "ampora-edge" || login.Auth.LeaseDuration != 3600 || !login.Auth.Renewable {
			t.Errorf("edge %s: policies %q, %d s, renewable %v", edge, got, login.Auth.LeaseDuration, login.Auth.Renewable)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 4 {
		t.Errorf("%d files: %v", len(entries), err)
	}
}

func lastIndex(t *testing.T, v *vaulttest.Vault) uint64 {
	t.Helper()
	n, err := v.LastIndex(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func changed(out string) int { return strings.Count("\n"+out, "\nchanged") }

// contains reports whether one line has all the words.
func contains(out string, words ...string) bool {
	for _, line := range strings.Split(out, "\n") {
		all := true
		for _, w := range words {
			all = all && strings.Contains(line, w)
		}
		if all {
			return true
		}
	}
	return false
}
