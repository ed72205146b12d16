package enroll

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/handover"
	"github.com/ampora/ampora/plugin/identity"
	"github.com/ampora/ampora/plugin/internal/audit"
	"github.com/ampora/ampora/plugin/internal/feed"
)

// What an agent does, or what is done to it, while a handover is under way.

// mayRenew refuses a next leaf to an agent that is not served here. While a handover waits for its peer only the agent itself
// may ask: the token is for the leaf that it has now, so that ends the handover. The answer is what tells of that.
func (a *agentRow) mayRenew(r *renewal, now time.Time) ([]apitype.Event, error) {
	switch {
	case a.lands():
		return nil, apitype.Errorf(apitype.HandoverPending, "the agent has not come yet")
	case a.away():
		return nil, apitype.Errorf(apitype.AgentMoved, "peer %s has the agent, or is about to", a.Out.Peer)
	case a.Out == nil || a.Out.State != handover.Pending:
		return nil, nil
	case r.csr == nil:
		return nil, apitype.Errorf(apitype.HandoverPending, "a handover to peer %s is open", a.Out.Peer)
	}
	return a.stepOut(handover.LeafRotated, now), nil
}

// came takes in that an agent was seen which a handover is to bring, with the leaf that its token names. That is the commit by
// which it is ours.
func (e *Enroller) came(ctx context.Context, origin audit.Origin, m met, serial identity.Serial, sourceIP string) (met, error) {
	if !m.agent.lands() || serial.Generation() != m.agent.In.Leaf.Generation {
		return m, nil
	}
	m, err := e.bringUpToDate(ctx, m)
	if err != nil || m.agent == nil || !m.agent.lands() || m.ended() {
		return m, err
	}
	m, _, err = e.targetStep(ctx, origin.ForAgent(m.agent.AgentID, sourceIP), m, handover.AgentCame, nil)
	return m, err
}

// endPending ends what the revocation of an agent makes moot. What cannot be done now is done by whoever meets the handover
// next: see bringUpToDate.
func (e *Enroller) endPending(ctx context.Context, m met) {
	if !m.agent.underway() {
		return
	}
	if _, err := e.bringUpToDate(context.WithoutCancel(ctx), m); err != nil {
		e.Unsettled(m.agent.AgentID, err)
	}
}

// forgetMoved drops what memory knows of an agent whose row is gone.
func (e *Enroller) forgetMoved(row *agentRow) {
	if row.Out != nil || row.In != nil {
		e.Feed.Placed(feed.Place{AgentID: row.AgentID})
		e.underway.track(&agentRow{AgentID: row.AgentID})
	}
}

// Mismatch tells, once for each handover, that an agent which it is to bring came with another leaf than its token names.
func (e *Enroller) Mismatch(ctx context.Context, origin audit.Origin, tenant string, in apitype.Mismatch) error {
	if raw, err := hex.DecodeString(in.Fingerprint); err != nil || len(raw) != sha256.Size {
		return apitype.Errorf(apitype.FieldInvalid, "fingerprint must be the SHA-256 of the presented certificate, in hex")
	}
	source, err := parseSource(in.SourceIP)
	if err != nil {
		return err
	}
	m, release, err := e.metAgent(ctx, tenant, in.AgentID)
	if apitype.CodeOf(err) == apitype.AgentUnknown {
		return nil
	}
	if err != nil {
		return err
	}
	defer release()
	if !m.agent.lands() || m.agent.In.Mismatched {
		return nil
	}
	next, incoming := *m.agent, *m.agent.In
	incoming.Mismatched = true
	next.In = &incoming
	event := next.handoverEvent(apitype.HandoverTarget, apitype.ActionHandoverRejected, nil)
	event.Details["code"], event.Details["presented_fingerprint"] = string(apitype.FingerprintMismatch), in.Fingerprint
	next.Record = audit.NewRecord(origin.ForAgent(next.AgentID, formatSource(source)), e.Now(), event)
	_, err = e.took(ctx, m, &next)
	return err
}
