package session

import (
	"context"
	"time"
	"unique"

	"github.com/ampora/ampora/edge/delivery"
	"github.com/ampora/ampora/edge/metrics"
	"github.com/ampora/ampora/plugin/apitype"
)

// An agent that accepts remote configs is offered what it is to run, if that is something, and what it says it has is
// something else. Both are compared by hash alone: a configuration that failed there is not offered once more, and a new one
// is. Which one it is to run follows from its assignment, which the engine answers to a report, and from what edge/delivery
// knows of groups and configurations. On a WebSocket the offer is pushed (deliveries), on plain HTTP it goes with the answer
// to a poll.

// Configurations is where they come from.
type Configurations interface {
	// Target is what an agent is to run, false for nothing that is known.
	Target(delivery.Assignment) (delivery.Target, bool)
	// Body waits for Vault when the body is not in memory.
	Body(context.Context, delivery.Target) (*delivery.Configuration, error)
}

// RemoteState is what became of a remote config; the zero value is that the agent does not say.
type RemoteState byte

// The states of the specification.
const (
	RemoteApplying RemoteState = iota + 1
	RemoteApplied
	RemoteFailed
)

// remoteStates are as rows show them.
var remoteStates = map[RemoteState]string{
	RemoteApplying: apitype.ConfigurationApplying, RemoteApplied: apitype.ConfigurationApplied, RemoteFailed: apitype.ConfigurationFailed,
}

// RemoteStatus is what an agent says of its remote config. The zero value is that it has none.
type RemoteStatus struct {
	Hash  delivery.Hash
	State RemoteState
	Error string // of one that failed, as the agent puts it; fit for a row
}

// maxDeliveries is how often one configuration is sent over one session to an agent that does not say what became of it.
const maxDeliveries = 3

// pollBody is how long the answer to a poll waits for a body.
const pollBody = 5 * time.Second

// remote is what a session knows of its agent's remote config. Agents that accept none have none.
type remote struct {
	said    RemoteStatus
	told    RemoteStatus  // that the last report has told
	named   string        // the configuration's name that it has told with it
	offered delivery.Hash // sent last
	sentAt  int64         // Unix seconds
	tries   uint8         // how often that was sent
	known   bool          // the agent has said what it has, or that it has nothing
	reports bool          // it says what becomes of an offer
	doubt   doubt
	waiting bool // in the queue of deliveries
	once    bool // a report has told
	unsure  bool // the agent was put elsewhere, and the engine has still to say where
}

// doubt is whether an agent that speaks plain HTTP may have been started anew without what it had: it describes itself and
// does not say what it has, although it had something. The answer to ReportFullState tells.
type doubt byte

const (
	certain doubt = iota
	doubtful
	asked
)

// heardRemote takes in what the agent says of its remote config. Called under the lock.
func (m *member) heardRemote(msg *Message) {
	if msg.Goodbye {
		return
	}
	if msg.Capabilities&apitype.CapabilityRemoteConfig == 0 {
		m.remote = nil
		return
	}
	if m.remote == nil {
		m.remote = &remote{}
	}
	r := m.remote
	r.reports = msg.Capabilities&apitype.CapabilityReportsRemoteConfig != 0
	switch {
	case msg.Remote != nil:
		m.countRemote(*msg.Remote)
		r.said, r.known, r.doubt = *msg.Remote, true, certain
	case !msg.HasDescription:
	case !r.known: // it has told all there is to tell
		r.known = true
	case r.said == RemoteStatus{} || m.transport != HTTP:
	case r.doubt == asked:
		r.said, r.offered, r.doubt = RemoteStatus{}, delivery.Hash{}, certain
	default:
		r.doubt = doubtful
	}
}

// countRemote counts what became of an offer of this session. Called under the lock.
func (m *member) countRemote(now RemoteStatus) {
	r := m.remote
	if now == r.said || now.Hash != r.offered || now.Hash == (delivery.Hash{}) {
		return
	}
	switch d := m.desk; now.State {
	case RemoteApplied:
		d.Metrics.RemoteConfigs.WithLabelValues(metrics.RemoteConfigApplied).Inc()
	case RemoteFailed:
		d.Metrics.RemoteConfigs.WithLabelValues(metrics.RemoteConfigFailed).Inc()
		d.Logger.Warn("the agent cannot run its configuration", append(m.LogFields(), "hash", now.Hash, "error", now.Error)...)
	}
}

