package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
)

// TestPluginDiesBetweenCommitAndAnswer stops the plugin when the first write of a redemption has reached Vault's log, makes
// sure that no answer has left Vault, and only then kills it. It runs alone, because it has a few milliseconds to hit.
func TestPluginDiesBetweenCommitAndAnswer(t *testing.T) {
	in := install(t)
	e := in.edge("one")
	quiet := func() uint64 {
		t.Helper()
		var last uint64
		since := time.Now()
		eventually(t, "Vault stands still", 20*time.Second, func() bool {
			now, err := in.vault.LastIndex(in.ctx())
			must(t, err)
			if now != last {
				last, since = now, time.Now()
			}
			return time.Since(since) > 300*time.Millisecond
		})
		return last
	}
	const wanted, most = 2, 20
	hits := 0
	for i := 0; i < most && hits < wanted; i++ {
		issued := in.token()
		idle, pids := quiet(), in.vault.PluginPids(pluginName)
		a := in.agent(e.endpoint("wss"), issued.Token, filepath.Join(in.dir, fmt.Sprint("state-", i)))
		for now, end := idle, time.Now().Add(20*time.Second); now == idle; {
			var err error
			now, err = in.vault.LastIndex(in.ctx())
			must(t, err)
			if time.Now().After(end) {
				t.Fatal("nothing was written for the agent")
			}
		}
		for _, pid := range pids {
			must(t, syscall.Kill(pid, syscall.SIGSTOP))
		}
		time.Sleep(50 * time.Millisecond) // for an answer that was on its way through Vault
		hit := in.unanswered("ampora/redeem") > 0
		must(t, in.vault.KillPlugin(pluginName))

		kept := a.AwaitEnrolled()
		in.awaitPlugin()
		row := in.wantEnrolled(issued)
		if row.SerialNumber != kept.Serial {
			t.Errorf("the agent has the leaf %s, its row %s", kept.Serial, row.SerialNumber)
		}
		if hit {
			hits++
		}
		a.Stop()
	}
	t.Logf("killed %d times between commit and answer", hits)
	if hits < wanted {
		t.Errorf("in %d tries the plugin was killed between commit and answer %d times, want %d", most, hits, wanted)
	}
}

// awaitPlugin waits until Vault has started a killed plugin again: it does so when it is asked, and may give up that request.
func (in *installation) awaitPlugin() {
	in.t.Helper()
	eventually(in.t, "the plugin answers again", 20*time.Second, func() bool {
		_, err := in.engine.Config(in.ctx())
		return err == nil
	})
}

// unanswered counts the requests on a path to which the audit device has seen no answer.
func (in *installation) unanswered(path string) int {
	in.t.Helper()
	open := map[string]bool{}
	for _, line := range in.auditLines() {
		if line.Request.Path != path {
			continue
		}
		switch line.Type {
		case "request":
			open[line.Request.ID] = true
		case "response":
			delete(open, line.Request.ID)
		}
	}
	return len(open)
}

// auditLine is a line of Vault's audit device, as far as it matters here.
type auditLine struct {
	Type    string
	Error   string
	Request struct {
		ID        string
		Path      string
		Operation string
		Data      map[string]any
	}
	Response struct{ Data map[string]any }
}

func (in *installation) auditLines() []auditLine {
	in.t.Helper()
	var all []auditLine
	for _, raw := range bytes.Split([]byte(in.read(in.vault.AuditLog())), []byte("\n")) {
		var line auditLine
		if len(raw) > 0 && json.Unmarshal(raw, &line) == nil { // the last line may be half-written
			all = append(all, line)
		}
	}
	return all
}

// TestPluginDiesAllTheTimeUnderEnrolments kills the plugin at random moments while many agents enrol.
func TestPluginDiesAllTheTimeUnderEnrolments(t *testing.T) {
	t.Parallel()
	in := install(t)
	e := in.edge("one")
	const leastAgents, leastKills, most, together = 32, 10, 160, 4
	var tokens []*apitype.IssuedToken
	for range most {
		tokens = append(tokens, in.token())
	}

	enough := make(chan struct{})
	var killer sync.WaitGroup
	var kills atomic.Int64
	killer.Go(func() {
		for {
			// Never while Vault is starting the plugin: a multiplexed plugin that dies just then is not started again by
			// Vault 1.21, which holds on to the connection of the dead process. That is not what is tested here.
			if _, err := in.engine.Config(in.ctx()); err != nil && in.ctx().Err() == nil {
				continue
			}
			select {
			case <-enough:
				return
			case <-time.After(rand.N(300 * time.Millisecond)):
				if err := in.vault.KillPlugin(pluginName); err != nil {
					t.Error(err)
					return
				}
				kills.Add(1)
			}
		}
	})
	ctx, cancel := context.WithTimeout(in.ctx(), 2*time.Minute) // for all together
	defer cancel()
	var agents []*testAgent
	places := make(chan struct{}, together)
	var enrolling sync.WaitGroup
	for i := 0; i < most && (i < leastAgents || kills.Load() < leastKills); i++ {
		places <- struct{}{}
		a := in.agent(e.endpoint("wss"), tokens[i].Token, filepath.Join(in.dir, fmt.Sprint("state-", i)), "--exit-enrolled")
		agents = append(agents, a)
		enrolling.Go(func() {
			defer func() { <-places }()
			select {
			case <-a.Child.Exited():
			case <-ctx.Done():
			}
		})
	}
	enrolling.Wait()
	close(enough)
	killer.Wait()
	t.Logf("killed the plugin %d times under %d enrolments", kills.Load(), len(agents))
	if kills.Load() < leastKills {
		t.Errorf("the plugin was killed %d times only", kills.Load())
	}
	in.awaitPlugin()

	for i, a := range agents {
		if a.Child.Running() {
			t.Errorf("agent %d has not enrolled:\n%s", i, a.Story())
			continue
		}
		row := in.wantEnrolled(tokens[i])
		if kept := a.AwaitEnrolled(); row.AgentID != kept.AgentID || row.SerialNumber != kept.Serial {
			t.Errorf("agent %d keeps %s, its row is %s", i, asJSON(kept), asJSON(row))
		}
	}
	if n := len(in.agents()); n != len(agents) {
		t.Errorf("there are %d agents, want %d", n, len(agents))
	}
	for _, issued := range tokens[len(agents):] {
		if _, err := in.engine.RedeemCheck(in.ctx(), apitype.RedeemCheckRequest{Token: issued.Token}); err != nil {
			t.Errorf("a token that nobody used: %v", err)
		}
	}
}
