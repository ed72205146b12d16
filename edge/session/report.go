package session

import (
	"context"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
)

// report is one session's report on its way to Vault. While it waits, newer facts replace older ones in place; the member's
// lock guards it.
type report struct {
	member *member
	state  apitype.SessionReport
	sent   string // the state hash that went out last
	told   bool   // it went out with what the agent has applied
	again  bool   // it has been put back for a newer state once already
	stale  bool   // what the engine answers may have changed since it was asked
	due    time.Time
}

const (
	maxReports    = 100_000               // waiting at the same time
	reportEvery   = time.Minute           // between two reports of one session
	reportTimeout = 15 * time.Second      // for one call
	leaveTimeout  = time.Second           // for the last one
	reportBackoff = 30 * time.Second      // the longest wait after a failure
	reportGather  = 20 * time.Millisecond // in which reports that somebody waits for come together: agents arrive in groups
)

// reports tells the engine of sessions: each once after it was let in, again when its description changes, when its leaf is
// to be confirmed, and otherwise now and then; in batches, never faster than Timing.Report, and later while Vault is away.
type reports struct {
	desk *Desk

	mu    sync.Mutex
	queue []*report
	hurry chan struct{} // somebody waits for the answer to a report
}

func newReports(d *Desk) *reports { return &reports{desk: d, hurry: make(chan struct{}, 1)} }

// queueReport puts the session's report into the queue, or brings the waiting one up to date. msg is nil when nothing is
// known but that the agent is here. Called under the member's lock.
func (m *member) queueReport(msg *Message) {
	r := m.report
	if r == nil {
		r = &report{member: m, due: time.Unix(m.reported, 0).Add(reportEvery)}
		if m.stateWanted || m.applied && !m.confirmed || m.shared || m.expected {
			r.due = time.Time{} // this is an answer to a question, ends an old leaf, is bad news, or somebody waits for it
		}
		if !m.desk.reports.push(r) {
			return
		}
		m.report = r
		m.reported = time.Now().Unix()
	} else if m.applied && !m.confirmed {
		m.desk.reports.hasten(r, time.Time{})
	}
	r.state.AgentID, r.state.SerialNumber = m.serial.AgentID(), m.serial.String()
	r.state.Since, r.state.Shared = m.begun, m.shared
	r.state.InstanceUID, r.state.StateHash, r.state.SourceIP = m.instanceUID, m.stateHash, text(m.source)
	r.state.Configuration = m.remoteReport()
	if m.applied {
		r.state.Applied = hex.EncodeToString(m.leaf[:])
	}
	if msg != nil {
		r.state.Description, r.state.DisplayName, r.state.Capabilities = msg.Description, msg.DisplayName, msg.Capabilities
		r.state.HasState = true
	}
	if m.expected {
		m.desk.reports.wake()
	}
}

// wake has the reports that are due sent now, unless the last ones did not get through.
func (q *reports) wake() {
	select {
	case q.hurry <- struct{}{}:
	default: // it is already to be so
	}
}

// push answers false when the queue is full.
func (q *reports) push(r *report) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.queue) >= maxReports {
		q.desk.Metrics.ReportsDropped.Inc()
		return false
	}
	q.queue = append(q.queue, r)
	q.desk.Metrics.ReportQueue.Set(float64(len(q.queue)))
	return true
}

// hasten makes a waiting report due at a time, if it is not due before.
func (q *reports) hasten(r *report, due time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if due.Before(r.due) {
		r.due = due
	}
}

// take removes up to a batch of reports that are due.
func (q *reports) take(now time.Time) []*report {
	q.mu.Lock()
	defer q.mu.Unlock()
	var batch, rest []*report
	for _, r := range q.queue {
		if len(batch) < apitype.MaxSessionReports && !r.due.After(now) {
			batch = append(batch, r)
		} else {
			rest = append(rest, r)
		}
	}
	q.queue = rest
	q.desk.Metrics.ReportQueue.Set(float64(len(rest)))
	return batch
}

func (q *reports) giveBack(batch []*report) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.queue = append(batch, q.queue...)
	q.desk.Metrics.ReportQueue.Set(float64(len(q.queue)))
}

