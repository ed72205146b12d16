package readme

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ampora/ampora/test/proc"
	"github.com/ampora/ampora/test/standin"
	"github.com/ampora/ampora/test/vaulttest"
)

// Patience with what comes by itself. A supervisor starts its collector several times before it settles.
const patience = 2 * time.Minute

func TestMain(m *testing.M) {
	standin.Main()
	os.Exit(m.Run())
}

// world is the reader's: a Vault, a machine with folders, and what runs on it.
type world struct {
	t          *testing.T
	vault      *vaulttest.Vault
	dir        string            // in the place of /
	pairs      []string          // from the page's addresses and folders to ours
	places     *strings.Replacer // made of them
	env        []string
	edge       *proc.Child // of the unit
	admin      string      // its admin listener
	listen     string      // its address for agents
	background map[string]*proc.Child
	last       string // output of the last block
}

func newWorld(t *testing.T) *world {
	t.Helper()
	for _, program := range []string{"vault", "vault-plugin-secrets-ampora", "ampora", "ampora-edge", "otelcol", "opampsupervisor", "vault-plugin-auth-kubernetes"} {
		vaulttest.RequireBin(t, program)
	}
	bin, err := vaulttest.BinDir()
	must(t, err)
	root, err := filepath.Abs("../..")
	must(t, err)
	w := &world{t: t, dir: t.TempDir(), background: map[string]*proc.Child{}, listen: freePort(t), admin: freePort(t)}
	w.vault = vaulttest.Start(t, vaulttest.WithTLS())
	path := bin + ":" + filepath.Join(bin, "tools") + ":" + os.Getenv("PATH")
	standIns, err := standin.Dir(filepath.Join(w.dir, "stand-ins"), "curl", "jq")
	must(t, err)
	path += ":" + standIns
	w.env = append(append(environment(), w.vault.Env()...), "PATH="+path, "HOME="+w.dir)
	w.replace(
		"https://vault.example.com:8200", w.vault.Addr,
		"edge.example.com:4320", w.listen,
		"127.0.0.1:4321", w.admin,
		"127.0.0.1:4317", freePort(t),
		"127.0.0.1:4319", freePort(t),
		"--pki-listen :4322", "--pki-listen "+freePort(t),
		"/var/log/vault/audit.log", w.vault.AuditLog(),
		"/etc/vault.d/plugins", w.vault.PluginDir,
		"/etc/", w.dir+"/etc/",
		"/var/lib/", w.dir+"/var/lib/",
		"/usr/local/bin/otelcol", filepath.Join(bin, "tools", "otelcol"),
		"/usr/local/bin", bin,
		// All collectors of this machine, those of other tests too, would serve their own metrics on one port.
		"otelcol --config", "otelcol --set=service.telemetry.metrics.level=none --config",
		"  bootstrap_timeout:", "  args: [--set=service.telemetry.metrics.level=none]\n  bootstrap_timeout:",
		"storage:\n", "telemetry: {metrics: {level: none}}\nstorage:\n",
	)
	for _, d := range []string{"etc/ampora", "etc/otelcol", "var/lib/otelcol"} {
		must(t, os.MkdirAll(filepath.Join(w.dir, d), 0o700))
	}
	must(t, os.Symlink(bin, filepath.Join(w.dir, "bin")))
	must(t, os.Symlink(filepath.Join(root, "scripts"), filepath.Join(w.dir, "scripts")))
	ca, err := os.ReadFile(w.vault.CAFile)
	must(t, err)
	w.write("etc/ampora/vault-ca.pem", string(ca))
	t.Cleanup(func() {
		for name := range w.background {
			w.end(name)
		}
		if w.edge != nil {
			w.edge.End(syscall.SIGTERM, 20*time.Second)
		}
		if t.Failed() {
			t.Logf("the edge's log:\n%s", w.read("edge.log"))
		}
	})
	return w
}

// replace adds pairs of what a page says and what stands here in its place.
func (w *world) replace(pairs ...string) {
	w.pairs = append(w.pairs, pairs...)
	w.places = strings.NewReplacer(w.pairs...)
}

// do does what a page says about one block.
func (w *world) do(b *block) {
	w.t.Helper()
	fail := func(format string, args ...any) {
		w.t.Helper()
		w.t.Fatalf("line %d, %s %s: %s\n%s", b.line, b.kind, b.name, fmt.Sprintf(format, args...), b.text)
	}
	text := w.places.Replace(b.text)
	w.last = ""
	defer func() { w.t.Logf("line %d, %s %s\n%s--\n%s", b.line, b.kind, b.name, text, w.last) }()
	switch b.kind {
	case "run":
		out, err := w.bash(text)
		if err != nil {
			fail("%v\n%s", err, out)
		}
		if b.output != nil {
			if err := shows(b.output.text, out); err != nil {
				fail("%v", err)
			}
		}
	case "eventually":
		var out string
		w.eventually(fmt.Sprintf("line %d: %s", b.line, b.text), func() error {
			var err error
			if out, err = w.bash(text); err == nil && b.output != nil {
				err = shows(b.output.text, out)
			}
			if err != nil {
				return fmt.Errorf("%w\n%s", err, out)
			}
			return nil
		})
	case "background":
		w.start(b.name, text, nil)
	case "edge":
		admin := freePort(w.t)
		w.start("edge", text, []string{"AMPORA_EDGE_LISTEN=127.0.0.1:0", "AMPORA_EDGE_ADMIN_LISTEN=" + admin})
		w.eventually(fmt.Sprintf("line %d: the edge is ready", b.line), func() error { return w.ready(w.background["edge"], "edge-2.log", admin) })
		w.end("edge")
	case "unit":
		w.unit(text)
	case "file":
		w.write(strings.TrimPrefix(b.name, "/"), text)
	case "elsewhere", "example":
	default:
		fail("no such kind of block")
	}
}

