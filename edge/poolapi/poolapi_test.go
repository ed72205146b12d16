package poolapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ampora/ampora/edge/metrics"
	"github.com/ampora/ampora/edge/poolapi"
	"github.com/ampora/ampora/edge/problem"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/token"
	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// issuer answers as the engine does for one pool with one secret. It is for tests of what happens before Vault is asked, and
// of what takes minutes: edge/pool_test.go has the real one behind it.
type issuer struct {
	secret string
	calls  atomic.Int64
	fail   error
	slow   chan struct{} // wrong secrets are not judged before it is closed
}

func (i *issuer) IssueWithSecret(_ context.Context, pool string, in apitype.PoolAdminIssueRequest) (*apitype.PoolIssueResponse, error) {
	i.calls.Add(1)
	if i.slow != nil && in.AdminSecret != i.secret {
		<-i.slow
	}
	switch {
	case i.fail != nil:
		return nil, i.fail
	case pool != "ci" || in.AdminSecret != i.secret:
		return nil, apitype.Errorf(apitype.PoolSecretInvalid, "no pool has it")
	}
	return &apitype.PoolIssueResponse{Token: token.New(token.Bootstrap).Reveal(), TokenID: "id", ExpiresAt: "then"}, nil
}

type world struct {
	t       *testing.T
	issuer  *issuer
	handler *poolapi.Handler
	metrics *metrics.Metrics
	log     bytes.Buffer
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, issuer: &issuer{secret: token.New(token.PoolSecret).Reveal()}}
	var err error
	if w.metrics, err = metrics.New(prometheus.NewRegistry()); err != nil {
		t.Fatal(err)
	}
	w.handler = poolapi.New(poolapi.Options{Issuer: w.issuer, Metrics: w.metrics,
		Logger: hclog.New(&hclog.LoggerOptions{Level: hclog.Trace, Output: &w.log})})
	return w
}

// request is a good one, to be changed.
func (w *world) request() *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/api/tokens/pools/ci/issue", nil)
	r.RemoteAddr = "192.0.2.1:1000"
	r.Header.Set("Authorization", "Bearer "+w.issuer.secret)
	return r
}

func (w *world) with(secret, from string) *http.Request {
	r := w.request()
	r.Header.Set("Authorization", "Bearer "+secret)
	r.RemoteAddr = from
	return r
}

func (w *world) send(r *http.Request) *httptest.ResponseRecorder {
	w.t.Helper()
	if !poolapi.Serves(r.URL.Path) {
		w.t.Fatalf("%s is not served", r.URL.Path)
	}
	recorder := httptest.NewRecorder()
	w.handler.ServeHTTP(recorder, r)
	return recorder
}

// code is that of a refusal, "" for a 201.
func (w *world) code(got *httptest.ResponseRecorder) apitype.Code {
	w.t.Helper()
	if got.Code == http.StatusCreated {
		return ""
	}
	var doc problem.Document
	if err := json.Unmarshal(got.Body.Bytes(), &doc); err != nil || got.Header().Get("Content-Type") != problem.ContentType || doc.Status != got.Code ||
		got.Header().Get("Cache-Control") != "no-store" || doc.Title == "" || doc.Detail == "" {
		w.t.Fatalf("%d is no problem document: %v %s", got.Code, got.Header(), got.Body)
	}
	return apitype.Code(strings.TrimPrefix(doc.Type, problem.TypePrefix))
}

func TestOnlyThePathOfThePoolAPIIsServed(t *testing.T) {
	for path, want := range map[string]bool{
		"/api/tokens/pools/ci/issue":    true,
		"/api/tokens/pools//issue":      true, // an empty variable, which is told so
		"/api/tokens/pools/a/b/issue":   false,
		"/api/tokens/pools/ci/issue/":   false,
		"/api/tokens/pools/ci":          false,
		"/api/tokens/pools/issue":       false,
		"/x/api/tokens/pools/ci/issue":  false,
		"//api/tokens/pools/ci/issue":   false,
		"/api/tokens/pools/../ci/issue": false,
		"/API/tokens/pools/ci/issue":    false,
	} {
		if got := poolapi.Serves(path); got != want {
			t.Errorf("%s: %v", path, got)
		}
	}
}

