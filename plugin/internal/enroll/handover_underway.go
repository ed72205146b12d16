package enroll

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/handover"
	"github.com/ampora/ampora/plugin/internal/audit"
	"github.com/ampora/ampora/plugin/internal/federation"
	"github.com/ampora/ampora/plugin/internal/pace"
	"github.com/ampora/ampora/plugin/internal/store"
)

// maxOutbox is how many receipts one read of the outbox answers.
const maxOutbox = 100

// underway knows the agents whose handovers are not over: something is awaited, or a receipt is to be carried. It is read from
// storage when it is first needed, and then kept. The zero value is ready.
type underway struct {
	mu     sync.Mutex
	agents map[string]bool // nil until read
	moved  map[string]bool // what happened during a read
}

// track takes in a row after its Put.
func (u *underway) track(row *agentRow) {
	u.mu.Lock()
	defer u.mu.Unlock()
	is := row.underway()
	if u.moved != nil {
		u.moved[row.AgentID] = is
	}
	switch {
	case u.agents == nil:
	case is:
		u.agents[row.AgentID] = true
	default:
		delete(u.agents, row.AgentID)
	}
}

func (u *underway) discard() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.agents, u.moved = nil, nil
}

// underway reports whether something is still to come of the row's handovers.
func (a *agentRow) underway() bool {
	return a.Out != nil && a.Out.State.Open() || a.In != nil && (a.In.State.Open() || a.In.State.Sends(a.In.Acked) != "")
}

