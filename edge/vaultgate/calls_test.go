package vaultgate

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	vaultapi "github.com/hashicorp/vault/api"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// These tests are about repetition and translation alone, and need answers that a healthy Vault does not give when it is
// asked to. How a real one behaves is in vault_test.go.

// script is a server that answers the n-th call of the engine by the n-th step, and the last one from then on.
type script struct {
	steps []http.HandlerFunc

	mu     sync.Mutex
	bodies []map[string]any
}

func (s *script) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/v1/auth/token/lookup-self" {
		say(http.StatusOK, `{"data":{"ttl":0,"renewable":false}}`)(w, r)
		return
	}
	var body map[string]any
	raw, _ := io.ReadAll(r.Body)
	_ = json.Unmarshal(raw, &body)
	s.mu.Lock()
	step := s.steps[min(len(s.bodies), len(s.steps)-1)]
	s.bodies = append(s.bodies, body)
	s.mu.Unlock()
	step(w, r)
}

func (s *script) asked() []map[string]any {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bodies
}

func say(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

func refuse(code apitype.Code) http.HandlerFunc {
	text, _ := json.Marshal(map[string][]string{"errors": {apitype.Errorf(code, "here").Error()}})
	return say(code.VaultStatus(), string(text))
}

// hangUp takes the request and breaks the connection instead of answering.
func hangUp(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

func newScripted(t *testing.T, o Options, steps ...http.HandlerFunc) (*Gate, *script) {
	t.Helper()
	s := &script{steps: steps}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	o.Vault = vaultapi.DefaultConfig()
	o.Vault.Address = server.URL
	o.Auth.Token = "root"
	g, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Stop)
	return g, s
}

var (
	redeemed   = say(http.StatusOK, `{"data":{"agent_id":"a"}}`)
	redemption = apitype.RedeemRequest{Token: "amp-bs.x", IdempotencyKey: "0123456789abcdef"}
	crashed    = say(http.StatusInternalServerError, `{"errors":["rpc error: code = Unavailable desc = error reading from server: EOF"]}`)
	sealed     = say(http.StatusServiceUnavailable, `{"errors":["Vault is sealed"]}`)
)

func TestRedeemAsksAgainWithTheSameKeyUntilItKnows(t *testing.T) {
	for name, step := range map[string]http.HandlerFunc{
		"a broken connection": hangUp, "a crashed plugin": crashed, "a bad gateway": say(http.StatusBadGateway, "<html>"),
		"a sealed Vault": sealed, "an outcome unknown to the engine": refuse(apitype.OutcomeUnknown), "a loading engine": refuse(apitype.NotReady),
		"an answer that is cut off": say(http.StatusOK, `{"data":{"agent_`),
	} {
		t.Run(name, func(t *testing.T) {
			g, s := newScripted(t, Options{}, step, step, redeemed)
			got, err := g.Redeem(t.Context(), redemption)
			if err != nil || got.AgentID != "a" {
				t.Fatalf("%+v, %v: %s", got, err, Cause(err))
			}
			asked := s.asked()
			if len(asked) != 3 {
				t.Fatalf("asked %d times", len(asked))
			}
			for _, body := range asked {
				if body["idempotency_key"] != redemption.IdempotencyKey {
					t.Errorf("key %v", body["idempotency_key"])
				}
			}
		})
	}
}

func TestRedeemTakesARefusalForAnAnswer(t *testing.T) {
	g, s := newScripted(t, Options{}, crashed, refuse(apitype.TokenExpired))
	_, err := g.Redeem(t.Context(), redemption)
	if apitype.CodeOf(err) != apitype.TokenExpired || len(s.asked()) != 2 {
		t.Fatalf("%v after %d calls", err, len(s.asked()))
	}
}

func TestRedeemNeedsAKey(t *testing.T) {
	g, s := newScripted(t, Options{}, redeemed)
	if _, err := g.Redeem(t.Context(), apitype.RedeemRequest{Token: "amp-bs.x"}); apitype.CodeOf(err) != apitype.Internal || len(s.asked()) != 0 {
		t.Fatalf("%v", err)
	}
}

// When time runs out, the answer says whether the token may be spent.
func TestRedeemTellsWhetherSomethingMayHaveHappened(t *testing.T) {
	for name, c := range map[string]struct {
		step http.HandlerFunc
		code apitype.Code
	}{
		"lost":       {hangUp, apitype.OutcomeUnknown},
		"crashed":    {crashed, apitype.OutcomeUnknown},
		"sealed":     {sealed, apitype.VaultUnavailable},
		"no mount":   {say(http.StatusNotFound, `{"errors":["no handler for route"]}`), apitype.VaultUnavailable},
		"overloaded": {say(http.StatusTooManyRequests, `{"errors":["rate limit quota exceeded"]}`), apitype.VaultUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			var err error
			// Where time runs out in the middle of a call, it may have happened; on a busy machine that is likely.
			for tries := 0; tries < 20 && apitype.CodeOf(err) != c.code; tries++ {
				g, _ := newScripted(t, Options{}, c.step)
				g.ops.redeem.total = time.Second
				_, err = g.Redeem(t.Context(), redemption)
			}
			if got := apitype.CodeOf(err); got != c.code {
				t.Errorf("%s, want %s: %s", got, c.code, Cause(err))
			}
			if name == "lost" && errors.Is(err, errGivenUp) {
				t.Error("the caller did not give up")
			}
		})
	}
}

