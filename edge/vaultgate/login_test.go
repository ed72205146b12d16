package vaultgate

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/test/vaulttest"
	"github.com/ampora/ampora/test/vaulttest/tokenreview"
	vaultapi "github.com/hashicorp/vault/api"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// Every way to log in, on a real Vault. What they share is one Vault that is never stopped.
func TestLogin(t *testing.T) {
	w := newWorld(t)
	t.Run("token", func(t *testing.T) { testToken(t, w) })
	t.Run("token file", func(t *testing.T) { testTokenFile(t, w) })
	t.Run("AppRole", func(t *testing.T) { testAppRole(t, w) })
	t.Run("policy", func(t *testing.T) { testPolicy(t, w) })
}

func testToken(t *testing.T, w *world) {
	t.Run("is renewed while it can be", func(t *testing.T) {
		t.Parallel()
		token := w.token(t, vaultapi.TokenCreateRequest{TTL: "3s"})
		g := w.gate(t, AuthOptions{Token: token})
		for end := time.Now().Add(7 * time.Second); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
			works(t, g)
		}
		if n := testutil.ToFloat64(g.metrics.renewals.WithLabelValues("ok")); n < 2 {
			t.Errorf("%v renewals", n)
		}
		if ttl := g.keeper.ttl(); ttl <= 0 || ttl > 3*time.Second {
			t.Errorf("ttl %s", ttl)
		}
		g.Stop()
		if _, err := w.root.Auth().Token().LookupWithContext(t.Context(), token); err != nil {
			t.Errorf("a token that was given to us did not survive us: %v", err)
		}
	})
	t.Run("that ends is the end", func(t *testing.T) {
		t.Parallel()
		no := false
		g := w.gate(t, AuthOptions{Token: w.token(t, vaultapi.TokenCreateRequest{TTL: "2s", Renewable: &no})})
		works(t, g)
		eventually(t, 10*time.Second, "the token is dead", func() bool { return g.try(t.Context()) != nil })
		fails(t, g)
		if s := g.Status(); s.Up || !strings.Contains(s.Reason, errTokenDead.Error()) {
			t.Errorf("status %+v", s)
		}
	})
	t.Run("of root never ends", func(t *testing.T) {
		t.Parallel()
		g := w.gate(t, AuthOptions{Token: w.RootToken})
		works(t, g)
		if ttl := g.keeper.ttl(); ttl >= 0 {
			t.Errorf("ttl %s", ttl)
		}
	})
	t.Run("is not to blame for a wrong mount", func(t *testing.T) {
		t.Parallel()
		g := startGate(t, Options{Vault: w.config(), Mount: "elsewhere", Auth: AuthOptions{Token: w.RootToken}})
		if err := fails(t, g); !strings.Contains(err.Error(), "not mounted") {
			t.Errorf("%v: %s", err, Cause(err))
		}
		if s := g.Status(); s.Up || !strings.Contains(s.Reason, "elsewhere") {
			t.Errorf("status %+v", s)
		}
	})
	t.Run("that is none is told so", func(t *testing.T) {
		t.Parallel()
		g := w.gate(t, AuthOptions{Token: "hvs.nosuchtoken"})
		err := fails(t, g)
		if strings.Contains(Cause(err)+err.Error(), "nosuchtoken") {
			t.Errorf("the token is quoted: %s", Cause(err))
		}
		if n := g.logins(); n != 0 {
			t.Errorf("%d logins", n)
		}
	})
	t.Run("that may nothing but sync is taken as it is", func(t *testing.T) {
		t.Parallel()
		must(t, w.root.Sys().PutPolicyWithContext(t.Context(), "sync-only", `path "ampora/edge/sync" { capabilities = ["read"] }`))
		g := w.gate(t, AuthOptions{Token: w.token(t, vaultapi.TokenCreateRequest{Policies: []string{"sync-only"}, NoDefaultPolicy: true})})
		works(t, g)
	})
}

