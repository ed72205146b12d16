package enroll

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ampora/ampora/cmd/ampora/internal/hint"
	"github.com/ampora/ampora/cmd/ampora/internal/idfiles"
	"github.com/ampora/ampora/plugin/token"
	"github.com/google/uuid"
)

// enrolment is one run.
type enrolment struct {
	keeper
	endpoint  string
	ca        []byte // PEM that verifies the edge at first; empty for the system's roots
	keyType   string
	uid       uuid.UUID
	readToken func() (token.Secret, error)
}

// run finishes what an earlier run began, else refuses to replace an identity that still works, else enrols.
func (e *enrolment) run(ctx context.Context) error {
	settled, err := e.dir.Settle()
	if err != nil {
		return err
	}
	if settled {
		e.con.Sayf("An enrolment that was cut off at its last step is now finished; no token was used.")
		return e.report()
	}
	done, err := e.resume(ctx)
	if done || err != nil {
		return err
	}
	if err := e.mayReplace(ctx); err != nil {
		return err
	}
	secret, err := e.readToken()
	if err != nil {
		return err
	}
	o, err := e.redeem(ctx, secret)
	if err != nil {
		return err
	}
	return e.accept(ctx, o)
}

// resume verifies an answer that an earlier run was given and could not verify.
func (e *enrolment) resume(ctx context.Context) (done bool, err error) {
	id, err := e.dir.Answered()
	if err != nil || id == nil {
		return false, err
	}
	e.con.Sayf("An earlier run was given a certificate and could not try it; trying it now. No token is needed.")
	err = e.accept(ctx, &offer{id: *id})
	if r, refused := isRefusal(err); refused && r.Identity() {
		e.con.Sayf("The edge refuses it; enrolling anew.")
		return false, nil
	}
	return true, err
}

// mayReplace refuses to replace an identity unless it has expired or its edge refuses it.
func (e *enrolment) mayReplace(ctx context.Context) error {
	id, err := e.dir.Current()
	if errors.Is(err, idfiles.ErrNone) {
		return nil
	}
	const elsewhere = "enrol into another directory, or move this one away"
	if err != nil {
		return hint.Wrap(fmt.Errorf("%s holds files that are no identity of ours: %w", e.dir.Path(), err), elsewhere)
	}
	who, err := describe(id)
	if err != nil {
		return hint.Wrap(err, elsewhere)
	}
	if time.Now().After(who.leaf.NotAfter) {
		e.con.Sayf("The identity of agent %s in %s has expired; it will be replaced.", who.agentID, e.dir.Path())
		return nil
	}
	err = knockWith(ctx, id)
	if r, refused := isRefusal(err); refused && r.Identity() {
		e.con.Sayf("The edge refuses the identity of agent %s in %s (%s); it will be replaced.", who.agentID, e.dir.Path(), reason(r))
		return nil
	}
	if err != nil {
		return hint.Wrap(fmt.Errorf("%s holds the identity of agent %s, and whether it still works cannot be told: %w", e.dir.Path(), who.agentID, err),
			"nothing was changed and the token was not used; try again when the edge can be reached", elsewhere)
	}
	return hint.New(fmt.Sprintf("%s holds the identity of agent %s, which works and is valid until %s",
		e.dir.Path(), who.agentID, who.leaf.NotAfter.UTC().Format(time.RFC3339)),
		"nothing was changed and the token was not used", "'ampora renew' gets an identity its next certificate, without a token",
		elsewhere+"; to end this one: vault write -f ampora/agents/"+who.agentID+"/revoke")
}
