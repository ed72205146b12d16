package ampora

import (
	"context"
	"errors"
	"runtime/debug"
	"sync"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
)

const (
	sweepEvery   = time.Hour
	sweepTimeout = 30 * time.Minute
)

// upkeep finishes in the background what requests left: it settles single agents soon after a storage fault, and sweeps
// everything once after each start and then every hour. It never works inside Initialize or a request.
type upkeep struct {
	backend *backend
	now     func() time.Time

	mu      sync.Mutex
	running bool
	swept   time.Time
	agents  map[string]bool // committed but not settled
}

func newUpkeep(b *backend, now func() time.Time) *upkeep {
	return &upkeep{backend: b, now: now, agents: map[string]bool{}}
}

// unsettled notes an agent for the next tick.
func (u *upkeep) unsettled(agentID string, err error) {
	u.backend.Logger().Warn("committed, but not all is told yet; trying again within a minute", "agent", agentID, "error", err)
	u.mu.Lock()
	defer u.mu.Unlock()
	u.agents[agentID] = true
}

// start begins the first sweep.
func (u *upkeep) start() { u.tick() }

// tick begins what is due, unless the last run still goes on.
func (u *upkeep) tick() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.running {
		return
	}
	due := u.swept.IsZero() || u.now().Sub(u.swept) >= sweepEvery
	if !due && len(u.agents) == 0 && !u.backend.log.Untold() {
		return
	}
	agents := u.agents
	u.agents, u.running = map[string]bool{}, true
	go u.run(agents, due)
}

func (u *upkeep) run(agents map[string]bool, sweep bool) {
	ctx, cancel := context.WithTimeout(u.backend.life, sweepTimeout)
	defer cancel()
	for id := range agents {
		if err := u.guarded(ctx, func(ctx context.Context) error { return u.backend.enroll.Settle(ctx, id) }); err != nil {
			u.unsettled(id, err)
		}
	}
	err := u.guarded(ctx, u.backend.log.Retell)
	if sweep {
		err = errors.Join(err, u.sweep(ctx))
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.running = false
	switch {
	case errors.Is(err, &apitype.Error{Code: apitype.OutcomeUnknown}) || err != nil && ctx.Err() != nil:
		u.backend.Logger().Warn("the sweep did not finish; trying again within a minute", "error", err)
		u.swept = time.Time{}
	case err != nil: // again in a minute would be the same
		u.backend.Logger().Error("the sweep left something out; trying again within an hour", "error", err)
		u.swept = u.now()
	case sweep:
		u.swept = u.now()
	}
}

// sweep takes every step, whatever comes of the others.
func (u *upkeep) sweep(ctx context.Context) error {
	var all []error
	for _, step := range []func(context.Context) error{
		u.backend.enroll.LoadBatches,
		u.backend.settings.Settle,
		u.backend.authority.Settle,
		u.backend.epoch.Settle,
		u.backend.pools.Settle,
		u.backend.configurations.Sweep,
		u.backend.groups.Sweep,
		u.backend.enroll.Sweep,
		func(ctx context.Context) error { _, err := u.backend.log.Tidy(ctx); return err },
	} {
		all = append(all, u.guarded(ctx, step))
	}
	return errors.Join(all...)
}

// guarded runs a step. A panic in it is one failed step: it would end the process, and every mount with it.
func (u *upkeep) guarded(ctx context.Context, step func(context.Context) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			u.backend.Logger().Error("upkeep panicked", "stack", string(debug.Stack()))
			err = errors.New("upkeep panicked")
		}
	}()
	return step(ctx)
}
