package main

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/plugintest"
)

func TestVersion(t *testing.T) {
	var out bytes.Buffer
	if code := run(t.Context(), []string{"--version"}, &out, &out); code != 0 || out.String() != "ampora-edge "+apitype.Version+"\n" {
		t.Errorf("%d %q", code, out.String())
	}
}

func TestMistakesOnTheCommandLine(t *testing.T) {
	t.Setenv("VAULT_TOKEN", "x")
	for name, args := range map[string][]string{
		"an unknown flag":                     {"--nope"},
		"a bad level":                         {"--log-level=loud"},
		"a bad network":                       {"--proxy-protocol-from=10.0.0.1"},
		"a bad address":                       {"--listen=nowhere"},
		"a bad address for the PKI":           {"--pki-listen=4322"},
		"half a certificate":                  {"--tls-cert=a.pem"},
		"a way to log in that lacks its file": {"--auth=token-file"},
	} {
		t.Run(name, func(t *testing.T) {
			var out, errs bytes.Buffer
			if code := run(t.Context(), args, &out, &errs); code != exitUsage || out.Len() != 0 || !strings.HasPrefix(errs.String(), "ampora-edge: ") {
				t.Errorf("%d, %q, %q", code, out.String(), errs.String())
			}
		})
	}
}

// lines is a log that is read while it is written.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) { l.mu.Lock(); defer l.mu.Unlock(); return l.buf.Write(p) }
func (l *lines) String() string              { l.mu.Lock(); defer l.mu.Unlock(); return l.buf.String() }

func TestRunsUntilToldToStop(t *testing.T) {
	engine := plugintest.Start(t)
	engine.Configure(t, "wss://127.0.0.1:4320/v1/opamp")
	t.Setenv("VAULT_ADDR", engine.URL)
	t.Setenv("VAULT_TOKEN", engine.Token)
	t.Setenv("AMPORA_EDGE_LISTEN", "127.0.0.1:0")
	t.Setenv("AMPORA_EDGE_ADMIN_LISTEN", "127.0.0.1:0")
	t.Setenv("AMPORA_EDGE_PKI_LISTEN", "127.0.0.1:0")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	log := &lines{}
	done := make(chan int, 1)
	go func() { done <- run(ctx, []string{"--log-format=json", "--name=edge-1"}, log, log) }()
	for end := time.Now().Add(10 * time.Second); !strings.Contains(log.String(), "server certificate from Vault"); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(log.String())
		}
	}
	cancel()
	select {
	case code := <-done:
		if code != 0 {
			t.Errorf("exit code %d: %s", code, log.String())
		}
	case <-time.After(10 * time.Second):
		t.Fatal("it does not stop")
	}
	if strings.Contains(log.String(), engine.Token) || !strings.Contains(log.String(), `"@message":"edge is down"`) || strings.Contains(log.String(), `"pki":null`) {
		t.Error(log.String())
	}
}
