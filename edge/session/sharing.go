package session

import "time"

// rivals tells the other live sessions of the same leaf that this one has begun.
func (m *member) rivals() {
	for _, s := range m.desk.live.of(m.agentKey()) {
		if s != m && s.serial == m.serial {
			s.rival.Store(m.begun)
		}
	}
}

// outlive reports to the engine that two use one leaf, when the agent of the older session speaks although a newer one began
// a while ago and is still there. That there are two sessions says nothing yet: an agent that has lost its connection is back
// before its edge knows, and what renews an agent's files comes for a moment. Called under the lock.
func (m *member) outlive() {
	since := m.rival.Load()
	if m.shared || since == 0 || time.Since(time.Unix(since, 0)) < m.desk.Timing.Rival {
		return
	}
	m.rival.Store(0)
	for _, s := range m.desk.live.of(m.agentKey()) { // the newest first
		if s == m {
			return
		}
		if s.serial == m.serial {
			break
		}
	}
	m.shared = true
	m.queueReport(nil)
}
