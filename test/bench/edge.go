package main

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
)

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
	if err := allowFiles(b.options.agents); err != nil {
		return err
	}
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
	defer func() { err = b.explain(ctx, log, err) }()

	edge, err := b.startEdge(ctx, log, edgeOptions{name: "bench", token: b.vault.edgeToken, ownCertificate: true})
	if err != nil {
		return err
	}
	servers := []*server{edge}
	defer func() {
		for _, s := range servers {
			s.end()
		}
	}()
	bare, err := b.startBare(log)
	if err != nil {
		return err
	}
	servers = append(servers, bare)
	for _, s := range servers { // each has agents of its own, so that no process has more connections than the edge
		if s.agents, err = startAgents(log, b.file(crewFile)); err != nil {
			return err
		}
		defer s.agents.end()
	}
	quiet, err := b.measureMemory(ctx, servers)
	if err != nil {
		return err
	}
	if err := b.measureRestart(ctx, log, servers); err != nil {
		return err
	}
	if err := b.measureReconnects(ctx, servers); err != nil {
		return err
	}
	return b.measureLeft(ctx, servers[0], quiet)
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
	if err := b.writeCrew(crewFile, bundle.Bundle, b.agents); err != nil {
		return err
	}
	for name, content := range map[string][]byte{
		certFile: []byte(cert.Certificate), caFile: []byte(bundle.Bundle),
		keyFile: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}),
	} {
		if err := os.WriteFile(b.file(name), content, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// state is what a server's process has at a moment.
type state struct {
	resident   int64 // bytes
	goroutines float64
}

// measureMemory connects the agents to both servers and reads their memory when all is quiet. What the servers have used
// before, after a few agents have come and gone, is taken off; it answers that of the edge. The edge's agents stay.
func (b *bench) measureMemory(ctx context.Context, servers []*server) (quiet state, err error) {
	n := b.options.agents
	b.say("%d agents on each server; then silence for %v but for their heartbeats", n, b.settle)
	for _, s := range servers {
		if _, err := tell(s.agents, order{Do: "reconnect", URL: s.url, Parallel: 4, For: min(b.reconnect, time.Second)}); err != nil {
			return quiet, err
		}
	}
	pause(ctx, min(b.settle, 5*time.Second))
	var before, after [2]state
	for i, s := range servers {
		if before[i], err = s.state(ctx); err != nil {
			return quiet, err
		}
	}
	for i, s := range servers {
		out, err := tell(s.agents, order{Do: "connect", URL: s.url, Agents: n, Heartbeat: b.heartbeat, Return: i == 0})
		if err != nil {
			return quiet, err
		}
		if out.Done != n {
			return quiet, fmt.Errorf("of %d agents %d could connect", n, out.Done)
		}
	}
	window := min(b.auditWindow, b.settle)
	settled := time.Now().Add(b.settle - window)
	if b.runs("revoked") { // nothing is measured for a while: the time is used
		if err := b.prepareRevoked(ctx); err != nil {
			return quiet, err
		}
	}
	pause(ctx, time.Until(settled))
	if err := b.reported(ctx, servers[0]); err != nil {
		return quiet, err
	}
	if err := b.watchAudit(ctx, window); err != nil {
		return quiet, err
	}
	var each [2]float64
	for i, s := range servers {
		if after[i], err = s.state(ctx); err != nil {
			return quiet, err
		}
		each[i] = float64(after[i].resident-before[i].resident) / float64(n) / 1024
		out, err := tell(s.agents, order{Do: "look", URL: s.url})
		if err != nil {
			return quiet, err
		}
		if out.Failed > 0 || out.Done != n {
			return quiet, fmt.Errorf("of %d idle agents %d are connected, %d connections were lost", n, out.Done, out.Failed)
		}
	}
	bare := servers[1]
	if _, err := tell(bare.agents, order{Do: "disconnect", URL: bare.url}); err != nil {
		return quiet, err
	}
	b.report.add("memory", figures{What: fmt.Sprintf("memory per idle agent, of %d", n), Unit: "KiB", Ours: each[:1], Theirs: each[1:]})
	b.report.add("goroutines", figures{What: "goroutines of the edge per idle agent", Ours: []float64{(after[0].goroutines - before[0].goroutines) / float64(n)}})
	b.report.note("%d idle agents: the edge went from %.1f to %.1f MiB, the bare server from %.1f to %.1f MiB (resident)",
		n, mib(before[0].resident), mib(after[0].resident), mib(before[1].resident), mib(after[1].resident))
	b.idle = after[0]
	return before[0], ctx.Err()
}

func mib(n int64) float64 { return float64(n) / (1 << 20) }

// reported waits until the edge has told Vault of all the agents that have come to it.
func (b *bench) reported(ctx context.Context, edge *server) error {
	_, err := b.within(ctx, 5*time.Minute, func() (bool, error) {
		waiting, err := edge.metric(ctx, "ampora_edge_report_queue")
		return waiting == 0, err
	})
	return err
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
func (b *bench) measureReconnects(ctx context.Context, servers []*server) error {
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
			out, err := tell(s.agents, order{Do: "reconnect", URL: s.url, Parallel: b.parallel, For: b.reconnect})
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
