package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/ampora/ampora/cmd/ampora/internal/console"
	"github.com/ampora/ampora/cmd/ampora/internal/hint"
	"github.com/ampora/ampora/cmd/ampora/internal/vaultenv"
	"github.com/google/uuid"
)

// HistoryCmd is "ampora history".
type HistoryCmd struct {
	Agent   string   `arg:"" placeholder:"AGENT" help:"The agent's id, on any of the installations."`
	Peer    []string `sep:"none" placeholder:"NAME=ADDR,..." help:"Another installation's Vault, as NAME=ADDRESS,token-file=FILE and, where needed, ,mount=PATH ,tenant=NAME ,namespace=NAME ,ca-cert=FILE. May be given several times."`
	File    []string `sep:"none" placeholder:"[NAME=]FILE" help:"An audit trail that was exported with 'ampora audit events --limit 0 --json'. May be given several times."`
	Offline bool     `help:"Ask no Vault: only the files."`
	JSON    bool     `name:"json" help:"One event on each line, with the installation in 'at'."`

	vaultenv.Engine `embed:""`
}

// Run shows the history.
func (c *HistoryCmd) Run(ctx context.Context, con *console.Console) error {
	if id, err := uuid.Parse(c.Agent); err != nil || id.String() != c.Agent {
		return hint.New("that is no agent id", "list the agents with 'vault list ampora/agents', or look at a certificate with 'ampora inspect'")
	}
	sites, err := c.sites(ctx, con)
	if err != nil {
		return err
	}
	h, err := follow(ctx, sites, c.Agent)
	if err != nil {
		return err
	}
	if len(h.entries) == 0 {
		return hint.New("there is no event of that agent", "is it the id on one of these installations? Events are kept as long as config.audit_retention says")
	}
	if c.JSON {
		enc := json.NewEncoder(con.Out)
		for _, e := range h.entries {
			if err := enc.Encode(e); err != nil {
				return err
			}
		}
	} else if err := writeHistory(con.Out, h.entries); err != nil {
		return err
	}
	for _, peer := range h.missing() {
		con.Sayf("not shown: what happened at %s; give its Vault with --peer, or its exported trail with --file", plain(peer))
	}
	return nil
}

// sites are all that are given; our own Vault's comes first.
func (c *HistoryCmd) sites(ctx context.Context, con *console.Console) ([]site, error) {
	var all []site
	if !c.Offline {
		own, err := ownSite(ctx, con, c.Engine)
		if err != nil {
			return nil, err
		}
		all = append(all, own)
	} else if len(c.Peer) > 0 || len(c.File) == 0 {
		return nil, hint.New("--offline asks no Vault, so that it needs --file, and no --peer")
	}
	for _, text := range c.Peer {
		name, rest, found := strings.Cut(text, "=")
		if !found || name == "" || strings.Contains(name, "://") {
			return nil, hint.New("--peer has no name", "for example --peer west=https://vault.west.example:8200,token-file=west.token")
		}
		other, err := vaultenv.ParseOther(rest)
		if err != nil {
			return nil, fmt.Errorf("--peer %s: %w", name, err)
		}
		engine, err := other.Client(con)
		if err != nil {
			return nil, fmt.Errorf("--peer %s: %w", name, err)
		}
		all = append(all, &liveSite{name: name, engine: engine})
	}
	for _, text := range c.File {
		file, err := readSite(con, text)
		if err != nil {
			return nil, err
		}
		all = append(all, file)
	}
	return all, nil
}

// writeHistory writes a line for each event. The column of agents shows how the agent was called there.
func writeHistory(out io.Writer, entries []entry) error {
	at := len("AT")
	for _, e := range entries {
		at = max(at, len(plain(e.At)))
	}
	form := fmt.Sprintf("%%-24s  %%-%ds  %%-20s  %%-36s  %%-24s  %%s\n", at)
	if _, err := fmt.Fprintf(out, form, "TIME", "AT", "ACTION", "AGENT", "WHO", "DETAILS"); err != nil {
		return err
	}
	for _, e := range entries {
		agent, what := e.AgentID, ""
		if e.EntityType != "agent" && e.EntityID != "" {
			what = e.EntityType + "=" + e.EntityID + " "
		}
		event := e.Event
		event.AgentID = event.EntityID // it has a column of its own
		line := fmt.Sprintf(form, plain(e.Time), plain(e.At), plain(e.Action), plain(agent), plain(e.Actor.DisplayName), plain(what)+details(event))
		if _, err := io.WriteString(out, strings.TrimRight(line, " \n")+"\n"); err != nil {
			return err
		}
	}
	return nil
}
