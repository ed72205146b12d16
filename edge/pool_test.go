package edge_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ampora/ampora/edge"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/plugintest"
	"github.com/ampora/ampora/plugin/token"
)

// holder is somebody who knows a pool, its secret and this edge.
type holder struct {
	w      *world
	http   *http.Client
	pool   string
	secret string
}

func (w *world) holder(pool, secret string) *holder {
	h := &holder{w: w, pool: pool, secret: secret}
	h.http = &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: w.roots}, ForceAttemptHTTP2: true}}
	w.t.Cleanup(h.http.CloseIdleConnections)
	return h
}

// newPool makes a pool and a holder of its secret.
func (w *world) newPool(name string, in apitype.PoolRequest) *holder {
	w.t.Helper()
	pool, err := w.vault.WritePool(w.t.Context(), name, in)
	if err != nil {
		w.t.Fatal(err)
	}
	return w.holder(name, pool.AdminSecret)
}

// shownToken is a token as the API answers it.
type shownToken struct{ Token, TokenID, ExpiresAt string }

type shownTokens struct {
	shownToken
	Tokens  []shownToken
	BatchID string
}

// issue sends a body; exactly one of the results is set.
func (h *holder) issue(body string) (*shownTokens, *refusal) {
	h.w.t.Helper()
	req, err := http.NewRequest(http.MethodPost, "https://"+h.w.addr+"/api/tokens/pools/"+h.pool+"/issue", strings.NewReader(body))
	if err != nil {
		h.w.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+h.secret)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := h.http.Do(req)
	if err != nil {
		h.w.t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		r := refusalOf(h.w.t, resp)
		return nil, &r
	}
	raw, err := io.ReadAll(resp.Body)
	var out shownTokens
	if err == nil {
		decoder := json.NewDecoder(bytes.NewReader(raw))
		decoder.DisallowUnknownFields()
		err = decoder.Decode(&out)
	}
	if err != nil || resp.Header.Get("Cache-Control") != "no-store" || resp.Header.Get("Content-Type") != "application/json" {
		h.w.t.Fatalf("the answer is %v %s: %v", resp.Header, raw, err)
	}
	return &out, nil
}

func (h *holder) mustIssue(body string) *shownTokens {
	h.w.t.Helper()
	out, r := h.issue(body)
	if r != nil {
		h.w.t.Fatalf("refused: %d %s %s", r.status, r.code, r.problem.Detail)
	}
	return out
}

func (h *holder) mustRefuse(body string, status int, code apitype.Code) {
	h.w.t.Helper()
	if _, r := h.issue(body); r == nil || r.status != status || r.code != code {
		h.w.t.Fatalf("%s: answered %+v, want %d %s", body, r, status, code)
	}
}

func ptr[T any](v T) *T { return &v }

func TestAPoolsSecretIssuesTokensThatEnrolAgents(t *testing.T) {
	w := newWorld(t)
	h := w.newPool("ci", apitype.PoolRequest{DefaultTTL: ptr(int64(3600)), MaxTTL: ptr(int64(7200))})
	row, err := w.vault.Pool(t.Context(), "ci")
	if err != nil {
		t.Fatal(err)
	}
	byID := w.holder(row.PoolID, h.secret)

	for name, c := range map[string]struct {
		h    *holder
		body string
		ttl  time.Duration
	}{
		"as scripts do it":     {h, `{"ttlMinutes":15}`, 15 * time.Minute},
		"by the pool's id":     {byID, `{"ttlMinutes":15}`, 15 * time.Minute},
		"without a body":       {h, ``, time.Hour},
		"with an empty object": {h, `{}`, time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			before := time.Now()
			got := c.h.mustIssue(c.body)
			expires, err := time.Parse(time.RFC3339, got.ExpiresAt)
			if off := expires.Sub(before.Add(c.ttl)); err != nil || off < -2*time.Second || off > 10*time.Second {
				t.Errorf("it expires at %s, %v", got.ExpiresAt, err)
			}
			s, err := token.Parse(token.Bootstrap, got.Token)
			if err != nil || s.ID() != got.TokenID || got.Tokens != nil || got.BatchID != "" {
				t.Errorf("%v: %+v", err, got)
			}
			a := w.newAgent("Bearer " + got.Token)
			conn := a.mustDial()
			conn.send(a.message(withDescription("host-1"), a.withCSR()))
			a.take(conn.receive())
			agent, err := w.vault.Agent(t.Context(), s.AgentID())
			if err != nil || agent.TokenID != got.TokenID || agent.Pool != "ci" {
				t.Errorf("%v: %+v", err, agent)
			}
		})
	}

	one := h.mustIssue(`{"count":1,"label":"just one"}`)
	if len(one.Tokens) != 1 || one.Token != "" {
		t.Errorf("%+v", one)
	}
	many := h.mustIssue(`{"count":1000,"label":"a thousand","ttlMinutes":30}`)
	if len(many.Tokens) != 1000 || many.BatchID == "" {
		t.Fatalf("%d tokens, batch %q", len(many.Tokens), many.BatchID)
	}
	for _, i := range []int{0, 999} {
		info, err := w.vault.Token(t.Context(), many.Tokens[i].TokenID)
		if err != nil || info.Label != "a thousand" || info.Pool != "ci" {
			t.Errorf("%v: %+v", err, info)
		}
		w.unspent(many.Tokens[i].Token)
	}
	events, err := w.vault.Events(t.Context(), apitype.EventsRequest{Action: apitype.ActionTokenIssued, Limit: 10})
	if err != nil || len(events.Events) == 0 || events.Events[0].SourceIP != "127.0.0.1" {
		t.Errorf("%v: %+v", err, events)
	}
	if got := w.metric("ampora_edge_pool_tokens_total"); got != "1005" {
		t.Errorf("%s tokens are counted", got)
	}
	if got := w.metric(`ampora_edge_pool_requests_total{code="ok"}`); got != "6" {
		t.Errorf("%s requests are counted", got)
	}

	log := w.log.String()
	for _, id := range []string{one.Tokens[0].TokenID, many.BatchID, many.Tokens[999].TokenID} {
		if !strings.Contains(log, id) {
			t.Errorf("the log does not name %s", id)
		}
	}
	for _, secret := range []string{h.secret, one.Tokens[0].Token, many.Tokens[0].Token} {
		if strings.Contains(log, secret[10:40]) {
			t.Error("the log holds a secret")
		}
	}
}

