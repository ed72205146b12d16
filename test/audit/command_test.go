package audit

import (
	"bufio"
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/test/proc"
	"github.com/ampora/ampora/test/vaulttest"
	"github.com/hashicorp/vault/api"
)

func TestTheCommandShowsTheTrail(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, c := range w.callsOf("acme") {
		_ = c.run(t.Context()) // some are refused
	}
	all := w.events(apitype.EventsRequest{})

	// The table has a line for each event, with what matters in it.
	lines := strings.Split(strings.TrimSpace(w.ampora("audit", "--limit", "0")), "\n")
	if len(lines) != 1+len(all) || !strings.HasPrefix(lines[0], "TIME ") {
		t.Fatalf("%d lines for %d events:\n%s", len(lines), len(all), strings.Join(lines, "\n"))
	}
	for i, e := range all {
		for _, part := range []string{e.Time, e.Action, e.EntityID, e.Actor.DisplayName, e.SourceIP} {
			if !strings.Contains(lines[1+i], part) {
				t.Errorf("%q has no %q", lines[1+i], part)
			}
		}
	}
	// JSON lines are the API's events, whichever way they are asked for.
	for _, c := range []struct {
		arguments []string
		query     apitype.EventsRequest
		limit     int
	}{
		{[]string{"events", "--limit", "7"}, apitype.EventsRequest{}, 7},
		{[]string{"--action", "Token.Redeemed"}, apitype.EventsRequest{Action: "Token.Redeemed"}, 100},
		{[]string{"--pool", "ci", "--since", "1h"}, apitype.EventsRequest{Pool: "ci"}, 100},
		{[]string{"--entity-type", "pool", "--tenant", "acme"}, apitype.EventsRequest{EntityType: "pool"}, 100},
		{[]string{"--source-ip", "192.0.2.7"}, apitype.EventsRequest{SourceIP: "192.0.2.7"}, 100},
		{[]string{"--agent", agentOf(t, all)}, apitype.EventsRequest{AgentID: agentOf(t, all)}, 100},
		{[]string{"--until", all[5].Time}, apitype.EventsRequest{Until: all[5].Time}, 100},
	} {
		want := w.events(c.query)
		want = want[:min(len(want), c.limit)]
		var got []apitype.Event
		for decoder := json.NewDecoder(strings.NewReader(w.ampora(append([]string{"audit", "--json"}, c.arguments...)...))); decoder.More(); {
			var e apitype.Event
			must(t, decoder.Decode(&e))
			got = append(got, e)
		}
		if len(want) == 0 || !slices.EqualFunc(got, want, func(a, b apitype.Event) bool { return a.ID == b.ID }) {
			t.Errorf("%v: %d events instead of %d", c.arguments, len(got), len(want))
		}
	}
	if out := w.ampora("audit", "--tenant", "globex"); out != "" {
		t.Errorf("another tenant's trail: %s", out)
	}
	for _, arguments := range [][]string{{"--since", "yesterday"}, {"--limit", "-1"}, {"--follow", "--until", "1h"}, {"--mount", "elsewhere"}} {
		if out, err := w.command(append([]string{"audit"}, arguments...)...).CombinedOutput(); err == nil || !strings.HasPrefix(string(out), "error: ") {
			t.Errorf("%v: %v %s", arguments, err, out)
		}
	}
}

func agentOf(t *testing.T, all []apitype.Event) string {
	t.Helper()
	for _, e := range all {
		if e.AgentID != "" {
			return e.AgentID
		}
	}
	t.Fatal("no event is about an agent")
	return ""
}

// following is 'ampora audit --follow --json' as it runs.
type following struct {
	mu     sync.Mutex
	ids    []string
	said   strings.Builder
	broken bool
}

func (f *following) text() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.said.String()
}

func (f *following) seen() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.ids)
}

func TestFollowingLivesThroughAVaultThatIsAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := &following{}
	cmd := w.command("audit", "--follow", "--json", "--interval", "200ms", "--limit", "1")
	// The process must outlive its pipes' readers, and ends with an interrupt as for a person.
	cmd = exec.Command(cmd.Path, cmd.Args[1:]...)
	cmd.Env = w.command().Env
	out, err := cmd.StdoutPipe()
	must(t, err)
	errors, err := cmd.StderrPipe()
	must(t, err)
	child, err := proc.StartFor(cmd, syscall.SIGINT)
	must(t, err)
	t.Cleanup(func() { child.End(syscall.SIGKILL, 10*time.Second) })
	go func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			var e apitype.Event
			err := json.Unmarshal(lines.Bytes(), &e)
			f.mu.Lock()
			f.ids, f.broken = append(f.ids, e.ID), f.broken || err != nil
			f.mu.Unlock()
		}
	}()
	go func() {
		for lines := bufio.NewScanner(errors); lines.Scan(); {
			f.mu.Lock()
			f.said.WriteString(lines.Text() + "\n")
			f.mu.Unlock()
		}
	}()
	issue := func() {
		for range 5 {
			_, err := w.engine.IssueToken(t.Context(), apitype.TokenIssueRequest{})
			must(t, err)
		}
	}
	w.eventually("it begins with the newest event", func() bool { return len(f.seen()) == 1 })
	first := w.events(apitype.EventsRequest{})[0].ID
	issue()
	w.eventually("new events are shown", func() bool { return len(f.seen()) == 6 })
	must(t, w.vault.Seal(t.Context()))
	w.eventually("it says that Vault is away", func() bool { return strings.Contains(f.text(), "going on when it does") })
	must(t, w.vault.Unseal(t.Context()))
	w.eventually("the engine is back", func() bool {
		_, err := w.engine.IssueToken(t.Context(), apitype.TokenIssueRequest{})
		return err == nil
	})
	issue()
	w.eventually("it goes on", func() bool { return len(f.seen()) >= 12 && strings.Contains(f.text(), "Vault answers again") })
	all := w.events(apitype.EventsRequest{})
	slices.Reverse(all)
	var want []string
	for _, e := range all {
		if e.ID == first || len(want) > 0 {
			want = append(want, e.ID)
		}
	}
	if got := f.seen(); !slices.Equal(got, want) || f.broken {
		t.Errorf("shown were\n%v\ninstead of\n%v", got, want)
	}
	child.End(syscall.SIGINT, 10*time.Second)
	if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != 0 {
		t.Errorf("it ended with %v", cmd.ProcessState)
	}
}

// leaked and review are the JSON of 'ampora audit leak'.
type leaked struct {
	AgentID     string `json:"agent_id"`
	Fingerprint string `json:"fingerprint"`
	SourceIP    string `json:"source_ip"`
	RedeemedAt  string `json:"redeemed_at"`
	TokenID     string `json:"token_id"`
	Pool        string `json:"pool"`
	PoolID      string `json:"pool_id"`
	DisplayName string `json:"display_name"`
	Certificate string `json:"certificate"`
	Revoke      string `json:"revoke"`
}

type review struct {
	Agents      []leaked `json:"agents"`
	Outstanding *int     `json:"outstanding"`
	End         []string `json:"end"`
}

func (w *world) leak(arguments ...string) review {
	w.Helper()
	var r review
	must(w.T, json.Unmarshal([]byte(w.ampora(append([]string{"audit", "leak", "--json"}, arguments...)...)), &r))
	return r
}

