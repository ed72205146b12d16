package session

import (
	"context"
	"crypto/x509"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
	"unique"

	"github.com/ampora/ampora/edge/delivery"
	"github.com/ampora/ampora/edge/trust"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/identity"
)

// member is the session of a known agent. On plain HTTP it spans the agent's polls. There are very many of these: every
// field costs.
type member struct {
	desk      *Desk
	serial    identity.Serial
	issuer    *x509.Certificate
	cert      *x509.Certificate // the leaf; nil on plain HTTP, where nothing else keeps it in memory, unless it is needed
	leaf      Digest
	issued    int64 // Unix seconds
	notAfter  int64 // Unix seconds
	tenant    string
	source    netip.Addr
	transport Transport
	sibling   *member      // next live session of the same agent; the registry's
	wake      atomic.Int64 // when attend has something to do, Unix seconds; 0: never
	rival     atomic.Int64 // when a newer session of the same leaf began, Unix seconds; 0: none has
	begun     int64        // Unix seconds

	mu          sync.Mutex
	conn        Conn   // WebSocket only
	polled      int64  // plain HTTP: when last, Unix seconds
	instanceUID string // as the agent says
	newUID      string // to be told with the next reply
	stateHash   string
	report      *report                            // on its way to Vault, nil otherwise
	reported    int64                              // when a report was last put in the queue, Unix seconds
	reportAt    int64                              // when to report again, Unix seconds; 0 while the first report is on its way
	renewAt     int64                              // when to ask for the next leaf, Unix seconds; 0 until the engine has answered a report
	flight      *flight                            // the offer that is on its way, nil otherwise
	remote      *remote                            // nil for an agent that accepts no remote config
	assignment  unique.Handle[delivery.Assignment] // the zero value until the engine has answered a report
	tries       uint8                              // offers so far
	spoken      bool                               // a first message has come
	greeted     bool                               // a first reply has gone out
	accepts     bool                               // the agent takes connection settings
	asking      bool                               // Vault is being asked for the next leaf, or about to be
	keyKnown    bool                               // the engine has told who made the leaf's key
	serverKey   bool                               // it did
	applied     bool                               // the agent says that it has applied this leaf for good
	confirmed   bool                               // the engine says that the leaf is the current one
	fullAsked   bool                               // ReportFullState was asked for
	stateWanted bool                               // the engine wants description, name and capabilities
	shared      bool                               // another session of the same leaf is live
	shutting    bool                               // the end has been ordered
	guest       bool                               // the leaf is a peer's
	expected    bool                               // and the engine has still to agree that the agent has come: until then it is given nothing
	closed      bool
}

func (d *Desk) openMember(c Caller, v *verdict) Session {
	m := &member{
		desk: d, serial: v.Serial, issuer: v.issuer, cert: c.Certificate, leaf: v.digest, guest: v.guest, expected: v.expected,
		issued: identity.IssuedAt(c.Certificate.NotBefore, v.NotAfter).Unix(), notAfter: v.NotAfter.Unix(), tenant: v.Tenant,
		source: c.Source, transport: c.Transport,
	}
	if c.Transport != HTTP {
		return m
	}
	if _, gone := m.away(); !gone && !m.guest {
		m.cert = nil
	}
	return d.polls.resume(m)
}

func (m *member) Kind() Kind { return KindAgent }

func (m *member) agentKey() [16]byte { return agentKey(m.serial) }

func agentKey(serial identity.Serial) [16]byte { return [16]byte(serial[1:17]) }

func (m *member) LogFields() []any {
	return []any{"kind", KindAgent, "agent", m.serial.AgentID(), "tenant", m.tenant, "transport", m.transport, "remote", m.source}
}

func (m *member) Connected(conn Conn) {
	m.mu.Lock()
	m.conn = conn
	m.mu.Unlock()
	m.begin()
	m.desk.Logger.Debug("agent connected", m.LogFields()...)
}

// begin makes the session live. What was revoked between the judgement and this moment is seen here: whoever looks at the
// registry after a revocation either finds the session, or the session finds the revocation.
func (m *member) begin() {
	d := m.desk
	d.Metrics.Sessions.WithLabelValues(string(m.transport), string(KindAgent)).Inc()
	m.begun = time.Now().Unix()
	if others := d.live.add(m); others > 0 {
		d.Metrics.DuplicateSessions.Inc()
		m.rivals()
		if others == 1 { // it tells little that a third one came, too
			d.Logger.Info("a second live session of one certificate", m.LogFields()...)
		}
	}
	if code := m.fate(d.Trust.Current(), time.Now()); code != "" {
		m.shut(code)
	}
}

// fate is why the session must end now, "" when it may go on.
func (m *member) fate(s *trust.Snapshot, now time.Time) apitype.Code {
	switch {
	case now.Unix() > m.notAfter:
		return apitype.CertificateExpired
	case s.Revoked(m.serial):
		return apitype.CertificateRevoked
	case s.Age(now) > 2*m.desk.MaxStaleness:
		return apitype.VaultUnavailable
	case m.guest:
		return m.guestFate(s)
	case !s.Trusts(m.issuer):
		return apitype.CertificateUntrusted
	}
	if move, gone := s.Move(m.agentKey()); gone && move.Fingerprint != m.leaf {
		return apitype.AgentMoved
	}
	return ""
}

