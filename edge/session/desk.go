package session

import (
	"context"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ampora/ampora/edge/limits"
	"github.com/ampora/ampora/edge/metrics"
	"github.com/ampora/ampora/edge/recent"
	"github.com/ampora/ampora/edge/refused"
	"github.com/ampora/ampora/edge/trust"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/identity"
	"github.com/hashicorp/go-hclog"
)

// Timing holds how long things may take. Zero fields mean the defaults.
type Timing struct {
	FirstMessage time.Duration // from the upgrade to the first message; default 10 s
	CSRWait      time.Duration // on a WebSocket, from the first message to the CSR, before Vault makes the key; default 5 s
	OfferLinger  time.Duration // from the offer, or a final refusal, to the close of a bootstrap session; default 30 s
	Bootstrap    time.Duration // for a bootstrap session to get as far as an offer; default 60 s
	Redeem       time.Duration // for one redemption with all its repeats; default 45 s
	Check        time.Duration // for one redeem/check; default 10 s
	Report       time.Duration // between two reports of sessions; default 1 s
	Idle         time.Duration // between two reports without sessions; default 60 s
	Refused      time.Duration // between two reports of refusals; default 20 s
	Renew        time.Duration // for one renewal with all its repeats; default 40 s
	Flight       time.Duration // for an agent to come back with an offer before it is made another; default 3 min
	Confirm      time.Duration // until a session with a leaf that is not confirmed is reported again; default 15 min and some
	Rival        time.Duration // that a session may still be heard of after a newer one of its leaf began; default 10 s
	Release      time.Duration // that an agent which comes before its source's release is kept waiting; default 3 s
	Arrival      time.Duration // that the first answer to an agent from a peer waits for the engine's word; default 5 s
	Settle       time.Duration // in which agents that have come from a peer are given leaves of ours; default 10 s
	Home         time.Duration // between the first two offers of a new home, then twice as long each time; default 1 min
	Pending      time.Duration // until a renewal is tried again that waits for a handover's end; default 2 min
	Again        time.Duration // until any other session is reported again, a tenth more or less; default 4 h, for Vault audits each
}

func (t Timing) withDefaults() Timing {
	for field, d := range map[*time.Duration]time.Duration{
		&t.FirstMessage: 10 * time.Second, &t.CSRWait: 5 * time.Second, &t.OfferLinger: 30 * time.Second,
		&t.Bootstrap: time.Minute, &t.Redeem: 45 * time.Second, &t.Check: 10 * time.Second,
		&t.Report: time.Second, &t.Idle: time.Minute, &t.Refused: 20 * time.Second,
		&t.Renew: 40 * time.Second, &t.Flight: 3 * time.Minute, &t.Confirm: 15*time.Minute + 5*time.Second, &t.Again: 4 * time.Hour,
		&t.Rival: 10 * time.Second, &t.Release: 3 * time.Second, &t.Arrival: 5 * time.Second,
		&t.Settle: 10 * time.Second, &t.Home: time.Minute, &t.Pending: 2 * time.Minute,
	} {
		if *field <= 0 {
			*field = d
		}
	}
	return t
}

// Trust is where the current snapshot comes from, nil before the first.
type Trust interface{ Current() *trust.Snapshot }

// Options are what a desk needs. All but Tenant, Advertise, Version and Timing must be set.
type Options struct {
	Issuer   Issuer
	Reporter Reporter
	Trust    Trust
	// Configurations may be nil: then nobody is given any.
	Configurations Configurations
	// ServerRoots answers the PEM that verifies this edge's server certificate, empty for the system's roots.
	ServerRoots func() (string, error)
	// IssuerRoots says that these are the engine's issuers, and that of the offered leaf has to be among them.
	IssuerRoots bool
	Advertise   string // overrides the endpoint of the settings
	Tenant      string // when set, only agents and tokens of this tenant are served
	Name        string
	Version     string
	// MaxStaleness is how old the snapshot may be for new sessions; live ones may go on for twice as long.
	MaxStaleness time.Duration
	// PeerRevocations knows which guests' certificates their peers have revoked; nil: none.
	PeerRevocations PeerRevocations
	// Peers is how this edge found peers, for its reports; nil: there are none.
	Peers func() []apitype.PeerReport
	// Refused counts what is refused here, for the audit trail; it may be nil.
	Refused *refused.Table
	Metrics *metrics.Metrics
	Logger  hclog.Logger
	Timing  Timing
}

