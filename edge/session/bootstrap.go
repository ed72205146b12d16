package session

import (
	"context"
	"crypto/rand"
	"net/netip"
	"sync"
	"time"

	"github.com/ampora/ampora/edge/trust"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/token"
)

// bootstrap is a session that entered with a token. It carries one offer and nothing else.
//
//	waiting --message without the capability--> over
//	waiting --CSR, or none in time--> redeem --identity--> over, the offer sent
//	                                         --csr_invalid, key_not_allowed, vault_unavailable--> waiting
//	                                         --any other refusal--> over
//	over --OfferLinger--> closed
type bootstrap struct {
	desk      *Desk
	secret    token.Secret
	source    netip.Addr
	transport Transport
	key       string // idempotency key: one per session, so that a repeat gets the same answer

	mu     sync.Mutex
	conn   Conn
	first  *Message
	over   bool
	closed bool
	timer  *time.Timer // the one thing that will happen by itself
	ends   time.Time   // when a session without an offer ends
}

// maxCSR is how long a CSR may be, in bytes: one for RSA-4096 has about 1,700.
const maxCSR = 16 << 10

// openKeyTTL is how long the engine gives the same answer for the same idempotency key.
const openKeyTTL = 10 * time.Minute

// openBootstrap lets a good token in. One session per token and edge may be on its way to a redemption.
func (d *Desk) openBootstrap(ctx context.Context, c Caller, secret token.Secret, s *trust.Snapshot) (Session, error) {
	if _, refusal := endpoint(d.Advertise, s, c.Transport); refusal != nil {
		return nil, refusal // before anything is used up
	}
	b := &bootstrap{desk: d, secret: secret, source: c.Source, transport: c.Transport, key: rand.Text()}
	if !d.reserve(b) {
		return nil, refusef(apitype.SessionExists, "")
	}
	if !d.tokens.Allow(secret.ID()) {
		d.release(b)
		return nil, refusef(apitype.RateLimited, "this token is being tried too often")
	}
	if key, open := d.openKeys.Get(secret.ID()); open {
		b.key = key // the redemption itself will tell: a check might call the token spent
	} else if _, err := d.checkToken(ctx, c, secret); err != nil {
		d.release(b)
		return nil, about(err, "token_id", secret.ID())
	}
	// An upgrade that fails half-way never reports back: the timer ends that one, too.
	b.ends = time.Now().Add(d.Timing.Bootstrap)
	b.timer = time.AfterFunc(d.Timing.Bootstrap, b.expire)
	d.Metrics.Sessions.WithLabelValues(string(c.Transport), string(KindBootstrap)).Inc()
	d.Logger.Debug("token is good, waiting for the first message", b.LogFields()...)
	return b, nil
}

func (d *Desk) reserve(b *bootstrap) bool {
	id := b.secret.ID()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.redeeming[id] != nil {
		return false
	}
	d.redeeming[id] = b
	return true
}

func (d *Desk) release(b *bootstrap) {
	id := b.secret.ID()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.redeeming[id] == b {
		delete(d.redeeming, id)
	}
}

func (b *bootstrap) Kind() Kind { return KindBootstrap }

func (b *bootstrap) LogFields() []any {
	return []any{"kind", KindBootstrap, "token_id", b.secret.ID(), "tenant", b.desk.Tenant, "transport", b.transport, "remote", b.source}
}

func (b *bootstrap) Connected(conn Conn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.conn = conn
	if b.closed { // the timer was faster than the upgrade
		conn.Close(ClosePolicy, string(apitype.MessageTimeout))
	}
}

func (b *bootstrap) Silence() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.first == nil {
		return b.desk.Timing.FirstMessage
	}
	return b.desk.Timing.Bootstrap + b.desk.Timing.OfferLinger // the timer ends it sooner
}

func (b *bootstrap) Closed() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.end()
}

// end is called under the lock.
func (b *bootstrap) end() {
	if b.closed {
		return
	}
	b.closed, b.over = true, true
	b.timer.Stop()
	b.desk.release(b)
	b.desk.Metrics.Sessions.WithLabelValues(string(b.transport), string(KindBootstrap)).Dec()
}

// Message takes the agent's messages. It may wait for Vault; only this session waits with it.
func (b *bootstrap) Message(ctx context.Context, m Message) *Reply {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over || m.Goodbye {
		return nil
	}
	if m.Capabilities&apitype.CapabilityAcceptsOpAMP == 0 {
		return b.refused(refusef(apitype.CapabilityMissing, ""))
	}
	firstOne := b.first == nil
	if firstOne || m.HasDescription {
		b.first = &m
	}
	switch {
	case len(m.CSR) > maxCSR:
		return b.refused(refusef(apitype.CSRInvalid, "it has more than %d bytes", maxCSR))
	case m.CSR != "":
		return b.redeem(ctx, m.CSR)
	case b.transport == HTTP:
		return b.redeem(ctx, "")
	case firstOne:
		// The CSR may be in the next message. The reply carries what this server can do, which an agent may be waiting for.
		b.after(b.desk.Timing.CSRWait, b.withoutCSR)
		return &Reply{Kind: KindBootstrap}
	}
	return nil
}

