package edge_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"testing"
	"time"

	"github.com/ampora/ampora/edge"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/client"
	"github.com/open-telemetry/opamp-go/protobufs"
)

func (w *world) configure(fields map[string]any) {
	w.t.Helper()
	if err := w.vault.UpdateConfig(w.t.Context(), fields); err != nil {
		w.t.Fatal(err)
	}
	c, err := w.vault.Config(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	if origin, changed := fields["key_origin"]; changed && c.KeyOrigin != origin {
		w.t.Fatal("key_origin was not taken")
	}
	time.Sleep(500 * time.Millisecond) // until the feed has told the edge
}

// unspent fails unless the token can still be redeemed.
func (w *world) unspent(secret string) {
	w.t.Helper()
	if _, err := w.vault.RedeemCheck(w.t.Context(), apitype.RedeemCheckRequest{Token: secret, SourceIP: "127.0.0.1"}); err != nil {
		w.t.Fatalf("the token is gone: %v", err)
	}
}

func TestAWebSocketWithoutACSRGetsAKeyMadeByVault(t *testing.T) {
	w := newWorld(t)
	a := w.newAgent("Bearer " + w.token())
	c := a.mustDial()
	start := time.Now()
	c.send(a.message(withDescription("host-1")))
	if first := c.receive(); first.ConnectionSettings != nil || first.Capabilities == 0 {
		t.Fatalf("the first answer is %v", first)
	}
	reply := c.receive()
	if time.Since(start) < quick.CSRWait {
		t.Error("the CSR was not waited for")
	}
	if len(reply.GetConnectionSettings().GetOpamp().GetCertificate().GetPrivateKey()) == 0 {
		t.Fatal("no key came")
	}
	a.take(reply)
	a.mustDial()
}

func TestACSRMayComeInTheSecondMessage(t *testing.T) {
	w := newWorld(t)
	a := w.newAgent("Bearer " + w.token())
	c := a.mustDial()
	c.send(a.message(withDescription("host-1")))
	c.receive()
	c.send(a.message(a.withCSR()))
	reply := c.receive()
	if len(reply.GetConnectionSettings().GetOpamp().GetCertificate().GetPrivateKey()) != 0 {
		t.Fatal("a key came although there is a CSR")
	}
	leaf := a.take(reply)
	row, err := w.vault.Agent(t.Context(), leaf.Subject.CommonName)
	if err != nil || row.DisplayName != "host-1" || row.KeyOrigin != "csr" {
		t.Fatalf("the row is %+v, %v", row, err)
	}
}

func TestPlainHTTPEnrolsInOneRequest(t *testing.T) {
	for name, withCSR := range map[string]bool{"with a CSR": true, "with a key made by Vault": false} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			a := w.newAgent("Bearer " + w.token())
			m := a.message(withDescription("host-1"))
			if withCSR {
				a.withCSR()(m)
			}
			reply, refused := a.poll(m)
			if refused != nil {
				t.Fatalf("refused: %+v", refused)
			}
			if got := reply.GetConnectionSettings().GetOpamp().GetDestinationEndpoint(); got != "https://127.0.0.1:4320/v1/opamp" {
				t.Errorf("destination is %s", got)
			}
			if made := len(reply.GetConnectionSettings().GetOpamp().GetCertificate().GetPrivateKey()) > 0; made == withCSR {
				t.Errorf("a key made by Vault: %v", made)
			}
			a.take(reply)
			if reply, refused = a.poll(a.message(withDescription("host-1"))); refused != nil || reply.ConnectionSettings != nil {
				t.Fatalf("the new certificate gives %v, %+v", reply, refused)
			}
		})
	}
}

func TestKeyOrigin(t *testing.T) {
	t.Run("csr: without one there is no agent", func(t *testing.T) {
		w := newWorld(t)
		w.configure(map[string]any{"key_origin": "csr"})
		secret := w.token()
		a := w.newAgent("Bearer " + secret)
		c := a.mustDial()
		c.send(a.message())
		c.receive()
		c.mustError(apitype.CSRRequired)
		w.unspent(secret)
		reply, _ := a.poll(a.message())
		mustError(t, reply, apitype.CSRRequired)
		w.unspent(secret)
	})
	t.Run("server: a CSR is not taken, and the agent may go on without", func(t *testing.T) {
		w := newWorld(t)
		w.configure(map[string]any{"key_origin": "server"})
		secret := w.token()
		a := w.newAgent("Bearer " + secret)
		reply, _ := a.poll(a.message(a.withCSR()))
		mustError(t, reply, apitype.KeyNotAllowed)
		w.unspent(secret)
		reply, _ = a.poll(a.message())
		a.take(reply)
	})
}

func TestAnAgentThatCannotTakeACertificateKeepsItsToken(t *testing.T) {
	w := newWorld(t)
	secret := w.token()
	a := w.newAgent("Bearer " + secret)
	a.caps = 1
	c := a.mustDial()
	c.send(a.message(withDescription("host-1"), a.withCSR()))
	e := c.mustError(apitype.CapabilityMissing)
	if e.Type != protobufs.ServerErrorResponseType_ServerErrorResponseType_BadRequest || !contains(e.ErrorMessage, "accepts_opamp_connection_settings") {
		t.Errorf("the error is %v", e)
	}
	reply, _ := a.poll(a.message(a.withCSR()))
	mustError(t, reply, apitype.CapabilityMissing)
	w.unspent(secret)
	a.caps |= apitype.CapabilityAcceptsOpAMP
	reply, _ = a.poll(a.message(a.withCSR()))
	a.take(reply)
}

