package vaultgate

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/test/vaulttest"
	vaultapi "github.com/hashicorp/vault/api"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"golang.org/x/sync/errgroup"
)

// appRole makes a role for edges and the options to log in with it.
func (w *world) appRole(t *testing.T, more map[string]any) AuthOptions {
	t.Helper()
	must(t, w.EnableAuth(t.Context(), "approle", "approle", ""))
	data := map[string]any{"token_policies": edgePolicy}
	for k, v := range more {
		data[k] = v
	}
	w.write(t, "auth/approle/role/edge", data)
	role, err := w.root.Logical().ReadWithContext(t.Context(), "auth/approle/role/edge/role-id")
	must(t, err)
	secret := w.write(t, "auth/approle/role/edge/secret-id", nil)
	return AuthOptions{AppRoleRoleID: role.Data["role_id"].(string), AppRoleSecretIDFile: secretFile(t, secret.Data["secret_id"].(string))}
}

func TestASealedVaultHealsWithoutARestart(t *testing.T) {
	w := newWorld(t, vaulttest.WithTLS())
	auth := w.appRole(t, nil)
	// This one is set up as an operator does it.
	t.Setenv("VAULT_ADDR", w.Addr)
	t.Setenv("VAULT_CACERT", w.CAFile)
	g := startGate(t, Options{Auth: auth})
	works(t, g)

	must(t, w.Seal(t.Context()))
	err := fails(t, g)
	if s := g.Status(); s.Up || !strings.Contains(s.Reason, "sealed") {
		t.Errorf("status %+v", s)
	}
	if strings.Contains(err.Error(), "127.0.0.1") {
		t.Errorf("the public text tells too much: %s", err)
	}
	_, err = g.RedeemCheck(t.Context(), apitype.RedeemCheckRequest{Token: "amp-bs.x"})
	if apitype.CodeOf(err) != apitype.VaultUnavailable {
		t.Errorf("%v", err)
	}
	must(t, w.Unseal(t.Context()))
	heals(t, g, 20*time.Second)
	if n := g.logins(); n != 1 {
		t.Errorf("%d logins: a token outlives a seal", n)
	}
}

func TestAVaultThatWasKilledIsFoundAgain(t *testing.T) {
	w := newWorld(t)
	g := w.gate(t, w.appRole(t, nil))
	works(t, g)
	w.Kill()
	fails(t, g)
	must(t, w.Restart(t.Context()))
	heals(t, g, 20*time.Second)
}

func TestAnEdgeMayStartBeforeVault(t *testing.T) {
	w := newWorld(t)
	auth := w.appRole(t, nil)
	w.Kill()
	g := w.gate(t, auth)
	fails(t, g)
	began := time.Now()
	fails(t, g)
	if took := time.Since(began); took > time.Second {
		t.Errorf("to be told that nobody is logged in took %s", took)
	}
	must(t, w.Restart(t.Context()))
	heals(t, g, 2*longestPause)
}

func TestATokenThatExpiredInAnOutageIsReplaced(t *testing.T) {
	w := newWorld(t)
	g := w.gate(t, w.appRole(t, map[string]any{"token_ttl": "3s"}))
	works(t, g)
	w.Kill()
	time.Sleep(4 * time.Second)
	fails(t, g)
	must(t, w.Restart(t.Context()))
	heals(t, g, 20*time.Second)
	if n := g.logins(); n < 2 {
		t.Errorf("%d logins", n)
	}
}

