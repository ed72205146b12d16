package edge_test

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ampora/ampora/edge"
	"github.com/ampora/ampora/edge/admin"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/plugintest"
)

func (w *world) readiness() (int, admin.Readiness) {
	w.t.Helper()
	status, body := w.admin("/readyz")
	var r admin.Readiness
	if err := json.Unmarshal([]byte(body), &r); err != nil {
		w.t.Fatalf("%d %s: %v", status, body, err)
	}
	return status, r
}

func TestStopClosesEverySessionProperlyAndInTime(t *testing.T) {
	w := newWorld(t, func(o *edge.Options) { o.DrainTimeout = 3 * time.Second })
	var wires []*wire
	for range 4 {
		a := w.enrolled()
		c := a.mustDial()
		c.send(a.message(withDescription("host-1")))
		c.receive()
		wires = append(wires, c)
	}
	fresh := w.newAgent("Bearer " + w.token())
	wires = append(wires, fresh.mustDial())
	late := wires[0].agent

	stopped := make(chan error, 1)
	start := time.Now()
	go func() { stopped <- w.edge.Stop(context.Background()) }()
	var wg sync.WaitGroup
	for _, c := range wires {
		wg.Go(func() {
			if code, reason := c.closed(5 * time.Second); code != 1001 || reason != string(apitype.Draining) {
				t.Errorf("closed with %d %s", code, reason)
			}
		})
	}
	wg.Wait()
	if err := <-stopped; err != nil {
		t.Errorf("stop: %v", err)
	}
	if d := time.Since(start); d > 3*time.Second {
		t.Errorf("it took %v", d)
	}
	if _, err := (&http.Client{Transport: &http.Transport{TLSClientConfig: late.tls()}}).Get("https://" + w.addr + "/"); err == nil {
		t.Error("the edge still listens")
	}
	if err := w.edge.Stop(context.Background()); err != nil {
		t.Errorf("stopping again: %v", err)
	}
}

func TestNothingIsLeftRunning(t *testing.T) {
	engine := plugintest.Start(t)
	engine.Configure(t, "wss://127.0.0.1:4320/v1/opamp")
	run := func() {
		w := &world{t: t, engine: engine, vault: engine.Client(t)}
		w.startEdge()
		a := w.enrolled()
		c := a.mustDial()
		c.send(a.message(withDescription("host-1")))
		c.receive()
		go c.conn.ReadMessage() // answers the close frame
		if err := w.edge.Stop(context.Background()); err != nil {
			t.Fatal(err)
		}
		c.conn.Close()
		w.vault.Vault().CloneConfig().HttpClient.CloseIdleConnections() // the test's own
		http.DefaultClient.CloseIdleConnections()
	}
	run() // whatever starts once and stays, starts here
	time.Sleep(200 * time.Millisecond)
	before := runtime.NumGoroutine()
	for range 3 {
		run()
	}
	var after int
	for end := time.Now().Add(8 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if after = runtime.NumGoroutine(); after <= before {
			return
		}
	}
	buf := make([]byte, 1<<20)
	t.Fatalf("%d goroutines after, %d before\n%s", after, before, buf[:runtime.Stack(buf, true)])
}

func TestReadiness(t *testing.T) {
	engine := plugintest.Start(t)
	w := &world{t: t, engine: engine, vault: engine.Client(t)}
	engine.SetAway(true)
	e, err := edge.New(w.options())
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(); err != nil {
		t.Fatal(err)
	}
	w.edge, w.addr = e, e.Addr().String()
	t.Cleanup(func() { _ = e.Stop(context.Background()) })

	if status, _ := w.admin("/healthz"); status != 200 {
		t.Errorf("/healthz answers %d", status)
	}
	if status, r := w.readiness(); status != 503 || r.Ready || r.Vault.Up || r.Reason == "" {
		t.Errorf("without Vault: %d %+v", status, r)
	}
	engine.SetAway(false)
	w.eventually("a certificate is missed", 20*time.Second, func() bool {
		status, r := w.readiness()
		return status == 503 && strings.Contains(r.Reason, "config.endpoint")
	})
	engine.Configure(t, "wss://127.0.0.1:4320/v1/opamp")
	w.eventually("the edge is ready", 20*time.Second, func() bool {
		status, r := w.readiness()
		return status == 200 && r.Ready && r.Bootstrap.Up && r.Vault.Up && r.Snapshot.Issuers == 1 && r.ServerCertificateExpiry != ""
	})
	engine.SetAway(true)
	w.eventually("bootstrap is down while known agents are served", 20*time.Second, func() bool {
		status, r := w.readiness()
		return status == 200 && r.Ready && !r.Bootstrap.Up && !r.Vault.Up && strings.Contains(r.Bootstrap.Reason, "Vault is away")
	})
	for _, name := range []string{"ampora_edge_snapshot_age_seconds", "ampora_edge_server_certificate_expiry_seconds", "ampora_edge_panics_total", "ampora_edge_report_queue", "ampora_edge_vault_up"} {
		if w.metric(name) == "" {
			t.Errorf("there is no %s", name)
		}
	}
}

func TestOptionsThatCannotWorkAreRefused(t *testing.T) {
	w := &world{t: t, engine: plugintest.Start(t)}
	for name, change := range map[string]func(*edge.Options){
		"an address without a port":   func(o *edge.Options) { o.Listen = "localhost" },
		"a ws endpoint":               func(o *edge.Options) { o.Advertise = "ws://edge:4320" },
		"an endpoint with a password": func(o *edge.Options) { o.Advertise = "wss://u:p@edge:4320" },
		"a certificate without key":   func(o *edge.Options) { o.TLSCert, o.TLSCA = "a.pem", "system" },
		"a certificate without roots": func(o *edge.Options) { o.TLSCert, o.TLSKey = "a.pem", "b.pem" },
		"roots without a certificate": func(o *edge.Options) { o.TLSCA = "system" },
		"names for a fixed certificate": func(o *edge.Options) {
			o.TLSCert, o.TLSKey, o.TLSCA, o.SANs = "a.pem", "b.pem", "system", []string{"x"}
		},
		"files that are not there": func(o *edge.Options) {
			o.TLSCert, o.TLSKey, o.TLSCA = filepath.Join(os.TempDir(), "no-such.pem"), "b.pem", "system"
		},
		"a negative age":      func(o *edge.Options) { o.MaxStaleness = -1 },
		"a name with a space": func(o *edge.Options) { o.Name = "edge one" },
		"no way to log in":    func(o *edge.Options) { o.Vault.Auth.Auth = "token-file" },
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := edge.New(w.options(change)); err == nil {
				t.Error("accepted")
			}
		})
	}
}

func TestAnAddressInUseLeavesNothingOpen(t *testing.T) {
	w := newWorld(t)
	e, err := edge.New(w.options(func(o *edge.Options) { o.Listen = w.addr }))
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(); err == nil {
		t.Fatal("two edges listen on one address")
	}
	if resp, err := http.Get("http://" + e.AdminAddr().String() + "/healthz"); err == nil {
		resp.Body.Close()
		t.Error("the admin listener is still there")
	}
}
