package enroll

import (
	"context"
	"strings"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/handover"
	"github.com/ampora/ampora/plugin/internal/audit"
	"github.com/ampora/ampora/plugin/internal/federation"
	"github.com/ampora/ampora/plugin/internal/name"
	"github.com/ampora/ampora/plugin/internal/store"
)

// Receipt takes in a receipt of a peer, and answers with ours where one is due. It may come any number of times, late, and out
// of order. One about a handover that is not known here, or not as the peer says, is refused to the peer, which then need not say it
// again; that happens after a restore. An answer to a question that was not asked is handover_unknown. Other errors: those of
// handover.Verify; peer_unknown, peer_suspended, handover_wrong_audience, handover_malformed.
func (e *Enroller) Receipt(ctx context.Context, origin audit.Origin, in apitype.ReceiptRequest) (apitype.ReceiptResponse, error) {
	var none apitype.ReceiptResponse
	peer, r, err := e.openReceipt(ctx, strings.TrimSpace(in.Receipt)) // people paste it
	if err != nil {
		return none, err
	}
	switch r.Step {
	case handover.StepPinned:
		return e.noted(ctx, peer, r)
	case handover.StepNoted:
		return none, e.Peers.Told(ctx, peer.Name, r.Sequence)
	}
	if err := checkReceipt(r); err != nil {
		return none, err
	}
	if r.Step.Answer() {
		return e.answered(ctx, origin, peer, r)
	}
	return e.told(ctx, origin, peer, r)
}

// checkReceipt refuses claims that are not what they should be, before anything of them is stored, told or shown.
func checkReceipt(r *handover.Receipt) error {
	for claim, id := range map[string]string{"handover_id": r.HandoverID, "agent_id": r.AgentID} {
		if name.CheckID(id, apitype.HandoverMalformed) != nil {
			return apitype.Errorf(apitype.HandoverMalformed, "the claim %s of the receipt is no UUID", claim)
		}
	}
	for claim, id := range map[string]string{"target_agent_id": r.TargetAgentID, "event": r.Event} {
		if id != "" && name.CheckID(id, apitype.HandoverMalformed) != nil {
			return apitype.Errorf(apitype.HandoverMalformed, "the claim %s of the receipt is no UUID", claim)
		}
	}
	if strings.Trim(string(r.Code), "abcdefghijklmnopqrstuvwxyz_") != "" || len(r.Code) > maxCode {
		return apitype.Errorf(apitype.HandoverMalformed, "the claim code of the receipt is no code")
	}
	return nil
}

// maxCode bounds the code of a peer, which may be newer than we are and have others.
const maxCode = 64

// noted takes in how new a bundle of ours the peer has pinned.
func (e *Enroller) noted(ctx context.Context, peer *federation.Peer, r *handover.Receipt) (apitype.ReceiptResponse, error) {
	if err := e.Peers.Acknowledged(ctx, peer.Name, r.Sequence); err != nil {
		return apitype.ReceiptResponse{}, err
	}
	signed, err := e.signReceipt(ctx, peer, handover.Receipt{Step: handover.StepNoted, Sequence: r.Sequence})
	return apitype.ReceiptResponse{Step: string(handover.StepNoted), Receipt: signed}, err
}

// openReceipt checks who says it, and that it is said to us. A suspended peer may still end what is under way.
func (e *Enroller) openReceipt(ctx context.Context, text string) (*federation.Peer, *handover.Receipt, error) {
	var claimed, r handover.Receipt
	if err := handover.Unverified(text, handover.TypeReceipt, &claimed); err != nil {
		return nil, nil, err
	}
	self, err := e.Peers.Self(ctx)
	if err != nil {
		return nil, nil, err
	}
	peer, err := e.Peers.ByID(ctx, claimed.Issuer)
	if err != nil {
		return nil, nil, err
	}
	if err := handover.Verify(text, handover.TypeReceipt, peer.Pinned, &r); err != nil {
		return nil, nil, err
	}
	switch {
	case r.Audience != self:
		return nil, nil, apitype.Errorf(apitype.HandoverWrongAudience, "the receipt is for another peer")
	case peer.Suspended && r.Step != handover.StepLapsed && r.Step != handover.StepReturned:
		return nil, nil, apitype.Errorf(apitype.PeerSuspended, "peer %s is suspended", peer.Name)
	}
	return peer, &r, nil
}

