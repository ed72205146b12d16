// Package handover moves agents between real installations: two or three Vaults on Raft storage, each with the plugin's
// program, a CA and a trust domain of its own and two edges as processes behind one address, and agents on opamp-go's client.
// Peers are made of each other's bundle file, with the commands that people use.
package handover

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/client"
	"github.com/ampora/ampora/test/fleet"
	"github.com/ampora/ampora/test/relay"
	"github.com/ampora/ampora/test/vaulttest"
)

const pluginName = "vault-plugin-secrets-ampora"

// patience is how long anything may take before a test fails: many times what it takes.
const patience = 90 * time.Second

// region is one installation. Agents reach its edges through the relay agents, other regions' edges through federation.
type region struct {
	t           *testing.T
	name        string
	vault       *vaulttest.Vault
	engine      *client.Client // as root
	dir         string
	ca          string // PEM file that verifies the edges
	credentials string
	edges       []*edge
	agents      *relay.Relay
	federation  *relay.Relay
}

// options are what regions may differ in. The zero value is good.
type options struct {
	endpoint map[string]string // in the place of the address of the edges, by region
	config   map[string]any    // of all of them
}

// settings make what takes its time elsewhere quick here: how often agents on plain HTTP come by, and for how long a list of
// revoked certificates is good (edges fetch that of a peer three times within it).
var settings = map[string]any{"heartbeat_interval": 1, "crl_expiry": 60}

// regions starts installations that know nothing of each other.
func regions(t *testing.T, o options, names ...string) []*region {
	t.Helper()
	for _, program := range []string{"vault", pluginName, "ampora", "ampora-edge", "testagent"} {
		vaulttest.RequireBin(t, program)
	}
	all := make([]*region, len(names))
	for i, name := range names {
		all[i] = start(t, o, name)
	}
	for _, r := range all {
		for _, e := range r.edges {
			e.awaitReady()
		}
	}
	return all
}

// start starts one, and does not wait for its edges.
func start(t *testing.T, o options, name string) *region {
	t.Helper()
	r := &region{t: t, name: name, vault: vaulttest.Start(t), dir: t.TempDir()}
	version, err := r.vault.RegisterAmpora(t.Context(), "")
	must(t, err)
	addresses := []string{fleet.FreeAddr(t), fleet.FreeAddr(t)}
	for _, l := range []**relay.Relay{&r.agents, &r.federation} {
		*l, err = relay.New(addresses...)
		must(t, err)
		t.Cleanup((*l).Close)
	}
	r.credentials = filepath.Join(r.dir, "credentials")
	r.run("ampora", "setup", "--plugin", filepath.Join(r.vault.PluginDir, pluginName+"_"+version), "--plugin-version", version,
		"--peer-id", name, "--trust-domain", name+".example", "--endpoint", cmp.Or(o.endpoint[name], r.endpoint("wss")),
		"--edge", "one", "--edge", "two", "--edge-credentials-dir", r.credentials)
	r.engine, err = client.New(r.vault.Client(), "ampora")
	must(t, err)
	config := maps.Clone(settings)
	config["federation_url"] = "https://" + r.federation.Addr() + "/federation"
	maps.Copy(config, o.config)
	must(t, r.engine.UpdateConfig(t.Context(), config))
	bundle, err := r.engine.CABundle(t.Context())
	must(t, err)
	r.ca = r.write("ca.pem", bundle.Bundle)
	for i, edge := range []string{"one", "two"} {
		r.edges = append(r.edges, r.newEdge(edge, addresses[i]))
		r.edges[i].start()
	}
	return r
}

// within is the region for a subtest: what it starts there ends there.
func (r *region) within(t *testing.T) *region {
	sub := *r
	sub.t = t
	return &sub
}

// withinAll is within for several.
func withinAll(t *testing.T, all []*region) []*region {
	sub := make([]*region, len(all))
	for i, r := range all {
		sub[i] = r.within(t)
	}
	return sub
}

// endpoint is where agents connect: wss for WebSocket, https for plain HTTP.
func (r *region) endpoint(scheme string) string {
	return scheme + "://" + r.agents.Addr() + "/v1/opamp"
}