func TestAPoolsRefusals(t *testing.T) {
	w := newWorld(t)
	w.newPool("other", apitype.PoolRequest{})
	h := w.newPool("ci", apitype.PoolRequest{MaxTTL: ptr(int64(3600)), MaxOutstanding: ptr(int64(2))})
	for body, want := range map[string]apitype.Code{
		`{"ttlMinutes":61}`:       apitype.TTLOutOfRange,
		`{"ttlMinutes":14}`:       apitype.TTLOutOfRange, // config.token_min_ttl
		`{"ttlMinutes":52560000}`: apitype.TTLOutOfRange,
		`{"ttlMinutes":"15"}`:     apitype.FieldInvalid,
		`{"ttlMinutes":15`:        apitype.FieldInvalid,
		`{"label":"a\nb"}`:        apitype.FieldInvalid,
	} {
		h.mustRefuse(body, 400, want)
	}
	h.mustRefuse(`{"count":3}`, 409, apitype.PoolFull)
	h.mustIssue(`{"count":2}`)
	h.mustRefuse(``, 409, apitype.PoolFull)

	for name, wrong := range map[string]*holder{
		"another pool's":  w.holder("other", h.secret),
		"of no pool":      w.holder("nothing", h.secret),
		"never made here": w.holder("ci", token.New(token.PoolSecret).Reveal()),
		"of no id":        w.holder("0197a1b2-0000-7000-8000-000000000000", h.secret),
	} {
		t.Run(name, func(t *testing.T) {
			wrong.mustRefuse(``, 401, apitype.PoolSecretInvalid)
			wrong.mustRefuse(``, 401, apitype.PoolSecretInvalid) // as remembered
		})
	}

	// Revoked: the secret is dead, and so are the tokens. Rotated: the new one works, also where the old one is remembered.
	if _, err := w.vault.RevokePool(t.Context(), "ci", apitype.RevokeRequest{Reason: "leaked"}); err != nil {
		t.Fatal(err)
	}
	h.mustRefuse(``, 401, apitype.PoolSecretInvalid)
	rotated, err := w.vault.RotatePoolSecret(t.Context(), "ci", apitype.RevokeRequest{})
	if err != nil {
		t.Fatal(err)
	}
	h.mustRefuse(``, 401, apitype.PoolSecretInvalid)
	w.holder("ci", rotated.AdminSecret).mustIssue(``)

	// A pool that is made under a name which was refused before.
	if _, r := w.holder("late", h.secret).issue(``); r == nil || r.code != apitype.PoolSecretInvalid {
		t.Fatalf("%+v", r)
	}
	w.newPool("late", apitype.PoolRequest{}).mustIssue(``)

	for _, secret := range []string{h.secret, rotated.AdminSecret} {
		if strings.Contains(w.log.String(), secret[10:40]) {
			t.Error("the log holds a secret")
		}
	}
}

func TestManyIssueAtOnce(t *testing.T) {
	w := newWorld(t)
	h := w.newPool("ci", apitype.PoolRequest{})
	var mu sync.Mutex
	seen := map[string]bool{}
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			out, r := h.issue(`{"count":5}`)
			if r != nil {
				t.Errorf("refused: %d %s", r.status, r.code)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			for _, one := range out.Tokens {
				seen[one.TokenID] = true
			}
		})
	}
	wg.Wait()
	if len(seen) != 64*5 {
		t.Errorf("%d different tokens", len(seen))
	}
}

