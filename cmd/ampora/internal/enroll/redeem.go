package enroll

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"

	"github.com/ampora/ampora/cmd/ampora/internal/hint"
	"github.com/ampora/ampora/cmd/ampora/internal/idfiles"
	"github.com/ampora/ampora/cmd/ampora/internal/opampconn"
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
	x := e.newExchange(secret, csr, again)
	msg, err := x.ask(ctx)
	if err != nil {
		return nil, x.failed(err)
	}
	o, err := checkOffer(msg, key, keyPEM, secret.AgentID(), e.endpoint, e.ca, e.uid)
	if err != nil {
		return nil, hint.Wrap(errors.Join(err, e.dir.Drop()), "nothing was kept; is this an edge of Ampora? The token may be spent: issue a fresh one")
	}
	if err := e.dir.Answer(o.id, e.settings(o.id)); err != nil {
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
	question
	secret token.Secret
}

func (e *enrolment) newExchange(secret token.Secret, csr []byte, again bool) *exchange {
	return &exchange{enrolment: e, secret: secret, question: question{
		again: again,
		dial:  func(ctx context.Context) (opampconn.Conn, error) { return e.dialWith(ctx, secret) },
		first: func() *protobufs.AgentToServer { return askForCertificate(e.says(e.uid), csr) },
	}}
}

func (e *enrolment) dialWith(ctx context.Context, secret token.Secret) (opampconn.Conn, error) {
	roots, err := (&idfiles.Identity{CA: e.ca}).Roots()
	if err != nil {
		return nil, err
	}
	return opampconn.Dial(ctx, opampconn.Options{
		Endpoint: e.endpoint, Token: secret.Reveal(),
		TLS: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
	})
}
