package enroll

import (
	"context"
	"crypto/tls"
	"errors"
	"time"

	"github.com/ampora/ampora/cmd/ampora/internal/idfiles"
	"github.com/ampora/ampora/cmd/ampora/internal/opampconn"
	"github.com/google/uuid"
	"github.com/open-telemetry/opamp-go/protobufs"
)

// Times of a connection that tries an identity.
const (
	answerTimeout = 15 * time.Second // from connecting to the first answer
	firstPause    = 250 * time.Millisecond
	lastPause     = 5 * time.Second
	// refusedFor is how long an edge may refuse a certificate that was issued just now: it decides by a snapshot, and a new
	// issuer takes a moment to reach it.
	refusedFor = 5 * time.Second
)

// connect goes to an identity's endpoint with its certificate and says what says answers, and reports the new instance uid when
// the edge gave one. A nil error means that the edge took the certificate and answered.
func connect(ctx context.Context, id *idfiles.Identity, says func(uuid.UUID) *protobufs.AgentToServer) (uuid.UUID, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	uid, err := uuid.Parse(id.InstanceUID)
	if err != nil {
		return uuid.Nil, errors.New("the instance uid is no UUID")
	}
	pair, err := id.Pair()
	if err != nil {
		return uuid.Nil, err
	}
	roots, err := id.Roots()
	if err != nil {
		return uuid.Nil, err
	}
	conn, err := opampconn.Dial(ctx, opampconn.Options{
		Endpoint: id.Endpoint,
		TLS:      &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, Certificates: []tls.Certificate{pair}},
	})
	if err != nil {
		return uuid.Nil, err
	}
	defer conn.Close()
	if err := conn.Send(ctx, says(uid)); err != nil {
		return uuid.Nil, err
	}
	answer, err := conn.Receive(ctx)
	if err != nil {
		return uuid.Nil, err
	}
	var given uuid.UUID
	if b := answer.GetAgentIdentification().GetNewInstanceUid(); len(b) == len(given) {
		copy(given[:], b)
		uid = given
	}
	_ = conn.Send(ctx, goodbye(uid)) // politeness: the identity has proved itself
	return given, nil
}

// verify tries an offer until it works, the edge refuses it, or time is over.
func (e *enrolment) verify(ctx context.Context, o *offer) (uuid.UUID, error) {
	begin := time.Now()
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		given, err := connect(ctx, &o.id, func(uid uuid.UUID) *protobufs.AgentToServer {
			first := e.firstMessage(uid)
			applied(first, o.hash)
			return first
		})
		if err == nil {
			return given, nil
		}
		r, refused := isRefusal(err)
		if refused && r.Identity() && time.Since(begin) > refusedFor {
			return uuid.Nil, err
		}
		wait := pause
		if refused && r.RetryAfter > 0 {
			wait = r.RetryAfter
		}
		if !sleep(ctx, wait) {
			return uuid.Nil, errors.Join(err, context.Cause(ctx))
		}
	}
}

// sleep waits, and reports false when the context ends before or would end during the wait.
func sleep(ctx context.Context, d time.Duration) bool {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= d {
		return false
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
