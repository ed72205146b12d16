package e2e

import (
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/ampora/ampora/plugin/apitype"
	"google.golang.org/protobuf/proto"
)

// put sends a body to Vault as it stands, where a client of Vault would make JSON of it.
func (in *installation) put(path, body string) (status int, answer string) {
	in.t.Helper()
	req, err := http.NewRequestWithContext(in.ctx(), http.MethodPut, in.vault.Addr+"/v1/ampora/"+path, strings.NewReader(body))
	must(in.t, err)
	req.Header.Set("X-Vault-Token", in.vault.RootToken)
	resp, err := http.DefaultClient.Do(req)
	must(in.t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	must(in.t, err)
	return resp.StatusCode, string(text)
}

// TestPoolsFromMakingToDeleting walks through what an operator and a pipeline do with a pool on a real Vault, where
// everything passes Vault's own HTTP, policies and audit on the way.
func TestPoolsFromMakingToDeleting(t *testing.T) {
	t.Parallel()
	in := install(t)
	e := in.edge("one")
	ctx := in.ctx()
	ttl := int64(3600)
	made, err := in.engine.WritePool(ctx, "ci", apitype.PoolRequest{DefaultTTL: &ttl})
	must(t, err)
	in.secrets.add("the pool's admin secret", made.AdminSecret)
	if read, err := in.engine.Pool(ctx, "ci"); err != nil || read.AdminSecret != "" || read.PoolID != made.PoolID {
		t.Fatalf("%+v, %v", read, err)
	}

	count := int64(apitype.MaxCount)
	batch, err := in.engine.IssueFromPool(ctx, "ci", apitype.PoolIssueRequest{Count: &count, Label: "rack 7"})
	must(t, err)
	for _, issued := range batch.Tokens {
		in.secrets.add("a token of the batch", issued.Token)
	}
	single, err := in.engine.IssueFromPool(ctx, "ci", apitype.PoolIssueRequest{})
	must(t, err)
	in.secrets.add("a token of the pool", single.Token)
	for _, text := range []string{batch.Tokens[999].Token, single.Token} {
		a := e.mustPost(t, "Bearer "+text, nil, message(newCSR()))
		if a.status != http.StatusOK || a.code != "" {
			t.Fatalf("a token of the pool: %d %s %s", a.status, a.code, a.text)
		}
	}
	agents, err := in.engine.Agents(ctx, apitype.Page{Pool: "ci"})
	must(t, err)
	if len(agents.Keys) != 2 {
		t.Errorf("%d agents of the pool", len(agents.Keys))
	}

	// Bodies that no client of Vault would send. Nothing comes of any. What Vault itself refuses, it calls 500.
	before, err := in.engine.Tokens(ctx, apitype.Page{})
	must(t, err)
	for name, c := range map[string]struct {
		body   string
		status int
	}{
		"no JSON":             {`count=2`, 0},
		"half a JSON":         {`{"count": 2`, 0},
		"a list":              {`[2]`, 0},
		"a key twice":         {`{"count": 2, "count": 3}`, 0},
		"a string over 1 MiB": {`{"label": "` + strings.Repeat("x", 1<<20+1) + `"}`, 0},
		"a label of 10 kB":    {`{"label": "` + strings.Repeat("x", 10<<10) + `"}`, 400},
		"a deep body":         {strings.Repeat(`{"count":`, 500) + "1" + strings.Repeat("}", 500), 0},
		"a number too large":  {`{"count": 1e400}`, 0},
		"a fraction":          {`{"count": 1.5}`, 400},
		"a wrong ttl":         {`{"ttl": "169h"}`, 400},
	} {
		status, answer := in.put("pools/ci/issue", c.body)
		if status < 400 || c.status != 0 && status != c.status {
			t.Errorf("%s: answered %d %.200s", name, status, answer)
		}
	}
	after, err := in.engine.Tokens(ctx, apitype.Page{})
	must(t, err)
	if len(after.Keys) != len(before.Keys) {
		t.Errorf("%d tokens came of bad bodies", len(after.Keys)-len(before.Keys))
	}
	// Everything that was issued so far ends with one call, and while it ends, tokens are being redeemed.
	var wg sync.WaitGroup
	for _, issued := range batch.Tokens[:20] {
		body, err := proto.Marshal(message(newCSR()))
		must(t, err)
		wg.Go(func() { _, _ = e.post("Bearer "+issued.Token, nil, body) }) // whichever comes first
	}
	_, err = in.engine.RevokePool(ctx, "ci", apitype.RevokeRequest{Reason: "leaked on a wiki"})
	must(t, err)
	enrolled, err := in.engine.Agents(ctx, apitype.Page{Pool: "ci"})
	must(t, err)
	wg.Wait()
	for _, issued := range batch.Tokens[20:40] {
		if a := e.mustPost(t, "Bearer "+issued.Token, nil, message(newCSR())); a.code != apitype.PoolRevoked {
			t.Fatalf("after the revocation: %d %s %s", a.status, a.code, a.text)
		}
	}
	late, err := in.engine.Agents(ctx, apitype.Page{Pool: "ci"})
	must(t, err)
	if len(late.Keys) != len(enrolled.Keys) {
		t.Errorf("%d agents when the revocation had answered, %d later", len(enrolled.Keys), len(late.Keys))
	}
	for id, agent := range late.KeyInfo {
		if agent.State != apitype.AgentStateActive {
			t.Errorf("agent %s is %s: what was issued lives on", id, agent.State)
		}
	}
	if _, err := in.engine.IssueWithSecret(ctx, "ci", apitype.PoolAdminIssueRequest{AdminSecret: made.AdminSecret}); apitype.CodeOf(err) != apitype.PoolSecretInvalid {
		t.Errorf("the leaked secret: %v", err)
	}
	rotated, err := in.engine.RotatePoolSecret(ctx, "ci", apitype.RevokeRequest{})
	must(t, err)
	in.secrets.add("the pool's second admin secret", rotated.AdminSecret)
	must(t, in.engine.DeletePool(ctx, "ci"))
	again, err := in.engine.WritePool(ctx, "ci", apitype.PoolRequest{})
	must(t, err)
	in.secrets.add("the admin secret of the pool made again", again.AdminSecret)
	if a := e.mustPost(t, "Bearer "+batch.Tokens[50].Token, nil, message(newCSR())); a.code != apitype.PoolRevoked {
		t.Errorf("a token of the pool before: %d %s %s", a.status, a.code, a.text)
	}
}
