package audit

import (
	"go/ast"
	"go/parser"
	"go/token"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/ampora/ampora/plugin/apitype"
)

// TestTheTwoRecordsTellTheSame walks every path that changes something and joins the engine's events with the lines of Vault's
// audit device by request id: no event without its line, no line of a change without its events, and none for what was
// refused or changed nothing.
func TestTheTwoRecordsTellTheSame(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var calls []call
	begun := len(w.changes()) // of the setup
	for _, tenant := range []string{"", "acme"} {
		calls = append(calls, w.callsOf(tenant)...)
	}
	south := w.newSouth()
	calls = append(calls, w.callsOfPeers(south)...)
	for _, tenant := range []string{"", "acme"} {
		calls = append(calls, w.callsOfHandovers(tenant, south)...)
	}
	calls = append(calls, w.callsThatPart()...)
	calls = append(calls, w.callsOfAdmins()...)
	for i, c := range calls {
		if err := c.run(t.Context()); (err != nil) != c.refused || c.refused && apitype.CodeOf(err) == "" {
			t.Fatalf("%d, %s: %v", i, c.name, err)
		}
	}

	told := map[string][]string{} // request id -> actions, in the order of telling
	for _, e := range slices.Backward(w.events(apitype.EventsRequest{})) {
		if e.RequestID == "" && e.Action != apitype.ActionAccessRefused {
			t.Errorf("%s of %s tells no request", e.Action, e.EntityID)
		}
		told[e.RequestID] = append(told[e.RequestID], e.Action)
	}
	delete(told, "")
	lines := w.changes()
	if len(lines) != begun+len(calls) {
		t.Fatalf("the audit device has %d lines for %d calls", len(lines)-begun, len(calls))
	}
	for i, l := range lines {
		got := strings.Join(told[l.Request.ID], " ")
		delete(told, l.Request.ID)
		if i < begun {
			if got == "" {
				t.Errorf("%s %s of the setup has no event", l.Request.Operation, l.Request.Path)
			}
			continue
		}
		if c := calls[i-begun]; got != c.actions || c.refused != l.refused() {
			t.Errorf("%s (%s %s): events %q instead of %q, error %q", c.name, l.Request.Operation, l.Request.Path, got, c.actions, l.Error)
		}
	}
	for id, actions := range told {
		t.Errorf("the request %s is not in the audit device: %v", id, actions)
	}
	w.everyActionIs(calls)
	w.everyPathIsIn(lines[begun:])
	w.namesAreTold()
	w.listsHideTheirTokens(lines[begun:])
}

// changes are the lines of operations that may change something.
func (w *world) changes() []line {
	return slices.DeleteFunc(w.answered(), func(l line) bool {
		return l.Request.Operation == "read" || l.Request.Operation == "list" || l.Request.Operation == "help"
	})
}

// everyActionIs wants every action that apitype names in the table of calls. Those without a request are looked at elsewhere.
func (w *world) everyActionIs(calls []call) {
	w.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "../../plugin/apitype/audit.go", nil, 0)
	must(w.T, err)
	var all []string
	ast.Inspect(file, func(n ast.Node) bool {
		spec, isValue := n.(*ast.ValueSpec)
		if !isValue || !strings.HasPrefix(spec.Names[0].Name, "Action") {
			return true
		}
		action, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		must(w.T, err)
		all = append(all, action)
		return false
	})
	if len(all) < 20 {
		w.Fatalf("only %d actions were found", len(all))
	}
	tried := map[string]bool{
		apitype.ActionAgentExpired: true, apitype.ActionAccessRefused: true,
		// A handover expires by time alone: whatever request finds it so, the engine has ended it before, of its own accord.
		apitype.ActionHandoverExpired: true,
	}
	for _, c := range calls {
		for _, action := range strings.Fields(c.actions) {
			tried[action] = true
		}
	}
	for _, action := range all {
		if !tried[action] {
			w.Errorf("no call of the table is told as %s", action)
		}
	}
}

// everyPathIsIn wants a line for every path of the API that takes POST or DELETE, with a tenant and without.
func (w *world) everyPathIsIn(lines []line) {
	w.Helper()
	secret, err := w.vault.Client().Logical().ReadWithContext(w.Context(), "sys/internal/specs/openapi")
	must(w.T, err)
	n := 0
	for path, item := range secret.Data["paths"].(map[string]any) {
		path, ours := strings.CutPrefix(path, "/{ampora_mount_path}/")
		if !ours {
			if path, ours = strings.CutPrefix(path, "/ampora/"); !ours {
				continue
			}
		}
		pattern := regexp.MustCompile("^ampora/" + regexp.MustCompile(`\{[a-z_]+\}`).ReplaceAllString(path, "[^/]+") + "$")
		for method, operations := range map[string][]string{"post": {"update", "create"}, "delete": {"delete"}} {
			if item.(map[string]any)[method] == nil {
				continue
			}
			n++
			if !slices.ContainsFunc(lines, func(l line) bool {
				return pattern.MatchString(l.Request.Path) && slices.Contains(operations, l.Request.Operation)
			}) {
				w.Errorf("no call of the table is %s %s", method, path)
			}
		}
	}
	if n < 30 {
		w.Errorf("the API names only %d ways to change something", n)
	}
}

// namesAreTold wants the name of the edge's role, where Vault's own name is that of every AppRole.
func (w *world) namesAreTold() {
	w.Helper()
	for _, e := range w.events(apitype.EventsRequest{Action: apitype.ActionTokenRedeemed}) {
		want := "approle-ampora-edge-one"
		if e.Tenant != "" {
			want = "root"
		}
		if e.Actor.DisplayName != want {
			w.Errorf("the actor is %q instead of %q", e.Actor.DisplayName, want)
		}
	}
}

// listsHideTheirTokens wants the tuned keys to hold inside lists, too: ids in the clear, tokens as HMACs.
func (w *world) listsHideTheirTokens(lines []line) {
	w.Helper()
	hidden := func(value any) bool { return strings.HasPrefix(value.(string), "hmac-sha256:") }
	found, handovers := 0, 0
	for _, l := range lines {
		tokens, _ := l.Response.Data["tokens"].([]any)
		for _, one := range tokens {
			row := one.(map[string]any)
			if row["handover_token"] != nil {
				handovers++
				if !hidden(row["handover_token"]) || hidden(row["agent_id"]) {
					w.Errorf("%s: %v", l.Request.Path, row)
				}
				continue
			}
			found++
			if !hidden(row["token"]) || hidden(row["token_id"]) || hidden(row["expires_at"]) {
				w.Errorf("%s: %v", l.Request.Path, row)
			}
		}
	}
	if found != 6 || handovers != 2 {
		w.Errorf("%d tokens in lists, and %d handover tokens", found, handovers)
	}
}

// A mount that ends tells what it has counted: here the plugin is reloaded, as an upgrade does.
func TestAReloadTellsTheRefusals(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for range 3 {
		if err := only(w.edge.Redeem(t.Context(), apitype.RedeemRequest{Token: "amp-bs.x", CSR: newCSR(t), SourceIP: "192.0.2.9"})); apitype.CodeOf(err) != apitype.TokenMalformed {
			t.Fatal(err)
		}
	}
	_, err := w.vault.Client().Logical().WriteWithContext(t.Context(), "sys/plugins/reload/backend", map[string]any{"mounts": "ampora/"})
	must(t, err)
	events := w.events(apitype.EventsRequest{Action: apitype.ActionAccessRefused})
	if len(events) != 1 || events[0].EntityID != "192.0.2.9" || events[0].Details["count"] != 3.0 {
		t.Errorf("%+v", events)
	}
}
