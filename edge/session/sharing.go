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

// outlive reports to the engine that two use one leaf, when the agent of the older session speaks although the newer one
// began a while ago. That there are two sessions says nothing yet: an agent that has lost its connection is back before its
// edge knows. Called under the lock.
func (m *member) outlive() {
	since := m.rival.Load()
	if m.shared || since == 0 || time.Since(time.Unix(since, 0)) < m.desk.Timing.Rival {
		return
	}
	m.shared = true
	m.queueReport(nil)
}
