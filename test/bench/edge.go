package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/gob"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/test/vaulttest"
)

// server is what agents connect to: the edge, or the bare one.
type server struct {
	*child
	url string
}

// files of a run.
const (
	certFile = "server.pem"
	keyFile  = "server-key.pem"
	caFile   = "ca.pem"
	logFile  = "programs.log"
	crewFile = "agents.gob"
)

func (b *bench) file(name string) string { return filepath.Join(b.dir, name) }

// measureEdge compares a real edge with the bare server: what an idle agent costs, and how fast agents come back. Both have
// the same server certificate and the same agents with the certificates that the engine has issued.
func (b *bench) measureEdge(ctx context.Context) (err error) {
	if err := b.enrolMore(ctx, b.options.agents); err != nil {
		return err
	}
	if err := b.writeFiles(ctx); err != nil {
		return err
	}
	log, err := os.Create(b.file(logFile))
	if err != nil {
		return err
	}
	defer log.Close()
	defer func() {
		if err != nil && ctx.Err() == nil {
			raw, _ := os.ReadFile(log.Name())
			err = fmt.Errorf("%w\nthe end of what the programs logged:\n%s", err, raw[max(0, len(raw)-2000):])
		}
	}()

	edge, err := b.startEdge(ctx, log)
	if err != nil {
		return err
	}
	defer edge.end()
	bare, err := b.startBare(log)
	if err != nil {
		return err
	}
	defer bare.end()
	program, err := os.Executable()
	if err != nil {
		return err
	}
	agents, err := begin(log, os.Environ(), program, "agents", b.file(crewFile))
	if err != nil {
		return err
	}
	defer agents.end()
	servers := []server{edge, bare}
	if err := b.measureMemory(ctx, agents, servers); err != nil {
		return err
	}
	return b.measureReconnects(ctx, agents, servers)
}

