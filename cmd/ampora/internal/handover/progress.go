package handover

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ampora/ampora/cmd/ampora/internal/console"
	"github.com/ampora/ampora/cmd/ampora/internal/vaultenv"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/handover"
)

// pause is how long --watch waits before it asks again.
const pause = 2 * time.Second

// ProgressCmd is "ampora handover progress".
type ProgressCmd struct {
	File            string `arg:"" help:"The handover file, or '-' for the standard input."`
	Watch           bool   `help:"Ask again until every handover that was begun is over."`
	vaultenv.Engine `embed:""`
}

// Run counts the handovers by state, on the side whose Vault is asked.
func (c *ProgressCmd) Run(ctx context.Context, con *console.Console) error {
	engine, err := c.Client(con)
	if err != nil {
		return err
	}
	file, err := readFile(con, c.File)
	if err != nil {
		return err
	}
	line := newLine(con)
	defer line.end()
	for {
		p, err := standings(ctx, engine, file.Signed)
		if err != nil {
			return vaultenv.Explain(engine.Vault(), err)
		}
		if !c.Watch || over(p, &file.Manifest, time.Now()) {
			line.end()
			tell(con, p)
			return nil
		}
		line.show("%s", summary(p))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// over reports whether nothing more will happen by itself. What the target has not redeemed counts only while none of the file
// is, and as long as it could be.
func over(p *apitype.HandoverProgress, m *handover.Manifest, now time.Time) bool {
	for state := range p.Counts {
		if handover.SourceState(state).Open() && p.Side == apitype.HandoverSource || handover.TargetState(state).Open() && p.Side == apitype.HandoverTarget {
			return false
		}
	}
	untouched := p.Side == apitype.HandoverTarget && p.Counts[apitype.StateAbsent] == p.Total
	return !untouched || now.After(time.Unix(m.Expires, 0))
}

func summary(p *apitype.HandoverProgress) string {
	var all []string
	for _, state := range slices.Sorted(maps.Keys(p.Counts)) {
		all = append(all, fmt.Sprintf("%s %d", state, p.Counts[state]))
	}
	return strings.Join(all, ", ")
}

func tell(con *console.Console, p *apitype.HandoverProgress) {
	way := "from"
	if p.Side == apitype.HandoverSource {
		way = "to"
	}
	con.Printf("%s %s peer %s, as this side has them:\n", counted(p.Total, "handover"), way, p.Peer)
	for _, state := range slices.Sorted(maps.Keys(p.Counts)) {
		shown := state
		if state == apitype.StateAbsent && p.Side == apitype.HandoverTarget {
			shown = "not redeemed"
		}
		con.Printf("  %-20s %d\n", shown, p.Counts[state])
	}
}
