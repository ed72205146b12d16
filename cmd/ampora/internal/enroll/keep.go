package enroll

import (
	"context"
	"errors"
	"fmt"

	"github.com/ampora/ampora/cmd/ampora/internal/console"
	"github.com/ampora/ampora/cmd/ampora/internal/hint"
	"github.com/ampora/ampora/cmd/ampora/internal/idfiles"
	"github.com/google/uuid"
	"github.com/open-telemetry/opamp-go/protobufs"
)

// keeper makes an offer a directory's identity, once it has proved itself.
type keeper struct {
	con *console.Console
	dir *idfiles.Dir
	// says is the first message over a connection that tries an offer.
	says func(uuid.UUID) *protobufs.AgentToServer
	// What to do when the edge refuses what it has offered, and when that could not be tried.
	ifRefused, ifUntried string
}

// accept connects with what was offered, puts it into place when that works, and then tells the edge, which ends the
// certificate that it replaces: before, that one must go on, because a crash may leave it in place.
func (k *keeper) accept(ctx context.Context, o *offer) error {
	t, err := k.verify(ctx, o)
	if r, refused := isRefusal(err); refused && r.Identity() {
		return hint.Wrap(errors.Join(fmt.Errorf("the edge at %s refuses the certificate that was issued: %w", o.id.Endpoint, err), k.dir.Drop()), k.ifRefused)
	}
	if err != nil {
		return hint.Wrap(fmt.Errorf("the certificate was issued, but connecting with it failed: %w", err), k.ifUntried)
	}
	defer t.end(ctx)
	if uid := t.uid.String(); uid != o.id.InstanceUID {
		o.id.InstanceUID = uid
		if err := k.dir.Answer(o.id, k.settings(o.id)); err != nil {
			return err
		}
	}
	if err := k.dir.Commit(); err != nil {
		return hint.Wrap(fmt.Errorf("the identity could not be put into place: %w", err), "run the same command again: it goes on from here, and no token is needed")
	}
	if err := t.applied(ctx, o.id.Offer); err != nil {
		k.con.Sayf("The edge could not be told that the certificate is in use (%v); it will find out by itself.", err)
	}
	return k.report()
}
