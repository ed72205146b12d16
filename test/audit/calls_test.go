package audit

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/client"
)

// call is one request that changes something, or could: what it does, and which events tell of it. A call that is refused, or
// changes nothing, has none.
type call struct {
	name    string
	actions string // in the order of telling, separated by spaces
	refused bool
	run     func(context.Context) error
}

// only drops an answer.
func only[T any](_ T, err error) error { return err }

// callsOf are the calls of a tenant, or of none: every path that changes something, in an order in which it can. A new path
// belongs into this table; the test fails without it.
func (w *world) callsOf(tenant string) []call {
	c, edge := w.engine.ForTenant(tenant), w.edge
	if tenant != "" { // the edge's policy is for the paths without a tenant
		edge = c
	}
	text := func(s string) *string { return &s }
	number := func(n int64) *int64 { return &n }
	var (
		secret, spare string
		issued        *apitype.PoolIssueResponse
		lone, second  *apitype.IssuedToken
		agent, clone  *apitype.Identity
		next, third   *apitype.Identity
	)
	const key = "an-idempotency-key"
	redeem := func(token string) (*apitype.Identity, error) {
		return edge.Redeem(w.Context(), apitype.RedeemRequest{Token: token, GenerateKey: true, IdempotencyKey: key, SourceIP: "192.0.2.7"})
	}
	return []call{
		{"make a configuration", "Configuration.Created", false, func(ctx context.Context) error {
			return only(c.WriteConfiguration(ctx, "base", apitype.ConfigurationRequest{Body: text("receivers: {}\n")}))
		}},
		{"change it", "Configuration.Updated", false, func(ctx context.Context) error {
			return only(c.WriteConfiguration(ctx, "base", apitype.ConfigurationRequest{Body: text("exporters: {}\n")}))
		}},
		{"make a group", "Group.Created", false, func(ctx context.Context) error {
			return only(c.WriteGroup(ctx, "web", apitype.GroupRequest{Configuration: text("base")}))
		}},
		{"change it", "Group.Updated", false, func(ctx context.Context) error {
			return only(c.WriteGroup(ctx, "web", apitype.GroupRequest{Description: text("the front")}))
		}},
		{"delete a configuration that is in use", "", true, func(ctx context.Context) error { return c.DeleteConfiguration(ctx, "base") }},
		{"make a pool", "Pool.Created", false, func(ctx context.Context) error {
			pool, err := c.WritePool(ctx, "ci", apitype.PoolRequest{Group: text("web")})
			if err == nil {
				secret = pool.AdminSecret
			}
			return err
		}},
		{"change it", "Pool.Updated", false, func(ctx context.Context) error {
			return only(c.WritePool(ctx, "ci", apitype.PoolRequest{DefaultTTL: number(3600)}))
		}},
		{"issue from a pool", "Token.Issued", false, func(ctx context.Context) error {
			return only(c.IssueFromPool(ctx, "ci", apitype.PoolIssueRequest{Label: "rack 7"}))
		}},
		{"issue several", "Token.Issued", false, func(ctx context.Context) (err error) {
			issued, err = c.IssueFromPool(ctx, "ci", apitype.PoolIssueRequest{Count: number(3)})
			return err
		}},
		{"issue with the secret", "Token.Issued", false, func(ctx context.Context) error {
			one, err := edge.IssueWithSecret(ctx, "ci", apitype.PoolAdminIssueRequest{AdminSecret: secret, SourceIP: "192.0.2.8"})
			if err == nil {
				spare = one.Token
			}
			return err
		}},
		{"issue with a wrong secret", "", true, func(ctx context.Context) error {
			return only(edge.IssueWithSecret(ctx, "ci", apitype.PoolAdminIssueRequest{AdminSecret: spare, SourceIP: "192.0.2.9"}))
		}},
		{"check a token", "", false, func(ctx context.Context) error {
			return only(edge.RedeemCheck(ctx, apitype.RedeemCheckRequest{Token: issued.Tokens[0].Token}))
		}},
		{"redeem it", "Token.Redeemed Certificate.Issued", false, func(ctx context.Context) (err error) {
			agent, err = redeem(issued.Tokens[0].Token)
			return err
		}},
		{"redeem another", "Token.Redeemed Certificate.Issued", false, func(ctx context.Context) (err error) {
			clone, err = redeem(issued.Tokens[1].Token)
			return err
		}},
		{"redeem the third", "Token.Redeemed Certificate.Issued", false, func(ctx context.Context) (err error) {
			third, err = redeem(issued.Tokens[2].Token)
			return err
		}},
		{"repeat that, with a key of Vault's making", "Certificate.Issued", false, func(context.Context) error { return only(redeem(issued.Tokens[1].Token)) }},
		{"redeem a spent token", "", true, func(ctx context.Context) error {
			return only(edge.Redeem(ctx, apitype.RedeemRequest{Token: issued.Tokens[0].Token, CSR: newCSR(w.T)}))
		}},
		{"report a session", "", false, func(ctx context.Context) error {
			return only(edge.Report(ctx, apitype.ReportRequest{Name: "one", Sessions: []apitype.SessionReport{{AgentID: agent.AgentID, SerialNumber: agent.SerialNumber}}}))
		}},
		{"renew a certificate", "Certificate.Renewed", false, func(ctx context.Context) (err error) {
			next, err = edge.Renew(ctx, agent.AgentID, apitype.RenewRequest{Fingerprint: agent.Fingerprint, GenerateKey: true, SourceIP: "192.0.2.7"})
			return err
		}},
		{"renew without proof", "", true, func(ctx context.Context) error {
			return only(edge.Renew(ctx, agent.AgentID, apitype.RenewRequest{Fingerprint: agent.Fingerprint, CSR: newCSR(w.T), SourceIP: "192.0.2.9"}))
		}},
		{"report that it was applied", "Certificate.Revoked", false, func(ctx context.Context) error {
			return only(edge.Report(ctx, apitype.ReportRequest{Name: "one", Sessions: []apitype.SessionReport{
				{AgentID: agent.AgentID, SerialNumber: next.SerialNumber, Applied: next.Fingerprint}}}))
		}},
		{"report a replaced certificate", "Certificate.CloneSuspected", false, func(ctx context.Context) error {
			return only(edge.Report(ctx, apitype.ReportRequest{Name: "one", Sessions: []apitype.SessionReport{{AgentID: clone.AgentID, SerialNumber: clone.SerialNumber}}}))
		}},
		{"change an agent", "Agent.Updated", false, func(ctx context.Context) error {
			return only(c.UpdateAgent(ctx, agent.AgentID, apitype.AgentUpdateRequest{DisplayName: text("till 4")}))
		}},
		{"put agents into no group", "Agent.Updated Agent.Updated", false, func(ctx context.Context) error {
			return only(c.AssignAgents(ctx, apitype.AssignRequest{AgentIDs: []string{agent.AgentID, clone.AgentID}}))
		}},
		{"revoke an agent", "Certificate.Revoked", false, func(ctx context.Context) error {
			return only(c.RevokeAgent(ctx, agent.AgentID, apitype.RevokeRequest{Reason: "keyCompromise"}))
		}},
		{"revoke many, of whom one was", "Certificate.Revoked", false, func(ctx context.Context) error {
			return only(c.RevokeAgents(ctx, apitype.RevokeAgentsRequest{AgentIDs: []string{agent.AgentID, third.AgentID}}))
		}},
		{"revoke it again", "", false, func(ctx context.Context) error {
			return only(c.RevokeAgent(ctx, agent.AgentID, apitype.RevokeRequest{Reason: "superseded"}))
		}},
		{"delete an agent", "Agent.Deleted", false, func(ctx context.Context) error { return c.DeleteAgent(ctx, agent.AgentID) }},
		{"delete one that was not revoked", "Agent.Deleted Certificate.Revoked", false, func(ctx context.Context) error { return c.DeleteAgent(ctx, clone.AgentID) }},
		{"delete it again", "", false, func(ctx context.Context) error { return c.DeleteAgent(ctx, clone.AgentID) }},
		{"delete one that was revoked with others", "Agent.Deleted", false, func(ctx context.Context) error { return c.DeleteAgent(ctx, third.AgentID) }},
		{"issue a token", "Token.Issued", false, func(ctx context.Context) (err error) {
			lone, err = c.IssueToken(ctx, apitype.TokenIssueRequest{Group: "web"})
			return err
		}},
		{"issue another", "Token.Issued", false, func(ctx context.Context) (err error) {
			second, err = c.IssueToken(ctx, apitype.TokenIssueRequest{})
			return err
		}},
		{"issue with a wrong ttl", "", true, func(ctx context.Context) error { return only(c.IssueToken(ctx, apitype.TokenIssueRequest{TTL: 1})) }},
		{"revoke a token", "Token.Revoked", false, func(ctx context.Context) error {
			return only(c.RevokeToken(ctx, lone.TokenID, apitype.RevokeRequest{Reason: "lost"}))
		}},
		{"revoke it again", "", false, func(ctx context.Context) error {
			return only(c.RevokeToken(ctx, lone.TokenID, apitype.RevokeRequest{Reason: "found"}))
		}},
		{"revoke a pool", "Pool.Revoked", false, func(ctx context.Context) error {
			return only(c.RevokePool(ctx, "ci", apitype.RevokeRequest{Reason: "leak"}))
		}},
		{"redeem a token of before", "", true, func(ctx context.Context) error {
			return only(edge.Redeem(ctx, apitype.RedeemRequest{Token: spare, CSR: newCSR(w.T), SourceIP: "192.0.2.9"}))
		}},
		{"rotate its secret", "Pool.AdminSecretRotated", false, func(ctx context.Context) error { return only(c.RotatePoolSecret(ctx, "ci", apitype.RevokeRequest{})) }},
		{"delete it", "Pool.Deleted", false, func(ctx context.Context) error { return c.DeletePool(ctx, "ci") }},
		{"revoke all tokens", "Token.AllRevoked", false, func(ctx context.Context) error {
			return only(c.RevokeAllTokens(ctx, apitype.RevokeRequest{Reason: "drill"}))
		}},
		{"redeem one of them", "", true, func(ctx context.Context) error {
			return only(edge.Redeem(ctx, apitype.RedeemRequest{Token: second.Token, CSR: newCSR(w.T), SourceIP: "192.0.2.9"}))
		}},
		{"delete the group", "Group.Deleted", false, func(ctx context.Context) error { return c.DeleteGroup(ctx, "web") }},
		{"delete the configuration", "Configuration.Deleted", false, func(ctx context.Context) error { return c.DeleteConfiguration(ctx, "base") }},
	}
}