// Bounds of what the desk remembers and lets through.
const (
	rememberedSources = 1 << 16
	rememberedAgents  = 1 << 17
	rememberedTokens  = 1 << 14
	badPerSecond      = 5 // wrong credentials of one source before it is slowed
	badBurst          = 50
	slowPerSecond     = 20 // well-formed tokens of a slowed source that Vault is asked about
	slowWait          = 10 * time.Second
	agentPerSecond    = 10 // sessions (or polls) of one agent
	agentBurst        = 100
	tokenPerSecond    = 0.2 // sessions of one token: an agent that comes back with what was refused does so in a tight loop
	tokenBurst        = 8
	csrPerSecond      = 1.0 / 30 // CSRs of one leaf that Vault is asked about
	csrBurst          = 6
	// Next leaves with a key of the server's making, for one leaf, that the edge asks for by itself. Each is another leaf, and
	// the engine keeps them until they expire: an agent that never takes one must not be given them without end.
	keyPerSecond = 1.0 / (12 * 3600)
	keyBurst     = 4
	// Reports, at once, of what became of an agent's configurations.
	statusPerSecond = 1.0 / 30
	statusBurst     = 8
)

// Desk lets agents in and looks after their sessions.
type Desk struct {
	Options

	bad    *limits.Keyed[limits.Source]
	slow   *limits.Keyed[limits.Source]
	agents *limits.Keyed[[16]byte]
	tokens *limits.Keyed[string]
	csrs   *limits.Keyed[identity.Serial]
	keys   *limits.Keyed[identity.Serial]

	statuses *limits.Keyed[identity.Serial]

	deadTokens *recent.Map[string, *apitype.Error]          // token ids that Vault has refused for good
	outLeaves  *recent.Map[identity.Serial, *apitype.Error] // leaves that Vault has answered are not to be served
	openKeys   *recent.Map[string, string]                  // idempotency keys, by token id, of redemptions without a clear answer

	draining   atomic.Bool
	live       *registry
	polls      *polling
	reports    *reports
	renewals   *renewals
	departures *departures
	mismatches *mismatches

	news     news          // of the snapshot
	agreed   news          // of agents from peers
	awaiting chan struct{} // holds one for each caller that waits for a release
	nudge    chan struct{} // something is due now

	deliveries *deliveries

	restores int // the last count that the feed told; its goroutine's alone

	mu        sync.Mutex
	redeeming map[string]*bootstrap // by token id: the one open session that may redeem it
}

// NewDesk makes a desk. Run keeps it going; its Changed listens to the trust feed.
func NewDesk(o Options) *Desk {
	o.Timing = o.Timing.withDefaults()
	d := &Desk{
		Options:    o,
		bad:        limits.NewKeyed[limits.Source](badPerSecond, badBurst, rememberedSources),
		slow:       limits.NewKeyed[limits.Source](slowPerSecond, 1, rememberedSources),
		agents:     limits.NewKeyed[[16]byte](agentPerSecond, agentBurst, rememberedAgents),
		tokens:     limits.NewKeyed[string](tokenPerSecond, tokenBurst, rememberedTokens),
		csrs:       limits.NewKeyed[identity.Serial](csrPerSecond, csrBurst, rememberedTokens),
		keys:       limits.NewKeyed[identity.Serial](keyPerSecond, keyBurst, rememberedAgents),
		statuses:   limits.NewKeyed[identity.Serial](statusPerSecond, statusBurst, rememberedAgents),
		deadTokens: recent.NewMap[string, *apitype.Error](rememberedTokens),
		outLeaves:  recent.NewMap[identity.Serial, *apitype.Error](rememberedAgents),
		live:       newRegistry(),
		openKeys:   recent.NewMap[string, string](rememberedTokens),
		redeeming:  make(map[string]*bootstrap),
		departures: newDepartures(),
		mismatches: newMismatches(),
		awaiting:   make(chan struct{}, maxAwaiting),
		nudge:      make(chan struct{}, 1),
	}
	d.polls = newPolling(d)
	d.reports = newReports(d)
	d.renewals = &renewals{desk: d}
	d.deliveries = newDeliveries(d)
	return d
}

// Run reports sessions, renews their leaves, sends agents to their new homes and ends those whose time is over, until ctx ends.
func (d *Desk) Run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	defer d.renewals.wait()
	wg.Go(func() { d.reports.run(ctx) })
	wg.Go(func() { d.tellRefusals(ctx) })
	wg.Go(func() { d.deliveries.run(ctx) })
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			d.guard("sweep", func() { d.sweep(now) })
			d.guard("renewal", func() { d.attend(ctx, now) })
		case <-d.nudge:
			d.guard("handover", func() { d.attend(ctx, time.Now()) })
		}
	}
}

// Drain refuses everybody from now on. Closing what is open is the transport's part.
func (d *Desk) Drain() { d.draining.Store(true) }

// Live is how many agents are being served.
func (d *Desk) Live() int { return d.live.len() }

// guard runs what belongs to no session, so that a panic there does not end them all.
func (d *Desk) guard(what string, f func()) {
	defer func() {
		if r := recover(); r != nil {
			d.Metrics.Panics.Inc()
			d.Logger.Error("panic", "in", what, "panic", r, "stack", string(debug.Stack()))
		}
	}()
	f()
}
