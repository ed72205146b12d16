// Command bench measures Ampora beside what Vault and a bare OpAMP server do: everything in one run, on one real Vault with
// Raft storage and a file audit device, the compared operations in turn, round by round. 'make bench' runs it.
//
//	writes   storage writes of each operation
//	rates    issuing and enrolling
//	storm    2,000 new agents that come to an edge at once
//	edge     10,000 idle agents on an edge, its end by a kill and their return, what is left when they have gone
//	revoked  revoking at 100,000 revoked agents, the list of them, and how soon a session of one is closed
//	many     100,000 expired tokens and their tidying, 100,000 events
//	handoverfile  one handover file for 1,000 agents, between two Vaults of its own
//	handover      100 agents move, one after the other, between two Vaults of its own with an edge each, and what each step takes
//
// Agents are in a process of their own. Each of their connections is an open file there and on the edge.
//
// Machines differ and are busy, so the ratios are what counts; every figure is the median of its rounds.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"syscall"
	"time"
)

// options are the sizes of a run.
type options struct {
	rounds      int
	parallel    int
	operations  int           // of each kind in a round, with 'parallel' in flight
	alone       int           // of each kind in a round, with one in flight
	counted     int           // of each kind when writes are counted
	requests    int           // for 1,000 tokens each, in a round
	expired     int           // tokens
	single      int           // of these that were issued alone, and so have a row each
	tidyWait    time.Duration // for the end of a sweep of them
	events      int           // in the audit trail
	tokens      int           // that are redeemed at once
	agents      int           // that are connected and idle
	heartbeat   time.Duration // of an idle agent
	settle      time.Duration // from the last connect to the reading of the memory
	auditWindow time.Duration // over which the audit log of an idle edge is watched
	reconnect   time.Duration // one round of reconnects
	revoked     int           // agents
	watched     int           // agents whose sessions are watched while they are revoked
	moved       int           // agents in one handover file
	moves       int           // agents that move, one after the other
	only        string        // a stage
	json        string
	bareserver  string
}

func main() {
	if len(os.Args) == 3 && os.Args[1] == "agents" {
		if err := runAgents(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, "agents:", err)
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	o, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err == nil {
		err = run(ctx, o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func parse(args []string) (options, error) {
	var o options
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.IntVar(&o.rounds, "rounds", 9, "rounds of each comparison")
	f.IntVar(&o.parallel, "parallel", 32, "requests in flight in the loaded rounds")
	f.IntVar(&o.operations, "operations", 320, "operations of each kind in a loaded round")
	f.IntVar(&o.alone, "alone", 50, "operations of each kind in a round with one in flight")
	f.IntVar(&o.counted, "counted", 20, "operations of each kind when storage writes are counted")
	f.IntVar(&o.requests, "requests", 4, "requests for 1,000 tokens in a round")
	f.IntVar(&o.expired, "expired", 100_000, "expired tokens")
	f.IntVar(&o.single, "single", 20_000, "how many of the expired tokens were issued alone, and so have a row each")
	f.DurationVar(&o.tidyWait, "tidy-wait", 3*time.Minute, "how long to wait until the expired tokens are tidied away")
	f.IntVar(&o.events, "events", 100_000, "events in the audit trail")
	f.IntVar(&o.tokens, "tokens", 2000, "tokens that are redeemed at once")
	f.IntVar(&o.agents, "agents", 10_000, "idle agents on each server")
	f.DurationVar(&o.heartbeat, "heartbeat", 30*time.Second, "heartbeat of an idle agent")
	f.DurationVar(&o.settle, "settle", 135*time.Second, "from the last connect to the reading of the memory: an idle Go program collects its garbage every two minutes")
	f.DurationVar(&o.auditWindow, "audit-window", 60*time.Second, "how long the audit log of an idle edge is watched")
	f.DurationVar(&o.reconnect, "reconnect", 2*time.Second, "length of one round of reconnects")
	f.IntVar(&o.revoked, "revoked", 100_000, "revoked agents")
	f.IntVar(&o.watched, "watched", 20, "agents that are revoked while they are connected to two edges")
	f.IntVar(&o.moves, "moves", 100, "agents that move to a peer, one after the other")
	f.IntVar(&o.moved, "moved", 1000, "agents in one handover file")
	f.StringVar(&o.only, "only", "", "run this `stage` alone: writes, rates, storm, edge, revoked, many, handoverfile or handover")
	f.StringVar(&o.json, "json", "", "also write all figures to this `file`")
	f.StringVar(&o.bareserver, "bareserver", "", "`program` to measure the edge against (test/bench/bareserver)")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if o.bareserver == "" || f.NArg() > 0 {
		return o, errors.New("run this as scripts/bench.sh does: with --bareserver and flags only")
	}
	if !slices.Contains([]string{"", "writes", "rates", "storm", "edge", "revoked", "many", "handoverfile", "handover"}, o.only) {
		return o, errors.New("there is no such stage")
	}
	if o.rounds < 1 || o.parallel < 1 || o.operations < 1 || o.alone < 1 || o.counted < 1 || o.requests < 1 || o.single < 1 || o.expired < o.single || o.events < 1 || o.agents < 1 || o.tokens < 1 || o.revoked < 1 || o.watched < 1 || o.moved < 1 || o.moves < 1 {
		return o, errors.New("sizes must be at least 1")
	}
	return o, nil
}

// bench is one run.
type bench struct {
	options
	dir     string // for the run's files; gone afterwards
	started time.Time
	vault   *vaultSide
	agents  []identity // that have been enrolled
	idle    state      // of the edge, when all agents were connected and idle

	withRevoked, withoutRevoked *mount // once they have been made
	report                      report
}

func run(ctx context.Context, o options) (err error) {
	dir, err := os.MkdirTemp("", "ampora-bench-")
	if err != nil {
		return err
	}
	b := &bench{options: o, dir: dir, started: time.Now()}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()

	b.say("a Vault with Raft storage, a file audit device, the engine, AppRole and pki")
	if b.vault, err = startVault(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.vault.stop()) }()
	b.report.Environment = environment{
		Processors: runtime.NumCPU(), Go: runtime.Version(), System: runtime.GOOS + "/" + runtime.GOARCH,
		Vault: b.vault.version, Ampora: b.vault.ampora, Started: b.started.UTC().Format(time.RFC3339),
	}
	for _, stage := range []struct {
		name    string
		measure func(context.Context) error
	}{{"writes", b.measureWrites}, {"rates", b.measureRates}, {"storm", b.measureStorm}, {"edge", b.measureEdge}, {"revoked", b.measureRevoked}, {"many", b.measureMany}, {"handoverfile", b.measureHandoverFile}, {"handover", b.measureHandover}} {
		if !b.runs(stage.name) {
			continue
		}
		if err := stage.measure(ctx); err != nil {
			return err
		}
	}
	b.report.Seconds = time.Since(b.started).Seconds()
	if err := b.report.print(os.Stdout); err != nil || o.json == "" {
		return err
	}
	return b.report.save(o.json)
}

// runs reports whether a stage is part of this run.
func (b *bench) runs(stage string) bool { return b.only == "" || b.only == stage }

func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%4.0f s  %s\n", time.Since(b.started).Seconds(), fmt.Sprintf(format, args...))
}