// run runs a program as the region's operator, and answers what it prints.
func (r *region) run(program string, arguments ...string) string {
	r.t.Helper()
	out, err := r.try(program, arguments...)
	if err != nil {
		r.t.Fatalf("%s %s: %v\n%s", program, strings.Join(arguments, " "), err, out)
	}
	return out
}

func (r *region) try(program string, arguments ...string) (string, error) {
	r.t.Helper()
	cmd := exec.CommandContext(r.t.Context(), vaulttest.RequireBin(r.t, program), arguments...)
	cmd.Env = append(append(environment(), "HOME="+r.dir), r.vault.Env()...)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	err := cmd.Run()
	return out.String() + said.String(), err
}

// becomePeers makes every two of them peers, each under the other's name, by each other's bundle file.
func becomePeers(all []*region) {
	files := map[string]string{}
	for _, r := range all {
		r.t.Helper()
		files[r.name] = r.write("bundle.json", r.run("vault", "read", "-format=json", "-field=data", "ampora/federation/bundle"))
	}
	for _, r := range all {
		for _, other := range all {
			if other.name != r.name {
				r.run("vault", "write", "ampora/peers/"+other.name, "@"+files[other.name])
			}
		}
	}
}

// token issues a bootstrap token.
func (r *region) token() string {
	r.t.Helper()
	issued, err := r.engine.IssueToken(r.t.Context(), apitype.TokenIssueRequest{})
	must(r.t, err)
	return issued.Token
}

// row reads an agent.
func (r *region) row(agentID string) apitype.Agent {
	r.t.Helper()
	row, err := r.engine.Agent(r.t.Context(), agentID)
	must(r.t, err)
	return *row
}

// awaitRow waits until an agent's row fits.
func (r *region) awaitRow(agentID, what string, fits func(apitype.Agent) bool) apitype.Agent {
	r.t.Helper()
	var row *apitype.Agent
	var err error
	r.eventually(fmt.Sprintf("agent %s in %s: %s", agentID, r.name, what), func() bool {
		row, err = r.engine.Agent(r.t.Context(), agentID)
		return err == nil && fits(*row)
	}, func() string { return fmt.Sprintf("%+v %v", row, err) })
	return *row
}

// awaitState waits until an agent is in that state.
func (r *region) awaitState(agentID, state string) apitype.Agent {
	r.t.Helper()
	return r.awaitRow(agentID, state, func(row apitype.Agent) bool { return row.State == state })
}

// events are those of an agent, oldest first.
func (r *region) events(agentID string) []apitype.Event {
	r.t.Helper()
	page, err := r.engine.Events(r.t.Context(), apitype.EventsRequest{AgentID: agentID, Limit: 1000})
	must(r.t, err)
	slices.Reverse(page.Events)
	return page.Events
}

// ofHandover are the events about one handover, by action.
func (r *region) ofHandover(id string) map[string]apitype.Event {
	r.t.Helper()
	page, err := r.engine.Events(r.t.Context(), apitype.EventsRequest{EntityID: id, Limit: 1000})
	must(r.t, err)
	found := map[string]apitype.Event{}
	for _, e := range page.Events {
		if _, twice := found[e.Action]; twice {
			r.t.Errorf("%s has two events %s of handover %s", r.name, e.Action, id)
		}
		found[e.Action] = e
	}
	return found
}

func (r *region) write(name, content string) string {
	r.t.Helper()
	path := filepath.Join(r.dir, name)
	must(r.t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

// eventually waits until ok answers true.
func (r *region) eventually(what string, ok func() bool, last ...func() string) {
	r.t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if ok() {
			return
		}
	}
	for _, f := range last {
		what += "\nthe last answer: " + f()
	}
	r.t.Fatalf("not within %v: %s", patience, what)
}

// environment is ours without what would configure Vault, an edge or the command line.
func environment() []string {
	return slices.DeleteFunc(os.Environ(), func(kv string) bool {
		return strings.HasPrefix(kv, "VAULT_") || strings.HasPrefix(kv, "AMPORA_") || strings.HasPrefix(kv, "HOME=")
	})
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