func TestAFaultOfTheEngineIsNotAskedForEver(t *testing.T) {
	g, s := newScripted(t, Options{}, refuse(apitype.Internal))
	_, err := g.Redeem(t.Context(), redemption)
	if apitype.CodeOf(err) != apitype.Internal || len(s.asked()) != faultTries {
		t.Fatalf("%v after %d calls", err, len(s.asked()))
	}
}

func TestOtherCallsAreNotRepeated(t *testing.T) {
	g, s := newScripted(t, Options{}, crashed)
	ctx := t.Context()
	if _, err := g.Sync(ctx, apitype.SyncRequest{}); apitype.CodeOf(err) != apitype.VaultUnavailable {
		t.Errorf("%v", err)
	}
	if _, err := g.Report(ctx, apitype.ReportRequest{}); apitype.CodeOf(err) != apitype.VaultUnavailable {
		t.Errorf("%v", err)
	}
	if _, err := g.EdgeCertificate(ctx, apitype.EdgeCertificateRequest{}); apitype.CodeOf(err) != apitype.VaultUnavailable {
		t.Errorf("%v", err)
	}
	if _, err := g.IssueWithSecret(ctx, "ci", apitype.PoolAdminIssueRequest{}); apitype.CodeOf(err) != apitype.VaultUnavailable {
		t.Errorf("%v", err)
	}
	if n := len(s.asked()); n != 4 {
		t.Errorf("asked %d times", n)
	}
	// A check consumes nothing and is repeated once.
	if _, err := g.RedeemCheck(ctx, apitype.RedeemCheckRequest{}); apitype.CodeOf(err) != apitype.VaultUnavailable || len(s.asked()) != 6 {
		t.Errorf("%v after %d calls", err, len(s.asked()))
	}
}

func TestAStormOfTokensDoesNotStarveSync(t *testing.T) {
	var redeeming atomic.Int64
	free := make(chan struct{})
	g, _ := newScripted(t, Options{BootstrapSlots: 2, BootstrapQueue: 3}, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/redeem/check") {
			redeeming.Add(1)
			<-free
		}
		say(http.StatusOK, `{"data":{"revision":"e.1","full":true}}`)(w, r)
	})
	codes := make(chan apitype.Code, 20)
	for range 20 {
		go func() {
			_, err := g.RedeemCheck(context.Background(), apitype.RedeemCheckRequest{})
			codes <- apitype.CodeOf(err)
		}()
	}
	// 2 are with Vault, 3 wait, and 15 are sent home at once.
	for range 15 {
		if code := <-codes; code != apitype.VaultUnavailable {
			t.Errorf("code %q", code)
		}
	}
	if n := redeeming.Load(); n > 2 {
		t.Errorf("%d at a time", n)
	}
	began := time.Now()
	if _, err := g.Sync(t.Context(), apitype.SyncRequest{}); err != nil {
		t.Errorf("%v", err)
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("sync took %s", took)
	}
	if !g.Status().Up {
		t.Error("a full queue counts as Vault being away")
	}
	close(free)
	for range 5 {
		if code := <-codes; code != "" {
			t.Errorf("code %q", code)
		}
	}
}

