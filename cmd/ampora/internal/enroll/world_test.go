package enroll

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ampora/ampora/cmd/ampora/internal/console"
	"github.com/ampora/ampora/cmd/ampora/internal/hint"
	"github.com/ampora/ampora/cmd/ampora/internal/idfiles"
	"github.com/ampora/ampora/edge"
	"github.com/ampora/ampora/edge/vaultgate"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/client"
	"github.com/ampora/ampora/plugin/plugintest"
	vault "github.com/hashicorp/vault/api"
)

// world is a real engine and a real edge before it.
type world struct {
	*testing.T
	engine *plugintest.Server
	client *client.Client
	addr   string // of the edge
	caFile string
}

func newWorld(t *testing.T, change ...func(*edge.Options)) *world {
	t.Helper()
	w := &world{T: t, engine: plugintest.Start(t), addr: freeAddr(t)}
	w.engine.Configure(t, w.endpoint("wss"))
	w.client = w.engine.Client(t)
	w.start(w.addr, change...)
	bundle, err := w.client.CABundle(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w.caFile = filepath.Join(t.TempDir(), "edge-ca.pem")
	w.write(w.caFile, bundle.Bundle)
	return w
}

// start runs an edge until the test ends or the answered function is called.
func (w *world) start(addr string, change ...func(*edge.Options)) (stop func()) {
	w.Helper()
	config := vault.DefaultConfig()
	config.Address = w.engine.URL
	o := edge.Options{
		Listen: addr, AdminListen: "127.0.0.1:0", Name: "edge-1", Advertise: "wss://" + addr + "/v1/opamp", DrainTimeout: time.Second,
		Vault: vaultgate.Options{Vault: config, Auth: vaultgate.AuthOptions{Auth: vaultgate.AuthToken, Token: w.engine.Token}},
	}
	for _, f := range change {
		f(&o)
	}
	e, err := edge.New(o)
	if err != nil {
		w.Fatal(err)
	}
	if err := e.Start(); err != nil {
		w.Fatal(err)
	}
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := e.Stop(ctx); err != nil {
			w.Errorf("stopping the edge: %v", err)
		}
	}
	w.Cleanup(stop)
	for begin := time.Now(); time.Since(begin) < 10*time.Second; time.Sleep(20 * time.Millisecond) {
		if resp, err := http.Get("http://" + e.AdminAddr().String() + "/readyz"); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return stop
			}
		}
	}
	w.Fatal("the edge does not become ready")
	return nil
}

func (w *world) endpoint(scheme string) string { return scheme + "://" + w.addr + "/v1/opamp" }

// token issues one.
func (w *world) token() string {
	w.Helper()
	issued, err := w.client.IssueToken(w.Context(), apitype.TokenIssueRequest{})
	if err != nil {
		w.Fatal(err)
	}
	return issued.Token
}

// result is what a run left on the terminal.
type result struct {
	out, text string
	err       error
}

// enrol runs the command with a token on the standard input.
func (w *world) enrol(dir, token string, change ...func(*Cmd)) result {
	w.Helper()
	c := &Cmd{Endpoint: w.endpoint("wss"), Out: dir, CAFile: w.caFile, KeyType: "ec", Name: "a-collector", Timeout: 20 * time.Second}
	for _, f := range change {
		f(c)
	}
	var out, errs bytes.Buffer
	con := &console.Console{In: strings.NewReader(token), Out: &out, Err: &errs, Getenv: func(string) string { return "" }}
	err := c.Run(w.Context(), con)
	if err != nil {
		hint.Print(&errs, err)
	}
	if token != "" && strings.Contains(out.String()+errs.String(), token) {
		w.Error("the token was printed")
	}
	return result{out.String(), errs.String(), err}
}

// mustEnrol runs the command and holds that all is well afterwards.
func (w *world) mustEnrol(dir, token string, change ...func(*Cmd)) *idfiles.Identity {
	w.Helper()
	r := w.enrol(dir, token, change...)
	if r.err != nil {
		w.Fatalf("enrolling: %s", r.text)
	}
	id := w.identity(dir)
	if err := knockWith(w.Context(), id); err != nil {
		w.Fatalf("connecting with what was written: %v", err)
	}
	return id
}

// identity reads a directory and holds that nothing but an identity is in it, for its owner's eyes only.
func (w *world) identity(dir string) *idfiles.Identity {
	w.Helper()
	d, err := idfiles.Open(dir)
	if err != nil {
		w.Fatal(err)
	}
	defer d.Close()
	id, err := d.Current()
	if err != nil {
		w.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		w.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || info.Mode() != fs.FileMode(0o600) || strings.HasPrefix(e.Name(), ".") {
			w.Errorf("%s: %v %v", e.Name(), info.Mode(), err)
		}
	}
	return id
}

// refuses holds that a run failed with these words, and left nothing when the directory was not there before.
func (w *world) refuses(dir string, r result, says ...string) {
	w.Helper()
	if r.err == nil {
		w.Fatalf("no error: %s", r.out)
	}
	for _, want := range append(says, "hint: ") {
		if !strings.Contains(r.text, want) {
			w.Errorf("the error does not say %q:\n%s", want, r.text)
		}
	}
	if dir == "" {
		return
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		w.Errorf("a failed run left %s", dir)
	}
}

func (w *world) write(name, text string) {
	w.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		w.Fatal(err)
	}
}

// freeAddr is an address that nobody listened at a moment ago.
func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
