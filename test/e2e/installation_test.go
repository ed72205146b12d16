// Package e2e holds the end-to-end tests. Everything in them is real: Vault on Raft storage with a file audit device, the
// plugin's program, edges as processes that log in with AppRole, and agents: 'ampora enroll', an agent on opamp-go's client,
// and the stock OpAMP supervisor with a collector. Every installation is set up by 'ampora setup' as an operator would, and
// at the end of its test everything that it wrote is searched for the secrets which the test saw.
package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/client"
	"github.com/ampora/ampora/test/fleet"
	"github.com/ampora/ampora/test/vaulttest"
)

// pluginName is what the engine is called in Vault's catalog.
const pluginName = "vault-plugin-secrets-ampora"

// installation is a Vault with the engine, and places for edges.
type installation struct {
	t       *testing.T
	vault   *vaulttest.Vault
	engine  *client.Client // as root
	version string         // of the plugin
	addr    string         // host:port in config.endpoint, where the first edge belongs
	dir     string         // for files that live as long as the installation
	ca      string         // PEM file with our issuers
	secrets *secrets
}

// install starts a Vault and sets it up for the edges one and two. The further arguments are for 'ampora setup'.
func install(t *testing.T, arguments ...string) *installation {
	t.Helper()
	for _, program := range []string{"vault", pluginName, "ampora", "ampora-edge", "testagent"} {
		vaulttest.RequireBin(t, program)
	}
	in := &installation{t: t, addr: fleet.FreeAddr(t), dir: t.TempDir(), secrets: &secrets{}}
	in.vault = vaulttest.Start(t, vaulttest.WithRawStorage())
	in.secrets.add("Vault's root token", in.vault.RootToken)
	in.secrets.add("Vault's unseal key", in.vault.UnsealKey)
	t.Cleanup(func() { in.findSecrets() }) // after everything else of this test, before Vault goes
	var err error
	if in.version, err = in.vault.RegisterAmpora(in.ctx(), ""); err != nil {
		t.Fatal(err)
	}
	in.setup(append([]string{
		"--plugin", filepath.Join(in.vault.PluginDir, pluginName+"_"+in.version), "--plugin-version", in.version,
		"--peer-id", "north", "--trust-domain", "north.example", "--endpoint", "wss://" + in.addr + "/v1/opamp",
		"--edge", "one", "--edge", "two", "--edge-credentials-dir", in.credentials(),
	}, arguments...)...)
	for _, name := range []string{"one", "two"} {
		in.secrets.add("the secret_id of edge "+name, strings.TrimSpace(in.read(filepath.Join(in.credentials(), name+".secret_id"))))
	}
	if in.engine, err = client.New(in.vault.Client(), "ampora"); err != nil {
		t.Fatal(err)
	}
	bundle, err := in.engine.CABundle(in.ctx())
	if err != nil {
		t.Fatal(err)
	}
	in.ca = in.write("ca.pem", bundle.Bundle)
	return in
}

// within is the installation for a subtest: what it starts there ends there.
func (in *installation) within(t *testing.T) *installation {
	sub := *in
	sub.t = t
	return &sub
}

// setup runs 'ampora setup' and returns what it printed.
func (in *installation) setup(arguments ...string) string {
	in.t.Helper()
	cmd := exec.CommandContext(in.ctx(), in.program("ampora"), append([]string{"setup"}, arguments...)...)
	cmd.Env = append(environment(), in.vault.Env()...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		in.t.Fatalf("ampora setup: %v\n%s", err, out)
	}
	return string(out)
}

func (in *installation) credentials() string { return filepath.Join(in.dir, "edges") }

func (in *installation) program(name string) string { return vaulttest.RequireBin(in.t, name) }

func (in *installation) ctx() context.Context { return in.t.Context() }

// token issues a bootstrap token.
func (in *installation) token() *apitype.IssuedToken {
	in.t.Helper()
	issued, err := in.engine.IssueToken(in.ctx(), apitype.TokenIssueRequest{})
	if err != nil {
		in.t.Fatalf("issuing a token: %v", err)
	}
	in.secrets.addToken(issued.Token)
	return issued
}

