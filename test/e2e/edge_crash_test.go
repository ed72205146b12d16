package e2e

import (
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestAgentsOutliveTheirEdge kills an edge under its agents, and then ends it in good order.
func TestAgentsOutliveTheirEdge(t *testing.T) {
	t.Parallel()
	in := install(t, "--config", "heartbeat_interval=2")
	e := in.edge("one")
	a := in.agent(e.endpoint("wss"), in.token().Token, filepath.Join(in.dir, "ws"))
	h := in.agent(e.endpoint("https"), in.token().Token, filepath.Join(in.dir, "http"))
	in.supervisor("supervisor", bootstrapServer(e.endpoint("wss"), in.token().Token, in.ca))
	a.AwaitEnrolled()
	h.AwaitEnrolled()
	all := func(what string) {
		t.Helper()
		eventually(t, "all three agents are served "+what, time.Minute, func() bool { _, state := e.ready(); return state.Sessions == 3 })
	}
	all("to begin with")

	ws, http := len(a.All()), len(h.All())
	e.kill()
	e.start()
	a.AwaitBack(ws)
	h.AwaitBack(http)
	all("by the edge after the crash")

	ws = len(a.All())
	if took := e.stop(); took > 5*time.Second { // its --drain-timeout
		t.Errorf("the edge took %v to end", took)
	}
	a.Await("a close frame that says where to go", 5*time.Second, ws, func(e agentEvent) bool {
		return e.Event == "log" && strings.Contains(e.Error, "close 1001") && strings.Contains(e.Error, "draining")
	})
	ws, http = len(a.All()), len(h.All())
	e.start()
	a.AwaitBack(ws)
	h.AwaitBack(http)
	all("by the edge after its good end")

	if n := len(in.agents()); n != 3 {
		t.Errorf("there are %d agents, want three", n)
	}
	for _, agent := range []*testAgent{a, h} {
		for i, e := range agent.All() {
			if e.Event == "started" && e.By == "token" && i > 0 {
				t.Error("an agent went back to its token")
			}
		}
	}
}
