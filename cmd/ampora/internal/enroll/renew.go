package enroll

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/ampora/ampora/cmd/ampora/internal/hint"
	"github.com/ampora/ampora/cmd/ampora/internal/idfiles"
	"github.com/ampora/ampora/cmd/ampora/internal/opampconn"
	"github.com/ampora/ampora/plugin/identity"
	"github.com/google/uuid"
	"github.com/open-telemetry/opamp-go/protobufs"
)

// renewal is one run. Whatever ends it, the identity in place works, or the next run puts the next one there.
type renewal struct {
	keeper
	*RenewCmd
	ca  []byte // PEM that verifies the edge; empty for what the directory has
	now func() time.Time
}

// run finishes what an earlier run began, and renews an identity that is due.
func (r *renewal) run(ctx context.Context) error {
	settled, err := r.dir.Settle()
	if err != nil {
		return err
	}
	if settled {
		r.con.Sayf("A change of the identity that was cut off at its last step is now finished.")
	}
	if done, err := r.resume(ctx); done || err != nil {
		return err
	}
	id, who, err := r.current()
	if err != nil {
		return err
	}
	if due := dueAt(who); !r.Force && r.now().Before(due) {
		r.con.Printf("The certificate of agent %s is valid until %s. It is renewed from %s on, or now with --force.\n",
			who.agentID, who.leaf.NotAfter.UTC().Format(time.RFC3339), due.UTC().Format(time.RFC3339))
		return nil
	}
	if r.Jitter > 0 && !sleep(ctx, rand.N(r.Jitter)) {
		return context.Cause(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	o, err := r.ask(ctx, id, who)
	if err != nil {
		return err
	}
	return r.accept(ctx, o)
}

// dueAt is when two thirds of a certificate's life are over. From then on edges renew agents by themselves, too.
func dueAt(who *whose) time.Time {
	return identity.RenewFrom(who.leaf.NotBefore, who.leaf.NotAfter)
}

// resume tries a certificate that an earlier run was given and could not try. It is no loss when that fails: the edge can be
// asked again.
func (r *renewal) resume(ctx context.Context) (done bool, err error) {
	id, err := r.dir.Answered()
	if err != nil || id == nil {
		return false, err
	}
	r.con.Sayf("An earlier run was given a certificate and could not try it; trying it now.")
	ctx, cancel := context.WithTimeout(ctx, min(r.Timeout, answerTimeout))
	defer cancel()
	if err := r.accept(ctx, &offer{id: *id}); err != nil {
		r.con.Sayf("That failed: %v", err)
		return false, nil
	}
	return true, nil
}

// current is the identity to renew.
func (r *renewal) current() (*idfiles.Identity, *whose, error) {
	path := r.dir.Path()
	p, err := r.dir.Pending()
	if err != nil {
		return nil, nil, err
	}
	if p != nil && !p.Renewal() {
		return nil, nil, hint.New("an enrolment into "+path+" is not finished", "run 'ampora enroll --out "+path+"' again as before: it goes on from where it was")
	}
	id, err := r.dir.Current()
	if errors.Is(err, idfiles.ErrNone) {
		return nil, nil, noIdentity(path)
	}
	if err != nil {
		return nil, nil, hint.Wrap(fmt.Errorf("%s holds files that are no identity of ours: %w", path, err), "give the directory that 'ampora enroll --out' left")
	}
	who, err := describe(id)
	if err != nil {
		return nil, nil, hint.Wrap(err, "give the directory that 'ampora enroll --out' left")
	}
	if r.now().After(who.leaf.NotAfter) {
		return nil, nil, hint.New(fmt.Sprintf("the certificate of agent %s has expired at %s", who.agentID, who.leaf.NotAfter.UTC().Format(time.RFC3339)),
			"an expired certificate cannot be renewed: "+anew(path))
	}
	return id, who, nil
}

// ask gets the next certificate, checks it, and stores it beside the identity.
func (r *renewal) ask(ctx context.Context, id *idfiles.Identity, who *whose) (*offer, error) {
	uid, err := uuid.Parse(id.InstanceUID)
	if err != nil {
		return nil, hint.New(r.dir.File(idfiles.InstanceUID)+" is no UUID", "write the agent's instance uid there: 'vault read ampora/agents/"+who.agentID+"' tells it")
	}
	from := *id
	if r.Endpoint != "" {
		from.Endpoint = r.Endpoint
	}
	if len(r.ca) > 0 {
		from.CA = r.ca
	}
	key, err := r.nextKey(id, who)
	if err != nil {
		return nil, err
	}
	csr, err := key.request(uid)
	if err != nil {
		return nil, err
	}
	q := question{
		again: true, // it costs nothing: for the same key the answer is the same
		dial:  func(ctx context.Context) (opampconn.Conn, error) { return dial(ctx, &from) },
		first: func() *protobufs.AgentToServer {
			first := knock(uid)
			first.Capabilities = takesOffers
			return askForCertificate(first, csr)
		},
	}
	msg, err := q.ask(ctx)
	if err != nil {
		return nil, errors.Join(r.failed(err, who), r.forget(err, key))
	}
	o, err := checkOffer(msg, key.signer, key.pem, who.agentID, from.Endpoint, from.CA, uid)
	if err == nil && bytes.Equal(o.leaf.Raw, who.leaf.Raw) {
		err = errors.New("the edge offered the certificate that is in place already")
	}
	if err != nil {
		return nil, hint.Wrap(err, asItWas(r.dir), "is this an edge of Ampora?")
	}
	if !key.stored {
		if err := r.begin(key.pem, id, who); err != nil {
			return nil, err
		}
	}
	if err := r.dir.Answer(o.id, r.settings(o.id)); err != nil {
		return nil, hint.Wrap(fmt.Errorf("the next certificate cannot be stored: %w", err), asItWas(r.dir), "make room or mend the permissions, then run the same command again")
	}
	return o, nil
}

// begin stores the key that the next certificate is for.
func (r *renewal) begin(key []byte, id *idfiles.Identity, who *whose) error {
	err := r.dir.Begin(idfiles.Pending{Key: key, TokenID: renewalOf(who), Endpoint: id.Endpoint, InstanceUID: id.InstanceUID})
	return hint.Wrap(err, asItWas(r.dir), "make room or mend the permissions, then run the same command again")
}

// forget drops a new key that the edge has clearly refused to certify.
func (r *renewal) forget(err error, key *nextKey) error {
	if refusal, refused := isRefusal(err); !refused || refusal.Passing() || !key.stored {
		return nil
	}
	if id, err := r.dir.Answered(); id != nil || err != nil {
		return err // it has a certificate
	}
	return r.dir.Drop()
}

// failed tells what a failed question means.
func (r *renewal) failed(err error, who *whose) error {
	refusal, refused := isRefusal(err)
	switch {
	case refused && refusal.Identity():
		return hint.Wrap(err, standing(who), "if this machine is to go on: "+anew(r.dir.Path()))
	case refused && !refusal.Passing() && refusal.Err == nil:
		return hint.Wrap(err, asItWas(r.dir), noEdge)
	case refused:
		return hint.Wrap(err, asItWas(r.dir))
	}
	return hint.Wrap(err, append([]string{asItWas(r.dir)}, advice(err)...)...)
}

// standing says how to find out why an identity is refused.
func standing(who *whose) string {
	return fmt.Sprintf("'vault read ampora/agents/%s' tells whether it was revoked, or has a newer certificate: if nobody of yours keeps that, "+
		"the key was copied, so revoke the agent", who.agentID)
}

func anew(path string) string {
	return "'ampora enroll --out " + path + "' with a fresh token replaces it"
}