// agents reads all agent rows.
func (in *installation) agents() map[string]apitype.Agent {
	in.t.Helper()
	list, err := in.engine.Agents(in.ctx(), apitype.Page{})
	if err != nil {
		in.t.Fatalf("listing agents: %v", err)
	}
	return list.KeyInfo
}

// agentOf is the one agent that a token has made.
func (in *installation) agentOf(issued *apitype.IssuedToken) apitype.Agent {
	in.t.Helper()
	var found []apitype.Agent
	for _, row := range in.agents() {
		if row.TokenID == issued.TokenID {
			found = append(found, row)
		}
	}
	if len(found) != 1 {
		in.t.Fatalf("the token has made %d agents, want one: %+v", len(found), found)
	}
	row, err := in.engine.Agent(in.ctx(), found[0].AgentID)
	if err != nil {
		in.t.Fatalf("reading agent %s: %v", found[0].AgentID, err)
	}
	return *row
}

// actions are those of the agent's events, sorted.
func (in *installation) actions(agentID string) []string {
	in.t.Helper()
	page, err := in.engine.Events(in.ctx(), apitype.EventsRequest{AgentID: agentID, Limit: 1000})
	if err != nil {
		in.t.Fatalf("reading events: %v", err)
	}
	var actions []string
	for _, e := range page.Events {
		actions = append(actions, e.Action)
	}
	slices.Sort(actions)
	return actions
}

// wantEnrolled checks that the token has made exactly one agent, with its events, and is dead. It returns the row.
func (in *installation) wantEnrolled(issued *apitype.IssuedToken) apitype.Agent {
	in.t.Helper()
	row := in.agentOf(issued)
	if row.State != apitype.AgentStateActive {
		in.t.Errorf("the agent is %s", row.State)
	}
	if got, want := in.actions(row.AgentID), []string{apitype.ActionCertificateIssued, apitype.ActionTokenRedeemed}; !slices.Equal(got, want) {
		in.t.Errorf("the agent's events are %v, want %v", got, want)
	}
	_, err := in.engine.RedeemCheck(in.ctx(), apitype.RedeemCheckRequest{Token: issued.Token})
	if apitype.CodeOf(err) != apitype.TokenRedeemed {
		in.t.Errorf("the token: %v, want token_redeemed", err)
	}
	return row
}

// wantSeen waits until the engine has been told that the agent is connected through an edge.
func (in *installation) wantSeen(agentID, edge string) apitype.Agent {
	in.t.Helper()
	var row *apitype.Agent
	eventually(in.t, "the row of agent "+agentID+" says that it was seen by edge "+edge, 20*time.Second, func() bool {
		var err error
		row, err = in.engine.Agent(in.ctx(), agentID)
		return err == nil && row.LastSeen != "" && row.Edge == edge
	})
	return *row
}

func (in *installation) write(name, content string) string {
	in.t.Helper()
	path := filepath.Join(in.dir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		in.t.Fatal(err)
	}
	return path
}

func (in *installation) read(path string) string {
	in.t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		in.t.Fatal(err)
	}
	return string(raw)
}

// secrets are all that must be found nowhere.
type secrets struct {
	mu    sync.Mutex
	named map[string]string // from the secret to what it is
	files []string          // what else to search: logs and outputs
}

func (s *secrets) add(what, secret string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(secret) < 16 {
		panic(what + " is too short to be searched for: " + secret)
	}
	if s.named == nil {
		s.named = map[string]string{}
	}
	s.named[secret] = what
}

// addToken adds a bootstrap token: its payload is what must not be found, in whatever case or company.
func (s *secrets) addToken(text string) { s.add("a bootstrap token", strings.Split(text, ".")[1]) }

// addKey adds a private key in PEM: each line of it.
func (s *secrets) addKey(pem string) {
	for _, line := range strings.Split(strings.TrimSpace(pem), "\n") {
		if len(line) > 40 && !strings.HasPrefix(line, "-----") {
			s.add("a private key", line)
		}
	}
}

// watch adds a file that is searched at the end.
func (s *secrets) watch(path string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files = append(s.files, path)
}

