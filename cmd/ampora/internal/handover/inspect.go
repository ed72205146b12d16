package handover

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ampora/ampora/cmd/ampora/internal/console"
	"github.com/ampora/ampora/cmd/ampora/internal/vaultenv"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/client"
	"github.com/ampora/ampora/plugin/handover"
	"golang.org/x/sync/errgroup"
)

// Landing is where the agents of a file go.
type Landing struct {
	Group         *string `placeholder:"NAME" help:"Group for all of them; empty for none. Default: the one that each has at the source, if it is here and allowed."`
	Configuration *string `placeholder:"NAME" help:"Configuration for all of them; empty for none. Default: the one that each token names."`
}

func (l Landing) request(token string) apitype.HandoverRedeemRequest {
	return apitype.HandoverRedeemRequest{Token: token, Group: l.Group, Configuration: l.Configuration}
}

// InspectCmd is "ampora handover inspect".
type InspectCmd struct {
	File            string `arg:"" help:"The handover file, or '-' for the standard input."`
	Landing         `embed:""`
	vaultenv.Engine `embed:""`
}

// Run asks Vault about the manifest and every token.
func (c *InspectCmd) Run(ctx context.Context, con *console.Console) error {
	engine, file, state, err := arrived(ctx, con, &c.Engine, c.File)
	if err != nil {
		return err
	}
	f := findings{problems: map[apitype.Code]*problem{}, configurations: map[string]int{}}
	if err := f.look(ctx, engine, file, c.Landing, newLine(con)); err != nil {
		return vaultenv.Explain(engine.Vault(), err)
	}
	f.tell(con, file, state)
	if f.bad > 0 {
		return partly(fmt.Sprintf("%d of %d agents could not be redeemed", f.bad, len(file.Tokens)), "mend what is said above, or redeem the others")
	}
	return nil
}

// problem is one reason for which some tokens would be refused.
type problem struct {
	count int
	first string // what is said of one of them
}

// findings are what Vault says of the tokens of a file.
type findings struct {
	mu             sync.Mutex
	good, here     int
	bad            int
	problems       map[apitype.Code]*problem
	configurations map[string]int // that are missing, with the number of agents
}

// look inspects every token. An error that is no refusal ends it.
func (f *findings) look(ctx context.Context, engine *client.Client, file *handover.File, to Landing, line *line) error {
	defer line.end()
	work, ctx := errgroup.WithContext(ctx)
	work.SetLimit(atATime)
	for _, token := range file.Tokens {
		work.Go(func() error {
			is, err := engine.InspectHandover(ctx, to.request(token.Text))
			if err != nil && apitype.CodeOf(err) == "" {
				return err
			}
			line.show("%d of %d tokens inspected", f.add(is, err), len(file.Tokens))
			return nil
		})
	}
	return work.Wait()
}

// add takes one answer in, and answers how many there are now.
func (f *findings) add(is *apitype.HandoverInspection, refusal error) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case refusal != nil:
		f.problem(apitype.ParseError(refusal.Error()))
	case is.State != "":
		f.here++
	case len(is.Problems) == 0:
		f.good++
	default:
		p := apitype.ParseError(is.Problems[0])
		f.problem(p)
		if p != nil && p.Code == apitype.ConfigurationMissing && is.ClaimedConfig != "" {
			f.configurations[is.ClaimedConfig]++
		}
	}
	return f.good + f.here + f.bad
}

func (f *findings) problem(e *apitype.Error) {
	f.bad++
	if e == nil {
		e = apitype.Errorf(apitype.Internal, "the answer has no code of ours")
	}
	if f.problems[e.Code] == nil {
		f.problems[e.Code] = &problem{first: e.Error()}
	}
	f.problems[e.Code].count++
}

func (f *findings) tell(con *console.Console, file *handover.File, state *apitype.HandoverProgress) {
	m := file.Manifest
	row := func(name string, format string, args ...any) {
		con.Printf("%-22s %s\n", name, console.Plain(fmt.Sprintf(format, args...)))
	}
	row("from", "%s (peer %s), who has signed the file", m.Issuer, state.Peer)
	if m.Group != "" {
		row("group there", "%s", m.Group)
	}
	row("made", "%s", rfc3339(m.IssuedAt))
	row("to be redeemed until", "%s", rfc3339(m.Expires))
	row("agents", "%d", len(file.Tokens))
	row("can be redeemed", "%d", f.good)
	if f.here > 0 {
		row("redeemed already", "%d", f.here)
	}
	if f.bad > 0 {
		row("would be refused", "%d", f.bad)
	}
	for _, code := range slices.Sorted(maps.Keys(f.problems)) {
		row(fmt.Sprintf("  %d:", f.problems[code].count), "%s", f.problems[code].first)
	}
	if len(f.configurations) > 0 {
		var missing []string
		for _, name := range slices.Sorted(maps.Keys(f.configurations)) {
			missing = append(missing, fmt.Sprintf("%s (%s)", name, counted(f.configurations[name], "agent")))
		}
		row("configurations missing", "%s", strings.Join(missing, ", "))
	}
}

func rfc3339(unix int64) string { return time.Unix(unix, 0).UTC().Format(time.RFC3339) }
