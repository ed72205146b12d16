package handover

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/ampora/ampora/cmd/ampora/internal/console"
	"github.com/ampora/ampora/cmd/ampora/internal/hint"
	"github.com/ampora/ampora/cmd/ampora/internal/vaultenv"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/client"
	"github.com/ampora/ampora/plugin/handover"
	"golang.org/x/sync/errgroup"
)

// takeBackTime is how long a run that failed tries to take its tokens back.
const takeBackTime = time.Minute

// MakeCmd is "ampora handover make".
type MakeCmd struct {
	Peer            string        `required:"" placeholder:"NAME" help:"The peer that the agents are to move to."`
	Group           string        `required:"" placeholder:"NAME" help:"The group whose agents are to move."`
	Out             string        `required:"" placeholder:"FILE" help:"Where the file goes. It must not be there yet. Whoever has it can redeem it at the peer alone, and may do so once."`
	Configuration   string        `placeholder:"NAME" help:"Configuration that they are to have there. Default: the name of the one that each has here."`
	TTL             time.Duration `name:"ttl" placeholder:"DURATION" help:"How long the tokens can be redeemed, like 4h. Default: handover_ttl of the engine."`
	vaultenv.Engine `embed:""`
}

// Run makes the file, or none: when it fails, the tokens that it has made are taken back.
func (c *MakeCmd) Run(ctx context.Context, con *console.Console) error {
	engine, err := c.Client(con)
	if err != nil {
		return err
	}
	out, err := newOutput(c.Out)
	if err != nil {
		return err
	}
	defer out.drop()
	m := &maker{cmd: c, engine: engine, line: newLine(con)}
	err = m.issue(ctx)
	signed := &apitype.HandoverManifest{}
	if err == nil && len(m.tokens) > 0 {
		signed, err = m.write(ctx, out)
	}
	m.line.end()
	if err != nil {
		return vaultenv.Explain(engine.Vault(), m.takeBack(ctx, err))
	}
	return m.tell(con, signed)
}

// maker is one run.
type maker struct {
	cmd    *MakeCmd
	engine *client.Client
	line   *line

	tokens  []apitype.IssuedHandover
	refused []apitype.HandoverRefusal
	bytes   int
	full    bool // the group has more agents than go into one file
}

// issue makes the tokens, part by part.
func (m *maker) issue(ctx context.Context) error {
	in := apitype.HandoverIssueRequest{
		Peer: m.cmd.Peer, Group: m.cmd.Group, Configuration: m.cmd.Configuration, TTL: int64(m.cmd.TTL / time.Second),
	}
	for {
		in.Limit = min(apitype.MaxHandoverPart, handover.MaxFileTokens-len(m.tokens))
		if m.bytes > handover.MaxFile-handover.MaxManifest-2*handover.MaxString { // the next part may not fit in
			in.Limit = 0
		}
		if in.Limit == 0 {
			m.full = true
			return nil
		}
		part, err := m.engine.IssueHandovers(ctx, in)
		if err != nil {
			return err
		}
		m.tokens, m.refused = append(m.tokens, part.Tokens...), append(m.refused, part.Refused...)
		for _, token := range part.Tokens {
			m.bytes += len(token.HandoverToken) + 1
		}
		m.line.show("%s made, %d agents refused", counted(len(m.tokens), "token"), len(m.refused))
		if in.After = part.NextAfter; in.After == "" {
			return nil
		}
	}
}

// write has the list of the tokens signed, and puts the file into place.
func (m *maker) write(ctx context.Context, out *output) (*apitype.HandoverManifest, error) {
	in := apitype.HandoverManifestRequest{Peer: m.cmd.Peer, Group: m.cmd.Group}
	var texts []string
	for _, token := range m.tokens {
		in.HandoverIDs, texts = append(in.HandoverIDs, token.HandoverID), append(texts, token.HandoverToken)
	}
	signed, err := m.engine.HandoverManifest(ctx, in)
	if err != nil {
		return nil, err
	}
	file, err := handover.NewFile(signed.Manifest, texts)
	if err != nil {
		return nil, err
	}
	return signed, out.commit(file.Bytes())
}

// takeBack cancels what was made for a file that will not be there. Who is asked to stop still does that.
func (m *maker) takeBack(ctx context.Context, failed error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), takeBackTime)
	defer cancel()
	var left atomic.Int64
	var work errgroup.Group
	work.SetLimit(atATime)
	for _, token := range m.tokens {
		work.Go(func() error {
			if m.engine.EndHandover(ctx, token.HandoverID) != nil {
				left.Add(1)
			}
			return nil
		})
	}
	work.Wait()
	m.line.end()
	advice := "no file was made, and no token of it is out; one whose answer got lost ends by itself ('vault list ampora/handovers' shows them)"
	if n := left.Load(); n > 0 {
		advice = fmt.Sprintf("no file was made, but the handovers of %s could not be cancelled: they end by themselves, or by 'vault delete ampora/handovers/<id>'", counted(int(n), "agent"))
	}
	return hint.Wrap(failed, advice)
}

// tell says what became of the group.
func (m *maker) tell(con *console.Console, signed *apitype.HandoverManifest) error {
	if len(m.tokens) > 0 {
		con.Printf("%s: %s of group %s may move to %s until %s\n", m.cmd.Out, counted(signed.Count, "agent"), m.cmd.Group, m.cmd.Peer, signed.ExpiresAt)
	}
	if len(m.refused) > 0 {
		con.Printf("%s got no token:\n", counted(len(m.refused), "agent"))
	}
	for _, r := range m.refused {
		con.Printf("  %s  %s: %s\n", r.AgentID, r.Code, console.Plain(r.Detail))
	}
	switch {
	case len(m.tokens) == 0 && len(m.refused) == 0:
		return hint.New(fmt.Sprintf("the group %s has no agents", m.cmd.Group))
	case len(m.tokens) == 0:
		return hint.New(fmt.Sprintf("no agent of group %s can be moved, so there is no file", m.cmd.Group))
	case m.full:
		return partly(fmt.Sprintf("the group has more agents than the %d that are in the file", len(m.tokens)), "run it again with another --out for the rest")
	case len(m.refused) > 0:
		return partly(fmt.Sprintf("%d of %d agents are not in the file", len(m.refused), len(m.refused)+len(m.tokens)),
			"mend what is said above, and run it again with another --out for those: the others are refused then as handover_pending")
	}
	return nil
}