func TestPoolsQuestionsPeersAndBootstrapDoNotStarveEachOther(t *testing.T) {
	isCheck := func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/redeem/check") }
	isPool := func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/pools/ci/admin/issue") }
	check := func(g *Gate) error {
		_, err := g.RedeemCheck(context.Background(), apitype.RedeemCheckRequest{})
		return err
	}
	issue := func(g *Gate) error {
		_, err := g.IssueWithSecret(context.Background(), "ci", apitype.PoolAdminIssueRequest{})
		return err
	}
	isQuestion := func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/edge/ocsp") }
	ask := func(g *Gate) error {
		_, err := g.OCSP(context.Background(), apitype.OCSPRequest{})
		return err
	}
	isReceipt := func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/handover/receipt") }
	receipt := func(g *Gate) error {
		_, err := g.Receipt(context.Background(), apitype.ReceiptRequest{})
		return err
	}
	isOutbox := func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/handover/outbox") }
	outbox := func(g *Gate) error {
		_, err := g.Outbox(context.Background())
		return err
	}
	for name, c := range map[string]struct {
		stuck        func(*http.Request) bool
		room         int // of those that are with Vault, or wait
		flood, other func(*Gate) error
	}{
		"a flood at the pools": {isPool, poolSlots + poolQueue, issue, check},
		"a storm of tokens":    {isCheck, poolSlots + poolQueue, check, ask},
		"a flood of questions": {isQuestion, questionSlots + questionQueue, ask, issue},
		"receipts of peers":    {isReceipt, receiptSlots + receiptQueue, receipt, outbox},
		"an outbox that hangs": {isOutbox, federationSlots + federationQueue, outbox, receipt},
		"more receipts":        {isReceipt, receiptSlots + receiptQueue, receipt, check},
		"many logins":          {isCheck, poolSlots + poolQueue, check, receipt},
	} {
		t.Run(name, func(t *testing.T) {
			free := make(chan struct{})
			g, _ := newScripted(t, Options{BootstrapSlots: poolSlots, BootstrapQueue: poolQueue}, func(w http.ResponseWriter, r *http.Request) {
				if c.stuck(r) {
					<-free
				}
				say(http.StatusOK, `{"data":{"revision":"e.1","full":true}}`)(w, r)
			})
			all, home := 2*c.room, c.room
			codes := make(chan apitype.Code, all)
			for range all {
				go func() { codes <- apitype.CodeOf(c.flood(g)) }()
			}
			for range home {
				if code := <-codes; code != apitype.VaultUnavailable {
					t.Errorf("code %q", code)
				}
			}
			if err := c.other(g); err != nil {
				t.Errorf("the other side: %v", err)
			}
			if err := g.try(t.Context()); err != nil {
				t.Errorf("sync: %v", err)
			}
			if _, err := g.CRL(t.Context(), apitype.CRLRequest{}); err != nil {
				t.Errorf("a list: %v", err)
			}
			if !g.Status().Up {
				t.Error("a full queue counts as Vault being away")
			}
			close(free)
			for range all - home {
				<-codes
			}
		})
	}
}

// An outsider can choose to call what an older engine does not have.
func TestACallThatVaultDoesNotServeSaysNothingAboutTheRest(t *testing.T) {
	g, _ := newScripted(t, Options{}, say(http.StatusOK, `{"data":{"revision":"e.1"}}`), say(http.StatusNotFound, `{"errors":["unsupported path"]}`))
	works(t, g)
	if _, err := g.IssueWithSecret(t.Context(), "ci", apitype.PoolAdminIssueRequest{}); apitype.CodeOf(err) != apitype.VaultUnavailable {
		t.Errorf("%v", err)
	}
	if !g.Status().Up {
		t.Errorf("%+v", g.Status())
	}
	fails(t, g) // the feed decides
	if g.Status().Up {
		t.Error("the engine is gone, and that says nothing")
	}
}

