package session

import (
	"time"

	"github.com/ampora/ampora/edge/trust"
	"github.com/google/uuid"
)

// restored has every live session reported once more when Vault has been restored from a backup since the last time: the
// engine may not know the agents any more that enrolled after the backup, and it is the answer to a report that ends them.
func (d *Desk) restored(count int) {
	before := d.restores
	d.restores = count
	if before == count {
		return
	}
	all := d.live.matching(func(*member) bool { return true })
	for _, m := range all {
		m.reportAgain()
	}
	if len(all) > 0 {
		d.Logger.Info("Vault was restored from a backup: reporting every session again", "sessions", len(all))
	}
}

// reportAgain tells the engine once more that the agent is here. One that has said nothing yet is reported when it does.
func (m *member) reportAgain() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.spoken && !m.closed {
		m.reported = 0 // at once
		m.queueReport(nil)
		if m.report != nil { // also when the engine has been asked already
			m.report.stale = true
			m.desk.reports.hasten(m.report, time.Time{})
		}
	}
}

// reassigned has the sessions reported once more of agents whose group or own configuration has changed. After a whole snapshot
// that may be so of any: what was told in between is lost.
func (d *Desk) reassigned(c trust.Change) {
	if c.Full {
		for _, m := range d.live.matching(func(*member) bool { return true }) {
			m.reportAgain()
		}
		return
	}
	for _, text := range c.Reassigned {
		id, err := uuid.Parse(text)
		if err != nil {
			continue // no agent has such an id
		}
		for _, m := range d.live.of(id) {
			m.reportAgain()
			m.holdBack()
		}
	}
}

// holdBack keeps the agent from being sent what it was to run where it was before, until the engine has answered where it is.
func (m *member) holdBack() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.remote != nil && m.report != nil {
		m.remote.unsure = true
	}
}
