package enroll

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/handover"
	"github.com/ampora/ampora/plugin/internal/audit"
	"github.com/ampora/ampora/plugin/internal/authority"
	"github.com/ampora/ampora/plugin/internal/epoch"
	"github.com/ampora/ampora/plugin/internal/feed"
	"github.com/ampora/ampora/plugin/internal/pool"
	"github.com/ampora/ampora/plugin/internal/settings"
	"github.com/ampora/ampora/plugin/internal/store"
	"github.com/ampora/ampora/plugin/internal/together"
)

// Enroller owns tokens, agents and revocations. It is safe for concurrent use.
type Enroller struct {
	Store     *store.Store
	Locks     *store.Locks
	Log       *audit.Log
	Settings  *settings.Settings
	Authority *authority.Authority
	Feed      *feed.Feed
	Peers     Peers
	Dead      Dead
	Epoch     *epoch.Epoch
	Pools     *pool.Pools
	Now       func() time.Time
	// HoldGroup refuses with group_missing what is no group of the tenant, and else keeps it from being deleted until the
	// answer is called. An empty name is no work.
	HoldGroup func(ctx context.Context, tenant, group string) (release func(), err error)
	// HoldConfiguration does the same with a configuration (configuration_missing). It is called before HoldGroup.
	HoldConfiguration func(ctx context.Context, tenant, configuration string) (release func(), err error)
	// ConfigurationOf is the name of the configuration that a group gives, or "".
	ConfigurationOf func(ctx context.Context, tenant, group string) (string, error)
	// RenewProofOf is the renew_proof of a group, or "".
	RenewProofOf func(ctx context.Context, tenant, group string) (string, error)
	// Unsettled is told of agents whose transition is committed, but whose record or clean-up could not be stored yet.
	Unsettled func(agentID string, err error)

	once    sync.Once
	alone   *together.Writes[single] // see singles
	batches batches
	lives   sightings
	tallies tallies
	swept   atomic.Bool // see Sweep

	unfinished atomic.Bool // see Unfinished
	underway   underway
	claiming   [16]sync.Mutex // see claim
}

// met is what storage knows of one agent and the token that became it, or may. Each part may be nil.
type met struct {
	token   *tokenRow
	agent   *agentRow
	revoked *revokedRow
}

// gone reports whether the agent has been deleted or has expired: the tombstone counts as spent and as revoked.
func (m met) gone() bool { return m.revoked != nil && m.revoked.Deleted }

// meet reads the rows of an agent and of its token and finishes what a crash left half-told: it stores records that are
// not yet stored, deletes the row of a token that is spent, and removes an agent's row that has a tombstone. An empty
// tokenID means that the token does not matter. The caller holds the agent's lock.
//
// A token's row without an agent's needs no look for a tombstone: settle removes the token's row before the agent's. A
// token of a batch has none to remove; one that nobody has begun to redeem has neither agent nor tombstone.
func (e *Enroller) meet(ctx context.Context, agentID, tokenID string) (met, error) {
	var m met
	var err error
	if tokenID != "" {
		if m.token, err = e.token(ctx, tokenID); err != nil {
			return met{}, err
		}
	}
	if m.token != nil && m.token.unused {
		return m, e.settle(ctx, &m)
	}
	if m.agent, err = get[agentRow](ctx, e, store.AgentPrefix, agentID); err != nil {
		return met{}, err
	}
	if m.agent != nil || m.token == nil || m.token.inBatch {
		if m.revoked, err = get[revokedRow](ctx, e, store.RevokedPrefix, agentID); err != nil {
			return met{}, err
		}
	}
	return m, e.settle(ctx, &m)
}

func (e *Enroller) settle(ctx context.Context, m *met) error {
	if m.agent != nil && m.agent.TokenID != "" && m.gone() && m.token == nil { // of a redemption that was never settled
		var err error
		if m.token, err = get[tokenRow](ctx, e, store.TokenPrefix, m.agent.TokenID); err != nil {
			return err
		}
	}
	// The token's own record first: it must be stored before the row that carries it goes.
	if m.token != nil {
		if err := e.Log.Ensure(ctx, m.token.Record); err != nil {
			return err
		}
	}
	if m.agent != nil {
		if err := e.Log.Ensure(ctx, m.agent.Record); err != nil {
			return err
		}
	}
	if m.revoked != nil {
		if err := e.Log.Ensure(ctx, m.revoked.Record); err != nil {
			return err
		}
	}
	if m.token != nil && (m.agent != nil || m.gone()) {
		if err := e.spend(ctx, m.token); err != nil {
			return err
		}
		m.token = nil
	}
	if m.agent != nil && m.agent.over() && !m.gone() && m.agent.given() {
		if err := e.tombstone(ctx, m); err != nil {
			return err
		}
	}
	if m.agent != nil && (m.gone() || m.agent.over()) {
		return e.removeAgent(ctx, m)
	}
	return nil
}

// removeAgent removes the row of an agent that has a tombstone, or that never was, when it is written down what became of its
// handovers.
func (e *Enroller) removeAgent(ctx context.Context, m *met) error {
	last := *m.agent
	if m.gone() {
		last.stepOut(handover.AgentRevoked, m.revoked.Time) // told with the tombstone
	}
	if err := e.letGoAll(ctx, &last); err != nil {
		return err
	}
	known := false
	defer func() { // also after a panic underneath
		if !known && (last.Out != nil || last.In != nil) {
			e.Feed.Discard()
			e.underway.discard()
		}
	}()
	if err := e.Store.Delete(ctx, store.Sharded(store.AgentPrefix, last.AgentID)); err != nil {
		return err
	}
	known = true
	e.forgetMoved(&last)
	m.agent = nil
	return nil
}

// finish settles after a commit, whether or not the caller still listens. The commit stands whatever comes of it, so a
// failure is reported and left to whoever meets the rows next.
func (e *Enroller) finish(ctx context.Context, agentID string, m *met) {
	ctx, cancel := store.Commit(ctx)
	defer cancel()
	if err := e.settle(ctx, m); err != nil {
		e.Unsettled(agentID, err)
	}
}

// get reads the row named id below prefix, or nil when there is none.
func get[T any, P interface {
	*T
	store.Row
}](ctx context.Context, e *Enroller, prefix, id string) (P, error) {
	row := P(new(T))
	found, err := e.Store.Get(ctx, store.Sharded(prefix, id), row)
	if err != nil || !found {
		return nil, err
	}
	return row, nil
}

// Settle meets one agent, for whoever was told that it is unsettled.
func (e *Enroller) Settle(ctx context.Context, agentID string) error {
	defer e.Locks.Agent(agentID, "")()
	agent, err := get[agentRow](ctx, e, store.AgentPrefix, agentID)
	if err != nil {
		return err
	}
	tokenID := ""
	if agent != nil {
		tokenID = agent.TokenID
	}
	_, err = e.meet(ctx, agentID, tokenID)
	return err
}

// inTenant reports whether a row of rowTenant is within reach of the path's tenant; a path without one reaches all.
func inTenant(pathTenant, rowTenant string) bool { return pathTenant == "" || pathTenant == rowTenant }

func unknownToken() error {
	return apitype.Errorf(apitype.TokenUnknown, "no outstanding token has this id")
}

func unknownAgent() error { return apitype.Errorf(apitype.AgentUnknown, "no agent has this id") }
