// Package handover moves the agents of a group to a peer by one file: made at the source, inspected and redeemed at the target,
// and followed on both sides.
package handover

import (
	"context"
	"fmt"

	"github.com/ampora/ampora/cmd/ampora/internal/console"
	"github.com/ampora/ampora/cmd/ampora/internal/hint"
	"github.com/ampora/ampora/cmd/ampora/internal/vaultenv"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/client"
	"github.com/ampora/ampora/plugin/handover"
)

// Cmd is "ampora handover".
type Cmd struct {
	Make     MakeCmd     `cmd:"" help:"At the source: make one file of handover tokens for all agents of a group."`
	Inspect  InspectCmd  `cmd:"" help:"At the target: say what redeeming a file would do, and what stands against it. Changes nothing."`
	Redeem   RedeemCmd   `cmd:"" help:"At the target: take the agents of a file over, all or some. Can be run again."`
	Progress ProgressCmd `cmd:"" help:"On either side: say how far the handovers of a file have come."`
}

// atATime is how many requests are under way at once.
const atATime = 8

// inPart ends a run that has done a part of what was asked.
type inPart struct{ err *hint.Error }

func partly(sentence string, hints ...string) error { return inPart{hint.New(sentence, hints...)} }

func (p inPart) Error() string { return p.err.Error() }

// Unwrap makes the hints reachable.
func (p inPart) Unwrap() error { return p.err }

// ExitCode tells it apart from a run that has done nothing.
func (inPart) ExitCode() int { return 3 }

// readFile reads a handover file, and checks what can be checked without keys.
func readFile(con *console.Console, name string) (*handover.File, error) {
	data, err := con.ReadInput(name, handover.MaxFile)
	if err != nil {
		return nil, err
	}
	return handover.ParseFile(data)
}

// standings asks how far the handovers of a file have come, after Vault has checked who signed its manifest.
func standings(ctx context.Context, engine *client.Client, manifest string) (*apitype.HandoverProgress, error) {
	var all *apitype.HandoverProgress
	for in := (apitype.HandoverProgressRequest{Manifest: manifest}); ; {
		part, err := engine.HandoverProgress(ctx, in)
		if err != nil {
			return nil, err
		}
		if all == nil {
			all = part
		} else {
			all.Handovers = append(all.Handovers, part.Handovers...)
			for state, n := range part.Counts {
				all.Counts[state] += n
			}
		}
		if in.After = part.NextAfter; in.After == "" {
			all.NextAfter = ""
			return all, nil
		}
	}
}

// arrived reads a file that was made for this side, and how far this side is with it.
func arrived(ctx context.Context, con *console.Console, at *vaultenv.Engine, name string) (*client.Client, *handover.File, *apitype.HandoverProgress, error) {
	engine, err := at.Client(con)
	if err != nil {
		return nil, nil, nil, err
	}
	file, err := readFile(con, name)
	if err != nil {
		return nil, nil, nil, err
	}
	state, err := standings(ctx, engine, file.Signed)
	if err != nil {
		return nil, nil, nil, vaultenv.Explain(engine.Vault(), err)
	}
	return engine, file, state, atTarget(state, name)
}

// atTarget refuses what only the target can do.
func atTarget(p *apitype.HandoverProgress, file string) error {
	if p.Side == apitype.HandoverTarget {
		return nil
	}
	return hint.New("this installation has made the file itself", "do this at the peer that it was made for: VAULT_ADDR says which Vault is asked",
		fmt.Sprintf("here, 'ampora handover progress %s' says how far it has come", file))
}

// counted is a number with its noun.
func counted(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