func TestBadCSRs(t *testing.T) {
	small, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t)
	for name, c := range map[string]struct {
		csr  func(*agent) []byte
		code apitype.Code
	}{
		"garbage": {func(*agent) []byte {
			return []byte("-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n")
		}, apitype.CSRInvalid},
		"over-long": {func(*agent) []byte { return make([]byte, 64<<10) }, apitype.CSRInvalid},
		"P-224":     {func(a *agent) []byte { a.key = small; return a.csr() }, apitype.KeyNotAllowed},
	} {
		t.Run(name, func(t *testing.T) {
			secret := w.token()
			a := w.newAgent("Bearer " + secret)
			good := a.key
			wire := a.mustDial()
			bad := a.message()
			bad.ConnectionSettingsRequest = &protobufs.ConnectionSettingsRequest{Opamp: &protobufs.OpAMPConnectionSettingsRequest{
				CertificateRequest: &protobufs.CertificateRequest{Csr: c.csr(a)},
			}}
			wire.send(bad)
			wire.mustError(c.code)
			w.unspent(secret)
			a.key = good
			wire.send(a.message(a.withCSR()))
			a.take(wire.receive())
		})
	}
}

func TestAFirstMessageThatNeverComes(t *testing.T) {
	w := newWorld(t)
	secret := w.token()
	a := w.newAgent("Bearer " + secret)
	if code, reason := a.mustDial().closed(10 * time.Second); code != 1008 || reason != string(apitype.MessageTimeout) {
		t.Errorf("closed with %d %s", code, reason)
	}
	w.unspent(secret)
	w.eventually("the token's place is free", 5*time.Second, func() bool {
		c, r := a.dial()
		if r == nil {
			c.send(a.message(a.withCSR()))
			a.take(c.receive())
		}
		return r == nil
	})
}

func TestOneSessionPerTokenMayBeOnItsWay(t *testing.T) {
	w := newWorld(t)
	a := w.newAgent("Bearer " + w.token())
	first := a.mustDial()
	r := a.mustRefuse(429, apitype.SessionExists)
	if r.header.Get("Retry-After") == "" {
		t.Error("Retry-After is missing")
	}
	first.send(a.message(a.withCSR()))
	a.take(first.receive())
}

func TestVaultAwayDuringBootstrap(t *testing.T) {
	w := newWorld(t, func(o *edge.Options) { o.Timing.Redeem = 800 * time.Millisecond })
	secret := w.token()
	a := w.newAgent("Bearer " + secret)
	c := a.mustDial()
	w.engine.SetAway(true)
	c.send(a.message(a.withCSR()))
	e := c.receive().GetErrorResponse()
	// A call that is under way when the time is over has an open outcome: on a slow machine that is the last one.
	if parsed := apitype.ParseError(e.GetErrorMessage()); parsed == nil || parsed.Code != apitype.VaultUnavailable && parsed.Code != apitype.OutcomeUnknown {
		t.Fatalf("got %v", e)
	}
	if e.Type != protobufs.ServerErrorResponseType_ServerErrorResponseType_Unavailable || e.GetRetryInfo().GetRetryAfterNanoseconds() == 0 {
		t.Errorf("the error is %v", e)
	}
	late := w.newAgent("Bearer " + w.tokenWhileAway())
	if r := late.mustRefuse(503, apitype.VaultUnavailable); r.header.Get("Retry-After") == "" {
		t.Error("Retry-After is missing")
	}
	w.engine.SetAway(false)
	c.send(a.message(a.withCSR()))
	a.take(c.receive())
}

// tokenWhileAway issues a token although the edge finds Vault away.
func (w *world) tokenWhileAway() string {
	w.engine.SetAway(false)
	defer w.engine.SetAway(true)
	return w.token()
}

func TestATenantsEdgeServesThatTenantOnly(t *testing.T) {
	w := newWorld(t, func(o *edge.Options) { o.Tenant = "red" })
	red, err := w.vault.ForTenant("red").IssueToken(t.Context(), apitype.TokenIssueRequest{})
	if err != nil {
		t.Fatal(err)
	}
	a := w.newAgent("Bearer " + red.Token)
	c := a.mustDial()
	c.send(a.message(a.withCSR()))
	a.take(c.receive())
	a.mustDial()

	w.newAgent("Bearer "+w.token()).mustRefuse(403, apitype.TenantMismatch)

	other := enrolDirectly(t, w, w.vault.ForTenant("blue"))
	other.mustRefuse(403, apitype.TenantMismatch)
}

// enrolDirectly makes an agent without an edge.
func enrolDirectly(t *testing.T, w *world, c *client.Client) *agent {
	t.Helper()
	issued, err := c.IssueToken(t.Context(), apitype.TokenIssueRequest{})
	if err != nil {
		t.Fatal(err)
	}
	a := w.newAgent("")
	id, err := c.Redeem(t.Context(), apitype.RedeemRequest{Token: issued.Token, CSR: string(a.csr()), InstanceUID: a.uid.String()})
	if err != nil {
		t.Fatal(err)
	}
	a.adopt(t, id.Certificate)
	return a
}
