package edge_test

import (
	"context"
	"crypto/x509"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ampora/ampora/edge"
	"github.com/ampora/ampora/edge/session"
	"github.com/ampora/ampora/edge/vaultgate"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/client"
	"github.com/ampora/ampora/plugin/plugintest"
	"github.com/hashicorp/go-hclog"
	vaultapi "github.com/hashicorp/vault/api"
	"github.com/prometheus/client_golang/prometheus"
)

// quick are timings for tests: long enough for a slow machine, short enough to wait for.
var quick = session.Timing{
	FirstMessage: 2 * time.Second, CSRWait: 300 * time.Millisecond, OfferLinger: time.Second, Bootstrap: 3 * time.Second,
	Report: 50 * time.Millisecond, Idle: time.Second,
}

// world is a real engine and a real edge before it.
type world struct {
	t      *testing.T
	engine *plugintest.Server
	vault  *client.Client
	edge   *edge.Edge
	roots  *x509.CertPool
	log    *syncBuffer
	addr   string
}

func newWorld(t *testing.T, change ...func(*edge.Options)) *world {
	t.Helper()
	engine := plugintest.Start(t)
	engine.Configure(t, "wss://127.0.0.1:4320/v1/opamp")
	w := &world{t: t, engine: engine, vault: engine.Client(t)}
	w.startEdge(change...)
	return w
}

func (w *world) options(change ...func(*edge.Options)) edge.Options {
	config := vaultapi.DefaultConfig()
	config.Address = w.engine.URL
	w.log = &syncBuffer{}
	o := edge.Options{
		Listen: "127.0.0.1:0", AdminListen: "127.0.0.1:0", Name: "edge-1", Timing: quick, DrainTimeout: 5 * time.Second,
		Vault:    vaultgate.Options{Vault: config, Auth: vaultgate.AuthOptions{Auth: vaultgate.AuthToken, Token: w.engine.Token}},
		Logger:   hclog.New(&hclog.LoggerOptions{Level: hclog.Trace, Output: w.log}),
		Registry: prometheus.NewRegistry(),
	}
	for _, f := range change {
		f(&o)
	}
	return o
}

func (w *world) startEdge(change ...func(*edge.Options)) {
	t := w.t
	t.Helper()
	e, err := edge.New(w.options(change...))
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(); err != nil {
		t.Fatal(err)
	}
	w.edge, w.addr = e, e.Addr().String()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := e.Stop(ctx); err != nil {
			t.Errorf("stopping: %v", err)
		}
		if t.Failed() {
			t.Log("the edge's log:\n" + w.log.String())
		}
	})
	w.roots = x509.NewCertPool()
	if bundle, err := w.vault.CABundle(t.Context()); err == nil {
		w.roots.AppendCertsFromPEM([]byte(bundle.Bundle))
	}
	w.eventually("the edge is ready", 10*time.Second, func() bool { status, _ := w.admin("/readyz"); return status == http.StatusOK })
}

func (w *world) admin(path string) (int, string) {
	resp, err := http.Get("http://" + w.edge.AdminAddr().String() + path)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body)
}

// metric is the value of one line of /metrics.
func (w *world) metric(line string) string {
	_, body := w.admin("/metrics")
	for _, l := range strings.Split(body, "\n") {
		if rest, found := strings.CutPrefix(l, line+" "); found {
			return rest
		}
	}
	return ""
}

func (w *world) eventually(what string, within time.Duration, ok func() bool) {
	w.t.Helper()
	for end := time.Now().Add(within); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if ok() {
			return
		}
	}
	w.t.Fatalf("not within %v: %s", within, what)
}

func (w *world) token(in ...apitype.TokenIssueRequest) string {
	w.t.Helper()
	issued, err := w.vault.IssueToken(w.t.Context(), append(in, apitype.TokenIssueRequest{})[0])
	if err != nil {
		w.t.Fatal(err)
	}
	return issued.Token
}
