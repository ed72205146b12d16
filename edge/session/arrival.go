package session

import (
	"context"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
)

// An agent that comes from a peer presents the peer's leaf. Before the engine has agreed that it has come, which is the moment
// from which it is ours, it is given nothing: the engine may have given the handover up meanwhile. After that it is an agent
// like any other, whose next leaf is due at once.

// awaitWord waits for the engine's word, for a while. An agent that tries out what it was offered takes the first answer for a
// yes, and is better off at its source when the word is no: that is the refusal.
func (m *member) awaitWord(ctx context.Context) *Refusal {
	patience := time.NewTimer(m.desk.Timing.Arrival)
	defer patience.Stop()
	for {
		word := m.desk.agreed.next() // before looking, or some might be missed
		m.mu.Lock()
		waits, over := m.expected && !m.closed && !m.shutting, m.closed || m.shutting
		m.mu.Unlock()
		if why, found := m.desk.outLeaves.Get(m.serial); over && found && m.transport == HTTP { // a WebSocket is closed with it
			return refuse(why)
		}
		if !waits {
			return nil
		}
		select {
		case <-word:
		case <-patience.C:
			return nil
		case <-ctx.Done():
			return nil
		}
	}
}

// replyExpected is reply for an agent that the engine has still to agree to: what this server can do. Called under the lock.
func (m *member) replyExpected(first bool) *Reply {
	if m.transport == HTTP || first || !m.greeted {
		m.greeted = true
		return &Reply{Kind: KindAgent}
	}
	return nil
}

// arrive notes that the engine has agreed, and reports whether this is news. Called under the lock.
func (m *member) arrive(a apitype.SessionAnswer) bool {
	if !m.expected || a.Leaf != apitype.LeafCurrent || a.SerialNumber == "" {
		return false
	}
	m.expected = false
	m.desk.agreed.tell()
	m.greeted = m.transport != HTTP // the next poll is answered like a first one
	fields := m.LogFields()
	if g := m.desk.Trust.Current().Guest(m.leaf); g != nil {
		fields = append(fields, "peer", g.Peer, "there", g.SourceAgentID)
	}
	m.desk.Logger.Info("an agent has come from a peer", fields...)
	return true
}