// told takes in what a target says, at the source.
func (e *Enroller) told(ctx context.Context, origin audit.Origin, peer *federation.Peer, r *handover.Receipt) (apitype.ReceiptResponse, error) {
	in := map[handover.Step]handover.SourceInput{
		handover.StepRedeemed: handover.GotRedeemed, handover.StepConnected: handover.GotConnected, handover.StepLapsed: handover.GotLapsed,
	}[r.Step]
	if in == "" {
		return apitype.ReceiptResponse{}, apitype.Errorf(apitype.HandoverMalformed, "the receipt has no step of ours")
	}
	defer e.Locks.Agent(r.AgentID, "")()
	m, err := e.meet(ctx, r.AgentID, "")
	if err != nil {
		return apitype.ReceiptResponse{}, err
	}
	if m.agent.lastHandover(r.HandoverID) != apitype.HandoverSource {
		return e.toldLate(ctx, peer, r, in)
	}
	o := m.agent.Out
	if o.PeerID != r.Issuer || o.TokenHash != r.TokenHash {
		return e.refuseUnknown(ctx, peer, r)
	}
	if m, err = e.bringUpToDate(ctx, m); err != nil {
		return apitype.ReceiptResponse{}, err
	}
	m, step, err := e.sourceStep(ctx, origin, m, in, r)
	if err != nil {
		return apitype.ReceiptResponse{}, err
	}
	return e.reply(ctx, peer, r, string(m.agent.Out.State), step, m.agent.Record)
}

// toldLate answers a receipt for a handover that its agent's row has forgotten.
func (e *Enroller) toldLate(ctx context.Context, peer *federation.Peer, r *handover.Receipt, in handover.SourceInput) (apitype.ReceiptResponse, error) {
	row, err := get[handoverRow](ctx, e, store.HandoverPrefix, r.HandoverID)
	switch {
	case err != nil:
		return apitype.ReceiptResponse{}, err
	case row == nil || row.Final == nil || row.Side != apitype.HandoverSource || row.AgentID != r.AgentID || row.PeerID != r.Issuer || row.TokenHash != r.TokenHash:
		return e.refuseUnknown(ctx, peer, r)
	}
	state := handover.SourceState(row.Final.State)
	return e.reply(ctx, peer, r, row.Final.State, state.On(in, true), nil)
}

// refuseUnknown answers a receipt for a handover that this installation knows nothing of.
func (e *Enroller) refuseUnknown(ctx context.Context, peer *federation.Peer, r *handover.Receipt) (apitype.ReceiptResponse, error) {
	return e.reply(ctx, peer, r, "", handover.SourceStep{Answer: handover.StepRefused, Code: apitype.HandoverUnknown}, nil)
}

// reply makes the answer to a receipt.
func (e *Enroller) reply(ctx context.Context, peer *federation.Peer, r *handover.Receipt, state string, step handover.SourceStep, record *audit.Record) (apitype.ReceiptResponse, error) {
	answer := handover.Receipt{
		Step: step.Answer, HandoverID: r.HandoverID, TokenHash: r.TokenHash, AgentID: r.AgentID, TargetAgentID: r.TargetAgentID, Code: step.Code,
	}
	if record != nil && step.Event != "" {
		answer.Event = record.Events[0].ID
	}
	signed, err := e.signReceipt(ctx, peer, answer)
	return apitype.ReceiptResponse{HandoverID: r.HandoverID, State: state, Step: string(step.Answer), Receipt: signed}, err
}

func (e *Enroller) signReceipt(ctx context.Context, peer *federation.Peer, r handover.Receipt) (string, error) {
	self, err := e.Peers.Self(ctx)
	if err != nil {
		return "", err
	}
	r.Issuer, r.Audience, r.IssuedAt = self, peer.PeerID, e.Now().Unix()
	return e.Peers.Sign(ctx, peer, handover.TypeReceipt, r)
}

