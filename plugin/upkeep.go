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
	sweepEvery    = time.Hour
	sweepTimeout  = 2 * time.Hour
	finishTimeout = 30 * time.Minute
	stopTimeout   = 3 * time.Second
)

// upkeep finishes in the background what requests left: it settles single agents soon after a storage fault, and sweeps
// everything once after each start and then every hour. It never works inside Initialize or a request. A sweep may take long,
// and nothing else waits for it.
type upkeep struct {
	backend *backend
	now     func() time.Time
	running sync.WaitGroup

	mu        sync.Mutex
	finishing bool
	sweeping  bool
	swept     time.Time
	agents    map[string]bool // committed but not settled
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

// tick begins what is due, unless the last run of it still goes on.
func (u *upkeep) tick() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.backend.life.Err() != nil {
		return
	}
	if !u.finishing && (len(u.agents) > 0 || u.backend.log.Untold() || u.backend.enroll.Unfinished() || u.backend.enroll.HandoversUnderway()) {
		agents := u.agents
		u.agents, u.finishing = map[string]bool{}, true
		u.running.Go(func() { u.finish(agents) })
	}
	if !u.sweeping && (u.swept.IsZero() || u.now().Sub(u.swept) >= sweepEvery) {
		u.sweeping = true
		u.running.Go(u.sweepAll)
	}
}

// stop waits for what runs, which the end of the mount's life has ended, but not for a storage that hangs: Vault waits here
// before it seals, or puts back a backup. What would still be written afterwards was decided on what is no longer there.
func (u *upkeep) stop() {
	ended := make(chan struct{})
	u.mu.Lock() // a tick that is under way has begun what it begins, and later ones begin nothing
	go func() {
		u.running.Wait()
		close(ended)
	}()
	u.mu.Unlock()
	select {
	case <-ended:
	case <-time.After(stopTimeout):
		u.backend.Logger().Warn("upkeep still waits for storage while the mount ends")
	}
}

// finish settles agents and stores records that could not be told.
func (u *upkeep) finish(agents map[string]bool) {
	ctx, cancel := context.WithTimeout(u.backend.life, finishTimeout)
	defer cancel()
	for id := range agents {
		if err := u.guarded(ctx, func(ctx context.Context) error { return u.backend.enroll.Settle(ctx, id) }); err != nil {
			u.unsettled(id, err)
		}
	}
	if u.backend.enroll.Unfinished() {
		if err := u.guarded(ctx, u.backend.enroll.CarryOn); err != nil {
			u.backend.Logger().Warn("agents wait to be revoked; trying again within a minute", "error", err)
		}
	}
	if u.backend.enroll.HandoversUnderway() {
		if err := u.guarded(ctx, u.backend.enroll.TendHandovers); err != nil {
			u.backend.Logger().Warn("handovers wait to be looked after; trying again within a minute", "error", err)
		}
	}
	if err := u.guarded(ctx, u.backend.log.Retell); err != nil {
		u.backend.Logger().Warn("events wait to be stored; trying again within a minute", "error", err)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.finishing = false
}

func (u *upkeep) sweepAll() {
	ctx, cancel := context.WithTimeout(u.backend.life, sweepTimeout)
	defer cancel()
	err := u.sweep(ctx)
	u.mu.Lock()
	defer u.mu.Unlock()
	u.sweeping = false
	switch {
	case u.backend.life.Err() != nil: // the next process sweeps
	case errors.Is(err, &apitype.Error{Code: apitype.OutcomeUnknown}) || err != nil && ctx.Err() != nil:
		u.backend.Logger().Warn("the sweep did not finish; trying again within a minute", "error", err)
		u.swept = time.Time{}
	case err != nil: // again in a minute would be the same
		u.backend.Logger().Error("the sweep left something out; trying again within an hour", "error", err)
		u.swept = u.now()
	default:
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
		u.backend.peers.Sweep,
		u.backend.enroll.CarryOn,
		u.backend.enroll.Sweep,
		u.backend.enroll.SweepHandovers,
		u.backend.edges.sweep,
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
