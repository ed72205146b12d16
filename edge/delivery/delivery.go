// Package delivery knows what each agent is to run: which configuration its group gives, or is its own, the hash of that, and
// its body once somebody asks for it.
//
// The change feed says only that something has changed, because every edge reads it; what it was is read from
// edge/configurations, which is held to a tenant (see plugin/apitype). Bodies are read one at a time for each configuration,
// however many agents wait for it, and kept in bounded memory.
package delivery

import (
	"context"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/ampora/ampora/edge/metrics"
	"github.com/ampora/ampora/edge/trust"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/hashicorp/go-hclog"
)

// Source is where groups and configurations come from. Errors are as with session.Issuer.
type Source interface {
	EdgeConfigurations(context.Context, apitype.EdgeConfigurationsRequest) (*apitype.EdgeConfigurations, error)
	EdgeConfiguration(ctx context.Context, tenant, name string) (*apitype.EdgeConfiguration, error)
}

// Hash is a configuration's hash: SHA-256 of content type and body, as the engine makes it. Zero is that of none.
type Hash [32]byte

// ParseHash reads lower-case hex.
func ParseHash(text string) (Hash, error) {
	var h Hash
	raw, err := hex.DecodeString(text)
	if err != nil || len(raw) != len(h) {
		return h, fmt.Errorf("delivery: %q is no hash of a configuration", text)
	}
	return Hash(raw), nil
}

func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// Assignment is what decides which configuration an agent is to run.
type Assignment struct {
	Tenant string
	Group  string // empty for none
	Own    string // name of the agent's own configuration, before that of its group; empty for none
}

// Target is the configuration that an agent is to run.
type Target struct {
	Tenant string
	Name   string
	Hash   Hash
}

// Configuration is what an agent is given. It is shared: nobody changes it.
type Configuration struct {
	Hash        Hash
	ContentType string
	Body        []byte
}

// Options are what a Delivery needs.
type Options struct {
	Source  Source
	Metrics *metrics.Metrics
	Logger  hclog.Logger
	// MaxBytes bounds the bodies that are remembered; default 64 MiB.
	MaxBytes int
}

const defaultMaxBytes = 64 << 20

// Delivery follows groups and configurations. It is safe for concurrent use.
type Delivery struct {
	Options
	table  table
	bodies *bodies
	wake   chan struct{}
	life   context.Context // of the reads: ends with Run
	end    context.CancelFunc

	mu        sync.Mutex
	listeners []func()
}

// New makes a Delivery that has not asked yet.
func New(o Options) *Delivery {
	if o.MaxBytes <= 0 {
		o.MaxBytes = defaultMaxBytes
	}
	d := &Delivery{Options: o, wake: make(chan struct{}, 1)}
	d.life, d.end = context.WithCancel(context.Background())
	d.bodies = newBodies(o.MaxBytes, d.read)
	return d
}

// OnChange adds a listener. It is called from Run's goroutine after what agents are to run may have changed.
func (d *Delivery) OnChange(listener func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.listeners = append(d.listeners, listener)
}

// Changed is a listener of the trust feed.
func (d *Delivery) Changed(c trust.Change) {
	if !c.Full && !c.Configurations {
		return
	}
	select {
	case d.wake <- struct{}{}:
	default: // it is to ask already
	}
}

// Target is what an agent is to run, false for nothing that is known here.
func (d *Delivery) Target(a Assignment) (Target, bool) { return d.table.target(a) }

// Body is what the target names, from memory or from Vault. After a failure the next one is asked for a moment later, and
// until then everybody hears of the same failure.
func (d *Delivery) Body(ctx context.Context, t Target) (*Configuration, error) {
	return d.bodies.get(ctx, t)
}

const (
	backoffMin = 250 * time.Millisecond
	backoffMax = 30 * time.Second
)

// Run follows the groups and configurations until ctx ends. While they cannot be read, what was known stays.
func (d *Delivery) Run(ctx context.Context) {
	defer d.end()
	var again <-chan time.Time
	backoff, told := backoffMin, ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.wake:
		case <-again:
		}
		again = nil
		if err := d.catchUp(ctx); err != nil {
			if ctx.Err() != nil {
				return
			}
			if text := err.Error(); text != told { // once per reason
				told = text
				d.Logger.Warn("cannot read which configurations agents are to run, going on with what is known", "error", err)
			}
			again = time.After(backoff/2 + rand.N(backoff))
			backoff = min(2*backoff, backoffMax)
			continue
		}
		backoff, told = backoffMin, ""
		d.mu.Lock()
		listeners := d.listeners
		d.mu.Unlock()
		for _, listener := range listeners {
			listener()
		}
	}
}

func (d *Delivery) catchUp(ctx context.Context) error {
	answer, err := d.Source.EdgeConfigurations(ctx, apitype.EdgeConfigurationsRequest{Since: d.table.at()})
	if err != nil {
		return err
	}
	return d.table.apply(answer)
}

// read reads a body from Vault. Whether the agent that it is read for hangs up is nothing to the others.
func (d *Delivery) read(t Target) (*Configuration, error) {
	c, err := d.Source.EdgeConfiguration(d.life, t.Tenant, t.Name)
	if err == nil && c.Hash != t.Hash.String() {
		err = fmt.Errorf("delivery: it has another hash by now") // the table is about to hear of it
	}
	if err != nil {
		d.Metrics.RemoteConfigs.WithLabelValues(metrics.RemoteConfigPutOff).Inc()
		d.Logger.Debug("a configuration could not be read", "tenant", t.Tenant, "configuration", t.Name, "error", err)
		return nil, err
	}
	return &Configuration{Hash: t.Hash, ContentType: c.ContentType, Body: []byte(c.Body)}, nil
}
