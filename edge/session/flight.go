package session

import (
	"time"

	"github.com/ampora/ampora/edge/metrics"
)

// flight is an offer on its way, for which there is no second one.
type flight struct {
	offer *Offer
	// request is the digest of what the agent asked with; the zero value is for an offer that it has not asked for.
	request Digest
	// waits says that the offer goes with the answer to the next poll.
	waits bool
	until int64 // Unix seconds
}

// by is who wanted the renewal, as a metric's label.
func (f *flight) by() string {
	if f.request == (Digest{}) {
		return metrics.RenewalByEdge
	}
	return metrics.RenewalByAgent
}

// takeOff notes an offer that is being made. Called under the lock.
func (m *member) takeOff(offer *Offer, request Digest, now time.Time) {
	f := &flight{offer: offer, request: request, waits: m.transport == HTTP && request == (Digest{})}
	m.flight = f
	if f.waits {
		m.plan()
	} else {
		m.delivered(now)
	}
	m.desk.Metrics.Renewals.WithLabelValues(f.by(), metrics.RenewalOffered).Inc()
	key := "agent"
	if offer.PrivateKey != "" {
		key = "server"
	}
	m.desk.Logger.Info("next certificate offered", append(m.LogFields(), "serial", m.serial, "by", f.by(), "key", key)...)
}

// delivered begins the offer's time. Called under the lock.
func (m *member) delivered(now time.Time) {
	m.flight.waits = false
	m.renewAt = max(now.Add(m.pause(now)).Unix(), m.due())
	m.flight.until = min(m.renewAt, now.Add(m.desk.Timing.Flight).Unix())
	m.tries = min(m.tries+1, maxTries)
	m.plan()
}

// heard takes in what the agent says of an offer. One that it could not take is over; one that it has applied counts when it
// says so over a connection that it has made with that leaf: some libraries say it before they have tried. Called under the
// lock.
func (m *member) heard(s SettingsStatus) {
	switch {
	case s.State == SettingsApplied && s.Leaf == m.leaf && !m.confirmed && !m.applied:
		m.applied = true
		m.desk.Metrics.LeavesApplied.Inc()
		m.queueReport(nil)
	case s.State == SettingsFailed && m.flight != nil && s.Leaf == m.flight.offer.Leaf:
		m.desk.Metrics.Renewals.WithLabelValues(m.flight.by(), metrics.RenewalFailed).Inc()
		m.desk.Logger.Warn("the agent cannot take its next certificate", append(m.LogFields(), "error", s.Error)...)
		m.flight = nil
		m.plan()
	}
}
