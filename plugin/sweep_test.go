package ampora_test

import (
	"context"
	"flag"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/plugintest"
)

var expired = flag.Int("expired", 4_000, "how many tokens expire in the test of a sweep, half of them in batches")

// What has outlived its use goes by itself, in small steps: nothing is read or removed in bulk, and requests that come
// meanwhile need not wait for the end.
func TestASweepRemovesWhatHasOutlivedItsUseWhileOthersWork(t *testing.T) {
	m := ready(t)
	m.pool("ci", nil)
	agent, _ := m.enrol(nil)
	heap := heapInUse()
	for range *expired / 2 {
		m.quick("tokens/issue", nil)
	}
	for range max(*expired/2/apitype.MaxCount, 1) {
		m.quick("pools/ci/issue", data{"count": apitype.MaxCount})
	}
	t.Logf("%d tokens take %.1f MB, of storage and of memory", *expired, float64(heapInUse()-heap)/(1<<20))
	m.clock.advance(8*24*time.Hour - time.Minute) // the tokens expired long ago
	kept := m.issue(nil)

	longest := 0
	m.storage.Reset()
	m.storage.Before(func(_ context.Context, op plugintest.Op) error {
		if op.Kind == "list" {
			keys, _ := m.storage.Storage.List(t.Context(), op.Key)
			longest = max(longest, len(keys))
		}
		return nil
	})
	swept := make(chan error, 1)
	begun := time.Now()
	go func() { swept <- m.backend.Sweep(t.Context()) }()
	requests, slowest := 0, time.Duration(0)
	for done := false; !done; {
		select {
		case err := <-swept:
			if err != nil {
				t.Fatal(err)
			}
			done = true
		default:
			before := time.Now()
			if requests++; requests%2 == 0 {
				m.issue(nil)
			} else if got := m.verdict(kept.Token); got != "" {
				t.Fatalf("a good token is %q during the sweep", got)
			}
			slowest = max(slowest, time.Since(before))
			time.Sleep(time.Millisecond)
		}
	}
	m.storage.Before(nil)
	t.Logf("the sweep took %v; meanwhile %d requests, the slowest took %v; the longest list had %d keys", time.Since(begun), requests, slowest, longest)
	if requests < 3 {
		t.Error("no request was answered while the sweep ran")
	}
	if longest > *expired/10 {
		t.Errorf("a list of %d keys was read at once", longest)
	}
	if n := len(m.keys("batch/")); n != 0 {
		t.Errorf("%d expired batches are left", n)
	}
	if n, want := len(m.keys("token/")), 1+requests/2; n != want {
		t.Errorf("%d tokens are left, want the %d that have not expired", n, want)
	}
	if got := m.tokens(data{"limit": 3}); len(got.Keys) != 3 {
		t.Errorf("the list %v", got.Keys)
	}
	if a := m.agent(agent.AgentID); a.State != apitype.AgentStateActive {
		t.Errorf("the agent is %s", a.State)
	}

	// And the agent, once nothing of it can be valid any more.
	m.clock.advance(91 * 24 * time.Hour)
	m.sweep()
	if a := m.agent(agent.AgentID); a.AgentID == "" {
		t.Error("the agent went before agent_retention")
	}
	m.clock.advance(30 * 24 * time.Hour)
	m.sweep()
	m.no(apitype.AgentUnknown, read, "agents/"+agent.AgentID, nil)
	if e := m.events(data{"action": apitype.ActionAgentExpired}); len(e) != 1 || e[0].AgentID != agent.AgentID || e[0].Actor.DisplayName != "system" {
		t.Errorf("events %+v", e)
	}
	m.sweep()
	for _, key := range m.keys("") {
		if strings.Contains(key, agent.AgentID) {
			t.Errorf("%s is left of the agent", key)
		}
	}
}

// quick is a write without the checks of send, for very many.
func (m *mount) quick(path string, body data) {
	m.Helper()
	resp, err := m.backend.HandleRequest(m.Context(), m.request(write, path, body))
	if err != nil || resp.IsError() {
		m.Fatalf("%s: %v %v", path, resp, err)
	}
}

func heapInUse() int64 {
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return int64(s.HeapAlloc)
}
