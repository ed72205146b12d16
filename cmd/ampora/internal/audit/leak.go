package audit

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/ampora/ampora/cmd/ampora/internal/console"
	"github.com/ampora/ampora/cmd/ampora/internal/hint"
	"github.com/ampora/ampora/cmd/ampora/internal/vaultenv"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/google/uuid"
)

// LeakCmd is "ampora audit leak".
type LeakCmd struct {
	Pool            string   `placeholder:"NAME" help:"The pool that the tokens came from, by name or id."`
	Token           []string `placeholder:"ID" help:"One token, by its id; may be repeated. 'ampora inspect' tells a token's id."`
	Device          string   `placeholder:"FILE" type:"path" help:"Answer from the file of Vault's audit device, without asking Vault."`
	JSON            bool     `name:"json" help:"Answer in JSON."`
	window          `embed:""`
	vaultenv.Engine `embed:""`
}

// States of a leaked agent's certificate.
const (
	stateActive  = "active"
	stateRevoked = "revoked"
	stateExpired = "expired"
	stateDeleted = "deleted"
	stateUnknown = "unknown"
)

// leaked is one agent that came in.
type leaked struct {
	AgentID     string `json:"agent_id"`
	Fingerprint string `json:"fingerprint"` // of its newest certificate: SHA-256 of the DER, lower-case hex
	SourceIP    string `json:"source_ip"`
	RedeemedAt  string `json:"redeemed_at"`
	TokenID     string `json:"token_id"`
	Tenant      string `json:"tenant"`
	Pool        string `json:"pool"`
	PoolID      string `json:"pool_id"`
	DisplayName string `json:"display_name"`
	Certificate string `json:"certificate"`      // its state now
	Revoke      string `json:"revoke,omitempty"` // the command, where there is something to revoke
}

// review is the answer: the agents in the order in which they came in.
type review struct {
	Agents []*leaked `json:"agents"`
	// Outstanding is how many tokens may still be redeemed; absent when that cannot be told.
	Outstanding *int            `json:"outstanding,omitempty"`
	End         []string        `json:"end,omitempty"` // the commands that end those
	pools       map[poolOf]bool // that those are of
	notes       []string
}

// poolOf is a pool; several tenants may have one of the same name.
type poolOf struct{ tenant, name string }

// Run answers.
func (c *LeakCmd) Run(ctx context.Context, con *console.Console) error {
	if (c.Pool == "") == (len(c.Token) == 0) {
		return hint.New("a review is of one pool, or of tokens", "name the pool with --pool NAME, or tokens with --token ID")
	}
	for _, id := range c.Token {
		if _, err := uuid.Parse(id); err != nil {
			return hint.New("--token takes a token's id, never the token itself", "'ampora inspect FILE' tells the id")
		}
	}
	since, until, err := c.times(time.Now())
	if err != nil {
		return err
	}
	r, err := c.review(ctx, con, since, until)
	if err != nil {
		return err
	}
	slices.SortStableFunc(r.Agents, func(a, b *leaked) int { return cmp.Compare(a.RedeemedAt, b.RedeemedAt) })
	for _, a := range r.Agents {
		if _, err := uuid.Parse(a.AgentID); err == nil && (a.Certificate == stateActive || a.Certificate == stateUnknown) {
			a.Revoke = fmt.Sprintf("vault write %s/%s/%s/revoke reason=keyCompromise", c.MountPath(), apitype.Scoped(c.Tenant, apitype.PathAgents), a.AgentID)
		}
	}
	for p := range r.pools {
		if nameLike(p.name) && nameLike(p.tenant) {
			r.End = append(r.End, fmt.Sprintf("vault write -f %s/%s/%s/revoke", c.MountPath(), apitype.Scoped(p.tenant, apitype.PathPools), p.name))
		}
	}
	slices.Sort(r.End)
	for _, note := range r.notes {
		con.Sayf("%s", note)
	}
	if c.JSON {
		enc := json.NewEncoder(con.Out)
		enc.SetIndent("", "  ")
		if r.Agents == nil {
			r.Agents = []*leaked{}
		}
		return enc.Encode(r)
	}
	return c.show(con, r)
}

func (c *LeakCmd) review(ctx context.Context, con *console.Console, since, until time.Time) (*review, error) {
	if c.Device != "" {
		return c.fromDevice(con, since, until)
	}
	engine, err := c.Client(con)
	if err != nil {
		return nil, err
	}
	r, err := c.fromTrail(ctx, engine, since, until)
	return r, vaultenv.Explain(engine.Vault(), err)
}

// nameLike reports whether a name can stand in a command as it is.
func nameLike(name string) bool {
	return strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789_-") == ""
}

func (c *LeakCmd) show(con *console.Console, r *review) error {
	of := "token " + strings.Join(c.Token, ", ")
	if c.Pool != "" {
		of = "pool " + c.Pool
	}
	if len(r.Agents) > 0 {
		w := tabwriter.NewWriter(con.Out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "REDEEMED\tAGENT\tCERTIFICATE\tFINGERPRINT\tFROM\tTOKEN\tTENANT\tNAME")
		for _, a := range r.Agents {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", plain(a.RedeemedAt), plain(a.AgentID), a.Certificate, plain(a.Fingerprint),
				plain(a.SourceIP), plain(a.TokenID), plain(a.Tenant), plain(a.DisplayName))
		}
		if err := w.Flush(); err != nil {
			return err
		}
		con.Printf("\n")
	}
	con.Printf("%s came in through %s.\n", counted(len(r.Agents), "agent", "agents"), plain(of))
	if r.Outstanding != nil {
		con.Printf("%s outstanding.\n", counted(*r.Outstanding, "token of it is", "tokens of it are"))
	}
	commands := r.End
	for _, a := range r.Agents {
		if a.Revoke != "" {
			commands = append(commands, a.Revoke)
		}
	}
	if len(commands) > 0 {
		con.Printf("\nTo end all of it:\n\n%s\n", strings.Join(commands, "\n"))
	}
	return nil
}

// stateOf is what has become of a certificate, unless something worse is known.
func stateOf(expires, now time.Time) string {
	switch {
	case expires.IsZero():
		return stateUnknown
	case now.Before(expires):
		return stateActive
	}
	return stateExpired
}

// counted is a number with its noun, and what goes with it.
func counted(n int, one, many string) string {
	switch n {
	case 0:
		return "No " + one
	case 1:
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