// guestFate is fate as far as peers decide it. A guest that is none any more has a leaf of ours, or is not expected after all.
func (m *member) guestFate(s *trust.Snapshot) apitype.Code {
	g := s.Guest(m.leaf)
	if g == nil || g.Serial != m.serial {
		return apitype.CertificateUntrusted
	}
	switch peer := s.Peer(g.Peer); {
	case peer == nil || !peer.Trusts(m.issuer):
		return apitype.CertificateUntrusted
	case m.desk.peerRevoked(g.Peer, m.cert):
		return apitype.CertificateRevoked
	}
	return ""
}

// shut ends the session for a reason.
func (m *member) shut(code apitype.Code) {
	m.mu.Lock()
	conn, done := m.conn, m.closed || m.shutting
	m.shutting = true
	m.mu.Unlock()
	if done {
		return
	}
	m.desk.Metrics.Refused(code)
	m.desk.Metrics.SessionEnded(code)
	m.desk.Logger.Info("session ended", append(m.LogFields(), "code", code)...)
	if m.transport == HTTP {
		m.desk.polls.forget(m)
		return
	}
	if conn != nil {
		conn.Close(ClosePolicy, string(code))
	}
}

// Closed ends a WebSocket's session. One of plain HTTP outlives its requests.
func (m *member) Closed() {
	if m.transport != HTTP {
		m.end()
	}
}

func (m *member) end() {
	m.mu.Lock()
	closed, connected := m.closed, m.conn != nil || m.transport == HTTP
	m.closed = true
	m.mu.Unlock()
	if closed || !connected {
		return
	}
	m.desk.live.remove(m)
	m.desk.Metrics.Sessions.WithLabelValues(string(m.transport), string(KindAgent)).Dec()
}

// leastSilence is for agents that keep the heartbeat of their own configuration: the clients' default is 30 s.
const leastSilence = 90 * time.Second

func (m *member) Silence() time.Duration {
	m.mu.Lock()
	spoken := m.spoken
	m.mu.Unlock()
	if !spoken {
		return m.desk.Timing.FirstMessage
	}
	return max(3*heartbeat(m.desk.Trust.Current()), leastSilence)
}

// Message notes what the agent says of itself and answers the first message, and later ones only when there is something to
// say. Its own session waits with it: for Vault's answer to a CSR, and for the engine's word on an agent from a peer.
func (m *member) Message(ctx context.Context, msg Message) *Reply {
	first, open := m.note(&msg)
	if !open {
		return nil
	}
	if first && m.guest {
		if refusal := m.awaitWord(ctx); refusal != nil {
			return &Reply{Kind: KindAgent, Refusal: refusal}
		}
	}
	var offer *Offer
	if msg.CSR != "" && !msg.Goodbye {
		var refusal *Refusal
		if offer, refusal = m.answerCSR(ctx, &msg); refusal != nil {
			return &Reply{Kind: KindAgent, Refusal: refusal} // OpAMP allows nothing beside it; the rest goes with the next reply
		}
	}
	return m.reply(&msg, first, offer, m.pollConfiguration(ctx, &msg))
}

// note takes in what the agent says of itself, and reports whether that was its first message, if the session is open.
func (m *member) note(msg *Message) (first, open bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return false, false
	}
	m.polled = time.Now().Unix()
	first = !m.spoken
	m.spoken = true
	m.instanceUID = msg.InstanceUID
	if accepts := msg.Capabilities&apitype.CapabilityAcceptsOpAMP != 0; accepts != m.accepts {
		m.accepts = accepts
		m.plan()
	}
	m.heardRemote(msg)
	switch {
	case msg.HasDescription:
		hash := apitype.StateHash(msg.Description, msg.DisplayName, msg.Capabilities)
		if hash != m.stateHash || m.stateWanted {
			m.stateHash = hash
			m.queueReport(msg)
		}
	case first:
		m.queueReport(nil)
	}
	if move, gone := m.away(); gone {
		m.heardAway(msg.Settings, move)
	} else {
		m.heard(msg.Settings)
	}
	m.review()
	m.outlive()
	return first, true
}

// reply is what to tell the agent, nil for nothing.
func (m *member) reply(msg *Message, first bool, offer *Offer, configuration *delivery.Configuration) *Reply {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed || m.shutting {
		return nil
	}
	if move, gone := m.away(); gone {
		return m.replyAway(msg, first, move)
	}
	if m.expected {
		return m.replyExpected(first)
	}
	reply := Reply{Kind: KindAgent, NewInstanceUID: m.newUID, Offer: offer, Configuration: configuration}
	if m.newUID == msg.InstanceUID {
		reply.NewInstanceUID = ""
	}
	m.newUID = ""
	if m.flight != nil && m.flight.waits && !msg.Goodbye {
		reply.Offer = m.flight.offer
		m.delivered(time.Now())
	}
	first = first || !m.greeted
	if !m.fullAsked && !msg.HasDescription && (first || m.stateWanted) {
		m.fullAsked, reply.ReportFullState = true, true
	}
	if m.remote != nil && m.remote.doubt == doubtful {
		m.remote.doubt, reply.ReportFullState = asked, true
	}
	if m.transport == HTTP || first || reply.Offer != nil || reply.NewInstanceUID != "" || reply.ReportFullState {
		m.greeted = true
		return &reply
	}
	return nil
}
