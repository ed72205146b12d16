package session

import (
	"context"
	"crypto/sha256"
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
	if move, gone := m.away(); gone {
		return nil, refuseAway(move)
	}
	switch {
	case m.expected:
		return nil, refusef(apitype.HandoverPending, "the agent's arrival has still to be confirmed")
	case msg.Capabilities&apitype.CapabilityAcceptsOpAMP == 0:
		return nil, refusef(apitype.CapabilityMissing, "")
	case len(msg.CSR) > maxCSR:
		return nil, refusef(apitype.CSRInvalid, "it has more than %d bytes", maxCSR)
	case len(msg.Proof) > identity.MaxProof:
		return nil, refusef(apitype.CSRInvalid, "its proof has more than %d bytes", identity.MaxProof)
	case f != nil && f.request == request:
		return f.offer, nil
	case f != nil, m.asking:
		return nil, refusef(apitype.RateLimited, "another offer is on its way to this agent")
	case !m.desk.csrs.Allow(m.serial):
		return nil, refusef(apitype.RateLimited, "this agent asks for certificates too often")
	}
	return nil, nil
}

func (m *member) renewalRefused(r *Refusal, by string) *Refusal {
	d := m.desk
	result := metrics.RenewalRefused
	if passing(r.Err.Code) {
		result = metrics.RenewalPutOff
	}
	d.Metrics.Renewals.WithLabelValues(by, result).Inc()
	fields := append(m.LogFields(), "by", by, "code", r.Err.Code, "detail", r.Err.Detail)
	switch {
	case by == metrics.RenewalByAgent:
		d.Metrics.Refused(r.Err.Code)
		d.Refused.Add(m.source, r)
		d.Logger.Info("renewal refused", fields...)
	case result == metrics.RenewalPutOff:
		d.Logger.Debug("renewal put off", fields...) // very many at once
	default:
		d.Logger.Warn("renewal refused", fields...)
	}
	return r
}

// passing reports whether it was Vault that could not answer.
func passing(code apitype.Code) bool { return code.EdgeStatus() >= 500 }

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
		vaultAway := passing(r.Err.Code) && r.Err.Code != apitype.HandoverPending
		switch {
		case r.Err.Code == apitype.HandoverPending: // it goes on when that is over
			m.renewAt = now.Add(m.desk.Timing.Pending).Unix()
		case !vaultAway:
			m.renewAt = now.Add(m.pause(now)).Unix()
			m.tries = min(m.tries+1, maxTries)
		}
		if r.Err.Code == apitype.CertificateRevoked {
			m.reportAt = now.Unix() // the answer tells what has become of this leaf
		}
		m.plan()
		m.mu.Unlock()
		return !vaultAway
	}
	if in.GenerateKey {
		m.desk.keys.Allow(m.serial) // attend has looked whether it may; this counts
	}
	open := !m.closed && !m.shutting
	if open {
		m.takeOff(offer, Digest{}, now)
	}
	m.mu.Unlock()
	if open {
		m.push(offer)
	}
	return true
}

// push sends an offer over the WebSocket, if there is one.
func (m *member) push(offer *Offer) {
	m.mu.Lock()
	conn := m.conn
	m.mu.Unlock()
	if conn == nil {
		return
	}
	if err := conn.Send(Reply{Kind: KindAgent, Offer: offer}); err != nil {
		m.desk.Logger.Debug("the offer could not be sent", append(m.LogFields(), "error", err)...)
	}
}
