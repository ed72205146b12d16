package enroll

import (
	"context"
	"fmt"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/audit"
	"github.com/ampora/ampora/plugin/internal/pace"
	"github.com/ampora/ampora/plugin/internal/store"
)

// Sweep looks at every row once, stores the records that are not stored yet, and removes what has outlived its use: expired
// tokens after a day, agents agent_retention after their last leaf, tombstones when neither leaf nor token could be valid any
// more. Until one has come to its end it also finishes everything else that a crash before this process left half-told; what
// happens later is met soon after (see Unsettled).
//
// It works in small steps with rests in between. A row that cannot be read is left out and told of at the end; a fault of the
// storage ends the sweep.
func (e *Enroller) Sweep(ctx context.Context) error {
	cfg, err := e.Settings.Get(ctx)
	if err != nil {
		return err
	}
	ctx = store.InPassing(ctx)
	s := &sweep{Enroller: e, first: !e.swept.Load(), retention: time.Duration(cfg.AgentRetention) * time.Second}
	for _, part := range []struct {
		prefix string
		visit  func(ctx context.Context, id string) error
	}{
		{store.TokenPrefix, s.token},
		{store.BatchPrefix, s.batch},
		{store.AgentPrefix, s.agent},
		{store.RevokedPrefix, s.revoked},
	} {
		err := e.Store.Walk(ctx, part.prefix, "", func(id string) (bool, error) {
			if err := s.pace.Step(ctx); err != nil {
				return false, err
			}
			return true, s.leaveOut(ctx, part.visit(ctx, id))
		})
		if err != nil {
			return err
		}
	}
	if s.left > 0 {
		return fmt.Errorf("%d rows were left out, the first: %w", s.left, s.why)
	}
	e.swept.Store(true)
	return nil
}

// sweep is one run.
type sweep struct {
	*Enroller
	pace      pace.Pace
	first     bool          // of this process that comes to its end
	retention time.Duration // of agents
	left      int           // rows that were left out
	why       error         // the first of them was
}

// leaveOut counts a row that cannot be read, and answers what ends the whole sweep.
func (s *sweep) leaveOut(ctx context.Context, err error) error {
	if err == nil || store.UnknownOutcome(err) || ctx.Err() != nil {
		return err
	}
	if s.left++; s.why == nil {
		s.why = err
	}
	return nil
}

func (s *sweep) token(ctx context.Context, id string) error {
	row, err := get[tokenRow](ctx, s.Enroller, store.TokenPrefix, id)
	switch {
	case err != nil || row == nil:
		return err
	case !s.Now().Before(row.ExpiresAt.Add(tokenGrace)):
		return s.removeToken(ctx, row)
	case !s.first:
		return s.Log.Ensure(ctx, row.Record)
	}
	_, release, err := s.metToken(ctx, "", id)
	switch apitype.CodeOf(err) {
	case apitype.TokenUnknown, apitype.TokenRedeemed:
		return nil // settled just now
	}
	if err == nil {
		release()
	}
	return err
}

// removeToken removes the row of a token that expired long ago, whether or not it made an agent.
func (e *Enroller) removeToken(ctx context.Context, row *tokenRow) error {
	defer e.Locks.Agent(row.AgentID, row.Pool.ID)()
	row, err := get[tokenRow](ctx, e, store.TokenPrefix, row.TokenID) // it may have been revoked since
	if err != nil || row == nil {
		return err
	}
	if err := e.Log.Ensure(ctx, row.Record); err != nil {
		return err
	}
	return e.Store.Delete(ctx, store.Sharded(store.TokenPrefix, row.TokenID))
}

// batch stores the records of a batch, and removes it when its tokens have been expired for long enough.
func (s *sweep) batch(ctx context.Context, id string) error {
	row, err := get[batchRow](ctx, s.Enroller, store.BatchPrefix, id)
	if err != nil || row == nil {
		return err
	}
	if s.Now().Before(row.expiresAt().Add(tokenGrace)) {
		return s.tellBatch(ctx, row)
	}
	return s.removeBatch(ctx, row)
}

func (s *sweep) agent(ctx context.Context, id string) error {
	row, err := get[agentRow](ctx, s.Enroller, store.AgentPrefix, id)
	if err != nil || row == nil {
		return err
	}
	if !s.outlived(row) && !s.first && !row.used(s.Now()) {
		return s.Log.Ensure(ctx, row.Record)
	}
	m, release, err := s.metAgent(ctx, "", id)
	if apitype.CodeOf(err) == apitype.AgentUnknown {
		return nil
	}
	if err != nil {
		return err
	}
	defer release()
	if !s.outlived(m.agent) {
		if m.agent.used(s.Now()) && !m.ended() {
			_, err = s.confirm(ctx, audit.System(), m.agent, "")
		}
		return err
	}
	return s.bury(ctx, m, audit.NewRecord(audit.System(), s.Now(), agentEvent(m.agent, apitype.ActionAgentExpired)))
}

// outlived reports whether the agent's last leaf expired longer ago than agents are kept, and its token could not make it
// again.
func (s *sweep) outlived(row *agentRow) bool {
	if state, _ := row.handoverState(); state != "" {
		return false // it may come home after any time, and on its way it is not for us to end
	}
	return !s.Now().Before(row.lastNotAfter().Add(s.retention)) && !s.Now().Before(row.TokenExpiresAt)
}

func (s *sweep) revoked(ctx context.Context, id string) error {
	row, err := get[revokedRow](ctx, s.Enroller, store.RevokedPrefix, id)
	if err != nil || row == nil {
		return err
	}
	if !row.Deleted && !s.first {
		return s.Log.Ensure(ctx, row.Record)
	}
	defer s.Locks.Agent(id, "")()
	m, err := s.meet(ctx, id, "")
	if err != nil {
		return err
	}
	if m.agent != nil || !m.gone() || s.Now().Before(m.revoked.KeepUntil) {
		return nil
	}
	return s.Store.Delete(ctx, store.Sharded(store.RevokedPrefix, id))
}
