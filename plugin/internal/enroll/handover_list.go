package enroll

import (
	"context"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/handover"
	"github.com/ampora/ampora/plugin/internal/audit"
	"github.com/ampora/ampora/plugin/internal/store"
)

// HandoverInfo is one handover, with the receipt that waits to be carried, if one does. One that was redone since, or whose
// agent has gone, is shown as it was then.
func (e *Enroller) HandoverInfo(ctx context.Context, tenant, id string) (apitype.Handover, error) {
	info, err := e.handoverInfo(ctx, tenant, id)
	if err != nil || info == nil {
		return apitype.Handover{}, err
	}
	return *info, nil
}

func (e *Enroller) handoverInfo(ctx context.Context, tenant, id string) (*apitype.Handover, error) {
	m, release, err := e.metHandover(ctx, tenant, id, "")
	if apitype.CodeOf(err) == apitype.HandoverUnknown {
		return e.final(ctx, tenant, id, err)
	}
	if err != nil {
		return nil, err
	}
	defer release()
	if m, err = e.bringUpToDate(ctx, m); err != nil {
		return nil, err
	}
	if m.agent.lastHandover(id) == apitype.HandoverSource {
		return &m.agent.outInfo().info, nil
	}
	info := &m.agent.inInfo().info
	step := m.agent.In.State.Sends(m.agent.In.Acked)
	if step == "" {
		return info, nil
	}
	peer, err := e.Peers.Get(ctx, m.agent.In.Peer)
	if apitype.CodeOf(err) == apitype.PeerUnknown {
		return info, nil // nobody is left to carry it to
	}
	if err != nil {
		return nil, err
	}
	info.Receipt, err = e.signReceipt(ctx, peer, m.agent.targetReceipt(step))
	return info, err
}

// final is what became of a handover that its agent's row has forgotten.
func (e *Enroller) final(ctx context.Context, tenant, id string, none error) (*apitype.Handover, error) {
	if len(id) != 36 {
		return nil, none
	}
	row, err := get[handoverRow](ctx, e, store.HandoverPrefix, id)
	if err != nil {
		return nil, err
	}
	if row == nil || row.Final == nil || !inTenant(tenant, row.Final.Tenant) {
		return nil, none
	}
	return row.Final, nil
}

// Handovers lists handovers in the order of their ids, without the receipts.
func (e *Enroller) Handovers(ctx context.Context, tenant string, page apitype.Page) (apitype.ListResponse[apitype.Handover], error) {
	walk := func(ctx context.Context, after string, visit func(id string) (bool, error)) error {
		return e.Store.Walk(ctx, store.HandoverPrefix, after, visit)
	}
	return list(ctx, page, walk, func(id string) (*apitype.Handover, error) {
		info, err := e.handoverInfo(ctx, tenant, id)
		if apitype.CodeOf(err) == apitype.HandoverUnknown || err == nil && !wanted(page.State, info.State) {
			return nil, nil
		}
		if err == nil {
			info.Receipt = ""
		}
		return info, err
	})
}

// EndHandover ends a handover: at the source before the peer has redeemed it, at the target as long as the agent has not come.
// force takes a released agent back although only the target may know what became of it. Ending what has ended that way
// changes nothing.
func (e *Enroller) EndHandover(ctx context.Context, origin audit.Origin, tenant, id string, force bool) (apitype.Handover, error) {
	if err := e.endHandover(ctx, origin, tenant, id, force); err != nil {
		return apitype.Handover{}, err
	}
	return e.HandoverInfo(ctx, tenant, id)
}

func (e *Enroller) endHandover(ctx context.Context, origin audit.Origin, tenant, id string, force bool) error {
	m, release, err := e.metHandover(ctx, tenant, id, "")
	if apitype.CodeOf(err) == apitype.HandoverUnknown {
		return e.endFinal(ctx, tenant, id, force, err)
	}
	if err != nil {
		return err
	}
	defer release()
	if m, err = e.bringUpToDate(ctx, m); err != nil {
		return err
	}
	if m.agent.lastHandover(id) == apitype.HandoverTarget {
		if force {
			return apitype.Errorf(apitype.FieldInvalid, "force is for the source of a handover; here 'vault delete' ends it")
		}
		_, step, err := e.targetStep(ctx, origin, m, handover.DoGiveUp, nil)
		return refusedStep(err, step.Code, string(m.agent.In.State))
	}
	_, step, err := e.sourceStep(ctx, origin, m, cancelOrForce(force), nil)
	return refusedStep(err, step.Code, string(m.agent.Out.State))
}

// endFinal is what ending a handover answers that its agent's row has forgotten. Nothing is left to change.
func (e *Enroller) endFinal(ctx context.Context, tenant, id string, force bool, none error) error {
	final, err := e.final(ctx, tenant, id, none)
	if err != nil {
		return err
	}
	code := handover.TargetState(final.State).On(handover.DoGiveUp, true, false).Code
	if final.Side == apitype.HandoverSource {
		code = handover.SourceState(final.State).On(cancelOrForce(force), true).Code
	}
	return refusedStep(nil, code, final.State)
}

func cancelOrForce(force bool) handover.SourceInput {
	if force {
		return handover.DoForce
	}
	return handover.DoCancel
}

// refusedStep is the error of a step that was not taken, or nil.
func refusedStep(err error, code apitype.Code, state string) error {
	if err == nil && code != "" {
		err = apitype.Errorf(code, "the handover is in state %s", state)
	}
	return err
}