// writeFiles puts down the server certificate and the agents.
func (b *bench) writeFiles(ctx context.Context) error {
	a, err := newApplicant()
	if err != nil {
		return err
	}
	cert, err := b.vault.edge.EdgeCertificate(ctx, apitype.EdgeCertificateRequest{CSR: a.csr, IPs: []string{"127.0.0.1"}})
	if err != nil {
		return err
	}
	bundle, err := b.vault.operator.CABundle(ctx)
	if err != nil {
		return err
	}
	key, err := x509.MarshalPKCS8PrivateKey(a.key)
	if err != nil {
		return err
	}
	var crewBytes bytes.Buffer
	if err := gob.NewEncoder(&crewBytes).Encode(crew{Roots: []byte(bundle.Bundle), Identities: b.agents}); err != nil {
		return err
	}
	for name, content := range map[string][]byte{
		certFile: []byte(cert.Certificate), caFile: []byte(bundle.Bundle), crewFile: crewBytes.Bytes(),
		keyFile: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}),
	} {
		if err := os.WriteFile(b.file(name), content, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// startEdge starts the edge as it is shipped, with its default settings.
func (b *bench) startEdge(ctx context.Context, log *os.File) (server, error) {
	path, err := vaulttest.Bin("ampora-edge")
	if err != nil {
		return server{}, err
	}
	var addresses [2]string
	for i := range addresses {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return server{}, err
		}
		defer l.Close()
		addresses[i] = l.Addr().String()
		l.Close() // the edge takes it now
	}
	env := []string{"PATH=" + os.Getenv("PATH"), "VAULT_ADDR=" + b.vault.server.Addr, "VAULT_TOKEN=" + b.vault.edgeToken}
	c, err := begin(log, env, path, "--listen", addresses[0], "--admin-listen", addresses[1], "--name", "bench",
		"--tls-cert", b.file(certFile), "--tls-key", b.file(keyFile), "--tls-ca", b.file(caFile))
	if err != nil {
		return server{}, err
	}
	s := server{child: c, url: "wss://" + addresses[0] + "/v1/opamp"}
	for end := time.Now().Add(20 * time.Second); ; {
		resp, err := http.Get("http://" + addresses[1] + "/readyz")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return s, nil
			}
			err = errors.New(resp.Status)
		}
		if !c.Running() || time.Now().After(end) || ctx.Err() != nil {
			c.end()
			return server{}, fmt.Errorf("the edge does not become ready: %w", err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (b *bench) startBare(log *os.File) (server, error) {
	c, err := begin(log, []string{"PATH=" + os.Getenv("PATH")}, b.bareserver,
		"--tls-cert", b.file(certFile), "--tls-key", b.file(keyFile), "--client-ca", b.file(caFile))
	if err != nil {
		return server{}, err
	}
	address, err := c.line()
	if err != nil {
		c.end()
		return server{}, err
	}
	return server{child: c, url: "wss://" + address + "/v1/opamp"}, nil
}

// tell has the agents' process do something and waits for what comes of it.
func tell(agents *child, o order) (outcome, error) {
	var out outcome
	if err := json.NewEncoder(agents.in).Encode(o); err != nil {
		return out, err
	}
	text, err := agents.line()
	if err != nil {
		return out, err
	}
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		return out, err
	}
	if out.Error != "" {
		return out, fmt.Errorf("agents, %s: %s", o.Do, out.Error)
	}
	return out, nil
}

// measureMemory connects the agents to both servers and reads their memory when all is quiet. What the servers have used
// before, after a few agents have come and gone, is taken off.
func (b *bench) measureMemory(ctx context.Context, agents *child, servers []server) error {
	n := b.options.agents
	b.say("%d agents on each server; then silence for %v but for their heartbeats", n, b.settle)
	for _, s := range servers {
		if _, err := tell(agents, order{Do: "reconnect", URL: s.url, Parallel: 4, For: min(b.reconnect, time.Second)}); err != nil {
			return err
		}
	}
	pause(ctx, min(b.settle, 5*time.Second))
	var before, after [2]int64
	for i, s := range servers {
		var err error
		if before[i], err = s.resident(); err != nil {
			return err
		}
	}
	for _, s := range servers {
		out, err := tell(agents, order{Do: "connect", URL: s.url, Agents: n, Heartbeat: b.heartbeat})
		if err != nil {
			return err
		}
		if out.Done != n {
			return fmt.Errorf("of %d agents %d could connect", n, out.Done)
		}
	}
	window := min(b.auditWindow, b.settle)
	pause(ctx, b.settle-window)
	if err := b.watchAudit(ctx, window); err != nil {
		return err
	}
	var each [2]float64
	for i, s := range servers {
		var err error
		if after[i], err = s.resident(); err != nil {
			return err
		}
		each[i] = float64(after[i]-before[i]) / float64(n) / 1024
	}
	for _, s := range servers {
		out, err := tell(agents, order{Do: "disconnect", URL: s.url})
		if err != nil {
			return err
		}
		if out.Failed > 0 {
			return fmt.Errorf("of %d idle agents %d lost their connection", n, out.Failed)
		}
	}
	mb := func(n int64) float64 { return float64(n) / (1 << 20) }
	b.report.add("memory", figures{What: "memory per idle agent", Unit: "KiB", Ours: each[:1], Theirs: each[1:]})
	b.report.note("%d idle agents: the edge went from %.1f to %.1f MiB, the bare server from %.1f to %.1f MiB (resident)",
		n, mb(before[0]), mb(after[0]), mb(before[1]), mb(after[1]))
	return ctx.Err()
}

// watchAudit measures what the edge, and nobody else, makes Vault write into its audit log.
func (b *bench) watchAudit(ctx context.Context, window time.Duration) error {
	size := func() (float64, error) {
		info, err := os.Stat(b.vault.server.AuditLog())
		if err != nil {
			return 0, err
		}
		return float64(info.Size()), nil
	}
	before, err := size()
	if err != nil {
		return err
	}
	start := time.Now()
	pause(ctx, window)
	after, err := size()
	if err != nil {
		return err
	}
	perDay := (after - before) / time.Since(start).Seconds() * (24 * 60 * 60) / 1e6
	b.report.add("audit", figures{What: "Vault's audit log per idle edge and day", Unit: "MB", Ours: []float64{perDay}})
	b.report.note("the audit log's growth is extrapolated from %v, in which it grew by %.1f kB", window, (after-before)/1e3)
	return nil
}

// measureReconnects has agents come and go, on one server after the other. Each comes with a full handshake, says all of
// itself and waits for the answer.
func (b *bench) measureReconnects(ctx context.Context, agents *child, servers []server) error {
	b.say("reconnects, %d in flight: %d rounds of %v", b.parallel, b.rounds, b.reconnect)
	rates := figures{What: fmt.Sprintf("reconnects over mutual TLS, %d in flight", b.parallel), Unit: "per second"}
	costs := figures{What: "the server's processor time for a reconnect", Unit: "ms"}
	for round := range b.rounds + 1 { // the first one warms up
		for turn := range servers {
			i := (turn + round) % len(servers)
			s := servers[i]
			before, err := processor(s.PID())
			if err != nil {
				return err
			}
			out, err := tell(agents, order{Do: "reconnect", URL: s.url, Parallel: b.parallel, For: b.reconnect})
			if err != nil {
				return err
			}
			after, err := processor(s.PID())
			if err != nil {
				return err
			}
			if round == 0 {
				continue
			}
			rate := float64(out.Done) / out.Took.Seconds()
			cost := float64(after-before) / float64(time.Millisecond) / float64(max(out.Done, 1))
			if i == 0 {
				rates.Ours, costs.Ours = append(rates.Ours, rate), append(costs.Ours, cost)
			} else {
				rates.Theirs, costs.Theirs = append(rates.Theirs, rate), append(costs.Theirs, cost)
			}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	b.report.add("reconnects", rates)
	b.report.add("reconnect-cost", costs)
	return nil
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
