// Package audit holds the two records of what happened against each other: the engine's own trail and the lines of Vault's audit
// device, on a real Vault, for every call that changes something; and 'ampora audit', which reads them.
package audit

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/client"
	"github.com/ampora/ampora/test/vaulttest"
)

const pluginName = "vault-plugin-secrets-ampora"

// world is a Vault that 'ampora setup' has set up.
type world struct {
	*testing.T
	vault  *vaulttest.Vault
	engine *client.Client // as root
	edge   *client.Client // as the AppRole of the edge "one"
	dir    string
	// version is that of the plugin.
	version string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	for _, program := range []string{"vault", pluginName, "ampora"} {
		vaulttest.RequireBin(t, program)
	}
	w := &world{T: t, vault: vaulttest.Start(t), dir: t.TempDir()}
	version, err := w.vault.RegisterAmpora(t.Context(), "")
	must(t, err)
	w.version = version
	w.ampora("setup", "--plugin", filepath.Join(w.vault.PluginDir, pluginName+"_"+version), "--plugin-version", version,
		"--peer-id", "north", "--trust-domain", "north.example", "--endpoint", "wss://edge.north.example:4320/v1/opamp",
		"--edge", "one", "--edge-credentials-dir", w.dir)
	w.engine, err = client.New(w.vault.Client(), "ampora")
	must(t, err)
	login, err := w.vault.Client().Logical().WriteWithContext(t.Context(), "auth/approle/login", map[string]any{
		"role_id": w.read("one.role_id"), "secret_id": w.read("one.secret_id"),
	})
	must(t, err)
	w.edge, err = client.New(w.vault.ClientWithToken(login.Auth.ClientToken), "ampora")
	must(t, err)
	return w
}

func (w *world) read(name string) string {
	w.Helper()
	raw, err := os.ReadFile(filepath.Join(w.dir, name))
	must(w.T, err)
	return strings.TrimSpace(string(raw))
}

// command is 'ampora' as root.
func (w *world) command(arguments ...string) *exec.Cmd {
	cmd := exec.CommandContext(w.Context(), vaulttest.RequireBin(w.T, "ampora"), arguments...)
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "VAULT_") && !strings.HasPrefix(kv, "AMPORA_") {
			cmd.Env = append(cmd.Env, kv)
		}
	}
	cmd.Env = append(cmd.Env, w.vault.Env()...)
	return cmd
}

// ampora runs a command that succeeds, and answers what it printed as its result.
func (w *world) ampora(arguments ...string) string {
	w.Helper()
	cmd := w.command(arguments...)
	var errors bytes.Buffer
	cmd.Stderr = &errors
	out, err := cmd.Output()
	if err != nil {
		w.Fatalf("ampora %s: %v\n%s%s", strings.Join(arguments, " "), err, out, errors.String())
	}
	return string(out)
}

// line is a line of the audit device.
type line struct {
	Type    string
	Time    time.Time
	Error   string
	Request struct {
		ID        string
		Path      string
		Operation string
		Data      map[string]any
	}
	Response struct{ Data map[string]any }
}

// refused reports whether the answer was a refusal. One of 400 is an answer to Vault, with the error (as HMAC) in its data.
func (l line) refused() bool { return l.Error != "" || l.Response.Data["error"] != nil }

// answered are the lines of answers below the mount, in order.
func (w *world) answered() []line {
	w.Helper()
	raw, err := os.ReadFile(w.vault.AuditLog())
	must(w.T, err)
	var all []line
	for _, text := range bytes.Split(raw, []byte("\n")) {
		var l line
		if len(text) == 0 {
			continue
		}
		must(w.T, json.Unmarshal(text, &l))
		if l.Type == "response" && strings.HasPrefix(l.Request.Path, "ampora/") {
			all = append(all, l)
		}
	}
	return all
}

// events are all events that a filter selects, the newest first.
func (w *world) events(query apitype.EventsRequest) []apitype.Event {
	w.Helper()
	query.Limit = 1000
	page, err := w.engine.Events(w.Context(), query)
	must(w.T, err)
	if page.NextCursor != "" {
		w.Fatal("more events than one page")
	}
	return page.Events
}

func (w *world) eventually(what string, ok func() bool) {
	w.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if ok() {
			return
		}
	}
	w.Fatalf("in vain: %s", what)
}

func newCSR(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	must(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
