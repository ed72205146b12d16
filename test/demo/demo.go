// Command demo shows Ampora from an empty Vault to an agent on mutual TLS, on to the agent's end, and last how another agent
// moves to a second installation and comes home: 'make demo'.
//
// Every line after a "$" is what the command behind it printed just now, run by bash as it stands there. It is a test as
// well: a step that does not behave as told ends it with status 1.
package main

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
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/ampora/ampora/test/proc"
	"github.com/ampora/ampora/test/standin"
	"github.com/ampora/ampora/test/vaulttest"
)

// limit is how long it may take, builds apart.
const limit = 90 * time.Second

func main() {
	standin.Main()
	os.Exit(run())
}

func run() int {
	// SIGPIPE too: when whoever reads us has had enough, Vault and the files still go.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	defer stop()
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("it took more than %s", limit))
	defer cancel()
	begin := time.Now()
	d := &demo{ctx: ctx, out: os.Stdout, bold: terminal(os.Stdout)}
	err := d.whole()
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		fmt.Fprintf(os.Stderr, "\nerror: the demo ended early: %v\n", err)
		return 1
	}
	fmt.Printf("\n# That took %.1f seconds. Both Vaults, the edges and their files are gone again.\n", time.Since(begin).Seconds())
	return 0
}

// terminal reports whether headings may be bold.
func terminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

// demo is one run. Once a step has failed, err is set and all others do nothing.
type demo struct {
	ctx  context.Context
	out  io.Writer
	bold bool
	dir  string   // where the commands run
	env  []string // with which
	err  error

	running []*proc.Child // what start has started
}

// whole puts up what the steps need, runs them and clears it all away.
func (d *demo) whole() (err error) {
	bin, err := vaulttest.BinDir()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "ampora-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	vault, err := vaulttest.Run(d.ctx, vaulttest.Options{TLS: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, vault.Stop()) }()
	west, err := vaulttest.Run(d.ctx, vaulttest.Options{TLS: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, west.Stop()) }()
	defer d.endAll()
	standIns, err := standin.Dir(filepath.Join(dir, ".stand-ins"), "curl")
	if err != nil {
		return err
	}
	d.dir = dir
	d.env = append(append(clean(os.Environ()), vault.Env()...), "HOME="+dir, "PATH="+bin+":"+filepath.Join(bin, "tools")+":"+os.Getenv("PATH")+":"+standIns,
		"PLUGINS="+vault.PluginDir, "AUDIT_LOG="+vault.AuditLog(), "WEST_PLUGINS="+west.PluginDir)
	if err := writeWest(dir, west.Env()); err != nil {
		return err
	}

	d.say("Ampora on Vault, from nothing to an agent on mutual TLS. What follows a \"$\" is run as it stands,")
	d.say("in %s, with bin/ on the PATH and a root token in VAULT_TOKEN.", dir)
	home, err := d.story()
	if err != nil {
		return err
	}
	return d.federation(home)
}

// endAll ends what still runs, the last one first.
func (d *demo) endAll() {
	for _, child := range slices.Backward(d.running) {
		child.End(syscall.SIGTERM, 10*time.Second)
	}
}

// place is where an edge is.
type place struct{ address, admin, endpoint, federation string }

func newPlace() (p place, err error) {
	if p.address, err = freePort(); err != nil {
		return p, err
	}
	p.admin, err = freePort()
	p.endpoint, p.federation = "wss://"+p.address+"/v1/opamp", "https://"+p.address+"/federation"
	return p, err
}

// clean is the environment without what would lead our programs elsewhere.
func clean(env []string) []string {
	var kept []string
	for _, kv := range env {
		if !strings.HasPrefix(kv, "VAULT_") && !strings.HasPrefix(kv, "AMPORA_") {
			kept = append(kept, kv)
		}
	}
	return kept
}

