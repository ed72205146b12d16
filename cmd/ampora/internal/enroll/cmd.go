// Package enroll turns a bootstrap token into an agent's identity on disk, and gets an identity on disk its next certificate: it
// has a key signed over OpAMP, connects with the certificate, and only then puts the files into place.
package enroll

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ampora/ampora/cmd/ampora/internal/console"
	"github.com/ampora/ampora/cmd/ampora/internal/hint"
	"github.com/ampora/ampora/cmd/ampora/internal/idfiles"
	"github.com/ampora/ampora/cmd/ampora/internal/opampconn"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/token"
	"github.com/google/uuid"
	"github.com/open-telemetry/opamp-go/protobufs"
)

// Cmd is "ampora enroll".
type Cmd struct {
	Endpoint    string        `required:"" placeholder:"URL" help:"Where agents connect, such as wss://edge.example.com:4320/v1/opamp; https:// speaks plain HTTP."`
	Out         string        `required:"" placeholder:"DIR" help:"Directory for the identity: key.pem, cert.pem, ca.pem, endpoint and settings for a collector."`
	TokenFile   string        `placeholder:"FILE" help:"File with the bootstrap token, '-' for the standard input. Without it: AMPORA_TOKEN, then the standard input."`
	CAFile      string        `name:"ca-file" placeholder:"FILE" help:"PEM file that verifies the edge. Default: the system's roots."`
	KeyType     string        `enum:"ec,p384,ed25519,rsa" default:"ec" help:"Kind of key to make: ec (P-256), p384, ed25519, rsa (3072)."`
	InstanceUID string        `name:"instance-uid" placeholder:"UUID" help:"The agent's OpAMP instance uid. Default: a new one."`
	Name        string        `placeholder:"NAME" help:"The agent's service.name. Default: the host's name."`
	Timeout     time.Duration `default:"1m" help:"How long to keep trying."`
}

// maxToken bounds the file of a token, in bytes; some copies have a page of white space around them.
const maxToken = 4096

// Run enrols.
func (c *Cmd) Run(ctx context.Context, con *console.Console) (err error) {
	if err := checkEndpoint(c.Endpoint); err != nil {
		return err
	}
	uid, err := instanceUID(c.InstanceUID)
	if err != nil {
		return err
	}
	ca, err := readCA(con, c.CAFile)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	dir, err := idfiles.Open(c.Out)
	if err != nil {
		return hint.Wrap(fmt.Errorf("%s cannot be used: %w", c.Out, err), "give a directory that you may write to and that no other enrolment is using")
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	e := &enrolment{
		keeper: keeper{
			con: con, dir: dir,
			says:      func(uid uuid.UUID) *protobufs.AgentToServer { return introduction(c.Name, uid) },
			ifRefused: "nothing was kept; the token is spent: issue a fresh one",
			ifUntried: fmt.Sprintf("key and certificate are kept in %s; run the same command again to try them: no token is needed for that", dir.Path()),
		},
		endpoint: c.Endpoint, ca: ca, keyType: c.KeyType, uid: uid,
		readToken: func() (token.Secret, error) { return c.readToken(con) },
	}
	return e.run(ctx)
}

func checkEndpoint(endpoint string) error {
	_, err := opampconn.ParseEndpoint(endpoint)
	return hint.Wrap(err, "it reads like wss://edge.example.com:4320/v1/opamp")
}

// readCA reads what is to verify the edge; nil without a file.
func readCA(con *console.Console, file string) ([]byte, error) {
	if file == "" {
		return nil, nil
	}
	ca, err := con.ReadInput(file, 1<<20)
	if err != nil {
		return nil, err
	}
	if _, err := (&idfiles.Identity{CA: ca}).Roots(); err != nil {
		return nil, hint.Wrap(fmt.Errorf("%s: %w", file, err), "'ampora inspect FILE' tells what is in it")
	}
	return ca, nil
}

// readToken takes the token from where nobody else on the machine can see it: never from the command line.
func (c *Cmd) readToken(con *console.Console) (token.Secret, error) {
	text := con.Getenv("AMPORA_TOKEN")
	if c.TokenFile != "" || text == "" {
		file := c.TokenFile
		if file == "" {
			if con.Interactive() {
				return token.Secret{}, hint.New("there is no bootstrap token",
					"give it with --token-file FILE, in AMPORA_TOKEN, or on the standard input",
					"an operator issues one with 'vault write -f -field=token ampora/tokens/issue'")
			}
			file = "-"
		}
		data, err := con.ReadInput(file, maxToken)
		if err != nil {
			return token.Secret{}, err
		}
		text = string(data)
	}
	if strings.TrimSpace(text) == "" {
		return token.Secret{}, hint.New("the bootstrap token is empty",
			"give it with --token-file FILE, in AMPORA_TOKEN, or on the standard input",
			"an operator issues one with 'vault write -f -field=token ampora/tokens/issue'")
	}
	secret, err := token.Parse(token.Bootstrap, text)
	if err != nil {
		return token.Secret{}, hint.Wrap(fmt.Errorf("this is no intact bootstrap token: %w", err), "'ampora inspect' on the same input says more")
	}
	return secret, nil
}

// isRefusal finds a clear no in err.
func isRefusal(err error) (*opampconn.Refusal, bool) {
	var r *opampconn.Refusal
	ok := errors.As(err, &r)
	return r, ok
}

// codeOf is the code of err, "" without one.
func codeOf(err error) apitype.Code { return apitype.CodeOf(err) }
