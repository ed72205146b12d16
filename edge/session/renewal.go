package session

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"strings"
	"time"

	"github.com/ampora/ampora/edge/metrics"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/identity"
)

// An agent's next leaf reaches it as an offer over its own connection: because it has sent a CSR, or because its leaf's time
// has come, and then the edge asks for it by itself. Which key it is for, and whether that needs a proof, the engine decides.
//
//	at rest --CSR, or due--> asking --an identity--> in flight --Flight is over, or the agent says that it failed--> at rest
//	                                --a refusal, Vault away--> at rest, due again later
//
// A leaf that an agent comes back with is another session's; the engine's answer to that session's report ends this one.

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

const (
	maxProof   = 1024             // bytes of base64: that of RSA-4096 has 684
	leastPause = 5 * time.Second  // between two offers to one agent
	lookAgain  = 10 * time.Second // at a session whose agent has a newer one
	maxTries   = 10               // that make a pause longer
)

// issuedAt is when a leaf was signed. Its own dates tell, but for a leaf of an issuer that was minutes old.
func issuedAt(notBefore, notAfter time.Time) time.Time {
	if at := notBefore.Add(identity.Backdate); at.Before(notAfter) {
		return at
	}
	return notBefore
}

// renewalDue is when the edge gives an agent the next leaf: from two thirds of a leaf's life on, spread over the 15 % after
// that, so that agents which enrolled together do not renew together. The serial says where in that span: every edge, and
// the same one after a restart, comes to the same moment.
func renewalDue(serial identity.Serial, issued, notAfter time.Time) time.Time {
	life := notAfter.Sub(issued)
	sum := sha256.Sum256(serial[:])
	share := float64(binary.BigEndian.Uint32(sum[:4])) / (1 << 32)
	return issued.Add(life*2/3 + time.Duration(share*0.15*float64(life)))
}

// due is renewalDue for this session. What a poll is to carry must be there before it.
func (m *member) due() int64 {
	at := renewalDue(m.serial, time.Unix(m.issued, 0), time.Unix(m.notAfter, 0))
	if m.transport == HTTP {
		at = at.Add(-heartbeat(m.desk.Trust.Current()))
	}
	return at.Unix()
}

// pause is how long an agent is left alone that has not come back with what it was offered: longer each time, but always so
// that some more offers fit into the rest of the leaf's life. Called under the lock.
func (m *member) pause(now time.Time) time.Duration {
	flight := m.desk.Timing.Flight
	life := time.Duration(m.notAfter-m.issued) * time.Second
	left := time.Unix(m.notAfter, 0).Sub(now)
	wait := min(flight<<min(m.tries, maxTries), max(flight, life/40), left/3)
	return max(wait, leastPause)
}

// idempotencyKey is the same for the same request about the same leaf, so that whoever repeats it, here, on another edge or
// on a new connection, is given the same answer.
func idempotencyKey(in apitype.RenewRequest) string {
	kind := "same key"
	if in.GenerateKey {
		kind = "server key"
	}
	sum := sha256.Sum256([]byte(strings.Join([]string{in.Fingerprint, kind, in.CSR, in.Proof}, "\x00")))
	return hex.EncodeToString(sum[:])
}

// nextLeaf asks the engine for the agent's next leaf and makes it an offer.
func (m *member) nextLeaf(ctx context.Context, in apitype.RenewRequest) (*Offer, error) {
	d := m.desk
	offer, err := d.blankOffer(d.Trust.Current(), m.transport)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, d.Timing.Renew)
	defer cancel()
	in.Fingerprint, in.SourceIP = hex.EncodeToString(m.leaf[:]), text(m.source)
	in.IdempotencyKey = idempotencyKey(in)
	id, err := d.Issuer.Renew(ctx, m.serial.AgentID(), in)
	if err != nil {
		return nil, err
	}
	if err := offer.fill(id, in.GenerateKey); err != nil {
		return nil, err
	}
	return offer, nil
}

// answerCSR makes the offer that an agent asks for, or says why not. Nobody waits with it but the agent that has asked.
func (m *member) answerCSR(ctx context.Context, msg *Message) (*Offer, *Refusal) {
	request := sha256.Sum256([]byte(msg.CSR + "\x00" + msg.Proof))
	m.mu.Lock()
	offer, refusal := m.mayAsk(msg, request)
	if offer == nil && refusal == nil {
		m.asking = true
	}
	m.mu.Unlock()
	if refusal != nil {
		return nil, m.renewalRefused(refusal, metrics.RenewalByAgent)
	}
	if offer != nil {
		return offer, nil
	}
	// Whether the agent hangs up must not matter from here on: its question would be another one's answer.
	offer, err := m.nextLeaf(context.WithoutCancel(ctx), apitype.RenewRequest{CSR: msg.CSR, Proof: msg.Proof})
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asking = false
	if err != nil {
		return nil, m.renewalRefused(refuse(err), metrics.RenewalByAgent)
	}
	m.takeOff(offer, request, time.Now())
	return offer, nil
}

