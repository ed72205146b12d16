package session

import (
	"time"

	"github.com/ampora/ampora/edge/delivery"
	"github.com/ampora/ampora/plugin/apitype"
)

// applyingFor is how long a report that the agent applies a configuration waits for how that ends.
const applyingFor = 2 * time.Second

// tellRemote has reported what is new of the agent's remote config: at once, but for an agent that changes its mind all the
// time. Called under the lock.
func (m *member) tellRemote() {
	r := m.remote
	if !r.known || r.doubt != certain {
		return
	}
	if name := m.remoteName(); r.once && r.said == r.told && (name == "" || name == r.named) {
		return
	}
	if m.report != nil {
		if c := m.report.state.Configuration; c != nil && *c == *m.remoteReport() {
			return // it is on its way
		}
	}
	m.queueReport(nil)
	if m.report == nil || !m.desk.statuses.Allow(m.serial) {
		return
	}
	due := time.Now()
	if r.said.State == RemoteApplying {
		due = due.Add(applyingFor)
	}
	m.desk.reports.hasten(m.report, due)
}

// remoteName is the name of the configuration that the agent says it has, "" when that is not the one it is to run. Called
// under the lock.
func (m *member) remoteName() string {
	if t, found := m.target(); found && t.Hash == m.remote.said.Hash {
		return t.Name
	}
	return ""
}

// remoteReport is what a report says of the agent's remote config, nil while the agent has said nothing. Called under the lock.
func (m *member) remoteReport() *apitype.ConfigurationReport {
	r := m.remote
	if r == nil || !r.known || r.doubt != certain {
		return nil
	}
	out := &apitype.ConfigurationReport{Status: remoteStates[r.said.State], Name: m.remoteName(), Error: r.said.Error}
	if r.said.Hash != (delivery.Hash{}) {
		out.Hash = r.said.Hash.String()
	}
	return out
}

// remoteTold notes what a report has taken along. Called under the lock.
func (m *member) remoteTold() {
	if r := m.remote; r != nil && r.known && r.doubt == certain {
		r.told, r.named, r.once = r.said, m.remoteName(), true
	}
}
