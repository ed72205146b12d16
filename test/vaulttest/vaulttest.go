// Package vaulttest runs real Vault servers for tests, demonstrations and
// benchmarks: one node on integrated Raft storage, or a Cluster of several,
// initialised, unsealed, with a plugin directory and a file audit device, on loopback.
//
//	v := vaulttest.Start(t)
//	if _, err := v.RegisterAmpora(ctx, "ampora"); err != nil { ... }
//	secret, err := v.Client().Logical().Write("ampora/tokens/issue", nil)
//
// A Vault can be killed, restarted on its data, sealed and unsealed, and its plugin
// processes can be killed under it. It signals only processes that it started or
// that its Vault did, and a stopped Vault leaves neither processes nor files.
package vaulttest

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/ampora/ampora/test/proc"
	"github.com/hashicorp/vault/api"
)

// Options say how to run a Vault. The zero value is good.
type Options struct {
	Binary     string                           // the vault program; default Bin("vault")
	TLS        bool                             // serve https with a certificate made for the occasion
	NoAudit    bool                             // leave out the file audit device
	RawStorage bool                             // open sys/raw
	LogLevel   string                           // default "info"
	Env        []string                         // more environment for Vault and its plugins, "NAME=value"
	Logf       func(format string, args ...any) // hears of what is worth telling; default nobody
}

// Vault is one running Vault node and what is needed to use it. Its methods may be
// called from several goroutines, but those that stop or start it exclude each other.
type Vault struct {
	Addr      string // https://127.0.0.1:port or http://127.0.0.1:port, the same after a Restart
	RootToken string //
	UnsealKey string // there is one, and it is enough
	CAFile    string // PEM file to verify Addr with; empty without TLS
	PluginDir string // Vault's plugin_directory
	node      node   // this node's process and files
	client    *api.Client
	serves    []int  // what sys/health answers when the node has its place: active, or in a cluster standby
	auditLog  string // the device is the whole cluster's, so its file is, too

	mu       sync.Mutex
	commands map[string][]string // plugin name -> files in PluginDir registered for it
}

// node is what one member of a cluster needs, so that there may be more than one.
type node struct {
	id      string
	dir     string   // everything the node has on disk
	mark    *os.File // open while dir is ours
	binary  string
	options Options
	tcp     string // API listener, host:port
	cluster string // cluster listener, host:port
	// reach makes the address at which the other nodes are told to reach cluster; nil when that is cluster itself.
	reach func(cluster string) (string, error)

	mu    sync.Mutex // held while the process is started or ended
	child *proc.Child
}

// Run starts, initialises and unseals a Vault and returns when it is active. The
// context bounds the start alone; the Vault runs until Stop, or until this process ends.
func Run(ctx context.Context, o Options) (*Vault, error) {
	sweep(os.TempDir())
	v, err := newVault("node-1", o)
	if err != nil {
		return nil, err
	}
	err = v.begin(ctx)
	if err == nil {
		err = v.initialise(ctx)
	}
	if err != nil {
		return nil, v.abandon(err)
	}
	return v, nil
}

// newVault makes a place for a node. Nothing runs yet.
func newVault(id string, o Options) (*Vault, error) {
	if o.Binary == "" {
		binary, err := Bin("vault")
		if err != nil {
			return nil, err
		}
		o.Binary = binary
	}
	if o.LogLevel == "" {
		o.LogLevel = "info"
	}
	if o.Logf == nil {
		o.Logf = func(string, ...any) {}
	}
	dir, mark, err := makeDir(os.TempDir())
	if err != nil {
		return nil, err
	}
	return &Vault{
		PluginDir: filepath.Join(dir, "plugins"),
		node:      node{id: id, dir: dir, mark: mark, binary: o.Binary, options: o},
		serves:    []int{http.StatusOK},
		auditLog:  filepath.Join(dir, "audit.log"),
		commands:  map[string][]string{},
	}, nil
}

