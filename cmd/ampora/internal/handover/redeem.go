package handover

import (
	"bufio"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/ampora/ampora/cmd/ampora/internal/console"
	"github.com/ampora/ampora/cmd/ampora/internal/hint"
	"github.com/ampora/ampora/cmd/ampora/internal/vaultenv"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/client"
	"github.com/ampora/ampora/plugin/handover"
	"golang.org/x/sync/errgroup"
)

// RedeemCmd is "ampora handover redeem".
type RedeemCmd struct {
	File            string `arg:"" help:"The handover file, or '-' for the standard input."`
	Landing         `embed:""`
	Only            []string `placeholder:"ID" help:"Only these, by the agent's id at the source or by handover_id, comma-separated."`
	Limit           int      `placeholder:"N" help:"At most this many now; the same command goes on with the next ones."`
	Yes             bool     `short:"y" help:"Do not ask first."`
	vaultenv.Engine `embed:""`
}

// Run redeems what has not been redeemed yet.
func (c *RedeemCmd) Run(ctx context.Context, con *console.Console) error {
	engine, file, state, err := arrived(ctx, con, &c.Engine, c.File)
	if err != nil {
		return err
	}
	todo, done, err := c.choose(file, state)
	if err != nil {
		return err
	}
	if len(todo) == 0 {
		con.Printf("nothing to do: %s redeemed before\n", counted(done, "agent"))
		return nil
	}
	if err := c.confirm(con, len(todo), state.Peer); err != nil {
		return err
	}
	r := &redeemer{engine: engine, to: c.Landing, todo: todo, results: make([]result, len(todo))}
	failed := r.run(ctx, newLine(con))
	return r.tell(con, engine, done, failed, c.File)
}

// choose finds the tokens that are meant and not redeemed, and counts those that are.
func (c *RedeemCmd) choose(file *handover.File, state *apitype.HandoverProgress) (todo []handover.FileToken, done int, err error) {
	only := map[string]bool{}
	for _, id := range c.Only {
		only[strings.TrimSpace(id)] = false
	}
	for n, token := range file.Tokens {
		if len(only) > 0 {
			_, byAgent := only[token.Token.Agent.AgentID]
			_, byHandover := only[token.Token.ID]
			if !byAgent && !byHandover {
				continue
			}
			only[token.Token.Agent.AgentID], only[token.Token.ID] = true, true
		}
		switch {
		case state.Handovers[n].State != "":
			done++
		case c.Limit <= 0 || len(todo) < c.Limit:
			todo = append(todo, token)
		}
	}
	for id, found := range only {
		if !found {
			return nil, 0, hint.New(fmt.Sprintf("the file has no agent and no handover %s", console.Plain(id)), "--only takes the agent's id at the source, or the handover's")
		}
	}
	return todo, done, nil
}

// confirm asks a person. Without one, --yes must have been said.
func (c *RedeemCmd) confirm(con *console.Console, n int, peer string) error {
	if c.Yes {
		return nil
	}
	if c.File == "-" || !con.Interactive() {
		return hint.New("nobody is there to be asked", "say --yes to redeem without being asked; 'ampora handover inspect' shows what it would do")
	}
	fmt.Fprintf(con.Err, "Take %s over from %s? [y/N] ", counted(n, "agent"), peer)
	answer, _ := bufio.NewReader(con.In).ReadString('\n')
	if !slices.Contains([]string{"y", "yes"}, strings.ToLower(strings.TrimSpace(answer))) {
		return hint.New("nothing was redeemed", "answer y, or say --yes to redeem without being asked")
	}
	return nil
}

// redeemer is one run.
type redeemer struct {
	engine *client.Client
	to     Landing
	todo   []handover.FileToken

	mu            sync.Mutex
	results       []result
	good, refused int
}

// result is what became of one token. Without either it was not tried.
type result struct {
	taken   *apitype.HandoverRedemption
	refusal error
}

// run redeems some at a time. A refusal is one agent's; any other error ends the run, and is answered.
func (r *redeemer) run(ctx context.Context, line *line) error {
	defer line.end()
	work, ctx := errgroup.WithContext(ctx)
	work.SetLimit(atATime)
	for n, token := range r.todo {
		work.Go(func() error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			taken, err := r.engine.RedeemHandover(ctx, r.to.request(token.Text))
			if err != nil && apitype.CodeOf(err) == "" {
				return err
			}
			good, refused := r.add(n, taken, err)
			line.show("%d of %d redeemed, %d refused", good, len(r.todo), refused)
			return nil
		})
	}
	return work.Wait()
}

func (r *redeemer) add(n int, taken *apitype.HandoverRedemption, refusal error) (good, refused int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if refusal != nil {
		r.results[n].refusal = refusal
		r.refused++
	} else {
		r.results[n].taken = taken
		r.good++
	}
	return r.good, r.refused
}

// tell says what became of each.
func (r *redeemer) tell(con *console.Console, engine *client.Client, done int, failed error, file string) error {
	con.Printf("%-36s  %-36s  %-24s  %s\n", "AGENT THERE", "AGENT HERE", "NAME", "RESULT")
	untried := 0
	for n, token := range r.todo {
		is := r.results[n]
		here, said := "-", ""
		switch {
		case is.taken != nil:
			here, said = is.taken.AgentID, is.taken.State
		case is.refusal != nil:
			said = strings.Join(strings.Fields(is.refusal.Error()), " ")
		default:
			untried++
			said = "not tried"
		}
		agent := token.Token.Agent
		con.Printf("%-36s  %-36s  %-24s  %s\n", agent.AgentID, here, console.Plain(agent.DisplayName), console.Plain(said))
	}
	con.Printf("%d redeemed, %d refused, %d not tried, %d redeemed before\n", r.good, r.refused, untried, done)
	again := "run it again for the others: those that are redeemed are left out"
	switch {
	case failed != nil:
		return hint.Wrap(vaultenv.Explain(engine.Vault(), failed), again)
	case r.refused > 0 && r.good == 0:
		return hint.New("no agent was redeemed", again)
	case r.refused > 0:
		return partly(fmt.Sprintf("%d of %d agents were refused", r.refused, len(r.todo)), again)
	}
	con.Sayf("'ampora handover progress --watch %s' shows how they arrive", file)
	return nil
}