func testTokenFile(t *testing.T, w *world) {
	t.Run("is followed when it changes", func(t *testing.T) {
		t.Parallel()
		first := w.token(t, vaultapi.TokenCreateRequest{TTL: "1h"})
		path := secretFile(t, first+"\n")
		g := w.gate(t, AuthOptions{TokenFile: path})
		works(t, g)
		second := w.token(t, vaultapi.TokenCreateRequest{TTL: "1h"})
		writeFile(t, path, second)
		eventually(t, 10*time.Second, "the new token is in use", func() bool { works(t, g); return g.inUse() == second })
		w.revoke(t, first)
		works(t, g)
	})
	t.Run("is read again when its token has died", func(t *testing.T) {
		t.Parallel()
		first, second := w.token(t, vaultapi.TokenCreateRequest{TTL: "1h"}), w.token(t, vaultapi.TokenCreateRequest{TTL: "1h"})
		path := secretFile(t, first)
		g := w.gate(t, AuthOptions{TokenFile: path})
		works(t, g)
		writeFile(t, path, second)
		w.revoke(t, first)
		works(t, g) // at once, long before anybody has looked at the file's time
	})
	t.Run("may come later than the edge, and may hold nonsense for a while", func(t *testing.T) {
		t.Parallel()
		path := secretFile(t, "x")
		must(t, os.Remove(path))
		g := w.gate(t, AuthOptions{TokenFile: path})
		fails(t, g)
		writeFile(t, path, `{"wrap_info":{}}`)
		time.Sleep(pollSource + 500*time.Millisecond)
		fails(t, g)
		if s := g.Status(); !strings.Contains(s.Reason, "neither wrapped nor encrypted") {
			t.Errorf("status %+v", s)
		}
		writeFile(t, path, w.token(t, vaultapi.TokenCreateRequest{TTL: "1h"}))
		heals(t, g, 10*time.Second)
	})
}

