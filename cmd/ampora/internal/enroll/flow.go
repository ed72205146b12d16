package enroll

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ampora/ampora/cmd/ampora/internal/console"
	"github.com/ampora/ampora/cmd/ampora/internal/hint"
	"github.com/ampora/ampora/cmd/ampora/internal/idfiles"
	"github.com/ampora/ampora/plugin/token"
	"github.com/google/uuid"
)

// enrolment is one run.
type enrolment struct {
	con       *console.Console
	dir       *idfiles.Dir
	endpoint  string
	ca        []byte // PEM that verifies the edge at first; empty for the system's roots
	keyType   string
	uid       uuid.UUID
	name      string
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
	uid, err := uuid.Parse(id.InstanceUID)
	if err != nil {
		return false, e.dir.Drop()
	}
	e.uid = uid
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
	_, err = connect(ctx, id, knock)
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
		"nothing was changed and the token was not used", elsewhere+"; to end this one: vault write -f ampora/agents/"+who.agentID+"/revoke")
}

// accept connects with what was offered, and puts it into place when that works.
func (e *enrolment) accept(ctx context.Context, o *offer) error {
	newUID, err := e.verify(ctx, o)
	if r, refused := isRefusal(err); refused && r.Identity() {
		return hint.Wrap(errors.Join(fmt.Errorf("the edge at %s refuses the certificate that was issued: %w", o.id.Endpoint, err), e.dir.Drop()),
			"nothing was kept; the token is spent: issue a fresh one")
	}
	if err != nil {
		return hint.Wrap(fmt.Errorf("the certificate was issued, but connecting with it failed: %w", err),
			fmt.Sprintf("key and certificate are kept in %s; run the same command again to try them: no token is needed for that", e.dir.Path()))
	}
	if newUID != uuid.Nil && newUID.String() != o.id.InstanceUID {
		o.id.InstanceUID = newUID.String()
		if err := e.dir.Answer(o.id, settings(e.dir, o.id)); err != nil {
			return err
		}
	}
	if err := e.dir.Commit(); err != nil {
		return hint.Wrap(fmt.Errorf("the identity could not be put into place: %w", err), "run the same command again: it goes on from here, and no token is needed")
	}
	return e.report()
}
