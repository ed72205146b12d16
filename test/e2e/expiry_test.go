package e2e

import (
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
)

// An agent whose last certificate has expired goes when agent_retention is over, with an event of the system's; its token
// stays spent for as long as that could be tried.
func TestAnExpiredAgentGoesByItself(t *testing.T) {
	t.Parallel()
	in := install(t)
	must(t, in.engine.UpdateConfig(in.ctx(), map[string]any{"leaf_ttl": "60s", "token_min_ttl": "1s", "agent_retention": 0}))
	issue := func(ttl int64) *apitype.IssuedToken {
		issued, err := in.engine.IssueToken(in.ctx(), apitype.TokenIssueRequest{TTL: ttl})
		must(t, err)
		in.secrets.addToken(issued.Token)
		return issued
	}
	enrol := func(issued *apitype.IssuedToken) *apitype.Identity {
		id, err := in.engine.Redeem(in.ctx(), apitype.RedeemRequest{Token: issued.Token, CSR: string(newCSR())})
		must(t, err)
		return id
	}
	goes := enrol(issue(10))
	spent := issue(3600)
	stays := enrol(spent) // its token could still be tried

	eventually(t, "the certificate has expired", 90*time.Second, func() bool { return time.Now().Unix() > goes.Expiration })
	must(t, in.vault.ReloadPlugin(in.ctx(), pluginName)) // a new process looks at every row once
	eventually(t, "the expired agent's row is gone", time.Minute, func() bool {
		_, err := in.engine.Agent(in.ctx(), goes.AgentID)
		return apitype.CodeOf(err) == apitype.AgentUnknown
	})
	events, err := in.engine.Events(in.ctx(), apitype.EventsRequest{AgentID: goes.AgentID})
	must(t, err)
	if e := events.Events[0]; e.Action != apitype.ActionAgentExpired || e.Actor.DisplayName != "system" || e.RequestID != "" {
		t.Errorf("the last event is %+v", e)
	}
	if _, err := in.engine.Agent(in.ctx(), stays.AgentID); err != nil {
		t.Errorf("the agent whose token has not expired: %v", err)
	}
	if _, err := in.engine.RedeemCheck(in.ctx(), apitype.RedeemCheckRequest{Token: spent.Token}); apitype.CodeOf(err) != apitype.TokenRedeemed {
		t.Errorf("its token: %v", err)
	}
}
