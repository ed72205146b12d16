package audit

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/ampora/ampora/cmd/ampora/internal/console"
	"github.com/ampora/ampora/cmd/ampora/internal/hint"
	"github.com/ampora/ampora/plugin/apitype"
)

// fromDevice reads the lines of Vault's audit device. It needs the keys that 'ampora setup' opens, and the file from before
// the first token of the pool was issued if outstanding tokens are to be counted.
func (c *LeakCmd) fromDevice(con *console.Console, since, until time.Time) (*review, error) {
	var in io.Reader = con.In
	if c.Device != "-" {
		f, err := os.Open(c.Device)
		if err != nil {
			return nil, hint.Wrap(err, "give the file that 'vault audit list -detailed' names as file_path, or '-' for the standard input")
		}
		defer f.Close()
		in = f
	}
	d := &device{cmd: c, since: since, until: until, review: &review{}, agents: map[string]*leaked{}, expires: map[string]time.Time{}, tokens: map[string]time.Time{}, pools: map[string]bool{}}
	if err := d.read(in); err != nil {
		return nil, err
	}
	return d.finish(), nil
}

// line is what matters of one line of the audit device.
type line struct {
	Type    string    `json:"type"`
	Time    time.Time `json:"time"`
	Error   string    `json:"error"`
	Request struct {
		Path      string         `json:"path"`
		Operation string         `json:"operation"`
		Data      map[string]any `json:"data"`
	} `json:"request"`
	Response struct {
		Data map[string]any `json:"data"`
	} `json:"response"`
}

// device is one review by the lines of Vault's audit device.
type device struct {
	cmd          *LeakCmd
	since, until time.Time
	review       *review
	agents       map[string]*leaked
	expires      map[string]time.Time // by agent id, of the newest certificate
	tokens       map[string]time.Time // that were issued from the pool and not redeemed: when they expire
	pools        map[string]bool      // ids that the pool has had
	unreadable   int
	closed       bool // a value that should be readable is an HMAC
}

// read takes the lines one by one; one may be as long as the feed of a hundred thousand revocations.
func (d *device) read(in io.Reader) error {
	lines := bufio.NewReaderSize(in, 1<<20)
	for {
		raw, err := lines.ReadBytes('\n')
		if len(bytes.TrimSpace(raw)) > 0 {
			var l line
			if json.Unmarshal(raw, &l) != nil {
				d.unreadable++ // the last line may be half-written
			} else if l.Type == "response" && l.Error == "" && l.Response.Data["error"] == nil { // refusals of 400 have it there
				d.take(l)
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading the audit device: %w", err)
		}
	}
}

// take understands a line about something that happened.
func (d *device) take(l line) {
	path, ours := strings.CutPrefix(l.Request.Path, strings.Trim(d.cmd.Mount, "/")+"/")
	if !ours {
		return
	}
	tenant := ""
	if scoped, found := strings.CutPrefix(path, "tenants/"); found {
		tenant, path, _ = strings.Cut(scoped, "/")
	}
	if d.cmd.Tenant != "" && tenant != "" && tenant != d.cmd.Tenant {
		return
	}
	parts := strings.Split(path, "/")
	switch {
	case path == apitype.PathRedeem:
		d.redeemed(l)
	case len(parts) == 3 && parts[0] == apitype.PathAgents && parts[2] == "revoke":
		d.ended(parts[1], stateRevoked)
	case len(parts) == 2 && parts[0] == apitype.PathAgents && l.Request.Operation == "delete":
		d.ended(parts[1], stateDeleted)
	case parts[0] == apitype.PathPools && len(parts) >= 2 && (parts[1] == d.cmd.Pool || d.pools[parts[1]]):
		d.pool(l, strings.Join(parts[2:], "/"))
	case len(parts) == 3 && parts[0] == apitype.PathTokens && parts[2] == "revoke":
		delete(d.tokens, parts[1])
	case path == apitype.PathTokensRevokeAll || path == apitype.PathAfterRestore:
		clear(d.tokens)
	}
}

// redeemed notes the agent of a redemption. One that was repeated counts from the first time, with the newest certificate.
func (d *device) redeemed(l line) {
	text := func(name string) string { s, _ := l.Response.Data[name].(string); return s }
	agent, token, pool, poolID := text("agent_id"), text("token_id"), text("pool"), text("pool_id")
	if agent == "" {
		return
	}
	d.closed = d.closed || isHMAC(agent) || isHMAC(token) || isHMAC(pool)
	delete(d.tokens, token)
	if seconds, ok := l.Response.Data["expiration"].(float64); ok {
		d.expires[agent] = time.Unix(int64(seconds), 0)
	}
	a := d.agents[agent]
	if a == nil {
		a = &leaked{AgentID: agent, RedeemedAt: l.Time.UTC().Format("2006-01-02T15:04:05.000Z07:00"), TokenID: token, Tenant: text("tenant"), Pool: pool, PoolID: poolID}
		a.SourceIP, _ = l.Request.Data["source_ip"].(string)
		d.agents[agent] = a
		meant := slices.Contains(d.cmd.Token, token) || d.cmd.Pool != "" && (pool == d.cmd.Pool || poolID == d.cmd.Pool)
		late := !d.until.IsZero() && l.Time.After(d.until)
		if meant && !l.Time.Before(d.since) && !late && (d.cmd.Tenant == "" || a.Tenant == d.cmd.Tenant) {
			d.review.Agents = append(d.review.Agents, a)
		}
	}
	a.Fingerprint, a.Certificate = text("fingerprint"), ""
}

func (d *device) ended(agent, state string) {
	if a := d.agents[agent]; a != nil && a.Certificate != stateDeleted {
		a.Certificate = state
	}
}

// pool notes what was done to the pool, or with it.
func (d *device) pool(l line, what string) {
	if id, ok := l.Response.Data["pool_id"].(string); ok && !isHMAC(id) {
		d.pools[id] = true
	}
	switch what {
	case "issue", "admin/issue":
		issued := []any{l.Response.Data}
		if list, ok := l.Response.Data["tokens"].([]any); ok {
			issued = list
		}
		for _, one := range issued {
			token, _ := one.(map[string]any)
			id, _ := token["token_id"].(string)
			text, _ := token["expires_at"].(string)
			d.closed = d.closed || isHMAC(id)
			if expires, err := time.Parse(time.RFC3339, text); err == nil && id != "" {
				d.tokens[id] = expires
			}
		}
	case "revoke", "rotate-secret":
		clear(d.tokens)
	case "":
		if l.Request.Operation == "delete" {
			clear(d.tokens)
		}
	}
}

func (d *device) finish() *review {
	now := time.Now()
	for id, a := range d.agents {
		if a.Certificate == "" {
			a.Certificate = stateOf(d.expires[id], now)
		}
	}
	if d.cmd.Pool != "" {
		n := 0
		for _, expires := range d.tokens {
			if now.Before(expires) {
				n++
			}
		}
		d.review.Outstanding = &n
	}
	if d.unreadable > 0 {
		d.review.notes = append(d.review.notes, fmt.Sprintf("%d lines are no JSON and were left out.", d.unreadable))
	}
	if d.closed {
		d.review.notes = append(d.review.notes, "Some of what this needs stands as HMAC in the file, and its agents are missing here: 'ampora setup' opens the keys, for what comes after.")
	}
	return d.review
}

// isHMAC reports whether Vault has hidden a value.
func isHMAC(text string) bool { return strings.HasPrefix(text, "hmac-sha256:") }