// secretForms are what tokens of Vault, our own secrets and private keys look like, also those that the test never saw. All
// begin with one of secretBeginnings, which is what makes the search quick.
var (
	secretForms      = regexp.MustCompile(`hv[sb]\.[A-Za-z0-9_-]{20,}|-----BEGIN [A-Z ]*PRIVATE KEY|amp-[bp]s\.[a-z2-7]{52}`)
	secretBeginnings = []string{"hvs.", "hvb.", "-----BEGIN ", "amp-bs.", "amp-ps."}
)

// secretForm finds the first of them.
func secretForm(content []byte) string {
	for _, beginning := range secretBeginnings {
		if bytes.Contains(content, []byte(beginning)) {
			return string(secretForms.Find(content))
		}
	}
	return ""
}

// findSecrets searches everything that the installation has written. Vault's storage is searched as it lies on the disk and
// as it is behind Vault's own encryption.
func (in *installation) findSecrets() {
	in.secrets.mu.Lock()
	defer in.secrets.mu.Unlock()
	search := func(where string, content []byte, form func([]byte) []byte) {
		content = form(content)
		for secret, what := range in.secrets.named {
			if bytes.Contains(content, form([]byte(secret))) {
				in.t.Errorf("LEAK: %s stands in %s", what, where)
			}
		}
	}
	asItIs := func(b []byte) []byte { return b } // for what is large
	for _, path := range append([]string{in.vault.AuditLog(), in.vault.ServerLog()}, in.secrets.files...) {
		content, err := os.ReadFile(path)
		if err != nil || len(content) == 0 {
			in.t.Errorf("searching for secrets: %s: %d bytes, %v", path, len(content), err)
		}
		search(filepath.Base(path), content, bytes.ToLower)
		if found := secretForm(content); found != "" {
			in.t.Errorf("LEAK: something of the form %q stands in %s", found[:10], filepath.Base(path))
		}
	}
	err := filepath.WalkDir(in.vault.DataDir(), func(path string, entry os.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		search(filepath.Base(path), content, asItIs)
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // Raft tidies its snapshots
		in.t.Errorf("searching for secrets: %v", err)
	}
	rows, err := in.rawStorage()
	if err != nil {
		in.t.Errorf("searching for secrets: %v", err)
	}
	if !bytes.Contains(rows["config"], []byte("north.example")) {
		in.t.Error("searching for secrets: the engine's storage cannot be read")
	}
	for key, value := range rows {
		search("the row "+key, append([]byte(key+"\n"), value...), bytes.ToLower)
	}
}

// rawStorage reads everything that the engine has stored, decrypted, by its key in the mount.
func (in *installation) rawStorage() (map[string][]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	v := in.vault.Client()
	mounts, err := v.Sys().ListMountsWithContext(ctx)
	if err != nil {
		return nil, err
	}
	root := "sys/raw/logical/" + mounts["ampora/"].UUID + "/"
	rows := map[string][]byte{}
	var walk func(prefix string) error
	walk = func(prefix string) error {
		list, err := v.Logical().ListWithContext(ctx, root+prefix)
		if err != nil || list == nil {
			return err
		}
		for _, k := range list.Data["keys"].([]any) {
			key := prefix + k.(string)
			if strings.HasSuffix(key, "/") {
				if err := walk(key); err != nil {
					return err
				}
				continue
			}
			row, err := v.Logical().ReadWithContext(ctx, root+key)
			if err != nil || row == nil {
				return err
			}
			rows[key] = fmt.Append(nil, row.Data["value"])
		}
		return nil
	}
	return rows, walk("")
}

// environment is ours without what would configure Vault, an edge or the command line.
func environment() []string {
	return slices.DeleteFunc(os.Environ(), func(kv string) bool {
		return strings.HasPrefix(kv, "VAULT_") || strings.HasPrefix(kv, "AMPORA_")
	})
}

func eventually(t testing.TB, what string, within time.Duration, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(within); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("not within %v: %s", within, what)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// asJSON is for messages.
func asJSON(v any) string {
	raw, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(raw)
}