// target is what the agent is to run. Called under the lock.
func (m *member) target() (delivery.Target, bool) {
	if m.assignment == (unique.Handle[delivery.Assignment]{}) || m.desk.Configurations == nil {
		return delivery.Target{}, false
	}
	return m.desk.Configurations.Target(m.assignment.Value())
}

// assign notes what the engine has answered of the agent. Called under the lock.
func (m *member) assign(r *report, a apitype.SessionAnswer) {
	if m.remote != nil && !r.stale {
		m.remote.unsure = false
	}
	if a.SerialNumber != "" {
		m.assignment = unique.Make(delivery.Assignment{Tenant: a.Tenant, Group: a.Group, Own: a.OwnConfiguration})
	}
}

// owed is what the agent is to be sent now, false for nothing. Called under the lock.
func (m *member) owed(now time.Time) (delivery.Target, bool) {
	r := m.remote
	if r == nil || !r.known || r.doubt != certain || r.unsure || m.closed || m.shutting || m.expected {
		return delivery.Target{}, false
	}
	if _, gone := m.away(); gone {
		return delivery.Target{}, false
	}
	t, found := m.target()
	switch {
	case !found, t.Hash == r.said.Hash:
		return t, false
	case t.Hash != r.offered:
		return t, true
	}
	// It was sent, and there is no word of it: it may have got lost, as answers to polls do.
	return t, r.reports && r.tries < maxDeliveries && now.Sub(time.Unix(r.sentAt, 0)) >= m.desk.Timing.Flight
}

// sent notes that the agent is being sent a configuration. Called under the lock.
func (m *member) sent(c *delivery.Configuration, now time.Time) {
	r := m.remote
	if r.offered != c.Hash {
		r.tries = 0
	}
	r.offered, r.sentAt = c.Hash, now.Unix()
	r.tries++
	m.desk.Metrics.RemoteConfigs.WithLabelValues(metrics.RemoteConfigOffered).Inc()
	m.desk.Logger.Debug("configuration offered", append(m.LogFields(), "hash", c.Hash)...)
}

// review reports what is new of the agent's remote config, and has it sent what it is to run. Called under the lock.
func (m *member) review() {
	if m.remote == nil || m.closed || !m.spoken {
		return
	}
	m.tellRemote()
	if _, owed := m.owed(time.Now()); owed && m.conn != nil && !m.remote.waiting {
		m.remote.waiting = true
		m.desk.deliveries.add(m)
	}
}

// deliver sends the agent what it is to run. It answers false when that could not be had.
func (m *member) deliver(ctx context.Context) bool {
	target, conn := m.delivery()
	if conn == nil {
		return true
	}
	c, err := m.desk.Configurations.Body(ctx, target)
	if err != nil {
		return false
	}
	if m.stillOwed(target, c) {
		if err := conn.Send(Reply{Kind: KindAgent, Configuration: c}); err != nil {
			m.desk.Logger.Debug("the configuration could not be sent", append(m.LogFields(), "error", err)...)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.remote != nil {
		m.remote.waiting = false
		m.review() // it may have become another one meanwhile
	}
	return true
}

// delivery is what to send over which connection, nil when there is nothing to send any more.
func (m *member) delivery() (delivery.Target, Conn) {
	m.mu.Lock()
	defer m.mu.Unlock()
	target, owed := m.owed(time.Now())
	if owed && m.conn != nil {
		return target, m.conn
	}
	if m.remote != nil {
		m.remote.waiting = false
	}
	return target, nil
}

// stillOwed notes that the configuration is being sent, unless the agent is to run another one by now.
func (m *member) stillOwed(target delivery.Target, c *delivery.Configuration) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	t, owed := m.owed(now)
	if !owed || t != target {
		return false
	}
	m.sent(c, now)
	return true
}

// pollConfiguration is what the answer to a poll carries, nil for nothing. When Vault does not give it now, the next poll's
// may.
func (m *member) pollConfiguration(ctx context.Context, msg *Message) *delivery.Configuration {
	if m.transport != HTTP || msg.Goodbye {
		return nil
	}
	m.mu.Lock()
	target, owed := m.owed(time.Now())
	m.mu.Unlock()
	if !owed {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, pollBody)
	defer cancel()
	c, err := m.desk.Configurations.Body(ctx, target)
	if err != nil || !m.stillOwed(target, c) {
		return nil
	}
	return c
}