// story is what there is to see.
func (d *demo) story() (home place, err error) {
	home, err = newPlace()
	if err != nil {
		return home, err
	}
	address, admin, endpoint := home.address, home.admin, home.endpoint

	d.head("A real Vault: Raft storage, and a file audit device")
	d.run(`vault status | grep -E '^(Version|Storage Type|Sealed|HA Mode) '`, "raft", "active")
	d.run(`vault audit list`, "file/")

	d.head("The plugin, with a CA, policies, and a login for one edge")
	d.run(`cp "$(command -v vault-plugin-secrets-ampora)" "$PLUGINS"/`)
	d.run(`ampora setup --plugin "$PLUGINS"/vault-plugin-secrets-ampora --peer-id demo --trust-domain demo.example \
    --endpoint `+endpoint+` --config federation_url=`+home.federation+` --edge edge-1 --edge-credentials-dir credentials`, "ampora/ is mounted", "credentials/edge-1.secret_id")

	d.head("An edge, which is what agents connect to. It keeps nothing on disk")
	edge := d.start(`ampora-edge --name edge-1 --listen `+address+` --admin-listen `+admin+` --log-level debug \
    --approle-role-id-file credentials/edge-1.role_id --approle-secret-id-file credentials/edge-1.secret_id`, "edge.log")
	d.await("the edge to be ready", edge, func() bool { return answers("http://" + admin + "/readyz") })
	d.run(`cat edge.log`, "first trust snapshot", "server certificate from Vault")

	d.head("A bootstrap token: good for one agent, once")
	d.run(`vault write -field=token ampora/tokens/issue label="first agent" ttl=1h > token`)
	d.run(`ampora inspect token`, "bootstrap token: intact")

	d.head("An agent enrols: its key is made here, its certificate comes from Vault")
	d.run(`vault read -field=bundle ampora/ca/bundle > ca.pem`)
	enrol := `ampora enroll --endpoint ` + endpoint + ` --ca-file ca.pem --token-file token --out `
	agent := field(d.run(enrol+`agent`, "agent_id", "valid until"), "agent_id")
	d.run(`ampora inspect agent/cert.pem`, "agent certificate: intact", "spiffe://demo.example/agent/"+agent)

	d.head("It is connected with that certificate, over mutual TLS")
	d.await("the edge to report the agent", edge, func() bool {
		return d.quietly(`vault read -field=last_seen ampora/agents/`+agent) != ""
	})
	d.run(`grep `+agent+` edge.log`, "agent enrolled", "agent connected: kind=agent")
	d.run(`vault read ampora/agents/`+agent+` | grep -E '^(state|serial_number|edge|last_seen|token_id) '`, "active", "edge-1")

	d.head("The token is spent: whoever copied it gets nothing")
	d.run(enrol+`thief || echo "exit code $?"`, "token_redeemed", "exit code 1")
	d.run(`ls thief || true`, "No such file")

	d.head("The engine's audit trail")
	events := d.run(`vault read -format=yaml -field=events ampora/audit/events agent_id=`+agent,
		"action: Certificate.Issued", "action: Token.Redeemed", "label: first agent")

	d.head("The same request in Vault's own audit log: facts are readable, secrets are not")
	request := field(events, "request_id:")
	d.run(`grep `+request+` "$AUDIT_LOG" | tail -n 1 | \
    grep -oE '"(edge|path|token|csr|source_ip|agent_id|serial_number|fingerprint)":"[^"]+"'`,
		`"path":"ampora/redeem"`, `"agent_id":"`+agent+`"`, `"token":"hmac-sha256:`, `"csr":"hmac-sha256:`, `"edge":"edge-1"`)
	d.run(`grep -c "$(cat token)" "$AUDIT_LOG" edge.log || true`, "audit.log:0", "edge.log:0")

	d.head("A pool: a team issues tokens with its secret, and nothing but curl")
	d.run(`vault write -field=admin_secret ampora/pools/web default_ttl=1h > pool-secret`)
	d.run(`ampora inspect pool-secret`, "pool admin secret: intact")
	issue := `-X POST --cacert ca.pem -H "Authorization: Bearer $(cat pool-secret)" -H "Content-Type: application/json" \
    -d '{"ttlMinutes":15}' https://` + address + `/api/tokens/pools/web/issue`
	d.run(`curl -fsS `+issue+` | tee unused.json; echo`, `{"token":"amp-bs.`, `"tokenId":"`, `"expiresAt":"`)
	piped := `grep -o 'amp-bs[^"]*'`
	enrolWeb := `ampora enroll --endpoint ` + endpoint + ` --ca-file ca.pem --out `
	web := field(d.run(`curl -fsS `+issue+` | \
    `+piped+` | `+enrolWeb+`web-1`, "agent_id", "valid until"), "agent_id")

	d.head("The pool's secret has leaked: one write ends it, and every token that it has issued")
	d.run(`vault write ampora/pools/web/revoke reason="the secret has leaked" | grep -E '^(name|admin_secret_enabled|revo)'`, "the secret has leaked", "false")
	d.run(`curl -sS `+issue+`; echo`, "urn:ampora:error:pool_secret_invalid")
	d.run(piped+` unused.json | `+enrolWeb+`web-2 || echo "exit code $?"`, "pool_revoked", "exit code 1")
	d.run(`vault read ampora/agents/`+web+` | grep -E '^(pool|state) '`, "active", "web")
	d.run(`ampora enroll --endpoint `+endpoint+` --ca-file ca.pem --token-file token --out web-1 || echo "exit code $?"`, "which works and is valid until")

	d.head("The end of the agent: its certificate works until it is revoked")
	d.run(enrol+`agent || echo "exit code $?"`, "which works and is valid until")
	d.run(`vault write ampora/agents/`+agent+`/revoke reason=keyCompromise`, "keyCompromise")
	d.await("the edge to hear of it", edge, func() bool {
		return strings.Contains(d.quietly(enrol+`agent`), "certificate_revoked")
	})
	d.run(enrol+`agent || echo "exit code $?"`, "(certificate_revoked)", "token_redeemed", "exit code 1")
	d.run(`vault read -format=yaml -field=events ampora/audit/events limit=1`, "action: Certificate.Revoked", agent)
	return home, d.err
}