func TestWhatCanBeJudgedHereNeverReachesVault(t *testing.T) {
	secret := token.New(token.PoolSecret).Reveal()
	broken := secret[:20] + string('a'+(secret[20]-'a'+1)%20) + secret[21:]
	header := func(key string, values ...string) func(*http.Request) {
		return func(r *http.Request) { r.Header[key] = values }
	}
	body := func(text, contentType string) func(*http.Request) {
		return func(r *http.Request) {
			r.Body = io.NopCloser(strings.NewReader(text))
			if contentType != "" {
				r.Header.Set("Content-Type", contentType)
			}
		}
	}
	pool := func(name string) func(*http.Request) {
		return func(r *http.Request) { r.URL.Path = "/api/tokens/pools/" + name + "/issue" }
	}
	for name, c := range map[string]struct {
		change func(*http.Request)
		status int
		code   apitype.Code
		says   string
	}{
		"no header":               {header("Authorization"), 401, apitype.PoolSecretInvalid, "no 'Authorization: Bearer' header"},
		"two headers":             {header("Authorization", "Bearer "+secret, "Bearer "+secret), 401, apitype.PoolSecretInvalid, "more than one"},
		"an empty variable":       {header("Authorization", "Bearer "), 401, apitype.PoolSecretInvalid, "a variable is empty"},
		"another scheme":          {header("Authorization", "Basic "+secret), 401, apitype.PoolSecretInvalid, "does not begin with 'Bearer '"},
		"no scheme":               {header("Authorization", secret), 401, apitype.PoolSecretInvalid, "does not begin with 'Bearer '"},
		"a bootstrap token":       {header("Authorization", "Bearer "+token.New(token.Bootstrap).Reveal()), 401, apitype.PoolSecretInvalid, "of kind amp-bs"},
		"a secret cut off":        {header("Authorization", "Bearer "+secret[:30]), 401, apitype.PoolSecretInvalid, "30 characters"},
		"a secret in capitals":    {header("Authorization", "Bearer "+strings.ToUpper(secret)), 401, apitype.PoolSecretInvalid, ""},
		"a secret mistyped":       {header("Authorization", "Bearer "+broken), 401, apitype.PoolSecretInvalid, "checksum"},
		"two secrets":             {header("Authorization", "Bearer "+secret+" "+secret), 401, apitype.PoolSecretInvalid, ""},
		"no pool":                 {pool(""), 400, apitype.NameInvalid, "a variable in it is empty"},
		"a pool with a dot":       {pool("a.b"), 400, apitype.NameInvalid, "neither a pool's id nor a pool's name"},
		"dots for a pool":         {pool(".."), 400, apitype.NameInvalid, ""},
		"a pool in capitals":      {pool("CI"), 400, apitype.NameInvalid, ""},
		"a pool in Unicode":       {pool("ü"), 400, apitype.NameInvalid, ""},
		"a pool with a line":      {pool("a\nb"), 400, apitype.NameInvalid, ""},
		"a pool of 300":           {pool(strings.Repeat("a", 300)), 400, apitype.NameInvalid, ""},
		"an encoded slash kept":   {pool("a%2fb"), 400, apitype.NameInvalid, ""},
		"parameters":              {func(r *http.Request) { r.URL.RawQuery = "ttlMinutes=15" }, 400, apitype.FieldInvalid, "no parameters in the address"},
		"no JSON":                 {body("ttlMinutes=15", "application/json"), 400, apitype.FieldInvalid, "not one JSON object"},
		"a form":                  {body(`{"ttlMinutes":15}`, "application/x-www-form-urlencoded"), 415, apitype.FieldInvalid, "Content-Type: application/json"},
		"another charset":         {body(`{"ttlMinutes":15}`, "application/json; charset=utf-16"), 415, apitype.FieldInvalid, ""},
		"a broken content type":   {body(`{"ttlMinutes":15}`, "application/json;;"), 415, apitype.FieldInvalid, ""},
		"a body too large":        {body(strings.Repeat(" ", 64<<10)+"{}", "application/json"), 413, apitype.BodyTooLarge, "65536 bytes"},
		"a body that breaks":      {func(r *http.Request) { r.Body = io.NopCloser(io.MultiReader(strings.NewReader("{"), broke{})) }, 400, apitype.FieldInvalid, "did not arrive whole"},
		"a packed body":           {func(r *http.Request) { body("{}", "application/json")(r); r.Header.Set("Content-Encoding", "gzip") }, 415, apitype.FieldInvalid, ""},
		"a time to live of years": {body(`{"ttlMinutes":100000000000}`, "application/json"), 400, apitype.TTLOutOfRange, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			r := w.request()
			c.change(r)
			got := w.send(r)
			if code := w.code(got); got.Code != c.status || code != c.code || !strings.Contains(got.Body.String(), c.says) {
				t.Errorf("answered %d %s", got.Code, got.Body)
			}
			if challenge := got.Header().Get("WWW-Authenticate"); (c.status == 401) != strings.HasPrefix(challenge, "Bearer") {
				t.Errorf("WWW-Authenticate is %q", challenge)
			}
			if n := w.issuer.calls.Load(); n != 0 {
				t.Errorf("Vault was asked %d times", n)
			}
			for _, said := range []string{got.Body.String(), w.log.String()} {
				if strings.Contains(strings.ToLower(said), secret[30:50]) {
					t.Errorf("a secret stands in %s", said)
				}
			}
			if n := testutil.ToFloat64(w.metrics.PoolRequests.WithLabelValues(string(c.code))); n != 1 {
				t.Errorf("counted %v times", n)
			}
		})
	}
}