func TestAnAdminSecretNeverStandsInAnAddress(t *testing.T) {
	w := newWorld(t)
	h := w.newPool("ci", apitype.PoolRequest{})
	for _, pool := range []string{h.secret, "AMP-PS.x", "%61mp-ps.x", "ci/issue?secret=" + h.secret + "&x="} {
		w.holder(pool, h.secret).mustRefuse(``, 400, apitype.FieldInvalid)
	}
	for _, pool := range []string{"ci%2Fadmin", "..", "a/b"} { // never anything else of Vault's
		if _, r := w.holder(pool, h.secret).issue(``); r == nil || r.status != 404 && r.code != apitype.NameInvalid {
			t.Errorf("%s: %+v", pool, r)
		}
	}
	if strings.Contains(w.log.String(), h.secret[10:40]) {
		t.Error("the log holds the secret")
	}
}

func TestAnEdgeOfATenantIssuesFromItsPoolsOnly(t *testing.T) {
	engine := plugintest.Start(t)
	engine.Configure(t, "wss://127.0.0.1:4320/v1/opamp")
	w := &world{t: t, engine: engine, vault: engine.Client(t)}
	w.startEdge(func(o *edge.Options) { o.Tenant = "acme" })
	made := map[string]*apitype.Pool{}
	for _, tenant := range []string{"", "acme", "umbrella"} {
		pool, err := w.vault.ForTenant(tenant).WritePool(t.Context(), "ci", apitype.PoolRequest{})
		if err != nil {
			t.Fatal(err)
		}
		made[tenant] = pool
	}
	w.holder("ci", made["acme"].AdminSecret).mustIssue(``)
	w.holder(made["acme"].PoolID, made["acme"].AdminSecret).mustIssue(``)
	for _, tenant := range []string{"", "umbrella"} {
		w.holder("ci", made[tenant].AdminSecret).mustRefuse(``, 401, apitype.PoolSecretInvalid)
		w.holder(made[tenant].PoolID, made[tenant].AdminSecret).mustRefuse(``, 401, apitype.PoolSecretInvalid)
	}
}

func TestWithoutVaultAPoolsHolderIsToldToComeAgain(t *testing.T) {
	w := newWorld(t)
	h := w.newPool("ci", apitype.PoolRequest{})
	w.engine.SetAway(true)
	_, r := h.issue(``)
	if r == nil || r.status != 503 || r.code != apitype.VaultUnavailable || r.header.Get("Retry-After") == "" {
		t.Fatalf("%+v", r)
	}
	w.engine.SetAway(false)
	h.mustIssue(``)
}

func TestAFloodOfWrongSecretsStopsNobodyElse(t *testing.T) {
	w := newWorld(t)
	h := w.newPool("ci", apitype.PoolRequest{})
	h.mustIssue(``)
	known := w.enrolled()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 32 {
		flood := w.holder("ci", "")
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				one := *flood
				one.secret = token.New(token.PoolSecret).Reveal()
				if out, _ := one.issue(``); out != nil {
					t.Error("a wrong secret got a token")
				}
			}
		})
	}
	defer wg.Wait()
	defer close(stop)
	w.eventually("the flood is held up", 20*time.Second, func() bool {
		return w.metric(`ampora_edge_pool_requests_total{code="rate_limited"}`) != "0"
	})
	start := time.Now()
	h.mustIssue(``)
	known.mustDial()
	fresh := w.newAgent("Bearer " + h.mustIssue(`{"ttlMinutes":15}`).Token)
	c := fresh.mustDial()
	c.send(fresh.message(fresh.withCSR()))
	fresh.take(c.receive())
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("the others waited %v", took)
	}
}

func TestADrainFinishesWhatIsBeingIssued(t *testing.T) {
	w := newWorld(t)
	h := w.newPool("ci", apitype.PoolRequest{})
	h.mustIssue(``) // and the connection stays
	req, err := http.NewRequest(http.MethodPost, "https://"+w.addr+"/api/tokens/pools/ci/issue", nil)
	if err != nil {
		t.Fatal(err)
	}
	body, send := io.Pipe()
	req.Body = body
	req.Header.Set("Authorization", "Bearer "+h.secret)
	req.Header.Set("Content-Type", "application/json")
	answered := make(chan int, 1)
	go func() {
		resp, err := h.http.Do(req)
		if err != nil {
			t.Error(err)
			answered <- 0
			return
		}
		resp.Body.Close()
		answered <- resp.StatusCode
	}()
	if _, err := io.WriteString(send, `{"ttlMinutes":`); err != nil { // it is under way
		t.Fatal(err)
	}
	time.Sleep(300 * time.Millisecond)
	stopped := make(chan error, 1)
	go func() { stopped <- w.edge.Stop(context.Background()) }()
	w.eventually("the edge drains", 5*time.Second, func() bool { status, _ := w.admin("/readyz"); return status != http.StatusOK })
	_, _ = io.WriteString(send, `15}`)
	send.Close()
	if status := <-answered; status != http.StatusCreated {
		t.Errorf("answered %d", status)
	}
	if err := <-stopped; err != nil {
		t.Errorf("stop: %v", err)
	}
}
