package policies_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"testing"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/client"
	"github.com/ampora/ampora/scripts/policies"
	"github.com/ampora/ampora/test/vaulttest"
)

// TestEachRoleDoesItsWorkWithItsPolicyAlone walks a token's way with four hands.
func TestEachRoleDoesItsWorkWithItsPolicyAlone(t *testing.T) {
	v := vaulttest.Start(t)
	ready(t, v)
	ctx := t.Context()
	if _, err := engine(t, v.Client()).CARoot(ctx, apitype.CARootRequest{}); err != nil {
		t.Fatal(err)
	}
	all, err := policies.All("ampora")
	if err != nil {
		t.Fatal(err)
	}
	hands := map[string]*client.Client{}
	for _, p := range all {
		hands[p.Role] = engine(t, holder(t, v, p.Text))
	}
	issuer, edge, operator, auditor := hands[policies.TokenIssuer], hands[policies.Edge], hands[policies.Operator], hands[policies.Auditor]

	// Without data, as 'vault write -f' sends it.
	//lint:ignore SA1019 the body is what is tried
	resp, err := issuer.Vault().RawRequestWithContext(ctx, issuer.Vault().NewRequest(http.MethodPut, "/v1/ampora/tokens/issue"))
	must(t, err)
	var answer struct {
		Data apitype.IssuedToken `json:"data"`
	}
	must(t, resp.DecodeJSON(&answer))
	resp.Body.Close()

	_, err = edge.RedeemCheck(ctx, apitype.RedeemCheckRequest{Token: answer.Data.Token})
	must(t, err)
	id, err := edge.Redeem(ctx, apitype.RedeemRequest{Token: answer.Data.Token, CSR: csr(t), Capabilities: apitype.CapabilityAcceptsOpAMP})
	must(t, err)
	_, err = edge.Sync(ctx, apitype.SyncRequest{})
	must(t, err)
	_, err = edge.Report(ctx, apitype.ReportRequest{
		Name: "e", Version: "v1", Revision: "", Live: 1,
		Sessions: []apitype.SessionReport{{AgentID: id.AgentID, SerialNumber: id.SerialNumber}},
	})
	must(t, err)
	_, err = edge.EdgeCertificate(ctx, apitype.EdgeCertificateRequest{CSR: csr(t), DNSNames: []string{"localhost"}})
	must(t, err)

	// Nothing but a pool's secret makes the edge able to issue, and by that pool alone.
	pool, err := engine(t, v.Client()).WritePool(ctx, "ci", apitype.PoolRequest{})
	must(t, err)
	_, err = edge.IssueWithSecret(ctx, "ci", apitype.PoolAdminIssueRequest{AdminSecret: pool.AdminSecret})
	must(t, err)
	_, err = edge.IssueWithSecret(ctx, "other", apitype.PoolAdminIssueRequest{AdminSecret: pool.AdminSecret})
	if apitype.CodeOf(err) != apitype.PoolSecretInvalid {
		t.Errorf("another pool: %v", err)
	}

	// A pipeline issues from its pool, and the operator keeps pools, groups and configurations.
	pipeline := engine(t, holder(t, v, poolIssuer(t, "ampora", "", "ci").Text))
	count := int64(2)
	batch, err := pipeline.IssueFromPool(ctx, "ci", apitype.PoolIssueRequest{Count: &count})
	must(t, err)
	_, err = operator.WriteConfiguration(ctx, "plain", apitype.ConfigurationRequest{Body: ptr("receivers: {}")})
	must(t, err)
	_, err = operator.WriteGroup(ctx, "web", apitype.GroupRequest{Configuration: ptr("plain")})
	must(t, err)
	_, err = operator.WriteGroup(ctx, "web", apitype.GroupRequest{Description: ptr("web servers")})
	must(t, err)
	_, err = operator.AssignAgents(ctx, apitype.AssignRequest{AgentIDs: []string{id.AgentID}, Group: "web"})
	must(t, err)
	made, err := operator.WritePool(ctx, "web", apitype.PoolRequest{Group: ptr("web")})
	must(t, err)
	if made.AdminSecret == "" {
		t.Error("the operator's pool has no secret")
	}
	_, err = operator.IssueFromPool(ctx, "web", apitype.PoolIssueRequest{})
	must(t, err)
	_, err = operator.RotatePoolSecret(ctx, "web", apitype.RevokeRequest{})
	must(t, err)
	_, err = operator.RevokePool(ctx, "ci", apitype.RevokeRequest{})
	must(t, err)
	_, err = edge.RedeemCheck(ctx, apitype.RedeemCheckRequest{Token: batch.Tokens[0].Token})
	if apitype.CodeOf(err) != apitype.PoolRevoked {
		t.Errorf("a token of a revoked pool: %v", err)
	}
	must(t, operator.DeletePool(ctx, "web"))
	_, err = operator.RevokeAllTokens(ctx, apitype.RevokeRequest{Reason: "a drill"})
	must(t, err)

	agents, err := operator.Agents(ctx, apitype.Page{})
	must(t, err)
	if len(agents.Keys) != 1 || agents.Keys[0] != id.AgentID {
		t.Errorf("the operator sees %v", agents.Keys)
	}
	list, err := operator.Vault().Logical().ListWithContext(ctx, "ampora/agents") // as 'vault list' does
	if err != nil || list == nil {
		t.Errorf("vault list: %v", err)
	}
	sum, err := operator.AgentsSummary(ctx)
	must(t, err)
	if sum.Active != 1 {
		t.Errorf("the operator counts %+v", sum)
	}
	for role, c := range map[string]*client.Client{"operator": operator, "auditor": auditor} {
		edges, err := c.Edges(ctx, apitype.Page{})
		must(t, err)
		if len(edges.Keys) != 1 || edges.KeyInfo["e"].Version != "v1" {
			t.Errorf("the %s sees the edges %+v", role, edges)
		}
	}
	_, err = operator.RevokeAgent(ctx, id.AgentID, apitype.RevokeRequest{})
	must(t, err)
	must(t, operator.DeleteAgent(ctx, id.AgentID))

	events, err := auditor.Events(ctx, apitype.EventsRequest{AgentID: id.AgentID})
	must(t, err)
	if len(events.Events) < 3 {
		t.Errorf("the auditor sees %d events", len(events.Events))
	}
}

func ptr[T any](v T) *T { return &v }

func csr(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	must(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
