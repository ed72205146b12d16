package audit

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
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
	d := &device{cmd: c, since: since, until: until, review: &review{pools: map[poolOf]bool{}}, agents: map[string]*leaked{},
		expires: map[string]time.Time{}, tokens: map[string]issuedToken{}, pools: map[string]poolOf{}}
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
	expires      map[string]time.Time   // by agent id, of the newest certificate
	tokens       map[string]issuedToken // by id: issued from the pool, and not redeemed
	pools        map[string]poolOf      // those that are meant, by their ids
	unreadable   int
	closed       bool // a value that should be readable is an HMAC
}

type issuedToken struct {
	expires time.Time
	pool    poolOf
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
	path, ours := strings.CutPrefix(l.Request.Path, d.cmd.MountPath()+"/")
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
	case parts[0] == apitype.PathPools && len(parts) >= 2:
		d.pool(l, tenant, parts[1], strings.Join(parts[2:], "/"))
	case len(parts) == 3 && parts[0] == apitype.PathTokens && parts[2] == "revoke":
		delete(d.tokens, parts[1])
	case path == apitype.PathTokensRevokeAll || path == apitype.PathAfterRestore:
		d.end(func(p poolOf) bool { return tenant == "" || p.tenant == tenant })
	}
}

// end forgets the tokens of pools.
func (d *device) end(of func(poolOf) bool) {
	maps.DeleteFunc(d.tokens, func(_ string, t issuedToken) bool { return of(t.pool) })
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

// pool notes what was done to a pool, or with it. Holders of its secret may name it by its id.
func (d *device) pool(l line, tenant, ref, what string) {
	id, _ := l.Response.Data["pool_id"].(string)
	this := poolOf{tenant, ref}
	if id != "" && !isHMAC(id) && (ref == d.cmd.Pool || id == d.cmd.Pool) {
		d.pools[id] = this
	}
	if named, byID := d.pools[ref]; byID {
		this = named
	}
	meant := ref == d.cmd.Pool || slices.Contains(slices.Collect(maps.Values(d.pools)), this)
	if !meant || d.cmd.Tenant != "" && this.tenant != d.cmd.Tenant {
		return
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
				d.tokens[id] = issuedToken{expires, this}
			}
		}
	case "revoke", "rotate-secret":
		d.end(func(p poolOf) bool { return p == this })
	case "":
		if l.Request.Operation == "delete" {
			d.end(func(p poolOf) bool { return p == this })
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
		for _, t := range d.tokens {
			if now.Before(t.expires) {
				n++
				d.review.pools[t.pool] = true
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
