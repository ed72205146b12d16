package edge_test

import (
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
)

// The row goes from the storage behind the engine's back, as when a backup is put back that is older than the agent.
func TestAfterARestoreTheSessionsOfAgentsThatAreGoneEnd(t *testing.T) {
	w := newWorld(t)
	gone, polling, there := w.enrolled(), w.enrolled(), w.enrolled()
	c, bystander := gone.mustDial(), there.mustDial()
	for agent, conn := range map[*agent]*wire{gone: c, there: bystander} {
		conn.send(agent.message(withDescription("host-1")))
		conn.receive()
	}
	if _, refused := polling.poll(polling.message()); refused != nil {
		t.Fatalf("plain HTTP: %+v", refused)
	}
	w.reported()
	for _, a := range []*agent{gone, polling} {
		if err := w.engine.Storage.Delete(t.Context(), "agent/"+a.id()[:2]+"/"+a.id()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.vault.AfterRestore(t.Context(), apitype.RevokeRequest{}); err != nil {
		t.Fatal(err)
	}
	if code, reason := c.closed(20 * time.Second); code != 1008 || reason != string(apitype.AgentUnknown) {
		t.Errorf("closed with %d %s", code, reason)
	}
	gone.mustRefuse(403, apitype.AgentUnknown)
	w.eventually("plain HTTP is refused too", 20*time.Second, func() bool {
		_, refused := polling.poll(polling.message())
		return refused != nil && refused.code == apitype.AgentUnknown
	})
	bystander.send(there.message(withDescription("host-2")))
	if there.mustDial(); t.Failed() {
		t.Error("the agent that is still there noticed something")
	}
}