// withoutCSR goes on when the CSR has not come.
func (b *bootstrap) withoutCSR() {
	b.desk.guard("bootstrap", func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.over || b.conn == nil {
			return
		}
		if reply := b.redeem(context.Background(), ""); reply != nil {
			if err := b.conn.Send(*reply); err != nil {
				b.desk.Logger.Debug("the offer could not be sent", append(b.LogFields(), "error", err)...)
			}
		}
	})
}

// expire ends a session that got nowhere, or whose offer has had its time.
func (b *bootstrap) expire() {
	b.desk.guard("bootstrap", func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		code, reason := CloseNormal, "the offer has been made"
		if !b.over {
			code, reason = ClosePolicy, string(apitype.MessageTimeout)
			b.desk.Metrics.Refused(apitype.MessageTimeout)
			b.desk.Refused.Add(b.source, refusef(apitype.MessageTimeout, ""))
		}
		if b.conn != nil {
			b.conn.Close(code, reason)
		}
		b.end()
	})
}

// after replaces what will happen by itself. Called under the lock.
func (b *bootstrap) after(d time.Duration, f func()) {
	b.timer.Stop()
	b.timer = time.AfterFunc(d, f)
}

// redeem turns the token into an identity and the identity into an offer. An empty csr asks for a server-made key. Called
// under the lock.
func (b *bootstrap) redeem(ctx context.Context, csr string) *Reply {
	offer, err := b.askForIdentity(ctx, csr)
	if err == nil {
		b.finish()
		return &Reply{Kind: KindBootstrap, Offer: offer}
	}
	return b.refused(refuse(err))
}

// refused answers a refusal. Those that the agent can mend, and those that time mends, leave the session open for another
// try; the others are final. It is not closed at once: agents come back within milliseconds, and would do so for ever.
func (b *bootstrap) refused(r *Refusal) *Reply {
	b.desk.Metrics.Refused(r.Err.Code)
	b.desk.Refused.Add(b.source, r)
	b.desk.Logger.Warn("bootstrap refused", append(b.LogFields(), "code", r.Err.Code, "detail", r.Err.Detail)...)
	switch r.Err.Code {
	case apitype.CSRInvalid, apitype.KeyNotAllowed, apitype.VaultUnavailable, apitype.OutcomeUnknown, apitype.NotReady:
		b.after(max(time.Until(b.ends), time.Second), b.expire)
	default:
		b.finish()
	}
	return &Reply{Kind: KindBootstrap, Refusal: r}
}

// finish frees the token's place and lets the session linger.
func (b *bootstrap) finish() {
	b.over = true
	b.desk.release(b)
	b.after(b.desk.Timing.OfferLinger, b.expire)
}

func (b *bootstrap) askForIdentity(ctx context.Context, csr string) (*Offer, error) {
	d := b.desk
	snapshot := d.Trust.Current()
	switch origin := snapshot.Settings.KeyOrigin; {
	case csr == "" && origin == "csr":
		return nil, refusef(apitype.CSRRequired, "no CSR came with the first message")
	case csr != "" && origin == "server":
		return nil, refusef(apitype.KeyNotAllowed, "keys are made by Vault here: leave the CSR out")
	}
	offer, err := d.blankOffer(snapshot, b.transport)
	if err != nil {
		return nil, err
	}
	// From here on it must not matter whether the agent hangs up: its token is about to be spent.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), d.Timing.Redeem)
	defer cancel()
	id, err := d.Issuer.Redeem(ctx, apitype.RedeemRequest{
		Token: b.secret.Reveal(), CSR: csr, GenerateKey: csr == "", InstanceUID: b.first.InstanceUID,
		DisplayName: b.first.DisplayName, Description: b.first.Description, Capabilities: b.first.Capabilities,
		SourceIP: text(b.source), IdempotencyKey: b.key,
	})
	if apitype.CodeOf(err) == apitype.OutcomeUnknown {
		// The token may be spent on an answer that never arrived. An agent that comes back with it here asks under the
		// same key, for which the engine gives that answer.
		d.openKeys.Put(b.secret.ID(), b.key, openKeyTTL)
		return nil, err
	}
	if err == nil || !refuse(err).Passing() {
		d.openKeys.Forget(b.secret.ID()) // a clear answer
	}
	if err != nil {
		return nil, err
	}
	if err := offer.fill(id, csr == ""); err != nil {
		return nil, err
	}
	origin := "csr"
	if csr == "" {
		origin = "server"
	}
	d.Metrics.Redemptions.WithLabelValues(origin).Inc()
	d.Logger.Info("agent enrolled", append(b.LogFields(), "agent", id.AgentID, "serial", id.SerialNumber, "key", origin)...)
	return offer, nil
}

// text is the address for the engine, empty when it is not known.
func text(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.Unmap().WithZone("").String()
}