func (q *reports) run(ctx context.Context) {
	timing := q.desk.Timing
	wait, last := timing.Report, time.Time{}
	for {
		if q.pause(ctx, wait); ctx.Err() != nil {
			if !last.IsZero() {
				q.leave(ctx)
			}
			return
		}
		batch := q.take(time.Now())
		if len(batch) == 0 && time.Since(last) < timing.Idle {
			continue
		}
		var err error
		q.desk.guard("reports", func() { err = q.send(ctx, batch) })
		if err != nil {
			q.giveBack(batch)
			wait = min(2*wait, max(reportBackoff, timing.Report))
			q.desk.Logger.Debug("reports put off", "sessions", len(batch), "error", err)
			continue
		}
		wait, last = timing.Report, time.Now()
	}
}

// pause waits about as long as it is told, or until somebody waits for an answer. While Vault does not answer nobody is heard.
func (q *reports) pause(ctx context.Context, wait time.Duration) {
	timer := time.NewTimer(wait/2 + rand.N(wait))
	defer timer.Stop()
	hurry := q.hurry
	if wait > q.desk.Timing.Report {
		hurry = nil
	}
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-hurry:
		select {
		case <-ctx.Done():
		case <-time.After(reportGather):
		}
	}
}

// leave tells the engine that this edge goes down, so that nobody misses it. It does not hold up the end for long.
func (q *reports) leave(ctx context.Context) {
	d := q.desk
	call, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTimeout)
	defer cancel()
	if _, err := d.Reporter.Report(call, apitype.ReportRequest{Name: d.Name, Version: d.Version, Leaving: true}); err != nil {
		d.Logger.Debug("could not tell Vault that this edge goes down", "error", err)
	}
}

// send delivers a batch. An error means that Vault could not take it now. A batch that Vault refuses is halved until the one
// it does not like is alone, and that one is dropped.
func (q *reports) send(ctx context.Context, batch []*report) error {
	d := q.desk
	request := apitype.ReportRequest{Name: d.Name, Version: d.Version, Live: d.Live()}
	if s := d.Trust.Current(); s != nil {
		request.Revision = s.Revision
	}
	if d.Peers != nil {
		request.Peers = d.Peers()
	}
	for _, r := range batch {
		request.Sessions = append(request.Sessions, r.outgoing())
	}
	call, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	answer, err := d.Reporter.Report(call, request)
	switch code := apitype.CodeOf(err); {
	case err == nil && len(answer.Sessions) == len(batch):
		for i, r := range batch {
			r.member.answered(r, answer.Sessions[i])
		}
		return nil
	case err == nil:
		err = errors.New("the engine answered another number of sessions")
	case code == "" || code.EdgeStatus() >= 500:
		return err
	}
	if len(batch) > 1 {
		half := len(batch) / 2
		if err := q.send(ctx, batch[:half]); err != nil {
			return err
		}
		return q.send(ctx, batch[half:])
	}
	for _, r := range batch {
		d.Metrics.ReportsDropped.Inc()
		d.Logger.Warn("session report refused", append(r.member.LogFields(), "error", err)...)
		r.member.answered(r, apitype.SessionAnswer{Leaf: apitype.LeafCurrent})
	}
	return nil
}

// outgoing is the report as it travels: the description only when it was asked for, and nothing of what the agent said in a
// session that is over while it has a newer one, which would undo what it says there.
func (r *report) outgoing() apitype.SessionReport {
	others := len(r.member.desk.live.of(r.member.agentKey()))
	r.member.mu.Lock()
	defer r.member.mu.Unlock()
	if r.member.closed && others > 0 {
		r.state.HasState, r.state.StateHash = false, ""
	}
	out := r.state
	if !r.member.stateWanted || !out.HasState {
		out.HasState, out.Description, out.DisplayName, out.Capabilities = false, "", "", 0
	}
	r.sent, r.told, r.stale = out.StateHash, out.Applied != "", false
	r.member.remoteTold()
	return out
}

// unknownLeafTTL is how long a leaf stays out after the engine did not know its agent; the other answers never change.
const (
	unknownLeafTTL = time.Minute
	pendingLeafTTL = 5 * time.Second
	outLeafTTL     = time.Hour
)

