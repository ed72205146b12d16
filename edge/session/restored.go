package session

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
	}
}