type broke struct{}

func (broke) Read([]byte) (int, error) { return 0, errors.New("connection reset") }

func TestOtherMethodsAreToldWhichOneItIs(t *testing.T) {
	w := newWorld(t)
	for _, method := range []string{"GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"} {
		r := w.request()
		r.Method = method
		if got := w.send(r); got.Code != http.StatusMethodNotAllowed || got.Header().Get("Allow") != "POST" || w.issuer.calls.Load() != 0 {
			t.Errorf("%s: %d %v", method, got.Code, got.Header())
		}
	}
}

func TestFormsThatAreTaken(t *testing.T) {
	w := newWorld(t)
	for name, change := range map[string]func(*http.Request){
		"nothing":               func(*http.Request) {},
		"a type without a body": func(r *http.Request) { r.Header.Set("Content-Type", "text/plain") },
		"white space":           func(r *http.Request) { r.Header.Set("Authorization", " bearer \t "+w.issuer.secret+" \t") },
		"a charset": func(r *http.Request) {
			r.Body = io.NopCloser(strings.NewReader(`{"ttlMinutes":15}`))
			r.Header.Set("Content-Type", `Application/JSON; charset="UTF-8"`)
		},
		"a body without a type": func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader(`{"ttlMinutes":15}`)) },
	} {
		r := w.request()
		change(r)
		if got := w.send(r); got.Code != http.StatusCreated {
			t.Errorf("%s: %d %s", name, got.Code, got.Body)
		}
	}
}

// In a bubble, where ten minutes pass at once.
func TestWrongSecretsAreCountedPerSourceAndHurtNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		flood := func(n int, from string) (codes map[apitype.Code]int) {
			codes = map[apitype.Code]int{}
			for range n {
				got := w.send(w.with("garbage", from))
				code := w.code(got)
				codes[code]++
				if after := got.Header().Get("Retry-After"); (code == apitype.RateLimited) != (after != "") {
					w.t.Fatalf("%s with Retry-After %q", code, after)
				}
			}
			return codes
		}
		codes := flood(200, "192.0.2.1:1")
		if codes[apitype.PoolSecretInvalid] != 50 || codes[apitype.RateLimited] != 150 {
			t.Errorf("of 200 from one address: %v", codes)
		}
		if n := w.issuer.calls.Load(); n != 0 {
			t.Errorf("garbage has cost %d calls", n)
		}
		if codes := flood(1, "192.0.2.2:1"); codes[apitype.PoolSecretInvalid] != 1 {
			t.Errorf("another address: %v", codes)
		}
		for _, from := range []string{"192.0.2.1:2", "192.0.2.3:1"} { // the very same address, too
			if got := w.send(w.with(w.issuer.secret, from)); got.Code != http.StatusCreated {
				t.Errorf("a right secret from %s: %d %s", from, got.Code, got.Body)
			}
		}
		// One customer holds a /64 of IPv6.
		flood(200, "[2001:db8::1]:1")
		if codes := flood(1, "[2001:db8::ffff:2]:1"); codes[apitype.RateLimited] != 1 {
			t.Errorf("the same /64: %v", codes)
		}
		if codes := flood(1, "[2001:db8:0:1::1]:1"); codes[apitype.PoolSecretInvalid] != 1 {
			t.Errorf("another /64: %v", codes)
		}
		time.Sleep(time.Minute)
		if codes := flood(1, "192.0.2.1:1"); codes[apitype.PoolSecretInvalid] != 1 {
			t.Errorf("a minute later: %v", codes)
		}
	})
}

func TestNobodyCanHaveVaultGuessFaster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		began := time.Now()
		for range 400 {
			go w.handler.ServeHTTP(httptest.NewRecorder(), w.with(token.New(token.PoolSecret).Reveal(), "192.0.2.1:1"))
		}
		synctest.Wait()
		if n := w.issuer.calls.Load(); n != 50 {
			t.Errorf("%d calls at once, want 50", n)
		}
		// Meanwhile, somebody else. And once a secret has been right, also from the same address.
		for _, from := range []string{"192.0.2.2:1", "192.0.2.1:2", "192.0.2.1:2"} {
			if got := w.send(w.with(w.issuer.secret, from)); got.Code != http.StatusCreated || time.Since(began) != 0 {
				t.Errorf("a right secret from %s: %d after %v", from, got.Code, time.Since(began))
			}
		}
		time.Sleep(time.Minute)
		if n := w.issuer.calls.Load(); n > 50+3+10*20 { // unprovenWait at unprovenPerSecond
			t.Errorf("%d calls in ten seconds", n)
		}
	})
}

