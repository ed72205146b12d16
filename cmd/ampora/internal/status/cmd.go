// Package status tells people and monitoring in one page how an installation stands: issuers and their lists of revoked
// certificates, agents and what their certificates need, edges, and what of all that needs somebody's attention.
package status

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/ampora/ampora/cmd/ampora/internal/console"
	"github.com/ampora/ampora/cmd/ampora/internal/hint"
	"github.com/ampora/ampora/cmd/ampora/internal/vaultenv"
)

// Cmd is "ampora status".
type Cmd struct {
	JSON            bool `name:"json" help:"Answer in JSON."`
	Check           bool `help:"Print only what needs attention, and end with 1 if something does: for cron and monitoring."`
	vaultenv.Engine `embed:""`
}

// Run answers. What the Vault token does not allow to see is said in its place, and is no error.
func (c *Cmd) Run(ctx context.Context, con *console.Console) error {
	engine, err := c.Client(con)
	if err != nil {
		return err
	}
	r, err := collect(ctx, engine)
	if err != nil {
		return vaultenv.Explain(engine.Vault(), err)
	}
	now := time.Now()
	r.Time, r.Mount, r.Tenant = now.UTC().Format(time.RFC3339), c.MountPath(), c.Tenant
	r.weigh(now)
	switch {
	case c.JSON:
		enc := json.NewEncoder(con.Out)
		enc.SetIndent("", "  ")
		err = enc.Encode(r)
	case c.Check:
		for _, reason := range r.Attention {
			con.Printf("%s\n", console.Plain(reason))
		}
		for _, part := range r.unseen() {
			con.Sayf("not checked: %s", console.Plain(part))
		}
	default:
		err = (&page{out: con.Out, colour: con.Colour(), now: now}).write(r)
	}
	if err == nil && c.Check && len(r.Attention) > 0 {
		err = hint.New(fmt.Sprintf("%s attention", counted(len(r.Attention), "thing needs", "things need")), "see 'ampora status' for all of it")
	}
	return err
}

// counted is a number with its noun.
func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
