package enroll

import (
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/handover"
)

// finished is a handover as its row will be shown when the agent's has forgotten it.
type finished struct {
	info              apitype.Handover
	peerID, tokenHash string
}

// info is what both sides show.
func (v *move) info(a *agentRow, side, state string) apitype.Handover {
	return apitype.Handover{
		HandoverID: v.ID, Side: side, AgentID: a.AgentID, PeerAgentID: v.PeerAgentID, DisplayName: a.DisplayName, Tenant: a.Tenant, Peer: v.Peer,
		State: state, Since: formatTime(v.Since), CreatedAt: formatTime(v.CreatedAt), ExpiresAt: formatTime(v.ExpiresAt),
		Group: v.Group, Configuration: v.Configuration, Fingerprint: v.Fingerprint,
	}
}

// outInfo is the row's outgoing handover, nil without one, or without a row.
func (a *agentRow) outInfo() *finished {
	if a == nil || a.Out == nil {
		return nil
	}
	info := a.Out.info(a, apitype.HandoverSource, string(a.Out.State))
	info.Code = string(a.Out.State.Code())
	return &finished{info: info, peerID: a.Out.PeerID, tokenHash: a.Out.TokenHash}
}

// inInfo is the row's incoming handover, nil without one, or without a row.
func (a *agentRow) inInfo() *finished {
	if a == nil || a.In == nil {
		return nil
	}
	info := a.In.info(a, apitype.HandoverTarget, string(a.In.State))
	info.Code = string(a.In.Code)
	return &finished{info: info, peerID: a.In.PeerID, tokenHash: a.In.TokenHash}
}

// handoverEvent tells of a step. The events of both sides have the handover's id, and each names the other's by which it came
// about, as far as it is known.
func (a *agentRow) handoverEvent(side, action string, receipt *handover.Receipt) apitype.Event {
	e := apitype.Event{EntityType: "handover", Action: action, Tenant: a.Tenant, AgentID: a.AgentID}
	var of *move
	state := ""
	if side == apitype.HandoverSource {
		of, state = &a.Out.move, string(a.Out.State)
	} else {
		of, state = &a.In.move, string(a.In.State)
		e.OriginPeerID, e.RelatedEvent = of.PeerID, of.Event
	}
	e.EntityID = of.ID
	e.Details = map[string]any{
		"side": side, "state": state, "peer": of.Peer, "peer_id": of.PeerID, "fingerprint": of.Fingerprint,
		"group": of.Group, "configuration": of.Configuration,
	}
	if of.PeerAgentID != "" {
		e.Details["peer_agent_id"] = of.PeerAgentID
	}
	if receipt != nil {
		e.OriginPeerID = receipt.Issuer
		if receipt.Event != "" {
			e.RelatedEvent = receipt.Event
		}
		if receipt.Code != "" {
			e.Details["code"] = string(receipt.Code)
		}
	}
	if side == apitype.HandoverSource && a.Out.State.Code() != "" {
		e.Details["code"] = string(a.Out.State.Code())
	}
	return e
}