func (d *demo) say(format string, args ...any) {
	if d.err == nil {
		fmt.Fprintf(d.out, "# "+format+"\n", args...)
	}
}

func (d *demo) head(title string) {
	if d.err != nil {
		return
	}
	if d.bold {
		title = "\x1b[1m" + title + "\x1b[0m"
	}
	fmt.Fprintf(d.out, "\n# %s\n", title)
}

// run shows a command and what it prints. It must succeed and print all of want.
func (d *demo) run(command string, want ...string) string {
	if d.err != nil {
		return ""
	}
	fmt.Fprintf(d.out, "$ %s\n", command)
	var said bytes.Buffer
	err := d.bash(command, io.MultiWriter(d.out, &said)).Run()
	if err != nil {
		d.err = fmt.Errorf("the last command failed: %w", err)
	}
	for _, w := range want {
		if d.err == nil && !strings.Contains(said.String(), w) {
			d.err = fmt.Errorf("the last command should have printed %q", w)
		}
	}
	return said.String()
}

// quietly runs a command for what it prints.
func (d *demo) quietly(command string) string {
	var said bytes.Buffer
	_ = d.bash(command, &said).Run()
	return strings.TrimSpace(said.String())
}

// start shows a command and runs it in the background.
func (d *demo) start(command, log string) *proc.Child {
	if d.err != nil {
		return nil
	}
	command += " > " + log + " 2>&1"
	fmt.Fprintf(d.out, "$ %s &\n", command)
	cmd := exec.Command("bash", "-c", "exec "+command)
	cmd.Dir, cmd.Env = d.dir, d.env
	child, err := proc.Start(cmd)
	if err != nil {
		d.err = err
		return nil
	}
	d.running = append(d.running, child)
	return child
}

func (d *demo) bash(command string, out io.Writer) *exec.Cmd {
	cmd := exec.CommandContext(d.ctx, "bash", "-c", "set -o pipefail; "+command)
	cmd.Dir, cmd.Env = d.dir, d.env
	cmd.Stdout, cmd.Stderr = out, out // one pipe for both keeps their order
	// A group of its own, so that bash does not leave behind what it runs.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// await waits for what comes by itself within moments.
func (d *demo) await(what string, needs *proc.Child, there func() bool) {
	deadline := time.Now().Add(15 * time.Second)
	for d.err == nil && !there() {
		switch {
		case !needs.Running():
			d.err = fmt.Errorf("the program ended while waiting for %s:\n%s", what, d.quietly("tail -n 20 *.log"))
		case time.Now().After(deadline):
			d.err = fmt.Errorf("waited too long for %s:\n%s", what, d.quietly("tail -n 20 *.log"))
		case d.ctx.Err() != nil:
			d.err = d.ctx.Err()
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// answers reports whether a URL answers 200.
func answers(url string) bool {
	resp, err := (&http.Client{Timeout: time.Second}).Get(url)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// field is the word behind a key in what a command printed.
func field(text, key string) string {
	for _, line := range strings.Split(text, "\n") {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), key); ok {
			return strings.TrimSpace(rest)
		}
	}
	return ""
}

// freePort is an address on loopback that nobody listens on at the moment, and below the range from which systems take the
// ports of outgoing connections: nobody takes it by chance.
func freePort() (string, error) {
	var last error
	for range 100 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 20000+rand.N(12000)))
		if err == nil {
			return l.Addr().String(), l.Close()
		}
		last = err
	}
	return "", last
}
