package enroll

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/handover"
	"github.com/ampora/ampora/plugin/internal/audit"
	"github.com/ampora/ampora/plugin/internal/federation"
	"github.com/ampora/ampora/plugin/internal/pace"
	"github.com/ampora/ampora/plugin/internal/store"
)

// maxOutbox is how many receipts for one peer a read of the outbox answers: one that is away for long does not keep those of
// others waiting.
const maxOutbox = 100

// underway knows the agents whose handovers are not over: something is awaited, or a receipt is to be carried. It is read from
// storage when it is first needed, and then kept. The zero value is ready.
type underway struct {
	reading sync.Mutex // held by whoever reads it from storage
	mu      sync.Mutex
	agents  map[string]owed  // nil until read
	moved   map[string]*owed // what happened during a read, nil for what is over
}

// owed is what the row of such an agent owes a peer, nothing without a step.
type owed struct {
	peer  string
	step  handover.Step
	since time.Time
}

// owed is nil when nothing is to come of the row's handovers any more.
func (a *agentRow) owed() *owed {
	if a.In != nil {
		if step := a.In.State.Sends(a.In.Acked); step != "" {
			return &owed{a.In.Peer, step, a.In.Since}
		}
	}
	if a.Out != nil && a.Out.State.Open() || a.lands() {
		return &owed{}
	}
	return nil
}

// underway reports whether something is still to come of the row's handovers.
func (a *agentRow) underway() bool { return a.owed() != nil }

// track takes in a row after its Put.
func (u *underway) track(row *agentRow) {
	u.mu.Lock()
	defer u.mu.Unlock()
	owed := row.owed()
	if u.moved != nil {
		u.moved[row.AgentID] = owed
	}
	switch {
	case u.agents == nil:
	case owed != nil:
		u.agents[row.AgentID] = *owed
	default:
		delete(u.agents, row.AgentID)
	}
}

func (u *underway) discard() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.agents, u.moved = nil, nil
}

// all is a copy of what is known; read visits every row that has a handover.
func (u *underway) all(read func(visit func(*agentRow)) error) (map[string]owed, error) {
	u.reading.Lock()
	defer u.reading.Unlock()
	if known := u.begin(); known != nil {
		return known, nil
	}
	agents := map[string]owed{}
	err := read(func(row *agentRow) {
		if owed := row.owed(); owed != nil {
			agents[row.AgentID] = *owed
		}
	})
	u.mu.Lock()
	defer u.mu.Unlock()
	moved := u.moved
	u.moved = nil
	if err != nil {
		return nil, err
	}
	if moved == nil { // discarded meanwhile: what was read may be wrong
		return nil, apitype.Errorf(apitype.NotReady, "the handovers are being read")
	}
	for id, owed := range moved {
		if delete(agents, id); owed != nil {
			agents[id] = *owed
		}
	}
	u.agents = agents
	return maps.Clone(agents), nil
}

// begin answers a copy of what is known. When nothing is, a read begins.
func (u *underway) begin() map[string]owed {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.agents == nil {
		u.moved = map[string]*owed{}
		return nil
	}
	return maps.Clone(u.agents)
}

// owedBy is what the agents owe whose handovers are not over.
func (e *Enroller) owedBy(ctx context.Context) (map[string]owed, error) {
	return e.underway.all(func(visit func(*agentRow)) error { return e.eachMoved(ctx, visit) })
}

// underwayIDs are those agents, in order.
func (e *Enroller) underwayIDs(ctx context.Context) ([]string, error) {
	all, err := e.owedBy(ctx)
	return slices.Sorted(maps.Keys(all)), err
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
	keep := max(time.Duration(cfg.AuditRetention)*time.Second, handover.MaxLifetime+handover.LapseAfter) // or the token could work again
	if pointer.Final != nil && e.Now().Before(pointer.Made.Add(keep)) {
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

// Outbox is what waits to be carried to peers: receipts of handovers, and acknowledgements of bundles; the oldest first, and of
// each peer's no more than maxOutbox.
func (e *Enroller) Outbox(ctx context.Context) (apitype.Outbox, error) {
	out := apitype.Outbox{Messages: []apitype.OutboxMessage{}}
	pending, err := e.Peers.Pending(ctx)
	if err != nil {
		return out, err
	}
	out.Messages = append(out.Messages, pending...)
	all, err := e.owedBy(ctx)
	if err != nil {
		return out, err
	}
	for _, id := range e.nextToSend(ctx, all) {
		message, err := e.outboxMessage(ctx, id)
		if err != nil {
			return out, err
		}
		if message != nil {
			out.Messages = append(out.Messages, *message)
		}
	}
	slices.SortStableFunc(out.Messages, func(a, b apitype.OutboxMessage) int { return strings.Compare(a.Since, b.Since) })
	return out, nil
}

// nextToSend are the agents whose receipts are next, the oldest first.
func (e *Enroller) nextToSend(ctx context.Context, all map[string]owed) []string {
	ids := slices.DeleteFunc(slices.Sorted(maps.Keys(all)), func(id string) bool { return all[id].step == "" })
	slices.SortStableFunc(ids, func(a, b string) int { return all[a].since.Compare(all[b].since) })
	count := map[string]int{}
	return slices.DeleteFunc(ids, func(id string) bool {
		if !e.hears(ctx, all[id].peer, all[id].step) {
			return true
		}
		count[all[id].peer]++
		return count[all[id].peer] > maxOutbox
	})
}

// hears reports whether a receipt can be carried to the peer: it is still one, and not suspended. That an agent will not come is
// said to a suspended one, too.
func (e *Enroller) hears(ctx context.Context, name string, step handover.Step) bool {
	peer, err := e.Peers.Get(ctx, name)
	return err == nil && (!peer.Suspended || step == handover.StepLapsed)
}

func (e *Enroller) outboxMessage(ctx context.Context, agentID string) (*apitype.OutboxMessage, error) {
	defer e.Locks.Agent(agentID, "")()
	m, err := e.meet(ctx, agentID, "")
	if err != nil || m.agent == nil || m.agent.In == nil {
		return nil, err
	}
	i := m.agent.In
	step := i.State.Sends(i.Acked)
	if step == "" || !e.hears(ctx, i.Peer, step) {
		return nil, nil
	}
	peer, err := e.Peers.Get(ctx, i.Peer)
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
		open, err := e.leavePeer(ctx, id, peer)
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

// leavePeer ends what is pending with the peer, and reports whether the agent is between both sides. One that has come is, until
// its source knows; a source that is lost for good never will, so suspending it first is enough.
func (e *Enroller) leavePeer(ctx context.Context, agentID string, peer *federation.Peer) (between bool, err error) {
	defer e.Locks.Agent(agentID, "")()
	m, err := e.meet(ctx, agentID, "")
	if err != nil || m.agent == nil {
		return false, err
	}
	if o := m.agent.Out; o != nil && o.Peer == peer.Name && o.State == handover.Pending {
		if m, _, err = e.sourceStep(ctx, audit.System(), m, handover.DoCancel, nil); err != nil {
			return false, err
		}
	}
	if i := m.agent.In; i != nil && i.Peer == peer.Name && i.State == handover.AwaitingRelease {
		if m, _, err = e.targetStep(ctx, audit.System(), m, handover.DoGiveUp, nil); err != nil {
			return false, err
		}
	}
	out, in := m.agent.Out, m.agent.In
	between = m.agent.away() && out.Peer == peer.Name && out.State == handover.Released ||
		in != nil && in.Peer == peer.Name && (in.State == handover.AwaitingReconnect || in.State == handover.Active && !in.Acked && !peer.Suspended)
	return between, nil
}
