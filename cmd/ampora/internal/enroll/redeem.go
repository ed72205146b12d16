package enroll

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"github.com/ampora/ampora/cmd/ampora/internal/hint"
	"github.com/ampora/ampora/cmd/ampora/internal/idfiles"
	"github.com/ampora/ampora/cmd/ampora/internal/opampconn"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/token"
	"github.com/google/uuid"
	"github.com/open-telemetry/opamp-go/protobufs"
)

// redeem stores a key, then spends the token on a certificate for it, and stores the answer.
//
// A clear refusal leaves nothing behind. A lost answer leaves the key: nobody knows then whether the token is spent, and with a
// retry_window the same token asks again with the same key.
func (e *enrolment) redeem(ctx context.Context, secret token.Secret) (*offer, error) {
	keyPEM, again, err := e.prepare(secret)
	if err != nil {
		return nil, errors.Join(err, e.dir.Drop())
	}
	key, err := parseKey(keyPEM)
	if err != nil {
		return nil, errors.Join(err, e.dir.Drop())
	}
	csr, err := newRequest(key, e.uid)
	if err != nil {
		return nil, errors.Join(err, e.dir.Drop())
	}
	x := &exchange{enrolment: e, secret: secret, csr: csr, lost: again}
	msg, err := x.run(ctx)
	if err != nil {
		return nil, x.failed(err)
	}
	o, err := checkOffer(msg, key, keyPEM, secret.AgentID(), e.endpoint, e.ca, e.uid)
	if err != nil {
		return nil, hint.Wrap(errors.Join(err, e.dir.Drop()), "nothing was kept; is this an edge of Ampora? The token may be spent: issue a fresh one")
	}
	if given := msg.GetAgentIdentification().GetNewInstanceUid(); len(given) == len(e.uid) {
		copy(e.uid[:], given)
		o.id.InstanceUID = e.uid.String()
	}
	if err := e.dir.Answer(o.id, settings(e.dir, o.id)); err != nil {
		return nil, hint.Wrap(fmt.Errorf("the certificate was issued, but cannot be stored: %w", err),
			"make room or mend the permissions, then enrol with a fresh token: this one is spent")
	}
	return o, nil
}

// prepare makes the key durable before the token is spent, and takes up the key of an earlier run with the same token.
func (e *enrolment) prepare(secret token.Secret) (key []byte, again bool, err error) {
	p, err := e.dir.Pending()
	if err != nil {
		return nil, false, err
	}
	if p != nil && p.TokenID == secret.ID() {
		if uid, err := uuid.Parse(p.InstanceUID); err == nil {
			e.con.Sayf("An earlier run with this token got no answer; asking again with its key.")
			e.uid = uid
			return p.Key, true, nil
		}
	}
	key, err = newKey(e.keyType)
	if err != nil {
		return nil, false, err
	}
	return key, false, e.dir.Begin(idfiles.Pending{Key: key, TokenID: secret.ID(), Endpoint: e.endpoint, InstanceUID: e.uid.String()})
}

// exchange is the conversation that spends the token.
type exchange struct {
	*enrolment
	secret token.Secret
	csr    []byte
	lost   bool // a request was sent, now or by an earlier run, and its answer never came
}

// run asks until there is an answer. Before anything was sent a failure is final: it is most likely a wrong address.
func (x *exchange) run(ctx context.Context) (*protobufs.ServerToAgent, error) {
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		msg, err := x.once(ctx)
		if err == nil {
			return msg, nil
		}
		r, refused := isRefusal(err)
		wait := pause
		switch {
		case refused && !r.Passing():
			return nil, err
		case refused:
			wait = max(wait, r.RetryAfter)
		case !x.lost:
			return nil, err
		}
		if !sleep(ctx, wait) {
			return nil, err
		}
	}
}

// once connects and asks, and asks again on the same connection as long as the edge says that time will mend it: there the
// edge repeats its own request with the same key, so that nothing is spent twice.
func (x *exchange) once(ctx context.Context) (*protobufs.ServerToAgent, error) {
	roots, err := (&idfiles.Identity{CA: x.ca}).Roots()
	if err != nil {
		return nil, err
	}
	conn, err := opampconn.Dial(ctx, opampconn.Options{
		Endpoint: x.endpoint, Token: x.secret.Reveal(),
		TLS: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
	})
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	for sequence := uint64(0); ; sequence++ {
		first := x.firstMessage(x.uid)
		first.SequenceNum = sequence
		askForCertificate(first, x.csr)
		msg, err := x.ask(ctx, conn, first)
		r, refused := isRefusal(err)
		if !refused || r.Status != 0 || !r.Passing() || !sleep(ctx, max(r.RetryAfter, time.Second)) {
			return msg, err
		}
	}
}

// ask sends and waits for the offer. It keeps lost up to date: a request without an answer may have spent the token.
func (x *exchange) ask(ctx context.Context, conn opampconn.Conn, msg *protobufs.AgentToServer) (answer *protobufs.ServerToAgent, err error) {
	before := x.lost
	x.lost = true
	defer func() {
		if r, refused := isRefusal(err); refused && certain(r) {
			x.lost = before
		}
	}()
	if err := conn.Send(ctx, msg); err != nil {
		return nil, err
	}
	for {
		answer, err = conn.Receive(ctx)
		if err != nil || readOffer(answer) != nil {
			return answer, err
		}
	}
}

// certain reports whether a refusal says for sure that the token was not spent by this request.
func certain(r *opampconn.Refusal) bool {
	return r.Err == nil || r.Err.Code != apitype.OutcomeUnknown
}
