package e2e

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/ampora/ampora/test/vaulttest/tokenreview"
	"github.com/hashicorp/vault/api"
)

// TestEdgeInKubernetes runs an edge that has nothing but a service account, with the real auth plugin as an external one.
func TestEdgeInKubernetes(t *testing.T) {
	t.Parallel()
	in := install(t)
	const plugin, version = "vault-plugin-auth-kubernetes", "v0.23.1"
	must(t, in.vault.RegisterPlugin(in.ctx(), api.PluginTypeCredential, plugin, in.program(plugin), version))
	must(t, in.vault.EnableAuth(in.ctx(), "kubernetes", plugin, version))
	cluster, err := tokenreview.Start()
	must(t, err)
	t.Cleanup(cluster.Close)
	account := func(name, audience string) string {
		jwt, err := cluster.Token("opamp", name, time.Hour, audience)
		must(t, err)
		in.secrets.add("the token of the service account "+name, jwt)
		return jwt
	}
	write := func(path string, data map[string]any) {
		_, err := in.vault.Client().Logical().WriteWithContext(in.ctx(), path, data)
		must(t, err)
	}
	write("auth/kubernetes/config", map[string]any{
		"kubernetes_host": cluster.URL, "kubernetes_ca_cert": cluster.CA, "token_reviewer_jwt": account("reviewer", tokenreview.Issuer),
	})
	write("auth/kubernetes/role/edge", map[string]any{
		"bound_service_account_names": "edge", "bound_service_account_namespaces": "opamp", "audience": "vault",
		"token_policies": "ampora-edge", "token_no_default_policy": true,
	})

	e := in.newEdge("one")
	e.args = append(e.args, "--auth", "kubernetes", "--kubernetes-role", "edge",
		"--kubernetes-token-file", in.write("service-account-token", account("edge", "vault")))
	e.start()
	e.awaitReady()
	if cluster.Reviews() == 0 {
		t.Error("the edge was let in without a review of its token")
	}
	issued := in.token()
	kept := in.agent(e.endpoint("wss"), issued.Token, filepath.Join(in.dir, "agent")).AwaitEnrolled()
	in.wantEnrolled(issued)
	in.wantSeen(kept.AgentID, "one")
}