func testAppRole(t *testing.T, w *world) {
	must(t, w.EnableAuth(t.Context(), "edges", "approle", ""))
	role := func(t *testing.T, name string, more map[string]any) (roleID string) {
		data := map[string]any{"token_policies": edgePolicy}
		for k, v := range more {
			data[k] = v
		}
		w.write(t, "auth/edges/role/"+name, data)
		secret, err := w.root.Logical().ReadWithContext(t.Context(), "auth/edges/role/"+name+"/role-id")
		must(t, err)
		return secret.Data["role_id"].(string)
	}
	secretID := func(t *testing.T, name string) string {
		return w.write(t, "auth/edges/role/"+name+"/secret-id", nil).Data["secret_id"].(string)
	}
	// wrapped answers with the wrapping token instead of what path answers.
	wrapped := func(t *testing.T, path string, data map[string]any) string {
		c := w.Client()
		c.SetWrappingLookupFunc(func(string, string) string { return "5m" })
		secret, err := c.Logical().WriteWithContext(t.Context(), path, data)
		must(t, err)
		return secret.WrapInfo.Token
	}

	t.Run("logs in anew before its maximum ttl, and no call notices", func(t *testing.T) {
		t.Parallel()
		for name, more := range map[string]map[string]any{
			"service": {"token_ttl": "2s", "token_max_ttl": "4s"},
			"batch":   {"token_ttl": "2s", "token_type": "batch"},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				g := w.gate(t, AuthOptions{
					AuthMount: "edges", AppRoleRoleIDFile: secretFile(t, role(t, name, more)), AppRoleSecretIDFile: secretFile(t, secretID(t, name)),
				})
				for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
					works(t, g)
				}
				if n := g.logins(); n < 3 || n > 15 {
					t.Errorf("%d logins", n)
				}
				if n := testutil.ToFloat64(g.metrics.calls.WithLabelValues("sync", "ok")); n < 50 {
					t.Errorf("%v calls", n)
				}
			})
		}
	})
	t.Run("replaces a token that was revoked behind its back", func(t *testing.T) {
		t.Parallel()
		g := w.gate(t, AuthOptions{AuthMount: "edges", AppRoleRoleID: role(t, "revoked", nil), AppRoleSecretIDFile: secretFile(t, secretID(t, "revoked"))})
		for range 3 {
			works(t, g)
			w.revoke(t, g.inUse())
			works(t, g)
		}
		if n := g.logins(); n != 4 {
			t.Errorf("%d logins", n)
		}
	})
	t.Run("heals with a rotated secret ID", func(t *testing.T) {
		t.Parallel()
		id, old := role(t, "rotated", nil), secretID(t, "rotated")
		path := secretFile(t, old)
		g := w.gate(t, AuthOptions{AuthMount: "edges", AppRoleRoleID: id, AppRoleSecretIDFile: path})
		works(t, g)
		w.write(t, "auth/edges/role/rotated/secret-id/destroy", map[string]any{"secret_id": old})
		w.revoke(t, g.inUse())
		err := fails(t, g)
		if !strings.Contains(Cause(err), "invalid") || strings.Contains(Cause(err), old) {
			t.Errorf("%s", Cause(err))
		}
		writeFile(t, path, secretID(t, "rotated"))
		heals(t, g, 10*time.Second)
	})
	t.Run("opens a wrapped secret ID once and uses it again", func(t *testing.T) {
		t.Parallel()
		id := role(t, "wrapped", nil)
		path := secretFile(t, wrapped(t, "auth/edges/role/wrapped/secret-id", nil))
		g := w.gate(t, AuthOptions{AuthMount: "edges", AppRoleRoleID: id, AppRoleSecretIDFile: path, AppRoleSecretIDWrapped: true})
		works(t, g)
		w.revoke(t, g.inUse())
		works(t, g)
		// Another edge with the same file comes too late, and says what that may mean.
		late := w.gate(t, AuthOptions{AuthMount: "edges", AppRoleRoleID: id, AppRoleSecretIDFile: path, AppRoleSecretIDWrapped: true})
		if err := fails(t, late); !strings.Contains(Cause(err), "stolen") {
			t.Errorf("%s", Cause(err))
		}
		writeFile(t, path, wrapped(t, "auth/edges/role/wrapped/secret-id", nil))
		heals(t, late, 10*time.Second)
	})
	t.Run("does not open what somebody else has wrapped", func(t *testing.T) {
		t.Parallel()
		id := role(t, "swapped", nil)
		path := secretFile(t, wrapped(t, "sys/wrapping/wrap", map[string]any{"secret_id": secretID(t, "swapped")}))
		g := w.gate(t, AuthOptions{AuthMount: "edges", AppRoleRoleID: id, AppRoleSecretIDFile: path, AppRoleSecretIDWrapped: true})
		if err := fails(t, g); !strings.Contains(Cause(err), "was not made by auth/edges/role/<role>/secret-id") {
			t.Errorf("%s", Cause(err))
		}
	})
	t.Run("needs no secret ID where the role does not", func(t *testing.T) {
		t.Parallel()
		g := w.gate(t, AuthOptions{AuthMount: "edges", AppRoleRoleID: role(t, "open", map[string]any{"bind_secret_id": false, "token_bound_cidrs": "127.0.0.1/32"})})
		works(t, g)
	})
	t.Run("revokes its token in the end", func(t *testing.T) {
		t.Parallel()
		g := w.gate(t, AuthOptions{AuthMount: "edges", AppRoleRoleID: role(t, "ends", nil), AppRoleSecretIDFile: secretFile(t, secretID(t, "ends"))})
		works(t, g)
		token := g.inUse()
		g.Stop()
		if _, err := w.ClientWithToken(token).Auth().Token().LookupSelfWithContext(t.Context()); !deadToken(err) {
			t.Errorf("the token outlives its edge: %v", err)
		}
		fails(t, g)
		if err := g.Start(t.Context()); err == nil {
			t.Error("started after its end")
		}
	})
}

