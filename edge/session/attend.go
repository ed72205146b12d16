package session

import "time"

// lookAgain is when to look again at a session whose agent has a newer one.
const lookAgain = 10 * time.Second

// wantsRenewal reports whether the edge should ask for the next leaf now. Called under the lock.
func (m *member) wantsRenewal(now time.Time) bool {
	return m.renewAt != 0 && m.renewAt <= now.Unix() && m.flight == nil && !m.asking && m.accepts && m.keyKnown && !m.shutting
}

// newest reports whether offers go to this session: its agent has none with a newer leaf, and no newer one with the same.
func (m *member) newest() bool {
	var first *member // with this leaf
	for _, s := range m.desk.live.of(m.agentKey()) {
		if s.serial.Generation() > m.serial.Generation() {
			return false
		}
		if first == nil && s.serial == m.serial {
			first = s
		}
	}
	return first == m
}

// attend does what is due. It reports whether the next leaf is to be asked for, if it may be: then asking is set. home is the
// offer of its new home for an agent that has gone, which is to be sent now.
func (m *member) attend(now time.Time, mayRenew bool) (wanted bool, home *Offer) {
	newest := m.newest()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return false, nil
	}
	if m.flight != nil && !m.flight.waits && m.flight.until <= now.Unix() {
		m.flight = nil
	}
	if m.reportAt != 0 && m.reportAt <= now.Unix() {
		m.reportAt = 0
		m.queueReport(nil)
	}
	if move, gone := m.away(); gone {
		if newest && m.conn != nil && m.spoken { // plain HTTP: with the answer to the next poll
			home = m.homeOffer(move, now)
		}
		m.plan()
		return false, home
	}
	wanted = mayRenew && m.wantsRenewal(now)
	switch {
	case wanted && !newest:
		m.renewAt, wanted = now.Add(lookAgain).Unix(), false
	case wanted && m.serverKey && m.desk.keys.Spent(m.serial):
		m.renewAt, wanted = now.Add(m.pause(now)).Unix(), false
	}
	m.asking = m.asking || wanted
	m.plan()
	return wanted, nil
}

// plan sets when attend has something to do. Called under the lock.
func (m *member) plan() {
	wake := int64(0)
	for _, at := range []int64{m.reportAt, m.renewalAt(), m.flightUntil(), m.homeAt()} {
		if at != 0 && (wake == 0 || at < wake) {
			wake = at
		}
	}
	m.wake.Store(wake)
}

func (m *member) renewalAt() int64 {
	if _, gone := m.away(); gone {
		return 0
	}
	if m.flight != nil || m.asking || !m.accepts || !m.keyKnown {
		return 0
	}
	return m.renewAt
}

// homeAt is when to offer an agent that has gone its new home again.
func (m *member) homeAt() int64 {
	move, gone := m.away()
	if !gone || m.conn == nil || !m.accepts {
		return 0
	}
	return max(m.desk.departures.next(m.agentKey(), move), time.Now().Add(lookAgain).Unix())
}

func (m *member) flightUntil() int64 {
	if m.flight == nil || m.flight.waits {
		return 0
	}
	return m.flight.until
}

// endOlder ends the live sessions that the agent has with older leaves: the engine has answered that this one has taken
// their place.
func (m *member) endOlder() {
	for _, s := range m.desk.live.of(m.agentKey()) {
		if s.serial.Generation() < m.serial.Generation() {
			s.putOut(replacedError, outLeafTTL)
		}
	}
}
