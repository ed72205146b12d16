package enroll

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/ampora/ampora/cmd/ampora/internal/console"
	"github.com/ampora/ampora/cmd/ampora/internal/hint"
	"github.com/ampora/ampora/cmd/ampora/internal/idfiles"
)

// RenewCmd is "ampora renew".
type RenewCmd struct {
	Dir      string        `required:"" placeholder:"DIR" help:"Directory of the identity, as 'ampora enroll --out' left it."`
	Endpoint string        `placeholder:"URL" help:"Where to ask, such as wss://edge.example.com:4320/v1/opamp. Default: what the directory says."`
	CAFile   string        `name:"ca-file" placeholder:"FILE" help:"PEM file that verifies the edge. Default: the directory's ca.pem."`
	NewKey   bool          `name:"new-key" help:"Make a new key of the same kind. Without it the key stays."`
	Force    bool          `help:"Renew now. Without it nothing happens before two thirds of the certificate's life are over."`
	Jitter   time.Duration `placeholder:"TIME" help:"Wait a random time up to this one before asking, so that a fleet does not ask at once."`
	Timeout  time.Duration `default:"1m" help:"How long to keep trying."`
}

// Run renews. It does nothing, and that is no failure, when the certificate is not due.
func (c *RenewCmd) Run(ctx context.Context, con *console.Console) (err error) {
	if c.Endpoint != "" {
		if err := checkEndpoint(c.Endpoint); err != nil {
			return err
		}
	}
	ca, err := readCA(con, c.CAFile)
	if err != nil {
		return err
	}
	if _, err := os.Stat(c.Dir); errors.Is(err, fs.ErrNotExist) {
		return noIdentity(c.Dir)
	}
	dir, err := idfiles.Open(c.Dir)
	if err != nil {
		return hint.Wrap(fmt.Errorf("%s cannot be used: %w", c.Dir, err), "it must be a directory that you may write to and that no other run is using")
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	return c.renewal(con, dir, ca).run(ctx)
}

func (c *RenewCmd) renewal(con *console.Console, dir *idfiles.Dir, ca []byte) *renewal {
	return &renewal{
		keeper: keeper{
			con: con, dir: dir, says: knock,
			ifRefused: asItWas(dir) + "; run the same command again for another certificate",
			ifUntried: asItWas(dir) + ", and the next one is kept beside it; run the same command again to try that",
		},
		RenewCmd: c, ca: ca, now: time.Now,
	}
}

func noIdentity(dir string) error {
	return hint.New("there is no identity in "+dir, "'ampora enroll --out "+dir+"' makes one, with a bootstrap token")
}

func asItWas(dir *idfiles.Dir) string { return "the identity in " + dir.Path() + " is as it was" }
