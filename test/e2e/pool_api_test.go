package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/token"
)

// curlLine is what scripts out there run, to the letter but for the host and for what verifies it.
const curlLine = `curl -fsS -X POST -H "Authorization: Bearer ${POOL_ADMIN_SECRET}" -H "Content-Type: application/json" -d '{"ttlMinutes":15}' "https://HOST/api/tokens/pools/${POOL_ID}/issue" | jq -r '.token'`

// issueByScript runs the line and returns the token.
func (in *installation) issueByScript(addr, pool, secret string) (said string, err error) {
	in.t.Helper()
	for _, program := range []string{"curl", "jq"} {
		if _, err := exec.LookPath(program); err != nil {
			in.t.Logf("there is no %s here: Go does the same", program)
			return in.issueByGo(addr, pool, secret)
		}
	}
	cmd := exec.CommandContext(in.ctx(), "bash", "-c", "set -o pipefail; "+strings.Replace(curlLine, "HOST", addr, 1))
	// CURL_CA_BUNDLE is --cacert for a line that must not be changed.
	cmd.Env = append(environment(), "POOL_ADMIN_SECRET="+secret, "POOL_ID="+pool, "CURL_CA_BUNDLE="+in.ca)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	return strings.TrimSpace(string(out)) + stderr.String(), err
}

func (in *installation) issueByGo(addr, pool, secret string) (string, error) {
	in.t.Helper()
	resp := in.askPool(addr, pool, secret, `{"ttlMinutes":15}`)
	defer resp.Body.Close()
	var out struct{ Token string }
	err := json.NewDecoder(resp.Body).Decode(&out)
	if resp.StatusCode >= 400 {
		return resp.Status, &exec.ExitError{}
	}
	return out.Token, err
}

// askPool sends one request; the caller closes the answer.
func (in *installation) askPool(addr, pool, secret, body string) *http.Response {
	in.t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(in.read(in.ca)))
	client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true}}
	req, err := http.NewRequestWithContext(in.ctx(), http.MethodPost, "https://"+addr+"/api/tokens/pools/"+pool+"/issue", strings.NewReader(body))
	must(in.t, err)
	req.Header.Set("Authorization", "Bearer "+secret)
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	must(in.t, err)
	return resp
}

// pool makes a pool, and sees to it that its secret is searched for at the end.
func (in *installation) pool(tenant, name string) *apitype.Pool {
	in.t.Helper()
	made, err := in.engine.ForTenant(tenant).WritePool(in.ctx(), name, apitype.PoolRequest{})
	must(in.t, err)
	in.secrets.add("a pool's admin secret", strings.Split(made.AdminSecret, ".")[1])
	return made
}

func TestAScriptIssuesFromAPoolAndTheTokenEnrols(t *testing.T) {
	t.Parallel()
	in := install(t)
	e := in.edge("one")
	pool := in.pool("", "web")
	for name, ref := range map[string]string{"by its id": pool.PoolID, "by its name": "web"} {
		t.Run(name, func(t *testing.T) {
			in := in.within(t)
			said, err := in.issueByScript(e.addr, ref, pool.AdminSecret)
			if err != nil {
				t.Fatalf("%v: %s", err, said)
			}
			secret, err := token.Parse(token.Bootstrap, said)
			must(t, err)
			in.secrets.addToken(said)
			out := filepath.Join(t.TempDir(), "identity")
			if said, ok := in.enroll(e.endpoint("wss"), said, out); !ok {
				t.Fatalf("ampora enroll failed:\n%s", said)
			}
			in.secrets.addKey(in.read(filepath.Join(out, "key.pem")))
			row := in.wantEnrolled(&apitype.IssuedToken{Token: said, TokenID: secret.ID()})
			if row.Pool != "web" {
				t.Errorf("the agent's row is %s", asJSON(row))
			}
			in.wantSeen(row.AgentID, "one")
			log := in.read(e.log)
			if !strings.Contains(log, secret.ID()) {
				t.Error("the edge's log does not name the token")
			}
		})
	}

	// What the pool has issued ends together; who came in before stays.
	unused, err := in.issueByScript(e.addr, "web", pool.AdminSecret)
	must(t, err)
	in.secrets.addToken(unused)
	_, err = in.engine.RevokePool(in.ctx(), "web", apitype.RevokeRequest{Reason: "the secret has leaked"})
	must(t, err)
	if said, err := in.issueByScript(e.addr, "web", pool.AdminSecret); err == nil || !strings.Contains(said, "401") {
		t.Errorf("a revoked pool's secret: %v %s", err, said)
	}
	if said, ok := in.enroll(e.endpoint("wss"), unused, filepath.Join(t.TempDir(), "late")); ok || !strings.Contains(said, string(apitype.PoolRevoked)) {
		t.Errorf("a token of a revoked pool: %v\n%s", ok, said)
	}
	for id, row := range in.agents() {
		if row.State != apitype.AgentStateActive {
			t.Errorf("agent %s is %s", id, row.State)
		}
	}
}