// bash runs a block as a reader would paste it, with the variables that the blocks before it have set.
func (w *world) bash(text string) (string, error) {
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", w.script(text)+"\nexport -p > .variables\n")
	cmd.Dir, cmd.Env = w.dir, w.env
	out, err := cmd.CombinedOutput()
	w.last = string(out)
	return w.last, err
}

func (w *world) script(text string) string {
	return "set -euo pipefail\n[ ! -f .variables ] || . ./.variables\nset -a\n" + text
}

// start runs a command in the background, in the place of an earlier one of that name.
func (w *world) start(name, command string, env []string) {
	w.t.Helper()
	w.end(name)
	log := w.log(name)
	cmd := exec.Command("bash", "-c", w.script("exec env "+command))
	cmd.Dir, cmd.Stdout, cmd.Stderr = w.dir, log, log
	cmd.Env = append(w.env[:len(w.env):len(w.env)], env...)
	child, err := proc.StartFor(cmd, syscall.SIGINT)
	must(w.t, err)
	must(w.t, log.Close())
	w.background[name] = child
}

// end ends what was started under a name, with what it started in turn.
func (w *world) end(name string) {
	child := w.background[name]
	if child == nil {
		return
	}
	children := proc.Children(child.PID())
	child.End(syscall.SIGINT, 20*time.Second)
	if !proc.Gone(children, time.Second) {
		for _, p := range children {
			p.Signal(syscall.SIGKILL)
		}
	}
	if w.t.Failed() {
		w.t.Logf("the log of %s:\n%s", name, w.read(name+".log"))
	}
	delete(w.background, name)
}

// unit starts the ExecStart of a systemd unit with its Environment and nothing else.
func (w *world) unit(text string) {
	w.t.Helper()
	var command, env []string
	for _, line := range strings.Split(strings.ReplaceAll(text, "\\\n", " "), "\n") {
		key, value, _ := strings.Cut(line, "=")
		switch key {
		case "ExecStart":
			command = strings.Fields(value)
		case "Environment":
			env = append(env, value)
		}
	}
	if len(command) == 0 {
		w.t.Fatal("the unit starts nothing")
	}
	log := w.log("edge")
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = w.dir, log, log
	cmd.Env = append(env, "AMPORA_EDGE_LISTEN="+w.listen, "AMPORA_EDGE_ADMIN_LISTEN="+w.admin)
	var err error
	w.edge, err = proc.Start(cmd)
	must(w.t, err)
	must(w.t, log.Close())
	w.eventually("the unit's edge is ready", func() error { return w.ready(w.edge, "edge.log", w.admin) })
}

func (w *world) ready(child *proc.Child, log, admin string) error {
	if !child.Running() {
		w.t.Fatalf("the edge has ended:\n%s", w.read(log))
	}
	resp, err := http.Get("http://" + admin + "/readyz")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusOK {
		return errors.Join(err, fmt.Errorf("%s: %s", resp.Status, body))
	}
	return err
}

func (w *world) eventually(what string, try func() error) {
	w.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("%s: still, after %s: %v", what, patience, err)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

func (w *world) log(name string) *os.File {
	w.t.Helper()
	f, err := os.OpenFile(filepath.Join(w.dir, name+".log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	must(w.t, err)
	return f
}

func (w *world) write(name, text string) {
	w.t.Helper()
	name = strings.TrimPrefix(name, "/")
	must(w.t, os.MkdirAll(filepath.Dir(filepath.Join(w.dir, name)), 0o700))
	must(w.t, os.WriteFile(filepath.Join(w.dir, name), []byte(text), 0o600))
}

func (w *world) read(name string) string {
	raw, _ := os.ReadFile(filepath.Join(w.dir, name))
	return string(raw)
}

// environment is ours without what would configure Vault, an edge or the command line.
func environment() []string {
	var kept []string
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "VAULT_") && !strings.HasPrefix(kv, "AMPORA_") {
			kept = append(kept, kv)
		}
	}
	return kept
}

// freePort is an address that nobody listens on, below the range of outgoing connections.
func freePort(t *testing.T) string {
	t.Helper()
	for range 100 {
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 20000+rand.N(12000))); err == nil {
			must(t, l.Close())
			return l.Addr().String()
		}
	}
	t.Fatal("there is no free port")
	return ""
}

func page(t *testing.T, path string) (text string, all []*block) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("../..", path))
	must(t, err)
	all, err = blocks(string(raw))
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return string(raw), all
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// lines is text by its lines, without empty ones.
func lines(text string) []string {
	var all []string
	for _, line := range bytes.Split([]byte(text), []byte("\n")) {
		if len(bytes.TrimSpace(line)) > 0 {
			all = append(all, string(line))
		}
	}
	return all
}
