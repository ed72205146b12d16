package vaultgate

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/client"
	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
)

const (
	defaultBootstrapSlots = 64
	defaultBootstrapQueue = 512
	// Issuing for holders of pool secrets.
	poolSlots = 16
	poolQueue = 256
	// Questions about certificates, which anybody may ask.
	questionSlots = 8
	questionQueue = 64
	// Next leaves for agents that have one. The edge's own renewals wait in the edge, so the queue is the agents'.
	renewalSlots = 32
	renewalQueue = 512
	// Bodies of configurations, of which there are few at a time: each goes to many agents.
	bodySlots = 4
	bodyQueue = 64
	// The edge itself polls once, reports in batches, and rarely wants a certificate or a list.
	controlSlots = 8
	controlQueue = 64
)

// Gate carries an edge's calls to Vault. It is safe for concurrent use.
type Gate struct {
	client     *client.Client
	keeper     *keeper
	ops        operations
	log        hclog.Logger
	metrics    *metrics
	status     *status
	registerer prometheus.Registerer

	mu     sync.Mutex
	cancel context.CancelFunc // nil before Start
	done   chan struct{}      // closed when the keeper has ended
	over   bool
}

// New makes a Gate and asks nothing of Vault yet. It fails on options or VAULT_* variables that cannot work.
func New(o Options) (*Gate, error) {
	log := o.Logger
	if log == nil {
		log = hclog.NewNullLogger()
	}
	log = log.With("component", "vaultgate")
	method, err := o.Auth.choose()
	if err != nil {
		return nil, err
	}
	calls, bare, err := connect(o.Vault)
	if err != nil {
		return nil, err
	}
	kinds := map[string]*slots{
		"bootstrap": newSlots(orDefault(o.BootstrapSlots, defaultBootstrapSlots), orDefault(o.BootstrapQueue, defaultBootstrapQueue)),
		"pools":     newSlots(poolSlots, poolQueue), "questions": newSlots(questionSlots, questionQueue),
		"renewals": newSlots(renewalSlots, renewalQueue), "control": newSlots(controlSlots, controlQueue),
		"configurations": newSlots(bodySlots, bodyQueue),
		"receipts":       newSlots(receiptSlots, receiptQueue), "federation": newSlots(federationSlots, federationQueue),
	}
	m, s := newMetrics(), newStatus()
	k := newKeeper(method, calls, bare, log, m)
	m.watch(k, s, kinds)
	if o.Registerer != nil {
		if err := m.register(o.Registerer); err != nil {
			return nil, fmt.Errorf("vaultgate: %w", err)
		}
	}
	return &Gate{
		client: client.WithVault(calls, o.Mount).ForTenant(o.Tenant), keeper: k,
		ops: newOperations(kinds),
		log: log, metrics: m, status: s, registerer: o.Registerer,
	}, nil
}

func orDefault(n, standard int) int {
	if n <= 0 {
		return standard
	}
	return n
}

// Start begins to log in, and goes on trying for as long as the Gate lives. It fails only when called twice or after Stop.
// The end of ctx does not end the Gate.
func (g *Gate) Start(ctx context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.over || g.cancel != nil {
		return errors.New("vaultgate: started already")
	}
	ctx, g.cancel = context.WithCancel(context.WithoutCancel(ctx))
	g.done = make(chan struct{})
	g.keeper.begin()
	go func() {
		defer close(g.done)
		g.keeper.run(ctx)
	}()
	return nil
}

// Stop ends the Gate. A token that was made for it is revoked, if Vault answers within 3 seconds. Calls fail from now on.
func (g *Gate) Stop() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.over {
		return
	}
	g.over = true
	if g.cancel != nil {
		g.cancel()
		<-g.done
		g.keeper.revoke(context.Background())
	}
	g.client.Vault().CloneConfig().HttpClient.CloseIdleConnections()
	g.status.note(false, "the gate is stopped")
	if g.registerer != nil {
		g.metrics.unregister(g.registerer)
	}
}

// Status tells whether Vault answers, as the last calls found it.
func (g *Gate) Status() Status { return g.status.get() }

// note draws the conclusion from a call's outcome: is Vault there, and what should the log say.
func (g *Gate) note(op operation, err error) {
	code := apitype.CodeOf(err)
	switch {
	case err == nil, code != apitype.VaultUnavailable && code != apitype.OutcomeUnknown && code != apitype.NotReady:
		if g.status.note(true, "") {
			g.log.Info("Vault answers")
		}
	case errors.Is(err, errGivenUp), errors.Is(err, errBusy):
		// It says nothing about Vault.
	case errors.Is(err, errPolicy) && !op.decides:
		op.warn.Do(func() {
			g.log.Error("a Vault policy does not let this edge do its work", "op", op.name, "error", Cause(err))
		})
	case statusOf(err) == http.StatusNotFound && !op.decides:
		op.warn.Do(func() {
			g.log.Error("Vault does not serve this call: is the secrets engine older than this edge?", "op", op.name, "error", Cause(err))
		})
	default:
		if g.status.note(false, Cause(err)) {
			g.log.Warn("Vault does not answer", "op", op.name, "code", code, "error", Cause(err))
		}
	}
}
