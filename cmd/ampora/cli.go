package main

import (
	"context"
	"errors"

	"github.com/alecthomas/kong"
	"github.com/ampora/ampora/cmd/ampora/internal/audit"
	"github.com/ampora/ampora/cmd/ampora/internal/console"
	"github.com/ampora/ampora/cmd/ampora/internal/dev"
	"github.com/ampora/ampora/cmd/ampora/internal/enroll"
	"github.com/ampora/ampora/cmd/ampora/internal/handover"
	"github.com/ampora/ampora/cmd/ampora/internal/hint"
	"github.com/ampora/ampora/cmd/ampora/internal/inspect"
	"github.com/ampora/ampora/cmd/ampora/internal/setup"
	"github.com/ampora/ampora/cmd/ampora/internal/status"
	"github.com/ampora/ampora/plugin/apitype"
)

// cli is the grammar of the command line.
type cli struct {
	Version kong.VersionFlag `help:"Print the version and exit."`

	Enroll   enroll.Cmd       `cmd:"" help:"Turn a bootstrap token into an agent's identity on disk."`
	Renew    enroll.RenewCmd  `cmd:"" help:"Get an agent's identity on disk its next certificate, before the current one ends."`
	Dev      dev.Cmd          `cmd:"" help:"Run a throw-away installation on this machine: Vault, plugin, edge, all set up."`
	Inspect  inspect.Cmd      `cmd:"" help:"Tell offline what a token, certificate, key or document of a peer is, and whether it was copied intact."`
	Status   status.Cmd       `cmd:"" help:"Show how the installation stands: issuers, agents and their certificates, edges, and what needs attention."`
	History  audit.HistoryCmd `cmd:"" help:"Show everything that happened to an agent, in order, across the installations that it was on."`
	Audit    audit.Cmd        `cmd:"" help:"Show who did what: the audit trail as a table, as JSON lines, live; and who came in through a leak."`
	Handover handover.Cmd     `cmd:"" help:"Move the agents of a group to a peer by one file: make it, inspect it, redeem it, follow it."`
	Setup    setup.Cmd        `cmd:"" help:"Bring a Vault to the state that Ampora needs: plugin, mount, issuer, policies, edges."`
}

// exited carries the exit code of --help and --version out of the parser.
type exited int

// Main runs one command line and answers its exit code: 0 done, 1 failed, 2 not understood, 3 done in part.
func Main(ctx context.Context, args []string, con *console.Console) (code int) {
	defer func() {
		if r := recover(); r != nil {
			e, ok := r.(exited)
			if !ok {
				panic(r)
			}
			code = int(e)
		}
	}()
	parser, err := kong.New(&cli{},
		kong.Name("ampora"),
		kong.Description("Turns bootstrap tokens into agent identities, on HashiCorp Vault."),
		kong.Vars{"version": "ampora " + apitype.Version},
		kong.Writers(con.Out, con.Err),
		kong.Exit(func(code int) { panic(exited(code)) }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Bind(con),
	)
	if err != nil {
		hint.Print(con.Err, err)
		return 1
	}
	parsed, err := parser.Parse(args)
	if err != nil {
		hint.Print(con.Err, hint.Wrap(err, "see 'ampora --help', or 'ampora <command> --help'"))
		return 2
	}
	if err := parsed.Run(); err != nil {
		if errors.Is(err, context.Canceled) && ctx.Err() != nil && len(hint.Of(err)) == 0 {
			err = hint.New("interrupted")
		}
		hint.Print(con.Err, err)
		var part interface{ ExitCode() int }
		if errors.As(err, &part) {
			return part.ExitCode()
		}
		return 1
	}
	return 0
}