func TestAFloodFromEverywhereLeavesRoomForHoldersOfASecret(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		if got := w.send(w.request()); got.Code != http.StatusCreated {
			t.Fatalf("%d", got.Code)
		}
		w.issuer.slow = make(chan struct{})
		codes := make(chan int, 1000)
		for i := range cap(codes) {
			r := w.with(token.New(token.PoolSecret).Reveal(), fmt.Sprintf("192.0.%d.%d:1", i/250, i%250))
			go func() {
				recorder := httptest.NewRecorder()
				w.handler.ServeHTTP(recorder, r)
				codes <- recorder.Code
			}()
		}
		synctest.Wait()
		if n := w.issuer.calls.Load() - 1; n != 8 {
			t.Errorf("Vault judges %d unknown secrets at a time, want 8", n)
		}
		began := time.Now()
		if got := w.send(w.request()); got.Code != http.StatusCreated || time.Since(began) != 0 {
			t.Errorf("a holder of the secret: %d after %v", got.Code, time.Since(began))
		}
		for range cap(codes) - 8 { // they do not wait for ever
			if status := <-codes; status != http.StatusServiceUnavailable {
				t.Errorf("status %d", status)
			}
		}
		close(w.issuer.slow)
		for range 8 {
			if status := <-codes; status != http.StatusUnauthorized {
				t.Errorf("status %d", status)
			}
		}
		if got := w.send(w.with(token.New(token.PoolSecret).Reveal(), "192.0.2.9:1")); got.Code != http.StatusUnauthorized {
			t.Errorf("afterwards: %d", got.Code)
		}
	})
}

func TestAWrongSecretCostsVaultOneCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		wrong := token.New(token.PoolSecret).Reveal()
		for range 10 {
			got := w.send(w.with(wrong, "192.0.2.1:1"))
			if code := w.code(got); code != apitype.PoolSecretInvalid || !strings.Contains(got.Body.String(), "no pool has it") {
				t.Fatalf("%d %s", got.Code, got.Body)
			}
		}
		if n := w.issuer.calls.Load(); n != 1 {
			t.Errorf("%d calls", n)
		}
		time.Sleep(6 * time.Minute)
		w.issuer.secret = wrong // as after a restore of Vault from a backup
		if got := w.send(w.with(wrong, "192.0.2.1:1")); got.Code != http.StatusCreated {
			t.Errorf("later: %d", got.Code)
		}
	})
}

func TestFaultsOfVaultSayWhenToComeAgain(t *testing.T) {
	for name, c := range map[string]struct {
		err    error
		status int
		code   apitype.Code
		again  bool
	}{
		"Vault is away":       {apitype.Errorf(apitype.VaultUnavailable, "Vault is sealed or not ready"), 503, apitype.VaultUnavailable, true},
		"the engine loads":    {apitype.Errorf(apitype.NotReady, ""), 503, apitype.NotReady, true},
		"an unknown outcome":  {fmt.Errorf("storing: %w", apitype.Errorf(apitype.OutcomeUnknown, "")), 503, apitype.VaultUnavailable, true},
		"a fault of our own":  {errors.New("amp-ps.x is not for anybody's eyes"), 500, apitype.Internal, false},
		"a pool that is full": {apitype.Errorf(apitype.PoolFull, ""), 409, apitype.PoolFull, false},
	} {
		w := newWorld(t)
		w.issuer.fail = c.err
		got := w.send(w.request())
		if code := w.code(got); got.Code != c.status || code != c.code || (got.Header().Get("Retry-After") != "") != c.again {
			t.Errorf("%s: %d %s %v", name, got.Code, got.Body, got.Header())
		}
		if strings.Contains(got.Body.String(), "eyes") || strings.Contains(got.Body.String(), "idempotency") {
			t.Errorf("%s: %s", name, got.Body)
		}
		if w.issuer.fail = nil; w.send(w.request()).Code != http.StatusCreated {
			t.Errorf("%s: the secret counts as wrong now", name)
		}
	}
}

func TestADrainingEdgeSendsElsewhere(t *testing.T) {
	w := newWorld(t)
	w.handler.Drain()
	got := w.send(w.request())
	if got.Code != 503 || w.code(got) != apitype.Draining || got.Header().Get("Retry-After") == "" || w.issuer.calls.Load() != 0 {
		t.Errorf("%d %s %v", got.Code, got.Body, got.Header())
	}
}
