package e2e

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/google/uuid"
)

// An event goes when audit_retention is over. An agent whose last certificate has expired goes when agent_retention is over, with an event of the system's; its token
// stays spent for as long as that could be tried.
func TestWhatHasExpiredGoesByItself(t *testing.T) {
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

	aged := map[int]string{}
	for _, days := range []int{89, 92} {
		aged[days] = in.ageEvent(days)
	}
	eventually(t, "the certificate has expired", 90*time.Second, func() bool { return time.Now().Unix() > goes.Expiration })
	must(t, in.vault.ReloadPlugin(in.ctx(), pluginName)) // a new process looks at every row once
	eventually(t, "the expired agent's row is gone", time.Minute, func() bool {
		_, err := in.engine.Agent(in.ctx(), goes.AgentID)
		return apitype.CodeOf(err) == apitype.AgentUnknown
	})
	eventually(t, "what is older than audit_retention is gone", time.Minute, func() bool { return !in.stored(aged[92]) })
	if !in.stored(aged[89]) {
		t.Error("an event went before its time")
	}
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

// raw is where the engine's storage is, behind Vault's encryption.
func (in *installation) raw() string {
	in.t.Helper()
	mounts, err := in.vault.Client().Sys().ListMountsWithContext(in.ctx())
	must(in.t, err)
	return "sys/raw/logical/" + mounts["ampora/"].UUID + "/"
}

func (in *installation) stored(key string) bool {
	in.t.Helper()
	row, err := in.vault.Client().Logical().ReadWithContext(in.ctx(), in.raw()+key)
	must(in.t, err)
	return row != nil
}

// ageEvent copies an event's row to where it would lie if it were so many days old, under an id of its own: time itself
// cannot be waited for. It answers the copy's key.
func (in *installation) ageEvent(days int) string {
	in.t.Helper()
	logical, then := in.vault.Client().Logical(), time.Now().AddDate(0, 0, -days).UTC()
	today := "event/" + time.Now().UTC().Format("20060102") + "/"
	list, err := logical.ListWithContext(in.ctx(), in.raw()+today)
	must(in.t, err)
	name := list.Data["keys"].([]any)[0].(string)
	row, err := logical.ReadWithContext(in.ctx(), in.raw()+today+name)
	must(in.t, err)
	var envelope struct {
		Version int            `json:"v"`
		Row     map[string]any `json:"row"`
	}
	must(in.t, json.Unmarshal([]byte(row.Data["value"].(string)), &envelope))
	id := uuid.New()
	text := base64.RawURLEncoding.EncodeToString(id[:])
	envelope.Row["id"], envelope.Row["time"] = text, then
	delete(envelope.Row, "more")
	value, err := json.Marshal(envelope)
	must(in.t, err)
	key := fmt.Sprintf("event/%s/%016x.%s", then.Format("20060102"), then.UnixMicro(), text)
	_, err = logical.WriteWithContext(in.ctx(), in.raw()+key, map[string]any{"value": string(value)})
	must(in.t, err)
	return key
}
