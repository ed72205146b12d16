package session

import (
	"encoding/pem"
	"time"

	"github.com/ampora/ampora/edge/metrics"
	"github.com/ampora/ampora/edge/trust"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/google/uuid"
)

// An agent that has gone to a peer is given the way there and nothing else: with the first reply of a session, as soon as the
// feed tells over one that is live, and again with growing pauses while it stays. The offer holds the leaf that it presents,
// since an offer without one would make it drop its own, and no key: that is the agent's.

// away is where the agent has gone, if this session's leaf is the one with which it may go there.
func (m *member) away() (trust.Move, bool) {
	s := m.desk.Trust.Current()
	if m.guest || s.MoveCount() == 0 {
		return trust.Move{}, false
	}
	move, gone := s.Move(m.agentKey())
	return move, gone && move.Fingerprint == m.leaf
}

// moved sends off the live agents that have gone, and takes those back that have not gone after all.
func (d *Desk) moved(c trust.Change) {
	for _, in := range c.Moves {
		agent, err := uuid.Parse(in.AgentID)
		if err != nil {
			continue // the snapshot has refused it
		}
		if in.Over {
			d.departures.forget(agent)
		}
		for _, m := range d.live.of(agent) {
			if in.Over {
				m.stays()
			} else {
				m.wakeNow()
			}
		}
	}
	if c.Whole && c.Snapshot.MoveCount() > 0 {
		for _, m := range d.live.matching(func(m *member) bool { _, gone := m.away(); return gone }) {
			m.wakeNow()
		}
	}
}

// wakeNow has attend look at the session at once.
func (m *member) wakeNow() {
	m.wake.Store(time.Now().Unix())
	select {
	case m.desk.nudge <- struct{}{}:
	default: // somebody has knocked
	}
}

// goneAway takes the engine's word that the agent has gone. That it is sent off follows from the feed.
func (m *member) goneAway() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.report = nil
	m.reportAt = time.Now().Add(m.desk.Timing.Again).Unix()
	m.plan()
}

// stays makes the session of an agent that has not gone an ordinary one again: the engine is told of it, and tells what it is
// to have.
func (m *member) stays() {
	m.mu.Lock()
	m.flight = nil
	m.plan()
	m.mu.Unlock()
	m.reportAgain()
}

// replyAway is reply for an agent that has gone. Called under the lock.
func (m *member) replyAway(msg *Message, first bool, move trust.Move) *Reply {
	reply := Reply{Kind: KindAgent}
	if !msg.Goodbye && m.newest() {
		reply.Offer = m.homeOffer(move, time.Now())
		m.plan()
	}
	if m.transport == HTTP || first || !m.greeted || reply.Offer != nil {
		m.greeted = true
		return &reply
	}
	return nil
}

// homeOffer is the offer of the agent's new home, nil when it is not to be made now. Called under the lock.
func (m *member) homeOffer(move trust.Move, now time.Time) *Offer {
	d := m.desk
	if !m.accepts || m.cert == nil || m.closed || m.shutting {
		return nil
	}
	due, tries := d.departures.claim(m.agentKey(), move, now, d.Timing.Home)
	if !due {
		return nil
	}
	fields := append(m.LogFields(), "peer", move.Peer, "try", tries)
	s := d.Trust.Current()
	address, roots, found := way(s.Peer(move.Peer), m.transport)
	if !found {
		d.Metrics.HandoverOffers.WithLabelValues(metrics.HomeUnknown).Inc()
		d.Logger.Warn("an agent has gone to a peer of which no endpoint is known: it cannot be sent there", fields...)
		return nil
	}
	d.Metrics.HandoverOffers.WithLabelValues(metrics.HomeOffered).Inc()
	d.Logger.Info("new home offered", append(fields, "endpoint", address)...)
	return &Offer{
		Endpoint: address, ServerRoots: roots, Heartbeat: heartbeat(s), Leaf: m.leaf,
		Certificate: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: m.cert.Raw})),
	}
}

// way is where the peer's edges are, and what verifies them.
func way(peer *trust.Peer, transport Transport) (address, roots string, found bool) {
	if peer == nil {
		return "", "", false
	}
	address, found = reachedBy(peer.Endpoint, transport)
	return address, peer.EndpointCABundle, found
}

// heardAway takes in what an agent that has gone says of the offer of its new home. Called under the lock.
func (m *member) heardAway(s SettingsStatus, move trust.Move) {
	if s.State != SettingsFailed || s.Leaf != m.leaf || !m.desk.departures.failed(m.agentKey(), move) {
		return
	}
	m.desk.Metrics.HandoverOffers.WithLabelValues(metrics.HomeFailed).Inc()
	m.desk.Logger.Warn("the agent cannot go to its new home", append(m.LogFields(), "peer", move.Peer, "error", s.Error)...)
}

// refuseAway answers an agent that has gone and asks for more than the way.
func refuseAway(move trust.Move) *Refusal {
	return refusef(apitype.AgentMoved, "the agent has gone to %s", move.Peer)
}