// A policy that says no must cost neither the token nor a lookup with every call.
func testPolicy(t *testing.T, w *world) {
	must(t, w.root.Sys().PutPolicyWithContext(t.Context(), "no-redeem", `
		path "ampora/edge/*" { capabilities = ["read", "update"] }
		path "auth/token/lookup-self" { capabilities = ["read"] }`))
	g := w.gate(t, AuthOptions{Token: w.token(t, vaultapi.TokenCreateRequest{Policies: []string{"no-redeem"}, NoDefaultPolicy: true})})
	works(t, g)
	uses := lookups(t, w)
	for range 20 {
		_, err := g.RedeemCheck(t.Context(), apitype.RedeemCheckRequest{Token: "amp-bs.x"})
		if apitype.CodeOf(err) != apitype.VaultUnavailable || !errors.Is(err, errPolicy) {
			t.Fatalf("%v: %s", err, Cause(err))
		}
	}
	if n := lookups(t, w) - uses; n != 1 {
		t.Errorf("%d lookups", n)
	}
	if n := g.logins(); n != 1 {
		t.Errorf("%d logins", n)
	}
	if !g.Status().Up {
		t.Errorf("one policy makes all of Vault count as away: %+v", g.Status())
	}
}

// lookups counts the lookup-self requests in Vault's audit log.
func lookups(t *testing.T, w *world) int {
	t.Helper()
	raw, err := os.ReadFile(w.AuditLog())
	must(t, err)
	n := 0
	for line := range strings.Lines(string(raw)) {
		if strings.Contains(line, `"type":"request"`) && strings.Contains(line, `"path":"auth/token/lookup-self"`) {
			n++
		}
	}
	return n
}

// The Kubernetes method is the real external plugin, which asks a small API server about the service account's token.
func TestKubernetesLogin(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	const plugin = "vault-plugin-auth-kubernetes"
	must(t, w.RegisterPlugin(ctx, vaultapi.PluginTypeCredential, plugin, vaulttest.RequireBin(t, plugin), ""))
	must(t, w.EnableAuth(ctx, "kubernetes", plugin, ""))
	cluster, err := tokenreview.Start()
	must(t, err)
	defer cluster.Close()
	reviewer, err := cluster.Token("vault", "reviewer", time.Hour)
	must(t, err)
	w.write(t, "auth/kubernetes/config", map[string]any{
		"kubernetes_host": cluster.URL, "kubernetes_ca_cert": cluster.CA, "token_reviewer_jwt": reviewer, "disable_local_ca_jwt": true,
	})
	w.write(t, "auth/kubernetes/role/edge", map[string]any{
		"bound_service_account_names": "ampora-edge", "bound_service_account_namespaces": "ampora", "audience": "vault",
		"token_policies": edgePolicy, "token_ttl": "1h",
	})
	account := func(ttl time.Duration) string {
		token, err := cluster.Token("ampora", "ampora-edge", ttl, "vault")
		must(t, err)
		return token
	}

	path := secretFile(t, account(time.Hour))
	g := w.gate(t, AuthOptions{KubernetesRole: "edge", KubernetesTokenFile: path})
	works(t, g)
	if cluster.Reviews() == 0 {
		t.Error("nobody asked the API server")
	}

	// The kubelet replaces the file; the next login reads it.
	writeFile(t, path, account(2*time.Hour)+"\n")
	w.revoke(t, g.inUse())
	works(t, g)

	// An account that was deleted gets in no more, until its pod has a token of a new one.
	cluster.Delete("ampora", "ampora-edge")
	w.revoke(t, g.inUse())
	fails(t, g)
	if s := g.Status(); s.Up || s.Reason == "" {
		t.Errorf("status %+v", s)
	}
	writeFile(t, path, account(time.Hour))
	heals(t, g, 10*time.Second)

	token := g.inUse()
	g.Stop()
	if _, err := w.ClientWithToken(token).Auth().Token().LookupSelfWithContext(ctx); !deadToken(err) {
		t.Errorf("the token outlives its edge: %v", err)
	}

	for name, auth := range map[string]AuthOptions{
		"an expired account token": {KubernetesRole: "edge", KubernetesTokenFile: secretFile(t, account(-time.Minute))},
		"another role":             {KubernetesRole: "admin", KubernetesTokenFile: path},
		"no file":                  {KubernetesRole: "edge", KubernetesTokenFile: path + ".none"},
	} {
		t.Run(name, func(t *testing.T) {
			err := fails(t, w.gate(t, auth))
			t.Log(Cause(err))
			if !errors.Is(err, errNoToken) {
				t.Error(fmt.Errorf("%w", err))
			}
		})
	}
}