// abandon removes a node that did not come up, and tells why with the end of its log.
func (v *Vault) abandon(why error) error {
	tail := v.logTail(30)
	_ = v.Stop()
	return fmt.Errorf("vaulttest: %w\n%s", why, tail)
}

// begin brings a new node up for the first time, not initialised.
func (v *Vault) begin(ctx context.Context) error {
	for _, sub := range []string{"raft", "plugins", "home"} {
		if err := os.Mkdir(filepath.Join(v.node.dir, sub), 0o700); err != nil {
			return err
		}
	}
	scheme := "http"
	if v.node.options.TLS {
		scheme = "https"
		if err := writeCertificates(v.node.dir); err != nil {
			return err
		}
		v.CAFile = filepath.Join(v.node.dir, "ca.pem")
	}

	// A port that was free a moment ago may be taken when Vault asks for it.
	var err error
	for range 5 {
		if v.node.tcp, v.node.cluster, err = freePorts(); err != nil {
			return err
		}
		v.Addr = scheme + "://" + v.node.tcp
		if err = v.node.start(ctx); !errors.Is(err, errPortTaken) {
			break
		}
		v.node.options.Logf("vaulttest: %v, trying others", err)
	}
	if err != nil {
		return err
	}

	v.client, err = v.newClient()
	return err
}

// initialise makes the node the first of a new Vault.
func (v *Vault) initialise(ctx context.Context) error {
	init, err := v.client.Sys().InitWithContext(ctx, &api.InitRequest{SecretShares: 1, SecretThreshold: 1})
	if err != nil {
		return fmt.Errorf("initialise: %w", err)
	}
	v.RootToken, v.UnsealKey = init.RootToken, init.Keys[0]
	v.client.SetToken(v.RootToken)
	if err := v.Unseal(ctx); err != nil {
		return err
	}
	if v.node.options.NoAudit {
		return nil
	}
	err = v.client.Sys().EnableAuditWithOptionsWithContext(ctx, "file", &api.EnableAuditOptions{
		Type:    "file",
		Options: map[string]string{"file_path": v.AuditLog(), "mode": "0600"},
	})
	if err != nil {
		return fmt.Errorf("enable the audit device: %w", err)
	}
	return nil
}

// Client returns a client of its own, with the root token. Unlike the library's
// default it repeats no request: a test wants to see the first answer.
func (v *Vault) Client() *api.Client {
	c, err := v.newClient()
	if err != nil {
		panic(err) // the same call worked when Vault was started
	}
	c.SetToken(v.RootToken)
	return c
}

// ClientWithToken is Client for another token; an empty one makes an anonymous client.
func (v *Vault) ClientWithToken(token string) *api.Client {
	c := v.Client()
	c.SetToken(token)
	return c
}