// replacedError is why a leaf counts no longer whose successor was confirmed.
var replacedError = apitype.Errorf(apitype.CertificateRevoked, "a newer certificate of this agent is in use")

// answered takes the engine's answer to a report.
func (m *member) answered(r *report, a apitype.SessionAnswer) {
	switch a.Leaf {
	case apitype.LeafSuperseded:
		m.putOut(replacedError, outLeafTTL)
		return
	case apitype.LeafRevoked:
		m.putOut(apitype.Errorf(apitype.CertificateRevoked, "the agent's certificate was revoked"), outLeafTTL)
		return
	case apitype.LeafUnknown:
		m.putOut(apitype.Errorf(apitype.AgentUnknown, "no such agent is known here"), unknownLeafTTL)
		return
	case apitype.LeafPending:
		m.putOut(apitype.Errorf(apitype.HandoverPending, "the agent's peer has not let go of it"), pendingLeafTTL)
		return
	case apitype.LeafMoved:
		m.goneAway()
		return
	}
	m.mu.Lock()
	m.report = nil
	arrived := m.arrive(a)
	m.stands(a)
	if m.expected { // the answer was none, and until there is one the agent is given nothing
		m.mu.Unlock()
		return
	}
	m.assign(r, a)
	wanted := a.StateWanted && !m.stateWanted
	m.stateWanted = a.StateWanted
	var push Reply
	if wanted && r.state.HasState || r.state.StateHash != r.sent || m.applied && !r.told && !m.confirmed || r.stale {
		m.requeue(r)
	} else if (wanted || arrived && m.stateHash == "") && !m.fullAsked {
		m.fullAsked, push.ReportFullState = true, true
	}
	if _, gone := m.away(); !gone && a.InstanceUID != "" && a.InstanceUID != m.instanceUID {
		m.newUID, push.NewInstanceUID = a.InstanceUID, a.InstanceUID
	}
	m.review()
	conn := m.conn
	current := a.Leaf == apitype.LeafCurrent && a.SerialNumber != ""
	if conn != nil {
		m.newUID = ""
	} else if push.ReportFullState { // plain HTTP: with the answer to the next poll
		m.fullAsked = false
	}
	m.mu.Unlock()
	if current {
		m.endOlder()
	}
	if conn != nil && (push.ReportFullState || push.NewInstanceUID != "") {
		push.Kind = KindAgent
		if err := conn.Send(push); err != nil {
			m.desk.Logger.Debug("could not tell the agent", append(m.LogFields(), "error", err)...)
		}
	}
}

// stands notes what the engine has answered of the leaf, and plans what follows from it. Called under the lock.
func (m *member) stands(a apitype.SessionAnswer) {
	now := time.Now()
	m.confirmed = m.confirmed || a.Leaf == apitype.LeafCurrent && a.SerialNumber != ""
	again := m.desk.Timing.Again
	m.reportAt = now.Add(again*9/10 + rand.N(again/5)).Unix()
	switch {
	case m.expected:
		m.reportAt = now.Add(reportEvery).Unix()
	case a.Leaf == apitype.LeafNext:
		m.reportAt = now.Add(m.desk.Timing.Confirm).Unix()
	}
	if a.KeyOrigin != "" {
		m.keyKnown, m.serverKey = true, a.KeyOrigin == keyOriginServer
	}
	if m.renewAt == 0 {
		m.renewAt = m.due()
	}
	m.plan()
}

// keyOriginServer is what the engine calls a key that it has made.
const keyOriginServer = "server"

// requeue sends the report once more: with all it holds, or because the agent has said something new while it was on its way.
// Called under the lock.
func (m *member) requeue(r *report) {
	again := &report{member: m, state: r.state, again: true}
	if r.again && !r.stale && (r.told || !m.applied) {
		again.due = time.Now().Add(reportEvery)
	}
	if m.desk.reports.push(again) {
		m.report = again
	}
}

// putOut ends the session and keeps its leaf from coming back at once.
func (m *member) putOut(why *apitype.Error, ttl time.Duration) {
	m.desk.outLeaves.Put(m.serial, why, ttl)
	for _, s := range m.desk.live.of(m.agentKey()) {
		if s.serial == m.serial {
			s.shut(why.Code)
		}
	}
	m.desk.agreed.tell()
}
