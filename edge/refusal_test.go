package edge_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/token"
)

func TestEveryFaultOfACredentialHasItsOwnCode(t *testing.T) {
	w := newWorld(t)
	w.configure(map[string]any{"token_min_ttl": 1})
	good := w.token()
	expired := w.token(apitype.TokenIssueRequest{TTL: 1})
	revoked, err := w.vault.IssueToken(t.Context(), apitype.TokenIssueRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.vault.RevokeToken(t.Context(), revoked.TokenID, apitype.RevokeRequest{}); err != nil {
		t.Fatal(err)
	}
	spent := w.token()
	first := w.newAgent("Bearer " + spent)
	reply, _ := first.poll(first.message(first.withCSR()))
	first.take(reply)
	time.Sleep(1100 * time.Millisecond)

	flipped := []byte(good)
	flipped[20] = 'a' + (flipped[20]-'a'+1)%20
	for name, c := range map[string]struct {
		header string
		status int
		code   apitype.Code
	}{
		"nothing":              {"", 401, apitype.TokenMissing},
		"no Bearer":            {good, 401, apitype.TokenMissing},
		"another scheme":       {"Basic " + good, 401, apitype.TokenMissing},
		"empty":                {"Bearer  ", 401, apitype.TokenMissing},
		"garbage":              {"Bearer hello", 401, apitype.TokenMalformed},
		"truncated":            {"Bearer " + good[:40], 401, apitype.TokenMalformed},
		"upper-cased":          {"Bearer " + strings.ToUpper(good), 401, apitype.TokenMalformed},
		"mistyped":             {"Bearer " + string(flipped), 401, apitype.TokenChecksum},
		"a pool's secret":      {"Bearer " + token.New(token.PoolSecret).Reveal(), 401, apitype.TokenMalformed},
		"unknown":              {"Bearer " + token.New(token.Bootstrap).Reveal(), 401, apitype.TokenUnknown},
		"expired":              {"Bearer " + expired, 401, apitype.TokenExpired},
		"revoked":              {"Bearer " + revoked.Token, 401, apitype.TokenRevoked},
		"spent":                {"Bearer " + spent, 401, apitype.TokenRedeemed},
		"from another network": {"Bearer " + w.token(apitype.TokenIssueRequest{BoundCIDRs: []string{"192.0.2.0/24"}}), 403, apitype.CIDRMismatch},
	} {
		t.Run(name, func(t *testing.T) {
			a := w.newAgent(c.header)
			a.w = &world{t: t, addr: w.addr, roots: w.roots}
			r := a.mustRefuse(c.status, c.code)
			if challenge := r.header.Get("WWW-Authenticate"); (c.status == 401) != strings.HasPrefix(challenge, "Bearer") {
				t.Errorf("WWW-Authenticate is %q", challenge)
			}
			if r.problem.Detail == "" || r.problem.Title == "" {
				t.Errorf("the document is %+v", r.problem)
			}
			_, polled := a.poll(a.message(a.withCSR()))
			if polled == nil || polled.status != c.status || polled.code != c.code {
				t.Errorf("plain HTTP answers %+v", polled)
			}
		})
	}
	w.unspent(good)
	padded := w.newAgent("bearer  " + good + " ")
	padded.mustDial()

	for _, secret := range []string{good, expired, revoked.Token, spent} {
		if strings.Contains(w.log.String(), secret[8:40]) {
			t.Error("the log holds a token")
		}
	}
	if w.metric(`ampora_edge_refusals_total{code="token_expired"}`) == "0" {
		t.Error("refusals are not counted")
	}
}

func TestASecretInAnAddressIsRefusedBeforeAnythingElse(t *testing.T) {
	w := newWorld(t)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: w.newAgent("").tls()}}
	defer client.CloseIdleConnections()
	secret := token.New(token.Bootstrap).Reveal()
	for _, path := range []string{"/" + secret, "/v1/opamp/" + secret + "/x", "/v1/opamp?token=" + secret, "/v1/AMP-BS.x", "/%61mp-bs.x"} {
		resp, err := client.Get("https://" + w.addr + path)
		if err != nil {
			t.Fatal(err)
		}
		r := refusalOf(t, resp)
		resp.Body.Close()
		if r.status != 400 || r.code != apitype.FieldInvalid {
			t.Errorf("answered %d %s", r.status, r.code)
		}
	}
	if strings.Contains(w.log.String(), secret[8:40]) {
		t.Error("the log holds the secret")
	}
}

func TestOtherRequestsAreAnsweredWithWhatIsServedHere(t *testing.T) {
	w := newWorld(t)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: w.newAgent("").tls()},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	defer client.CloseIdleConnections()
	do := func(method, path string, header ...string) *http.Response {
		req, err := http.NewRequest(method, "https://"+w.addr+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i+1 < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { resp.Body.Close() })
		return resp
	}
	for _, path := range []string{"/", "/v1/opamp/", "//v1/opamp", "/v1/../v1/opamp", "/healthz", "/metrics"} {
		if resp := do("GET", path); resp.StatusCode != 404 {
			t.Errorf("%s answers %d", path, resp.StatusCode)
		}
	}
	for name, resp := range map[string]*http.Response{
		"GET without an upgrade": do("GET", "/v1/opamp"),
		"another content type":   do("POST", "/v1/opamp", "Content-Type", "application/json"),
		"another encoding":       do("POST", "/v1/opamp", "Content-Type", "application/x-protobuf", "Content-Encoding", "br"),
	} {
		if r := refusalOf(t, resp); r.status != 400 || r.code != apitype.MessageInvalid {
			t.Errorf("%s: %d %s", name, r.status, r.code)
		}
	}
}

func TestWrongCredentialsDoNotHurtARightOneFromTheSameAddress(t *testing.T) {
	w := newWorld(t)
	known := w.enrolled()
	bad := w.newAgent("Bearer garbage")
	limited := 0
	for range 80 {
		if _, r := bad.dial(); r != nil && r.code == apitype.RateLimited {
			limited++
			if r.header.Get("Retry-After") == "" {
				t.Fatal("a 429 without Retry-After")
			}
		}
	}
	if limited == 0 {
		t.Fatal("nobody was slowed down")
	}
	for range 40 { // well-formed ones cost a call to Vault each, and are paced
		go func() {
			client := &http.Client{Transport: &http.Transport{TLSClientConfig: bad.tls()}, Timeout: 10 * time.Second}
			req, _ := http.NewRequest(http.MethodPost, "https://"+w.addr+"/v1/opamp", nil)
			req.Header.Set("Authorization", "Bearer "+token.New(token.Bootstrap).Reveal())
			req.Header.Set("Content-Type", "application/x-protobuf")
			if resp, err := client.Do(req); err == nil {
				resp.Body.Close()
			}
			client.CloseIdleConnections()
		}()
	}
	start := time.Now()
	known.mustDial()
	if d := time.Since(start); d > 3*time.Second {
		t.Errorf("a known agent waited %v", d)
	}
	fresh := w.newAgent("Bearer " + w.token())
	c := fresh.mustDial()
	c.send(fresh.message(fresh.withCSR()))
	fresh.take(c.receive())
}

func TestADeadTokenCostsVaultOneCall(t *testing.T) {
	w := newWorld(t)
	a := w.newAgent("Bearer " + token.New(token.Bootstrap).Reveal())
	a.mustRefuse(401, apitype.TokenUnknown)
	w.engine.SetAway(true)
	a.mustRefuse(401, apitype.TokenUnknown)
}
