package enroll

import (
	"context"
	"fmt"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/audit"
	"github.com/ampora/ampora/plugin/internal/store"
)

// stepSize and stepPause keep a sweep from crowding out requests.
const (
	stepSize  = 256
	stepPause = 20 * time.Millisecond
)

// Sweep meets every row once, so that nothing a crash left half-told stays so, and removes what has outlived its use:
// expired tokens after a day, agents agent_retention after their last leaf, tombstones when neither leaf nor token could be
// valid any more. It works in steps. A row that cannot be read is left out and told of at the end; a fault of the storage
// ends the sweep.
func (e *Enroller) Sweep(ctx context.Context) error {
	cfg, err := e.Settings.Get(ctx)
	if err != nil {
		return err
	}
	retention := time.Duration(cfg.AgentRetention) * time.Second
	left, first := 0, error(nil)
	for _, part := range []struct {
		prefix string
		visit  func(id string) error
	}{
		{store.TokenPrefix, func(id string) error { return e.sweepToken(ctx, id) }},
		{store.BatchPrefix, func(id string) error { return e.sweepBatch(ctx, id) }},
		{store.AgentPrefix, func(id string) error { return e.sweepAgent(ctx, id, retention) }},
		{store.RevokedPrefix, func(id string) error { return e.sweepRevoked(ctx, id) }},
	} {
		n := 0
		err := e.Store.Walk(ctx, part.prefix, "", func(id string) (bool, error) {
			if n++; n%stepSize == 0 {
				select {
				case <-ctx.Done():
					return false, ctx.Err()
				case <-time.After(stepPause):
				}
			}
			err := part.visit(id)
			if err == nil || unknownOutcome(err) || ctx.Err() != nil {
				return true, err
			}
			if left++; first == nil {
				first = err
			}
			return true, nil
		})
		if err != nil {
			return err
		}
	}
	if left > 0 {
		return fmt.Errorf("%d rows were left out, the first: %w", left, first)
	}
	return nil
}

func (e *Enroller) sweepToken(ctx context.Context, id string) error {
	m, release, err := e.metToken(ctx, "", id)
	switch apitype.CodeOf(err) {
	case apitype.TokenUnknown, apitype.TokenRedeemed:
		return nil // settled just now
	}
	if err != nil {
		return err
	}
	defer release()
	if e.Now().Before(m.token.ExpiresAt.Add(tokenGrace)) {
		return nil
	}
	return e.Store.Delete(ctx, store.Sharded(store.TokenPrefix, id))
}

func (e *Enroller) sweepAgent(ctx context.Context, id string, retention time.Duration) error {
	m, release, err := e.metAgent(ctx, "", id)
	if apitype.CodeOf(err) == apitype.AgentUnknown {
		return nil
	}
	if err != nil {
		return err
	}
	defer release()
	end := m.agent.Leaf.NotAfter.Add(retention)
	if e.Now().Before(end) || e.Now().Before(m.agent.TokenExpiresAt) {
		return nil
	}
	return e.bury(ctx, m, audit.NewRecord(audit.System(), e.Now(), agentEvent(m.agent, apitype.ActionAgentExpired)))
}

func (e *Enroller) sweepRevoked(ctx context.Context, id string) error {
	defer e.Locks.Agent(id, "")()
	m, err := e.meet(ctx, id, "")
	if err != nil {
		return err
	}
	if m.agent != nil || !m.gone() || e.Now().Before(m.revoked.KeepUntil) {
		return nil
	}
	return e.Store.Delete(ctx, store.Sharded(store.RevokedPrefix, id))
}