func TestAnEdgeOfATenantIssuesByItsTenantsPolicy(t *testing.T) {
	t.Parallel()
	in := install(t)
	policy, err := os.ReadFile("../../scripts/policies/edge.hcl")
	must(t, err)
	text := string(policy)
	for _, line := range strings.Split(text, "\n") { // the variant for one tenant, and the edge's own token
		if variant, found := strings.CutPrefix(line, "# path "); found {
			text += "\npath " + variant
		}
	}
	for _, general := range []string{"ampora/edge/report", "ampora/redeem", "ampora/redeem/check", "ampora/pools/+/admin/issue"} {
		text = strings.Replace(text, "path \""+general+"\" {\n  capabilities = [\"update\"]", "path \""+general+"\" {\n  capabilities = [\"deny\"]", 1)
	}
	must(t, in.vault.Client().Sys().PutPolicyWithContext(in.ctx(), "ampora-edge", text))
	e := in.edge("one", "--tenant", "acme")
	acme, umbrella := in.pool("acme", "web"), in.pool("umbrella", "web")
	said, err := in.issueByScript(e.addr, "web", acme.AdminSecret)
	if err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	in.secrets.addToken(said)
	out := filepath.Join(t.TempDir(), "identity")
	if said, ok := in.enroll(e.endpoint("wss"), said, out); !ok {
		t.Fatalf("ampora enroll failed:\n%s", said)
	}
	in.secrets.addKey(in.read(filepath.Join(out, "key.pem")))
	for _, pool := range []string{"web", umbrella.PoolID} {
		if said, err := in.issueByScript(e.addr, pool, umbrella.AdminSecret); err == nil || !strings.Contains(said, "401") {
			t.Errorf("another tenant's pool: %v %s", err, said)
		}
	}
}

// A thousand at once, and bodies that must leave nothing behind.
func TestAPoolsBatchIsWholeOrNotThere(t *testing.T) {
	t.Parallel()
	in := install(t)
	e := in.edge("one")
	pool := in.pool("", "fleet")
	outstanding := func() int {
		t.Helper()
		list, err := in.engine.Tokens(in.ctx(), apitype.Page{Limit: 5000})
		must(t, err)
		return len(list.Keys)
	}
	for _, body := range []string{`{"count":0}`, `{"count":-1}`, `{"count":1000000000}`, `{"count":1001}`, `{"count":5,"count":6}`, `{"ttlMinutes":"15m"}`,
		`{"ttlMinutes":10081}`, `{"count":1000,"ttlMinutes":14}`, `no JSON`, `{"label":"` + strings.Repeat("x", 1<<20) + `"}`, `{"count":2,"tenant":"x"}`} {
		resp := in.askPool(e.addr, "fleet", pool.AdminSecret, body)
		answer, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode < 400 || resp.StatusCode > 413 || !strings.Contains(string(answer), "urn:ampora:error:") {
			t.Errorf("%.40s: %s %s", body, resp.Status, answer)
		}
	}
	if n := outstanding(); n != 0 {
		t.Errorf("%d tokens were made", n)
	}
	began := time.Now()
	resp := in.askPool(e.addr, "fleet", pool.AdminSecret, `{"count":1000,"label":"fleet"}`)
	defer resp.Body.Close()
	var out struct {
		Tokens  []struct{ Token, TokenID string }
		BatchID string
	}
	must(t, json.NewDecoder(resp.Body).Decode(&out))
	if resp.StatusCode != http.StatusCreated || len(out.Tokens) != 1000 || out.BatchID == "" {
		t.Fatalf("%s, %d tokens, batch %q", resp.Status, len(out.Tokens), out.BatchID)
	}
	t.Logf("a thousand tokens took %v", time.Since(began))
	for _, one := range out.Tokens[:20] {
		in.secrets.addToken(one.Token)
	}
	if n := outstanding(); n != 1000 {
		t.Errorf("%d tokens are outstanding", n)
	}
	ctx, cancel := context.WithTimeout(in.ctx(), time.Minute)
	defer cancel()
	events, err := in.engine.Events(ctx, apitype.EventsRequest{EntityID: out.BatchID})
	if err != nil || len(events.Events) != 1 || events.Events[0].Action != apitype.ActionTokenIssued {
		t.Errorf("the batch's events: %v %s", err, asJSON(events))
	}
}