func (v *Vault) newClient() (*api.Client, error) {
	// Put together by hand, since the library's default reads VAULT_* of whoever runs the test.
	transport := &http.Transport{MaxIdleConnsPerHost: 64, IdleConnTimeout: time.Minute, ForceAttemptHTTP2: true}
	if v.CAFile != "" {
		ca, err := os.ReadFile(v.CAFile)
		if err != nil {
			return nil, err
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(ca)
		transport.TLSClientConfig = &tls.Config{RootCAs: roots}
	}
	c, err := api.NewClient(&api.Config{
		Address: v.Addr,
		Timeout: time.Minute,
		HttpClient: &http.Client{
			Transport:     transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	})
	if err != nil {
		return nil, err
	}
	c.ClearToken()
	c.ClearNamespace()
	return c, nil
}

// Env returns the environment in which the vault program and other clients reach
// this Vault as root.
func (v *Vault) Env() []string {
	env := []string{"VAULT_ADDR=" + v.Addr, "VAULT_TOKEN=" + v.RootToken}
	if v.CAFile != "" {
		env = append(env, "VAULT_CACERT="+v.CAFile)
	}
	return env
}

// AuditLog returns the path of the audit device's file.
func (v *Vault) AuditLog() string { return v.auditLog }

// ServerLog returns the path of what Vault and its plugins wrote to standard error,
// over all restarts.
func (v *Vault) ServerLog() string { return filepath.Join(v.node.dir, "server.log") }

// DataDir returns the directory of the Raft storage.
func (v *Vault) DataDir() string { return filepath.Join(v.node.dir, "raft") }

// Pid returns the process id of the running Vault, or 0.
func (v *Vault) Pid() int {
	v.node.mu.Lock()
	defer v.node.mu.Unlock()
	if v.node.child == nil || !v.node.child.Running() {
		return 0
	}
	return v.node.child.PID()
}

// Stop ends Vault and its plugins and removes everything it had on disk. It may be
// called more than once.
func (v *Vault) Stop() error {
	v.node.end(syscall.SIGTERM)
	err := os.RemoveAll(v.node.dir)
	v.node.mark.Close()
	return err
}

// Kill ends Vault like a power failure, with its plugins. The data stays for Restart.
func (v *Vault) Kill() { v.node.end(syscall.SIGKILL) }

// Restart starts Vault again on the same data and address and unseals it, ending it
// first (in good order) if it still runs.
func (v *Vault) Restart(ctx context.Context) error {
	v.node.end(syscall.SIGTERM)
	if err := v.node.start(ctx); err != nil {
		return fmt.Errorf("vaulttest: %w\n%s", err, v.logTail(30))
	}
	return v.Unseal(ctx)
}

// Seal seals Vault.
func (v *Vault) Seal(ctx context.Context) error { return v.client.Sys().SealWithContext(ctx) }

// Unseal unseals Vault and returns when it is active, or in a cluster when it has its place.
func (v *Vault) Unseal(ctx context.Context) error {
	if _, err := v.client.Sys().UnsealWithContext(ctx, v.UnsealKey); err != nil {
		return fmt.Errorf("unseal: %w", err)
	}
	if err := v.node.await(ctx, v.client, v.serves...); err != nil {
		return fmt.Errorf("waiting for Vault to become active: %w", err)
	}
	return nil
}

// LastIndex returns the index of the last committed entry of the Raft log. Between
// two calls on an idle Vault it stands still, so the difference counts writes.
func (v *Vault) LastIndex(ctx context.Context) (uint64, error) {
	r, err := v.client.Sys().LeaderWithContext(ctx)
	if err != nil {
		return 0, err
	}
	return r.RaftCommittedIndex, nil
}

func (v *Vault) logTail(lines int) string {
	raw, _ := os.ReadFile(v.ServerLog())
	all := strings.Split(strings.TrimSpace(string(raw)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

var errPortTaken = errors.New("the port is taken")

// start starts the node's process and waits until it listens, sealed.
func (n *node) start(ctx context.Context) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.child != nil {
		return errors.New("already running")
	}
	reached := n.cluster
	if n.reach != nil {
		var err error
		if reached, err = n.reach(n.cluster); err != nil {
			return err
		}
	}
	config, err := json.MarshalIndent(n.config(reached), "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(n.dir, "config.json")
	if err := os.WriteFile(path, config, 0o600); err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(n.dir, "server.log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	info, err := log.Stat()
	if err != nil {
		return err
	}
	said := int(info.Size()) // what earlier runs wrote is of no interest

	cmd := exec.Command(n.binary, "server", "-config="+path)
	cmd.Dir = n.dir
	cmd.Env = append(n.environment(), n.options.Env...)
	cmd.Stdout, cmd.Stderr = log, log
	child, err := proc.Start(cmd)
	if err != nil {
		return err
	}
	n.child = child

	for {
		// That something listens on the port says little: it may be somebody else.
		raw, err := os.ReadFile(log.Name())
		if err == nil && bytes.Contains(raw[min(said, len(raw)):], []byte("==> Vault server started!")) {
			return nil
		}
		select {
		case <-child.Exited():
			n.child = nil
			raw, _ := os.ReadFile(log.Name())
			if bytes.Contains(raw[min(said, len(raw)):], []byte("address already in use")) {
				return fmt.Errorf("%w: %s or %s", errPortTaken, n.tcp, n.cluster)
			}
			return fmt.Errorf("vault ended at once: %v", child.Err())
		case <-ctx.Done():
			child.End(syscall.SIGKILL, 10*time.Second)
			n.child = nil
			return fmt.Errorf("waiting for Vault to listen: %w", ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// end ends the node's process, if it runs, and then those plugins that outlived it.
func (n *node) end(s syscall.Signal) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.child == nil {
		return
	}
	var plugins []proc.Process
	if n.child.Running() {
		plugins = proc.Children(n.child.PID())
	}
	n.child.End(s, 20*time.Second)
	n.child = nil
	for _, p := range plugins {
		p.Signal(syscall.SIGKILL)
	}
	proc.Gone(plugins, 10*time.Second)
}

// await waits until sys/health answers with one of the statuses.
func (n *node) await(ctx context.Context, client *api.Client, status ...int) error {
	var last error
	for {
		r, err := client.Logical().ReadRawWithContext(ctx, "sys/health")
		if r != nil {
			r.Body.Close()
			if slices.Contains(status, r.StatusCode) {
				return nil
			}
			last = fmt.Errorf("sys/health answers %d", r.StatusCode)
		} else {
			last = err
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), last)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// config is the node's configuration file. The other nodes reach it at the given host:port.
func (n *node) config(reached string) map[string]any {
	scheme, listener := "http", map[string]any{
		"address":         n.tcp,
		"cluster_address": n.cluster,
		"tls_disable":     !n.options.TLS,
		// The metrics of the server can be read without a token: benchmarks do.
		"telemetry": map[string]any{"unauthenticated_metrics_access": true},
	}
	if n.options.TLS {
		scheme = "https"
		listener["tls_cert_file"] = filepath.Join(n.dir, "server.pem")
		listener["tls_key_file"] = filepath.Join(n.dir, "server-key.pem")
	}
	raft := map[string]any{
		"path":                   filepath.Join(n.dir, "raft"),
		"node_id":                n.id,
		"performance_multiplier": "1", // elections in about a second instead of five
	}
	if n.reach != nil {
		raft["autopilot_reconcile_interval"] = "1s" // who has joined votes soon; the default is 10 s
		raft["autopilot_update_interval"] = "1s"
	}
	return map[string]any{
		"storage":              map[string]any{"raft": raft},
		"listener":             []any{map[string]any{"tcp": listener}},
		"api_addr":             scheme + "://" + n.tcp,
		"cluster_addr":         "https://" + reached,
		"plugin_directory":     filepath.Join(n.dir, "plugins"),
		"disable_mlock":        true,
		"raw_storage_endpoint": n.options.RawStorage,
		"log_level":            n.options.LogLevel,
		"telemetry":            map[string]any{"disable_hostname": true, "prometheus_retention_time": "10m"},
	}
}

// environment is ours without anything that would configure Vault, and with a home
// directory of its own: the vault program keeps a token helper's file there.
func (n *node) environment() []string {
	env := []string{"HOME=" + filepath.Join(n.dir, "home")}
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "VAULT_") && !strings.HasPrefix(kv, "HOME=") && !strings.HasPrefix(kv, "BAO_") {
			env = append(env, kv)
		}
	}
	return env
}

// freePorts returns two addresses on loopback that nobody listens on at the moment.
func freePorts() (a, b string, err error) {
	la, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", "", err
	}
	defer la.Close()
	lb, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", "", err
	}
	defer lb.Close()
	return la.Addr().String(), lb.Addr().String(), nil
}
