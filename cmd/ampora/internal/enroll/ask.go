package enroll

import (
	"context"
	"crypto/tls"
	"errors"
	"time"

	"github.com/ampora/ampora/cmd/ampora/internal/opampconn"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/open-telemetry/opamp-go/protobufs"
)

// question is a request for a certificate, asked until there is an answer.
type question struct {
	dial  func(context.Context) (opampconn.Conn, error)
	first func() *protobufs.AgentToServer // with the CSR
	// again says that asking again is right whatever has happened: a request was sent, now or by an earlier run, and its answer
	// never came; or asking costs nothing. Otherwise a failure before anything was sent is final: it is most likely a wrong
	// address.
	again bool
}

// ask answers the message with the offer.
func (q *question) ask(ctx context.Context) (*protobufs.ServerToAgent, error) {
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		msg, err := q.once(ctx)
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
		case !q.again, unverified(err):
			return nil, err
		}
		if !sleep(ctx, wait) {
			return nil, err
		}
	}
}

// unverified reports whether the other side is not who it should be, which time does not mend.
func unverified(err error) bool {
	var v *tls.CertificateVerificationError
	return errors.As(err, &v)
}

// once connects and asks, and asks again on the same connection as long as the edge says that time will mend it: there the
// edge repeats its own request with the same key, so that nothing is spent twice.
func (q *question) once(ctx context.Context) (*protobufs.ServerToAgent, error) {
	conn, err := q.dial(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	for sequence := uint64(0); ; sequence++ {
		first := q.first()
		first.SequenceNum = sequence
		msg, err := q.exchange(ctx, conn, first)
		r, refused := isRefusal(err)
		if !refused || r.Status != 0 || !r.Passing() || !sleep(ctx, max(r.RetryAfter, time.Second)) {
			return msg, err
		}
	}
}

// exchange sends and waits for the offer. It keeps again up to date: a request without an answer may have had its effect.
func (q *question) exchange(ctx context.Context, conn opampconn.Conn, msg *protobufs.AgentToServer) (answer *protobufs.ServerToAgent, err error) {
	before := q.again
	q.again = true
	defer func() {
		if r, refused := isRefusal(err); refused && certain(r) {
			q.again = before
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

// certain reports whether a refusal says for sure that this request has had no effect.
func certain(r *opampconn.Refusal) bool {
	return r.Err == nil || r.Err.Code != apitype.OutcomeUnknown
}