// answered takes in what a source answers, at the target.
func (e *Enroller) answered(ctx context.Context, origin audit.Origin, peer *federation.Peer, r *handover.Receipt) (apitype.ReceiptResponse, error) {
	var none apitype.ReceiptResponse
	in := map[handover.Step]handover.TargetInput{
		handover.StepReleased: handover.GotReleased, handover.StepRefused: handover.GotRefused,
		handover.StepCompleted: handover.GotCompleted, handover.StepReturned: handover.GotReturned,
	}[r.Step]
	m, release, err := e.metHandover(ctx, "", r.HandoverID, apitype.HandoverTarget)
	if apitype.CodeOf(err) == apitype.HandoverUnknown {
		return e.answeredLate(ctx, r, err)
	}
	if err != nil {
		return none, err
	}
	defer release()
	if i := m.agent.In; i.PeerID != r.Issuer || i.TokenHash != r.TokenHash || i.PeerAgentID != r.AgentID {
		return none, unknownHandover()
	}
	m, _, err = e.targetStep(ctx, origin, m, in, r)
	if err != nil {
		return none, err
	}
	return apitype.ReceiptResponse{HandoverID: r.HandoverID, State: string(m.agent.In.State)}, nil
}

// answeredLate takes an answer to a handover that its agent's row has forgotten: it has come before.
func (e *Enroller) answeredLate(ctx context.Context, r *handover.Receipt, unknown error) (apitype.ReceiptResponse, error) {
	row, err := get[handoverRow](ctx, e, store.HandoverPrefix, r.HandoverID)
	if err != nil {
		return apitype.ReceiptResponse{}, err
	}
	if row == nil || row.Final == nil || row.Side != apitype.HandoverTarget || row.PeerID != r.Issuer || row.TokenHash != r.TokenHash || row.Final.PeerAgentID != r.AgentID {
		return apitype.ReceiptResponse{}, unknown
	}
	return apitype.ReceiptResponse{HandoverID: r.HandoverID, State: row.Final.State}, nil
}

// targetReceipt is what the target says at this step.
func (a *agentRow) targetReceipt(step handover.Step) handover.Receipt {
	r := handover.Receipt{Step: step, HandoverID: a.In.ID, TokenHash: a.In.TokenHash, AgentID: a.In.PeerAgentID, TargetAgentID: a.AgentID}
	if a.Record != nil && len(a.Record.Events) > 0 && a.Record.Events[0].EntityID == a.In.ID {
		r.Event = a.Record.Events[0].ID
	}
	return r
}

// metHandover takes the lock of the agent that the handover is about and settles its rows, for the side that is meant, or for
// either with "". It is handover_unknown when the agent's row does not have it (any more), or is another tenant's. The caller
// releases the lock when there is no error.
func (e *Enroller) metHandover(ctx context.Context, tenant, id, side string) (m met, release func(), err error) {
	if err := name.CheckID(id, apitype.HandoverUnknown); err != nil {
		return met{}, nil, err
	}
	pointer, err := get[handoverRow](ctx, e, store.HandoverPrefix, id)
	if err != nil {
		return met{}, nil, err
	}
	if pointer == nil {
		return met{}, nil, unknownHandover()
	}
	unlock := e.Locks.Agent(pointer.AgentID, "")
	defer func() {
		if release == nil { // an error, or a panic underneath
			unlock()
		}
	}()
	if m, err = e.meet(ctx, pointer.AgentID, ""); err != nil {
		return met{}, nil, err
	}
	has := m.agent.lastHandover(id)
	if has == "" || side != "" && has != side || !inTenant(tenant, m.agent.Tenant) {
		return met{}, nil, unknownHandover()
	}
	return m, unlock, nil
}

func unknownHandover() error {
	return apitype.Errorf(apitype.HandoverUnknown, "no handover has this id")
}
