package tokenreview_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/ampora/ampora/test/vaulttest"
	"github.com/ampora/ampora/test/vaulttest/tokenreview"
)

const plugin, version = "vault-plugin-auth-kubernetes", "v0.23.1"

// TestServiceAccountLogsIn sends logins through the real auth plugin, as a process of
// its own under a real Vault, which asks the server here about each token.
func TestServiceAccountLogsIn(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	path := vaulttest.RequireBin(t, plugin)
	v := vaulttest.Start(t)
	cluster, err := tokenreview.Start()
	check(t, err)
	defer cluster.Close()
	stranger, err := tokenreview.Start() // another cluster, with a key of its own
	check(t, err)
	defer stranger.Close()

	token := func(s *tokenreview.Server, namespace, name string, ttl time.Duration, audience string) string {
		t.Helper()
		jwt, err := s.Token(namespace, name, ttl, audience)
		check(t, err)
		return jwt
	}
	check(t, v.RegisterPlugin(ctx, api.PluginTypeCredential, plugin, path, version))
	check(t, v.EnableAuth(ctx, "kubernetes", plugin, version))
	root := v.Client().Logical()
	configure := func(reviewer string) {
		t.Helper()
		_, err := root.WriteWithContext(ctx, "auth/kubernetes/config", map[string]any{
			"kubernetes_host":      cluster.URL,
			"kubernetes_ca_cert":   cluster.CA,
			"token_reviewer_jwt":   reviewer,
			"disable_local_ca_jwt": true,
		})
		check(t, err)
	}
	configure(token(cluster, "kube-system", "reviewer", time.Hour, tokenreview.Issuer))
	_, err = root.WriteWithContext(ctx, "auth/kubernetes/role/edge", map[string]any{
		"bound_service_account_names":      "ampora-edge",
		"bound_service_account_namespaces": "ampora",
		"audience":                         "vault",
		"token_policies":                   "default",
		"token_ttl":                        "10m",
	})
	check(t, err)
	login := func(jwt string) (*api.Secret, error) {
		return v.ClientWithToken("").Logical().WriteWithContext(ctx, "auth/kubernetes/login", map[string]any{"role": "edge", "jwt": jwt})
	}

	edge := token(cluster, "ampora", "ampora-edge", time.Hour, "vault")
	s, err := login(edge)
	if err != nil || s == nil || s.Auth == nil {
		t.Fatalf("login: %v, %v", s, err)
	}
	if got := s.Auth.Metadata["service_account_name"]; got != "ampora-edge" {
		t.Errorf("logged in as %q", got)
	}
	if _, err := v.ClientWithToken(s.Auth.ClientToken).Auth().Token().LookupSelfWithContext(ctx); err != nil {
		t.Errorf("the token from the login does not work: %v", err)
	}
	if cluster.Reviews() == 0 {
		t.Error("nobody asked for a review")
	}

	refused := func(name, jwt string) {
		t.Helper()
		s, err := login(jwt)
		var answer *api.ResponseError
		if !errors.As(err, &answer) || answer.StatusCode < 400 || answer.StatusCode >= 500 {
			t.Errorf("%s: want a refusal, got %v, %v", name, s, err)
		}
	}
	refused("another service account", token(cluster, "ampora", "somebody-else", time.Hour, "vault"))
	refused("another namespace", token(cluster, "elsewhere", "ampora-edge", time.Hour, "vault"))
	refused("another audience", token(cluster, "ampora", "ampora-edge", time.Hour, "elsewhere"))
	refused("an expired token", token(cluster, "ampora", "ampora-edge", -time.Minute, "vault"))
	refused("another cluster's token", token(stranger, "ampora", "ampora-edge", time.Hour, "vault"))
	refused("a broken signature", edge[:strings.LastIndex(edge, ".")+1]+strings.Repeat("A", 342))
	refused("no token", "x.y.z")

	configure(token(cluster, "kube-system", "reviewer", -time.Minute, tokenreview.Issuer))
	refused("a reviewer whose own token has expired", edge)
	configure(token(cluster, "kube-system", "reviewer", time.Hour, tokenreview.Issuer))
	if _, err := login(edge); err != nil {
		t.Errorf("login once the reviewer is good again: %v", err)
	}
	cluster.Delete("ampora", "ampora-edge")
	refused("a deleted service account", edge)
}

func TestClientThatDoesNotKnowTheCAIsRefused(t *testing.T) {
	s, err := tokenreview.Start()
	check(t, err)
	defer s.Close()
	if r, err := http.Get(s.URL); err == nil {
		r.Body.Close()
		t.Error("a client that does not know the CA connected")
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