func TestACallerThatGivesUpSaysNothingAboutVault(t *testing.T) {
	registry := prometheus.NewRegistry()
	free := make(chan struct{})
	defer close(free)
	g, _ := newScripted(t, Options{Registerer: registry}, say(http.StatusOK, `{"data":{"revision":"e.1"}}`), func(http.ResponseWriter, *http.Request) { <-free })
	if _, err := g.Sync(t.Context(), apitype.SyncRequest{}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := g.Sync(ctx, apitype.SyncRequest{}); !errors.Is(err, context.DeadlineExceeded) || apitype.CodeOf(err) != apitype.VaultUnavailable {
		t.Errorf("%v: %s", err, Cause(err))
	}
	if !g.Status().Up {
		t.Errorf("%+v", g.Status())
	}
	if err := testutil.GatherAndCompare(registry, strings.NewReader(`
# HELP ampora_edge_vault_calls_total Calls to the secrets engine by operation and outcome: ok, or the error code that the call ended with.
# TYPE ampora_edge_vault_calls_total counter
ampora_edge_vault_calls_total{code="canceled",op="sync"} 1
ampora_edge_vault_calls_total{code="ok",op="sync"} 1
`), "ampora_edge_vault_calls_total"); err != nil {
		t.Error(err)
	}
}

func TestMetricsAreWellFormed(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	g, _ := newScripted(t, Options{Registerer: registry}, refuse(apitype.TokenExpired))
	if _, err := g.RedeemCheck(t.Context(), apitype.RedeemCheckRequest{Token: "amp-bs.x"}); err == nil {
		t.Fatal("no refusal")
	}
	if problems, err := testutil.GatherAndLint(registry); err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
	if !g.Status().Up {
		t.Error("a refusal counts as Vault being away")
	}
	if _, err := New(Options{Auth: AuthOptions{Token: "t"}, Registerer: registry}); err == nil {
		t.Error("two gates on one registry")
	}
	g.Stop()
	g.Stop()
	second, err := New(Options{Auth: AuthOptions{Token: "t"}, Registerer: registry})
	if err != nil {
		t.Fatalf("after Stop: %v", err)
	}
	if _, err := second.Sync(t.Context(), apitype.SyncRequest{}); apitype.CodeOf(err) != apitype.VaultUnavailable {
		t.Errorf("before Start: %v", err)
	}
}

// Where the environment speaks of Vault, the Gate listens.
func TestVaultVariablesAreHonoured(t *testing.T) {
	headers := make(chan http.Header, 10)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		headers <- r.Header
		say(http.StatusOK, `{"data":{"ttl":0,"renewable":false,"revision":"e.1"}}`)(w, r)
	}))
	defer server.Close()
	t.Setenv("VAULT_ADDR", server.URL)
	t.Setenv("VAULT_TOKEN", "from-the-environment")
	t.Setenv("VAULT_NAMESPACE", "team")
	t.Setenv("VAULT_MAX_RETRIES", "7")
	t.Setenv("VAULT_WRAP_TTL", "1h")
	g, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer g.Stop()
	if _, err := g.Sync(t.Context(), apitype.SyncRequest{}); err != nil {
		t.Fatal(Cause(err))
	}
	for range 2 { // the lookup, the sync
		h := <-headers
		if h.Get("X-Vault-Token") != "from-the-environment" || h.Get("X-Vault-Namespace") != "team" || h.Get("X-Vault-Wrap-TTL") != "" {
			t.Errorf("%v", h)
		}
	}
	if n := g.client.Vault().MaxRetries(); n != 0 {
		t.Errorf("%d retries", n)
	}
	t.Setenv("VAULT_CACERT", "/nonexistent")
	if _, err := New(Options{}); err == nil || !strings.Contains(err.Error(), "VAULT_") {
		t.Errorf("%v", err)
	}
}

func TestCallsShareOneConnectionOverTLS(t *testing.T) {
	var connections, others atomic.Int64
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 {
			others.Add(1)
		}
		say(http.StatusOK, `{"data":{"ttl":0,"renewable":false,"revision":"e.1"}}`)(w, r)
	}))
	server.EnableHTTP2 = true
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	server.StartTLS()
	defer server.Close()
	t.Setenv("VAULT_ADDR", server.URL)
	t.Setenv("VAULT_CACERT_BYTES", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})))
	g, err := New(Options{Auth: AuthOptions{Token: "t"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer g.Stop()
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if _, err := g.Sync(t.Context(), apitype.SyncRequest{}); err != nil {
				t.Error(Cause(err))
			}
		})
	}
	all.Wait()
	if connections.Load() != 1 || others.Load() != 0 {
		t.Errorf("%d connections, %d requests not over HTTP/2", connections.Load(), others.Load())
	}
}

// A token may be taken back while there is no way to a new one: nobody is kept waiting for it.
func TestWithoutATokenCallsFailAtOnce(t *testing.T) {
	var dead atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case dead.Load():
			say(http.StatusForbidden, `{"errors":["2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n"]}`)(w, r)
		case r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/lookup-self"):
			say(http.StatusOK, `{"data":{"ttl":3600,"renewable":true}}`)(w, r)
		default:
			say(http.StatusOK, `{"data":{"revision":"e.1"}}`)(w, r)
		}
	}))
	defer server.Close()
	config := vaultapi.DefaultConfig()
	config.Address = server.URL
	g, err := New(Options{Vault: config, Auth: AuthOptions{Token: "t"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer g.Stop()
	if _, err := g.Sync(t.Context(), apitype.SyncRequest{}); err != nil {
		t.Fatal(Cause(err))
	}
	dead.Store(true)
	for range 3 {
		began := time.Now()
		_, err := g.Sync(t.Context(), apitype.SyncRequest{})
		if apitype.CodeOf(err) != apitype.VaultUnavailable || !errors.Is(err, errTokenDead) {
			t.Errorf("%v: %s", err, Cause(err))
		}
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("took %s", took)
		}
	}
	if g.keeper.ttl() != 0 {
		t.Errorf("ttl %s without a token", g.keeper.ttl())
	}
	// When the token is taken again (an operator restored Vault), the gate finds out by itself.
	dead.Store(false)
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if _, err := g.Sync(t.Context(), apitype.SyncRequest{}); err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal("never again")
		}
	}
}
