package e2e

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ampora/ampora/plugin/apitype"
)

// confine gives the edge's login the policy for one tenant that stands in the comments of edge.hcl, and no other.
func (in *installation) confine(edge, tenant string) {
	in.t.Helper()
	general, err := os.ReadFile("../../scripts/policies/edge.hcl")
	must(in.t, err)
	var policy strings.Builder
	for _, line := range strings.Split(string(general), "\n") {
		if variant, found := strings.CutPrefix(line, "# path "); found {
			policy.WriteString("path " + strings.ReplaceAll(variant, "/tenants/acme/", "/tenants/"+tenant+"/") + "\n")
		}
	}
	for _, own := range []string{"renew-self", "revoke-self"} {
		policy.WriteString(`path "auth/token/` + own + `" { capabilities = ["update"] }` + "\n")
	}
	policy.WriteString(`path "auth/token/lookup-self" { capabilities = ["read"] }` + "\n")
	v := in.vault.Client()
	must(in.t, v.Sys().PutPolicyWithContext(in.ctx(), "edge-of-"+tenant, policy.String()))
	_, err = v.Logical().WriteWithContext(in.ctx(), "auth/approle/role/ampora-edge-"+edge, map[string]any{"token_policies": "edge-of-" + tenant})
	must(in.t, err)
}

func TestAnEdgeOfATenantServesThatTenantOnly(t *testing.T) {
	t.Parallel()
	in := install(t)
	in.confine("one", "acme")
	acmes, everybodys := in.edge("one", "--tenant", "acme"), in.edge("two")

	token := func(tenant string) *apitype.IssuedToken {
		issued, err := in.engine.ForTenant(tenant).IssueToken(in.ctx(), apitype.TokenIssueRequest{})
		must(t, err)
		in.secrets.addToken(issued.Token)
		return issued
	}
	enrolled := func(e *edge, issued *apitype.IssuedToken, tenant string) *testAgent {
		a := in.agent(e.endpoint("wss"), issued.Token, filepath.Join(t.TempDir(), "state"))
		a.AwaitEnrolled()
		row := in.wantEnrolled(issued)
		leaf, err := x509.ParseCertificate(a.Pair().Certificate[0])
		must(t, err)
		id := "spiffe://north.example/agent/" + row.AgentID
		if tenant != "" {
			id = "spiffe://north.example/tenant/" + tenant + "/agent/" + row.AgentID
		}
		if row.Tenant != tenant || len(leaf.URIs) != 1 || leaf.URIs[0].String() != id {
			t.Errorf("the row says tenant %q, the certificate %v, want %s", row.Tenant, leaf.URIs, id)
		}
		in.wantSeen(row.AgentID, e.name)
		a.Stop()
		return a
	}

	ours := enrolled(acmes, token("acme"), "acme")
	for _, tenant := range []string{"acme-2", "acm", ""} {
		t.Run("not "+tenant, func(t *testing.T) {
			issued := token(tenant)
			before := len(in.agents())
			for _, transport := range []string{"wss", "https"} {
				said, ok := in.enroll(acmes.endpoint(transport), issued.Token, filepath.Join(t.TempDir(), "refused"))
				if ok || !strings.Contains(said, string(apitype.TenantMismatch)) {
					t.Errorf("another tenant's token over %s: %v\n%s", transport, ok, said)
				}
			}
			if n := len(in.agents()); n != before {
				t.Errorf("%d agents have come of it", n-before)
			}
			theirs := enrolled(everybodys, issued, tenant) // nothing was used up
			if a := acmes.mustPost(t, "", theirs.Pair(), message(nil)); a.status != 403 || a.code != apitype.TenantMismatch {
				t.Errorf("another tenant's certificate: %d %s %s", a.status, a.code, a.text)
			}
			// Nor does its token, which is spent, help it in.
			if a := acmes.mustPost(t, "Bearer "+issued.Token, theirs.Pair(), message(nil)); a.status != 403 || a.code != apitype.TenantMismatch {
				t.Errorf("another tenant's certificate and token: %d %s %s", a.status, a.code, a.text)
			}
		})
	}
	for _, e := range []*edge{acmes, everybodys} {
		if a := e.mustPost(t, "", ours.Pair(), message(nil)); a.status != 200 || a.code != "" {
			t.Errorf("the tenant's own certificate at edge %s: %d %s %s", e.name, a.status, a.code, a.text)
		}
		again, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, ours.Pair().PrivateKey)
		must(t, err)
		a := e.mustPost(t, "", ours.Pair(), message(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: again})))
		block, _ := pem.Decode(a.reply.GetConnectionSettings().GetOpamp().GetCertificate().GetCert())
		if block == nil {
			t.Fatalf("the tenant's agent renews at edge %s: %d %s %s", e.name, a.status, a.code, a.text)
		}
		leaf, err := x509.ParseCertificate(block.Bytes)
		must(t, err)
		if old := ours.Pair().Leaf; leaf.URIs[0].String() != old.URIs[0].String() || leaf.Equal(old) {
			t.Errorf("the next certificate at edge %s is for %v", e.name, leaf.URIs)
		}
	}

	log := in.read(acmes.log)
	if strings.Contains(log, "permission denied") {
		t.Errorf("the policy for one tenant is too narrow for its edge:\n%s", tail(acmes.log, 40))
	}
}