// Whatever dies under a redemption, the agent gets its certificate: exactly one, on the first call of the edge.
func TestNoRedemptionIsLost(t *testing.T) {
	w := newWorld(t)
	g := w.gate(t, AuthOptions{Token: w.token(t, vaultapi.TokenCreateRequest{TTL: "1h"})})
	works(t, g)
	for name, harm := range map[string]func(context.Context){
		// Vault starts it anew and sends the request again by itself: the engine sees some redemptions twice.
		"the plugin is killed": func(ctx context.Context) {
			for ctx.Err() == nil {
				time.Sleep(200 * time.Millisecond)
				if err := w.KillPlugin("vault-plugin-secrets-ampora"); err != nil {
					t.Error(err)
				}
				// Not again before it is up: a plugin that dies while Vault 1.21 starts it stays dead until 'vault plugin reload'.
				eventually(t, 10*time.Second, "the plugin is up again", func() bool {
					_, err := w.admin.Config(context.Background())
					return err == nil
				})
			}
		},
		"Vault is killed": func(context.Context) {
			time.Sleep(200 * time.Millisecond)
			w.Kill()
			if err := w.Restart(context.Background()); err != nil {
				t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			const agents = 60
			requests := make([]apitype.RedeemRequest, agents)
			for i := range requests {
				requests[i] = w.redemption(t)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			var harming sync.WaitGroup
			harmed, stop := context.WithCancel(ctx)
			harming.Go(func() { harm(harmed) })

			var mu sync.Mutex
			agentOf := map[string]apitype.RedeemRequest{}
			group, ctx := errgroup.WithContext(ctx)
			group.SetLimit(4)
			for _, request := range requests {
				group.Go(func() error {
					time.Sleep(50 * time.Millisecond) // so that there is time to do harm
					identity, err := g.Redeem(ctx, request)
					if err != nil {
						t.Errorf("%v: %s", err, Cause(err))
						return nil
					}
					mu.Lock()
					agentOf[identity.AgentID] = request
					mu.Unlock()
					return nil
				})
			}
			must(t, group.Wait())
			stop()
			harming.Wait()
			heals(t, g, 20*time.Second)
			if repeats := testutil.ToFloat64(g.metrics.repeats.WithLabelValues("redeem")); name == "Vault is killed" && repeats == 0 {
				t.Error("nothing had to be repeated, so nothing was tested")
			}
			if len(agentOf) != agents {
				t.Errorf("%d agents of %d tokens", len(agentOf), agents)
			}
			for id, request := range agentOf {
				row, err := w.admin.Agent(t.Context(), id)
				if err != nil || row.InstanceUID != request.InstanceUID {
					t.Errorf("%s: %+v, %v", id, row, err)
				}
			}
		})
	}
}

func TestVaultLearnsWhatTheEdgeAsks(t *testing.T) {
	w := newWorld(t)
	g := w.gate(t, AuthOptions{Token: w.token(t, vaultapi.TokenCreateRequest{TTL: "1h"})})
	ctx := t.Context()

	request := w.redemption(t)
	checked, err := g.RedeemCheck(ctx, apitype.RedeemCheckRequest{Token: request.Token})
	must(t, err)
	identity, err := g.Redeem(ctx, request)
	must(t, err)
	again, err := g.Redeem(ctx, request)
	must(t, err)
	if identity.Certificate != again.Certificate || checked.TokenID == "" {
		t.Error("the same key gave another answer")
	}
	other := request
	other.IdempotencyKey += "x"
	if _, err := g.Redeem(ctx, other); apitype.CodeOf(err) != apitype.TokenRedeemed {
		t.Errorf("%v", err)
	}
	full, err := g.Sync(ctx, apitype.SyncRequest{})
	must(t, err)
	if !full.Full || len(full.Issuers) != 1 {
		t.Errorf("%+v", full)
	}
	began := time.Now()
	if _, err := g.Sync(ctx, apitype.SyncRequest{Since: full.Revision, Wait: 1}); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took < 900*time.Millisecond {
		t.Errorf("a sync without news took %s instead of a second", took)
	}
	report, err := g.Report(ctx, apitype.ReportRequest{Name: "edge-1", Revision: full.Revision, Sessions: []apitype.SessionReport{{
		AgentID: identity.AgentID, SerialNumber: identity.SerialNumber, InstanceUID: request.InstanceUID,
	}}})
	must(t, err)
	if len(report.Sessions) != 1 || report.Sessions[0].Leaf != apitype.LeafCurrent {
		t.Errorf("%+v", report)
	}
	certificate, err := g.EdgeCertificate(ctx, apitype.EdgeCertificateRequest{CSR: request.CSR, DNSNames: []string{"opamp.ampora.example"}})
	must(t, err)
	if certificate.Certificate == "" {
		t.Error("no certificate")
	}
	list, err := g.CRL(ctx, apitype.CRLRequest{})
	must(t, err)
	if list.CRL == "" || list.IssuerID != full.Issuers[0].IssuerID {
		t.Errorf("%+v", list)
	}
	if same, err := g.CRL(ctx, apitype.CRLRequest{IssuerID: list.IssuerID, Number: list.Number}); err != nil || same.CRL != "" || same.Number != list.Number {
		t.Errorf("%+v, %v", same, err)
	}
	if answer, err := g.OCSP(ctx, apitype.OCSPRequest{Request: "AAAA"}); err != nil || answer.Status != "malformed" || answer.NextUpdate != 0 {
		t.Errorf("%+v, %v", answer, err)
	}
	_, err = g.EdgeCertificate(ctx, apitype.EdgeCertificateRequest{CSR: request.CSR, DNSNames: []string{"elsewhere.example"}})
	if apitype.CodeOf(err) != apitype.EdgeNameNotAllowed {
		t.Errorf("%v", err)
	}
}