// mayAsk decides whether Vault is asked about a CSR: an offer is the one that the same CSR was answered with. Called under
// the lock.
func (m *member) mayAsk(msg *Message, request Digest) (*Offer, *Refusal) {
	f := m.flight
	if f != nil && f.until <= time.Now().Unix() && !f.waits {
		f = nil
	}
	switch {
	case msg.Capabilities&apitype.CapabilityAcceptsOpAMP == 0:
		return nil, refusef(apitype.CapabilityMissing, "")
	case len(msg.CSR) > maxCSR:
		return nil, refusef(apitype.CSRInvalid, "it has more than %d bytes", maxCSR)
	case len(msg.Proof) > maxProof:
		return nil, refusef(apitype.CSRInvalid, "its proof has more than %d bytes", maxProof)
	case f != nil && f.request == request:
		return f.offer, nil
	case f != nil, m.asking:
		return nil, refusef(apitype.RateLimited, "another offer is on its way to this agent")
	case !m.desk.csrs.Allow(m.serial):
		return nil, refusef(apitype.RateLimited, "this agent asks for certificates too often")
	}
	return nil, nil
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

func (m *member) renewalRefused(r *Refusal, by string) *Refusal {
	d := m.desk
	result := metrics.RenewalRefused
	if passing(r.Err.Code) {
		result = metrics.RenewalPutOff
	}
	d.Metrics.Renewals.WithLabelValues(by, result).Inc()
	fields := append(m.LogFields(), "by", by, "code", r.Err.Code, "detail", r.Err.Detail)
	if by == metrics.RenewalByEdge {
		d.Logger.Warn("renewal failed", fields...)
		return r
	}
	d.Metrics.Refused(r.Err.Code)
	d.Refused.Add(m.source, r)
	d.Logger.Info("renewal refused", fields...)
	return r
}

// passing reports whether it was Vault that could not answer.
func passing(code apitype.Code) bool { return code.EdgeStatus() >= 500 }

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

// wantsRenewal reports whether the edge should ask for the next leaf now. Called under the lock.
func (m *member) wantsRenewal(now time.Time) bool {
	return m.renewAt != 0 && m.renewAt <= now.Unix() && m.flight == nil && !m.asking && m.accepts && m.keyKnown && !m.shutting
}

// newest reports whether offers go to this session: its agent has none with a newer leaf, and no newer one with the same.
func (m *member) newest() bool {
	for _, s := range m.desk.live.of(m.agentKey()) {
		if s.serial.Generation() > m.serial.Generation() {
			return false
		}
	}
	for _, s := range m.desk.live.of(m.agentKey()) {
		if s.serial == m.serial {
			return s == m
		}
	}
	return false
}

// attend does what is due, and reports whether the next leaf is to be asked for, if it may be: then asking is set.
func (m *member) attend(now time.Time, mayRenew bool) bool {
	newest := m.newest()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return false
	}
	if m.flight != nil && !m.flight.waits && m.flight.until <= now.Unix() {
		m.flight = nil
	}
	if m.reportAt != 0 && m.reportAt <= now.Unix() {
		m.reportAt = 0
		m.queueReport(nil)
	}
	wanted := mayRenew && m.wantsRenewal(now)
	switch {
	case wanted && !newest:
		m.renewAt, wanted = now.Add(lookAgain).Unix(), false
	case wanted && m.serverKey && !m.desk.keys.Allow(m.serial):
		m.renewAt, wanted = now.Add(m.pause(now)).Unix(), false
	}
	m.asking = m.asking || wanted
	m.plan()
	return wanted
}

// plan sets when attend has something to do. Called under the lock.
func (m *member) plan() {
	wake := int64(0)
	for _, at := range []int64{m.reportAt, m.renewalAt(), m.flightUntil()} {
		if at != 0 && (wake == 0 || at < wake) {
			wake = at
		}
	}
	m.wake.Store(wake)
}

func (m *member) renewalAt() int64 {
	if m.flight != nil || m.asking || !m.accepts || !m.keyKnown {
		return 0
	}
	return m.renewAt
}

func (m *member) flightUntil() int64 {
	if m.flight == nil || m.flight.waits {
		return 0
	}
	return m.flight.until
}

// renew asks for the next leaf and offers it. It reports whether Vault has answered.
func (m *member) renew(ctx context.Context) bool {
	m.mu.Lock()
	in := apitype.RenewRequest{GenerateKey: m.serverKey}
	over := m.closed || m.shutting
	m.mu.Unlock()
	if over {
		return true
	}
	offer, err := m.nextLeaf(ctx, in)
	now := time.Now()
	m.mu.Lock()
	m.asking = false
	if err != nil {
		r := m.renewalRefused(refuse(err), metrics.RenewalByEdge)
		if !passing(r.Err.Code) {
			m.renewAt = now.Add(m.pause(now)).Unix()
			m.tries = min(m.tries+1, maxTries)
		}
		if r.Err.Code == apitype.CertificateRevoked {
			m.reportAt = now.Unix() // the answer tells what has become of this leaf
		}
		m.plan()
		m.mu.Unlock()
		return !passing(r.Err.Code)
	}
	var conn Conn
	if !m.closed && !m.shutting {
		m.takeOff(offer, Digest{}, now)
		conn = m.conn
	}
	m.mu.Unlock()
	if conn != nil {
		if err := conn.Send(Reply{Kind: KindAgent, Offer: offer}); err != nil {
			m.desk.Logger.Debug("the offer could not be sent", append(m.LogFields(), "error", err)...)
		}
	}
	return true
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
