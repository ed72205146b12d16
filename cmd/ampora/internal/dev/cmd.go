// Package dev runs a throw-away installation on one machine: a Vault with the plugin, an edge, everything set up, on loopback, in a
// directory that goes when it ends.
package dev

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/ampora/ampora/cmd/ampora/internal/console"
	"github.com/ampora/ampora/cmd/ampora/internal/process"
)

// Cmd is "ampora dev".
type Cmd struct {
	Vault       string `placeholder:"FILE" help:"The vault program. Default: beside this one, else from the PATH."`
	Plugin      string `placeholder:"FILE" help:"The plugin's program. Default: beside this one."`
	EdgeProgram string `name:"edge-program" placeholder:"FILE" help:"The edge's program. Default: beside this one, else from the PATH."`
	VaultListen string `default:"127.0.0.1:8200" placeholder:"ADDR" help:"Vault's address; port 0 takes a free one."`
	EdgeListen  string `default:"127.0.0.1:4320" placeholder:"ADDR" help:"The edge's address; port 0 takes a free one."`
	AdminListen string `default:"127.0.0.1:4321" placeholder:"ADDR" help:"The edge's address for health and metrics; port 0 takes a free one."`
	LogLevel    string `enum:"trace,debug,info,warn,error" default:"info" help:"How much Vault and edge write to their logs."`
}

// How long ending may take: the edge says goodbye to its agents, Vault ends its plugin.
const (
	edgePatience  = 8 * time.Second
	vaultPatience = 10 * time.Second
)

// Run starts everything, prints how to use it, and ends everything when the context ends.
func (c *Cmd) Run(ctx context.Context, con *console.Console) (err error) {
	d := &installation{con: con, cmd: c}
	if err := d.programs(); err != nil {
		return err
	}
	if err := d.addresses(); err != nil {
		return err
	}
	if d.dir, err = os.MkdirTemp("", "ampora-dev-"); err != nil {
		return err
	}
	// Vault wants its plugin directory without symbolic links.
	if real, err := filepath.EvalSymlinks(d.dir); err == nil {
		d.dir = real
	}
	defer func() { err = errors.Join(err, d.stop()) }()
	if err := d.start(ctx); err != nil {
		if ctx.Err() != nil {
			return nil // Ctrl-C during the start is no failure
		}
		return err
	}
	d.explain()
	select {
	case <-ctx.Done():
		con.Sayf("Stopping.")
		return nil
	case <-d.vault.Exited():
		return d.vault.Failure()
	case <-d.edge.Exited():
		return d.edge.Failure()
	}
}

// installation is what runs.
type installation struct {
	con         *console.Console
	cmd         *Cmd
	dir         string // everything on disk
	rootToken   string
	vault, edge *process.Child
}

// stop ends what runs, the edge first, and removes what lies on disk.
func (d *installation) stop() error {
	var errs error
	if d.edge != nil {
		errs = errors.Join(errs, d.edge.Stop(edgePatience))
	}
	if d.vault != nil {
		errs = errors.Join(errs, d.vault.Stop(vaultPatience))
	}
	return errors.Join(errs, os.RemoveAll(d.dir))
}

func (d *installation) file(name string) string { return filepath.Join(d.dir, name) }

func (d *installation) vaultAddr() string { return "http://" + d.cmd.VaultListen }

func (d *installation) endpoint() string { return "wss://" + d.cmd.EdgeListen + "/v1/opamp" }
