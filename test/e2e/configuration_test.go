package e2e

import (
	"fmt"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/test/fleet"
)

// collector is a configuration of a collector whose health check says that it runs this one: by its path.
func collector(address, path string) string {
	return `
receivers: {nop: {}}
exporters: {nop: {}}
extensions:
  health_check: {endpoint: "` + address + `", path: "` + path + `"}
service:
  extensions: [health_check]
  pipelines: {traces: {receivers: [nop], exporters: [nop]}}
`
}

// The stock supervisor's collector runs what the agent's group gives it, and what it is changed to; one that it cannot run is
// told of in the agent's row, and the collector goes on.
func TestStockSupervisorsCollectorRunsItsConfiguration(t *testing.T) {
	for _, scheme := range []string{"wss", "https"} {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			in := install(t, "--config", "heartbeat_interval=2")
			e := in.edge("one")
			address := fleet.FreeAddr(t)
			write := func(body string) string {
				t.Helper()
				c, err := in.engine.WriteConfiguration(in.ctx(), "collector", apitype.ConfigurationRequest{Body: &body})
				must(t, err)
				return c.Hash
			}
			first := write(collector(address, "/first"))
			name := "collector"
			_, err := in.engine.WriteGroup(in.ctx(), "web", apitype.GroupRequest{Configuration: &name})
			must(t, err)
			issued, err := in.engine.IssueToken(in.ctx(), apitype.TokenIssueRequest{Group: "web"})
			must(t, err)
			in.supervisor("supervisor", bootstrapServer(e.endpoint(scheme), issued.Token, in.ca), "accepts_remote_config", "reports_remote_config")
			eventually(t, "the supervisor has redeemed its token", time.Minute, func() bool { return len(in.agents()) > 0 })
			id := in.agentOf(issued).AgentID
			says := func(status, hash string) {
				t.Helper()
				eventually(t, "the agent's row says "+status, 2*time.Minute, func() bool {
					row, err := in.engine.Agent(in.ctx(), id)
					return err == nil && row.ConfigurationStatus == status && row.ConfigurationHash == hash && row.ConfigurationName == name
				})
			}
			runs := func(path string) {
				t.Helper()
				eventually(t, "the collector serves "+path, 2*time.Minute, func() bool { return healthy("http://" + address + path) })
			}
			says(apitype.ConfigurationApplied, first)
			runs("/first")

			second := write(collector(address, "/second"))
			says(apitype.ConfigurationApplied, second)
			runs("/second")

			bad := write("receivers: {nosuch: {}}\nservice: {pipelines: {traces: {receivers: [nosuch], exporters: [nosuch]}}}\n")
			says(apitype.ConfigurationFailed, bad)
			row, err := in.engine.Agent(in.ctx(), id)
			must(t, err)
			if row.ConfigurationError == "" || row.ConfigurationTime == "" {
				t.Errorf("the row is %s", asJSON(row))
			}

			third := write(collector(address, "/third"))
			says(apitype.ConfigurationApplied, third)
			runs("/third")
		})
	}
}

// TestAgentsOfTwoEdgesGetTheirConfiguration has agents on the client library of opamp-go, over both transports and at two edges,
// follow their group's configuration, through the sudden end of one edge.
func TestAgentsOfTwoEdgesGetTheirConfiguration(t *testing.T) {
	t.Parallel()
	in := install(t, "--config", "heartbeat_interval=1")
	edges := []*edge{in.edge("one"), in.edge("two")}
	name := "base"
	write := func(body string) {
		t.Helper()
		_, err := in.engine.WriteConfiguration(in.ctx(), name, apitype.ConfigurationRequest{Body: &body})
		must(t, err)
	}
	write("one")
	_, err := in.engine.WriteGroup(in.ctx(), "web", apitype.GroupRequest{Configuration: &name})
	must(t, err)
	type follower struct {
		*testAgent
		id   string
		seen int // events
	}
	var all []*follower
	for n, e := range edges {
		for _, scheme := range []string{"wss", "https"} {
			issued, err := in.engine.IssueToken(in.ctx(), apitype.TokenIssueRequest{Group: "web"})
			must(t, err)
			// The offer leads to the edge that makes it: each advertises itself.
			f := &follower{testAgent: in.agent(e.endpoint(scheme), issued.Token, filepath.Join(in.dir, fmt.Sprintf("%s-%d", scheme, n)), "--remote-config")}
			f.id = f.AwaitEnrolled().AgentID
			all = append(all, f)
		}
	}
	everybody := func(body, status, why string) {
		t.Helper()
		for _, f := range all {
			e := f.Await("it is given "+body, time.Minute, f.seen, func(e agentEvent) bool { return e.Event == "configured" })
			if e.Body != body {
				t.Errorf("given %s, want %s", asJSON(e), body)
			}
			f.seen = len(f.All())
		}
		for _, f := range all {
			eventually(t, "the agent's row says "+status, time.Minute, func() bool {
				row, err := in.engine.Agent(in.ctx(), f.id)
				return err == nil && row.ConfigurationStatus == status && row.ConfigurationError == why && row.ConfigurationName == name
			})
		}
	}
	everybody("one", apitype.ConfigurationApplied, "")
	write("bad two")
	everybody("bad two", apitype.ConfigurationFailed, "it begins with 'bad'")

	// Who comes back to an edge that knows nothing of it does not get it once more: the next thing that it is given is a new one.
	edges[0].kill()
	edges[0].start()
	for _, f := range all[:2] {
		f.AwaitBack(f.seen)
	}
	write("three")
	everybody("three", apitype.ConfigurationApplied, "")
}

func healthy(url string) bool {
	resp, err := http.Get(url)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}
