package enroll

import (
	"context"
	"crypto/tls"
	"errors"

	"github.com/ampora/ampora/cmd/ampora/internal/idfiles"
	"github.com/ampora/ampora/cmd/ampora/internal/opampconn"
	"github.com/google/uuid"
	"github.com/open-telemetry/opamp-go/protobufs"
)

// trial is a connection that an identity has opened: the edge took the certificate and answered.
type trial struct {
	conn opampconn.Conn
	uid  uuid.UUID // the instance uid, which the edge may have changed
	sent uint64    // messages so far
}

// dial goes to an identity's endpoint with its certificate.
func dial(ctx context.Context, id *idfiles.Identity) (opampconn.Conn, error) {
	pair, err := id.Pair()
	if err != nil {
		return nil, err
	}
	roots, err := id.Roots()
	if err != nil {
		return nil, err
	}
	return opampconn.Dial(ctx, opampconn.Options{
		Endpoint: id.Endpoint,
		TLS:      &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, Certificates: []tls.Certificate{pair}},
	})
}

// try connects with an identity and says what says answers. The trial is the caller's to end.
func try(ctx context.Context, id *idfiles.Identity, says func(uuid.UUID) *protobufs.AgentToServer) (*trial, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	uid, err := uuid.Parse(id.InstanceUID)
	if err != nil {
		return nil, errors.New("the instance uid is no UUID")
	}
	conn, err := dial(ctx, id)
	if err != nil {
		return nil, err
	}
	t := &trial{conn: conn, uid: uid}
	if err := t.begin(ctx, says(uid)); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return t, nil
}

// begin is the first exchange.
func (t *trial) begin(ctx context.Context, first *protobufs.AgentToServer) error {
	if err := t.send(ctx, first); err != nil {
		return err
	}
	answer, err := t.conn.Receive(ctx)
	if err != nil {
		return err
	}
	if given := answer.GetAgentIdentification().GetNewInstanceUid(); len(given) == len(t.uid) {
		copy(t.uid[:], given)
	}
	return nil
}

func (t *trial) send(ctx context.Context, msg *protobufs.AgentToServer) error {
	msg.InstanceUid, msg.SequenceNum = t.uid[:], t.sent
	t.sent++
	return t.conn.Send(ctx, msg)
}

// applied reports that the offer with this hash is kept. An edge that sends no hash is told nothing.
func (t *trial) applied(ctx context.Context, hash []byte) error {
	if len(hash) == 0 {
		return nil
	}
	return t.send(ctx, applied(hash))
}

// end takes leave.
func (t *trial) end(ctx context.Context) {
	_ = t.send(ctx, goodbye()) // politeness: the identity has proved itself
	_ = t.conn.Close()
}

// knockWith finds out whether an identity works.
func knockWith(ctx context.Context, id *idfiles.Identity) error {
	t, err := try(ctx, id, knock)
	if err != nil {
		return err
	}
	t.end(ctx)
	return nil
}
