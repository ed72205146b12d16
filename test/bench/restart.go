package main

import (
	"context"
	"fmt"
	"os"
	"time"
)

// returnTime is how long all agents together may take to come back.
const returnTime = 5 * time.Minute

// measureRestart kills the edge, with all of its agents connected, and starts it again at once in the same place. The agents
// come back by themselves, with the pauses of opamp-go's client, and then leave for good.
func (b *bench) measureRestart(ctx context.Context, log *os.File, servers []*server) error {
	edge := servers[0]
	n := b.options.agents
	b.say("the edge is killed and started again; %d agents come back", n)
	killed := time.Now()
	edge.kill()
	next, err := b.startEdge(ctx, log, edgeOptions{name: "bench", token: b.vault.edgeToken, ownCertificate: true, at: edge})
	if err != nil {
		return err
	}
	next.agents, servers[0] = edge.agents, next
	ready := time.Since(killed)
	out, err := tell(next.agents, order{Do: "returned", URL: next.url, For: returnTime})
	if err != nil {
		return err
	}
	if len(out.Times) != n {
		return fmt.Errorf("of %d agents %d came back", n, len(out.Times))
	}
	times := since(killed, out.Times)
	one := func(key, what string, v float64) {
		b.report.add(key, figures{What: what, Unit: "s", Ours: []float64{v}})
	}
	one("back-half", fmt.Sprintf("a killed edge's %d agents are back: half of them", n), quantile(times, 0.5))
	one("back-p99", "  99 of 100", quantile(times, 0.99))
	one("back", "  all", quantile(times, 1))
	b.report.note("The restarted edge was ready after %.1f s. Until all %d agents were back, tries were refused: %s; and failed otherwise: %s.",
		ready.Seconds(), n, counts(out.Refused), counts(out.Broken))
	if _, err := tell(next.agents, order{Do: "disconnect", URL: next.url}); err != nil {
		return err
	}
	return ctx.Err()
}

// measureLeft says what the edge has kept of agents that have gone, beside what an edge has that only ever had a few. It waits twice
// as long for that as for the idle agents' memory: an idle Go program collects its garbage every two minutes, and gives memory back little by little.
func (b *bench) measureLeft(ctx context.Context, edge *server, quiet state) error {
	b.say("waiting until the edge has let go of what its agents took")
	if err := b.reported(ctx, edge); err != nil {
		return err
	}
	start := time.Now()
	took := float64(b.idle.resident - quiet.resident)
	var now state
	var share, goroutines float64
	_, err := b.within(ctx, 2*b.settle, func() (_ bool, err error) {
		now, err = edge.state(ctx)
		share = max(0, float64(now.resident-quiet.resident)) / max(took, 1) * 100
		goroutines = max(0, now.goroutines-quiet.goroutines)
		return share <= leftShare && goroutines <= leftGoroutines, err
	})
	if err != nil {
		return err
	}
	b.report.add("left-goroutines", figures{What: "goroutines left on the edge when all agents have gone", Ours: []float64{goroutines}})
	b.report.add("left-memory", figures{What: "memory left on the edge when all agents have gone, of what they took", Unit: "%", Ours: []float64{share}})
	b.report.note("When all agents had gone the edge had %.0f goroutines and %.1f MiB resident, %.0f s after the last ones had left; before there were any, %.0f and %.1f MiB.",
		now.goroutines, mib(now.resident), time.Since(start).Seconds(), quiet.goroutines, mib(quiet.resident))
	return nil
}