// ids are the agents, in order.
func (u *underway) ids(read func(visit func(*agentRow)) error) ([]string, error) {
	u.mu.Lock()
	if u.agents == nil {
		u.moved = map[string]bool{}
		u.mu.Unlock()
		agents := map[string]bool{}
		err := read(func(row *agentRow) {
			if row.underway() {
				agents[row.AgentID] = true
			}
		})
		u.mu.Lock()
		if err != nil || u.moved == nil { // or what was read may be wrong
			u.mu.Unlock()
			return nil, errors.Join(err, apitype.Errorf(apitype.NotReady, "the handovers are being read"))
		}
		for id, is := range u.moved {
			if agents[id] = is; !is {
				delete(agents, id)
			}
		}
		u.agents, u.moved = agents, nil
	}
	defer u.mu.Unlock()
	var ids []string
	for id := range u.agents {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids, nil
}

// underwayIDs are the agents whose handovers are not over.
func (e *Enroller) underwayIDs(ctx context.Context) ([]string, error) {
	return e.underway.ids(func(visit func(*agentRow)) error { return e.eachMoved(ctx, visit) })
}

// eachMoved visits the row of every agent that has a handover. One that has two is visited twice.
func (e *Enroller) eachMoved(ctx context.Context, visit func(*agentRow)) error {
	return e.Store.Walk(ctx, store.HandoverPrefix, "", func(id string) (bool, error) {
		pointer, err := get[handoverRow](ctx, e, store.HandoverPrefix, id)
		if err != nil || pointer == nil || pointer.Final != nil {
			return err == nil, err
		}
		row, err := get[agentRow](ctx, e, store.AgentPrefix, pointer.AgentID)
		if err == nil && row.lastHandover(id) != "" {
			visit(row)
		}
		return err == nil, err
	})
}

// HandoversUnderway reports whether TendHandovers may have something to do.
func (e *Enroller) HandoversUnderway() bool {
	e.underway.mu.Lock()
	defer e.underway.mu.Unlock()
	return e.underway.agents == nil || len(e.underway.agents) > 0
}

// ForgetHandovers drops what memory knows of them, because storage changed behind our back.
func (e *Enroller) ForgetHandovers() { e.underway.discard() }

// SweepHandovers removes what leads from a handover to an agent whose row knows nothing of it: the row was never stored. What
// became of a handover goes when its token has long expired.
func (e *Enroller) SweepHandovers(ctx context.Context) error {
	ctx = store.InPassing(ctx)
	pace := pace.Pace{}
	return e.Store.Walk(ctx, store.HandoverPrefix, "", func(id string) (bool, error) {
		if err := pace.Step(ctx); err != nil {
			return false, err
		}
		return true, e.sweepHandover(ctx, id)
	})
}

func (e *Enroller) sweepHandover(ctx context.Context, id string) error {
	pointer, err := get[handoverRow](ctx, e, store.HandoverPrefix, id)
	if err != nil || pointer == nil {
		return err
	}
	defer e.Locks.Agent(pointer.AgentID, "")()
	row, err := get[agentRow](ctx, e, store.AgentPrefix, pointer.AgentID)
	if err != nil || row.lastHandover(id) != "" {
		return err
	}
	if pointer, err = get[handoverRow](ctx, e, store.HandoverPrefix, id); err != nil || pointer == nil { // under the lock
		return err
	}
	cfg, err := e.Settings.Get(ctx)
	if err != nil {
		return err
	}
	if pointer.Final != nil && e.Now().Before(pointer.Made.Add(time.Duration(cfg.AuditRetention)*time.Second)) {
		return nil
	}
	return e.Store.Delete(ctx, store.Sharded(store.HandoverPrefix, id))
}

// TendHandovers takes the steps that have become due, and removes rows of agents that never came. It answers the first error,
// after it has tried all.
func (e *Enroller) TendHandovers(ctx context.Context) error {
	ids, err := e.underwayIDs(ctx)
	if err != nil {
		return err
	}
	var all []error
	for _, id := range ids {
		all = append(all, e.tend(ctx, id))
	}
	return errors.Join(all...)
}

func (e *Enroller) tend(ctx context.Context, agentID string) error {
	defer e.Locks.Agent(agentID, "")()
	m, err := e.meet(ctx, agentID, "")
	if err == nil {
		_, err = e.bringUpToDate(ctx, m)
	}
	return err
}

// Outbox is what waits to be carried to peers: receipts of handovers, and acknowledgements of bundles.
func (e *Enroller) Outbox(ctx context.Context) (apitype.Outbox, error) {
	out := apitype.Outbox{Messages: []apitype.OutboxMessage{}}
	pending, err := e.Peers.Pending(ctx)
	if err != nil {
		return out, err
	}
	out.Messages = append(out.Messages, pending...)
	ids, err := e.underwayIDs(ctx)
	if err != nil {
		return out, err
	}
	for _, id := range ids {
		message, err := e.outboxMessage(ctx, id)
		if err != nil {
			return out, err
		}
		if message != nil {
			out.Messages = append(out.Messages, *message)
		}
	}
	slices.SortStableFunc(out.Messages, func(a, b apitype.OutboxMessage) int {
		if a.Since < b.Since {
			return -1
		}
		return 1
	})
	out.Messages = out.Messages[:min(len(out.Messages), maxOutbox)]
	return out, nil
}

func (e *Enroller) outboxMessage(ctx context.Context, agentID string) (*apitype.OutboxMessage, error) {
	defer e.Locks.Agent(agentID, "")()
	m, err := e.meet(ctx, agentID, "")
	if err != nil || m.agent == nil || m.agent.In == nil {
		return nil, err
	}
	i := m.agent.In
	step := i.State.Sends(i.Acked)
	if step == "" {
		return nil, nil
	}
	peer, err := e.Peers.Get(ctx, i.Peer)
	if apitype.CodeOf(err) == apitype.PeerUnknown || err == nil && peer.Suspended && step != handover.StepLapsed {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	receipt, err := e.signReceipt(ctx, peer, m.agent.targetReceipt(step))
	return &apitype.OutboxMessage{ID: i.ID, Peer: i.Peer, Step: string(step), Receipt: receipt, Since: formatTime(i.Since)}, err
}

// PeerGone ends what is pending with a peer: handovers to it that it has not redeemed, and those from it that it has not
// released. A deletion is in_use while agents are between both sides.
func (e *Enroller) PeerGone(ctx context.Context, peer *federation.Peer, why string) error {
	ids, err := e.underwayIDs(ctx)
	if err != nil {
		return err
	}
	between := 0
	for _, id := range ids {
		open, err := e.leavePeer(ctx, id, peer.Name)
		if err != nil {
			return err
		}
		if open {
			between++
		}
	}
	if between > 0 && why == federation.Deletion {
		return apitype.Errorf(apitype.InUse, "%d agents are between here and peer %s (vault list ampora/handovers)", between, peer.Name)
	}
	return nil
}

// leavePeer ends what is pending with the peer, and reports whether something is still under way.
func (e *Enroller) leavePeer(ctx context.Context, agentID, peer string) (open bool, err error) {
	defer e.Locks.Agent(agentID, "")()
	m, err := e.meet(ctx, agentID, "")
	if err != nil || m.agent == nil {
		return false, err
	}
	if o := m.agent.Out; o != nil && o.Peer == peer && o.State.Open() {
		if o.State == handover.Pending {
			m, _, err = e.sourceStep(ctx, audit.System(), m, handover.DoCancel, nil)
		}
		if err != nil {
			return false, err
		}
		open = m.agent.Out.State.Open()
	}
	if i := m.agent.In; i != nil && i.Peer == peer && m.agent.underway() {
		if i.State == handover.AwaitingRelease {
			m, _, err = e.targetStep(ctx, audit.System(), m, handover.DoGiveUp, nil)
		}
		if err != nil || m.agent == nil {
			return open, err
		}
		open = open || m.agent.In.State == handover.AwaitingReconnect || m.agent.In.State == handover.Active && !m.agent.In.Acked
	}
	return open, nil
}