// TestALeakIsReviewedFromEitherRecord asks both records which agents came in through a pool, and gets the same ones.
func TestALeakIsReviewedFromEitherRecord(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	count := int64(6)
	for _, pool := range []string{"ci", "web"} {
		_, err := w.engine.WritePool(ctx, pool, apitype.PoolRequest{})
		must(t, err)
	}
	ci, err := w.engine.IssueFromPool(ctx, "ci", apitype.PoolIssueRequest{Count: &count, Label: "rack 7"})
	must(t, err)
	alone, err := w.engine.IssueFromPool(ctx, "ci", apitype.PoolIssueRequest{})
	must(t, err)
	web, err := w.engine.IssueFromPool(ctx, "web", apitype.PoolIssueRequest{})
	must(t, err)
	redeem := func(token string) *apitype.Identity {
		id, err := w.edge.Redeem(ctx, apitype.RedeemRequest{Token: token, GenerateKey: true, IdempotencyKey: "an-idempotency-key", SourceIP: "192.0.2.7", DisplayName: "\x1b[31mred"})
		if err != nil {
			id, err = w.edge.Redeem(ctx, apitype.RedeemRequest{Token: token, GenerateKey: true, IdempotencyKey: "an-idempotency-key", SourceIP: "192.0.2.7", DisplayName: "red"})
		}
		must(t, err)
		return id
	}
	active, revoked, deleted := redeem(ci.Tokens[0].Token), redeem(ci.Tokens[1].Token), redeem(ci.Tokens[2].Token)
	redeem(alone.Token)
	repeated := redeem(alone.Token) // the answer got lost: another certificate of the same agent
	redeem(web.Token)
	// A tenant's pool of the same name is another one, and is told apart by --tenant.
	acme := w.engine.ForTenant("acme")
	_, err = acme.WritePool(ctx, "ci", apitype.PoolRequest{})
	must(t, err)
	theirs, err := acme.IssueFromPool(ctx, "ci", apitype.PoolIssueRequest{Count: &count})
	must(t, err)
	acmes := redeem(theirs.Tokens[0].Token)
	for _, device := range [][]string{nil, {"--device", w.vault.AuditLog()}} {
		r := w.leak(append(device, "--pool", "ci", "--tenant", "acme")...)
		if len(r.Agents) != 1 || r.Agents[0].AgentID != acmes.AgentID || *r.Outstanding != 5 || !slices.Equal(r.End, []string{"vault write -f ampora/tenants/acme/pools/ci/revoke"}) {
			t.Errorf("of the tenant: %+v", r)
		}
		if r = w.leak(append(device, "--pool", "ci")...); len(r.Agents) != 5 || *r.Outstanding != 8 || len(r.End) != 2 {
			t.Errorf("of all: %+v", r)
		}
	}
	_, err = acme.RevokePool(ctx, "ci", apitype.RevokeRequest{})
	must(t, err)
	must(t, acme.DeleteAgent(ctx, acmes.AgentID))
	_, err = w.engine.RevokeAgent(ctx, revoked.AgentID, apitype.RevokeRequest{})
	must(t, err)
	if _, err := w.engine.RevokeAgent(ctx, active.AgentID, apitype.RevokeRequest{Reason: "no reason of RFC 5280"}); err == nil {
		t.Fatal("a made-up reason was taken") // the agent stays what it is
	}
	must(t, w.engine.DeleteAgent(ctx, deleted.AgentID))

	trail := w.leak("--pool", "ci", "--since", "1h")
	device := w.leak("--pool", "ci", "--since", "1h", "--device", w.vault.AuditLog())
	want := map[string]string{acmes.AgentID: "deleted", active.AgentID: "active", revoked.AgentID: "revoked", deleted.AgentID: "deleted", repeated.AgentID: "active"}
	fingerprints := map[string]string{acmes.AgentID: acmes.Fingerprint, active.AgentID: active.Fingerprint, revoked.AgentID: revoked.Fingerprint, deleted.AgentID: deleted.Fingerprint, repeated.AgentID: repeated.Fingerprint}
	for name, r := range map[string]review{"the trail": trail, "the device": device} {
		if len(r.Agents) != len(want) || r.Outstanding == nil || *r.Outstanding != 3 {
			t.Errorf("%s: %+v", name, r)
		}
		for _, a := range r.Agents {
			if a.Certificate != want[a.AgentID] || a.SourceIP != "192.0.2.7" || a.Fingerprint != fingerprints[a.AgentID] || a.Pool != "ci" || a.TokenID == "" || a.RedeemedAt == "" {
				t.Errorf("%s: %+v", name, a)
			}
			if (a.Certificate == "active") != (a.Revoke == "vault write ampora/agents/"+a.AgentID+"/revoke reason=keyCompromise") {
				t.Errorf("%s: %s and %q", name, a.Certificate, a.Revoke)
			}
		}
	}
	if len(trail.Agents) == len(device.Agents) {
		for i, a := range trail.Agents {
			if b := device.Agents[i]; a.AgentID != b.AgentID || a.TokenID != b.TokenID || a.PoolID != b.PoolID || a.Fingerprint != b.Fingerprint {
				t.Errorf("the records differ: %+v, %+v", a, b)
			}
		}
	}
	// By the pool's id, by a token, and outside the window.
	for _, device := range [][]string{nil, {"--device", w.vault.AuditLog()}} {
		if r := w.leak(append(device, "--pool", trail.Agents[0].PoolID)...); len(r.Agents) != len(want)-1 || *r.Outstanding != 3 || !slices.Equal(r.End, []string{"vault write -f ampora/pools/ci/revoke"}) {
			t.Errorf("by the pool's id: %+v", r)
		}
		if r := w.leak(append(device, "--token", alone.TokenID)...); len(r.Agents) != 1 || r.Agents[0].AgentID != repeated.AgentID {
			t.Errorf("by the token: %+v", r.Agents)
		}
		if r := w.leak(append(device, "--pool", "ci", "--until", "1h")...); len(r.Agents) != 0 {
			t.Errorf("before it all: %+v", r.Agents)
		}
	}
	// An auditor, who may read the trail and nothing else, gets the same agents.
	secret, err := w.vault.Client().Auth().Token().CreateWithContext(ctx, tokenWith("ampora-auditor"))
	must(t, err)
	cmd := w.command("audit", "leak", "--json", "--pool", "ci")
	cmd.Env = append(cmd.Env, "VAULT_TOKEN="+secret.Auth.ClientToken)
	out, err := cmd.Output()
	must(t, err)
	var r review
	must(t, json.Unmarshal(out, &r))
	if len(r.Agents) != len(want) || r.Outstanding != nil {
		t.Errorf("the auditor sees %+v", r)
	}
	for _, a := range r.Agents {
		if a.Certificate != want[a.AgentID] || a.Fingerprint != fingerprints[a.AgentID] || a.DisplayName != "" {
			t.Errorf("the auditor sees %+v", a)
		}
	}
	// What is printed for people can be pasted.
	text := w.ampora("audit", "leak", "--pool", "ci")
	_, commands, found := strings.Cut(text, "To end all of it:\n\n")
	if !found || strings.Contains(text, "\x1b") {
		t.Fatalf("printed was\n%s", text)
	}
	paste := exec.CommandContext(ctx, "bash", "-euc", commands)
	paste.Env = append(w.command().Env, "PATH="+vaultDir(t)+":/usr/bin:/bin", "HOME="+t.TempDir())
	if out, err := paste.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s\n%s", err, commands, out)
	}
	for _, device := range [][]string{nil, {"--device", w.vault.AuditLog()}} {
		after := w.leak(append(device, "--pool", "ci")...)
		if *after.Outstanding != 0 || slices.ContainsFunc(after.Agents, func(a leaked) bool {
			return a.Revoke != ""
		}) {
			t.Errorf("afterwards: %+v", after)
		}
	}
}

func tokenWith(policy string) *api.TokenCreateRequest {
	return &api.TokenCreateRequest{Policies: []string{policy}}
}

func vaultDir(t *testing.T) string {
	t.Helper()
	dir, err := vaulttest.BinDir()
	must(t, err)
	return dir
}