// callsOfAdmins are those that exist once.
func (w *world) callsOfAdmins() []call {
	c := w.engine
	var draft *apitype.CAIntermediateResponse
	var unused *apitype.CAIssuer
	return []call{
		{"change the configuration", "Config.Updated", false, func(ctx context.Context) error {
			return c.UpdateConfig(ctx, map[string]any{"retry_window": "1m"})
		}},
		{"fix it otherwise", "", true, func(ctx context.Context) error {
			return c.UpdateConfig(ctx, map[string]any{"trust_domain": "south.example"})
		}},
		{"make an issuer", "Issuer.Created", false, func(ctx context.Context) (err error) {
			unused, err = c.CARoot(ctx, apitype.CARootRequest{})
			return err
		}},
		{"retire it", "Issuer.Retired", false, func(ctx context.Context) error {
			return only(c.SetIssuerState(ctx, unused.IssuerID, apitype.IssuerRequest{State: "retired"}))
		}},
		{"ask for one to be signed", "Issuer.Created", false, func(ctx context.Context) (err error) {
			draft, err = c.CAIntermediate(ctx, apitype.CARootRequest{})
			return err
		}},
		{"bring it back signed", "", false, func(ctx context.Context) error {
			return only(c.CASetSigned(ctx, apitype.CASetSignedRequest{Certificate: signed(w.T, draft.CSR)}))
		}},
		{"activate it", "Issuer.Activated", false, func(ctx context.Context) error { return activate(ctx, c, draft.IssuerID) }},
		{"sign an edge's certificate", "", false, func(ctx context.Context) error {
			return only(w.edge.EdgeCertificate(ctx, apitype.EdgeCertificateRequest{CSR: newCSR(w.T)}))
		}},
		{"get the list of revoked certificates", "", false, func(ctx context.Context) error { return only(w.edge.CRL(ctx, apitype.CRLRequest{})) }},
		{"ask what nobody can answer", "", false, func(ctx context.Context) error {
			return only(w.edge.OCSP(ctx, apitype.OCSPRequest{Request: "AAAA"}))
		}},
		{"get the list of no issuer", "", true, func(ctx context.Context) error {
			return only(w.edge.CRL(ctx, apitype.CRLRequest{IssuerID: "none"}))
		}},
		{"say that Vault was restored", "Config.Restored", false, func(ctx context.Context) error {
			return only(c.AfterRestore(ctx, apitype.RevokeRequest{Reason: "drill"}))
		}},
	}
}

func activate(ctx context.Context, c *client.Client, issuer string) error {
	return only(c.Vault().Logical().WriteWithContext(ctx, c.Mount()+"/ca/issuers/"+issuer, map[string]any{"state": "active"}))
}

// signed is the chain for a CSR, by a CA of the company's.
func signed(t *testing.T, csr string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Company Root"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(10, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	rootDER, err := x509.CreateCertificate(rand.Reader, root, root, key.Public(), key)
	must(t, err)
	block, _ := pem.Decode([]byte(csr))
	request, err := x509.ParseCertificateRequest(block.Bytes)
	must(t, err)
	ours := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: request.Subject, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(5, 0, 0),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	rootCertificate, err := x509.ParseCertificate(rootDER)
	must(t, err)
	der, err := x509.CreateCertificate(rand.Reader, ours, rootCertificate, request.PublicKey, key)
	must(t, err)
	encode := func(der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	return encode(der) + encode(rootDER)
}
