package setup_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/ampora/ampora/cmd/ampora/internal/setup"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/client"
	"github.com/ampora/ampora/test/vaulttest"
)

// TestVaultsAuditLogTellsTheFactsAndNothingElse drives the engine through Vault with hostile agents' text everywhere an agent can
// put any, and reads the lines that the audit device wrote.
func TestVaultsAuditLogTellsTheFactsAndNothingElse(t *testing.T) {
	v := vaulttest.Start(t)
	run(t, v.Client(), options(t, v))
	ctx := t.Context()
	c, err := client.New(v.Client(), "ampora")
	if err != nil {
		t.Fatal(err)
	}

	const (
		label  = "rack-17-by-hand"
		said   = "text-of-an-agent"
		uid    = "0197a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"
		repeat = "an-idempotency-key-of-32-letters"
		source = "192.0.2.77"
		why    = "stolen-laptop"
	)
	issued, err := c.IssueToken(ctx, apitype.TokenIssueRequest{Label: label})
	must(t, err)
	redeem := apitype.RedeemRequest{
		Token: issued.Token, CSR: csr(t), InstanceUID: uid, DisplayName: said, Description: `{"service.name":"` + said + `"}`,
		Capabilities: apitype.CapabilityAcceptsOpAMP, SourceIP: source, IdempotencyKey: repeat,
	}
	_, err = c.RedeemCheck(ctx, apitype.RedeemCheckRequest{Token: issued.Token, SourceIP: source})
	must(t, err)
	id, err := c.Redeem(ctx, redeem)
	must(t, err)
	_, err = c.Report(ctx, apitype.ReportRequest{
		Name: "edge", Version: "v1", Revision: "1.1", Live: 1,
		Sessions: []apitype.SessionReport{{
			AgentID: id.AgentID, SerialNumber: id.SerialNumber, InstanceUID: uid, SourceIP: source, HasState: true,
			Description: `{"host.name":"` + said + `"}`, DisplayName: said, StateHash: said,
		}},
	})
	must(t, err)
	_, err = c.Agent(ctx, id.AgentID)
	must(t, err)
	_, err = c.Agents(ctx, apitype.Page{})
	must(t, err)
	_, err = c.Events(ctx, apitype.EventsRequest{AgentID: id.AgentID})
	must(t, err)
	name := said
	_, err = c.UpdateAgent(ctx, id.AgentID, apitype.AgentUpdateRequest{DisplayName: &name})
	must(t, err)
	second, err := c.IssueToken(ctx, apitype.TokenIssueRequest{Label: label})
	must(t, err)
	_, err = c.RevokeToken(ctx, second.TokenID, apitype.RevokeRequest{Reason: why})
	must(t, err)
	third, err := c.IssueToken(ctx, apitype.TokenIssueRequest{})
	must(t, err)
	made, err := c.Redeem(ctx, apitype.RedeemRequest{Token: third.Token, GenerateKey: true, Capabilities: apitype.CapabilityAcceptsOpAMP})
	must(t, err)
	// Refusals put their text into the log in the clear.
	if _, err := c.Redeem(ctx, redeem); err == nil {
		redeem.IdempotencyKey += "x"
		if _, err = c.Redeem(ctx, redeem); err == nil {
			t.Fatal("a token was spent twice")
		}
	}
	redeem.Token = strings.ToUpper(issued.Token)
	if _, err := c.Redeem(ctx, redeem); err == nil {
		t.Fatal("an upper-cased token was taken")
	}

	raw, err := os.ReadFile(v.AuditLog())
	must(t, err)
	log := string(raw)
	for what, text := range map[string]string{
		"the label": label, "the reason": why, "a token's id": issued.TokenID, "the agent's id": id.AgentID, "the serial": id.SerialNumber,
		"the fingerprint": id.Fingerprint, "the agent's address": source, "the endpoint": "wss://edge.north.example:4320/v1/opamp",
	} {
		if !strings.Contains(log, text) {
			t.Errorf("%s (%s) is not readable in the audit log", what, text)
		}
	}
	lower := strings.ToLower(log)
	key, _ := pem.Decode([]byte(made.PrivateKey))
	for what, text := range map[string]string{
		"a token": issued.Token[7:40], "a revoked token": second.Token[7:40], "a spent token": third.Token[7:40], "a private key": made.PrivateKey[40:80],
		"a key's bytes": string(key.Bytes[40:80]), "what an agent says of itself": said, "an agent's choice of uid": uid, "an idempotency key": repeat,
	} {
		if strings.Contains(lower, strings.ToLower(text)) {
			t.Errorf("%s stands in the audit log", what)
		}
	}
}

func TestNoOpenAuditKeyIsASecretOrAnAgentsText(t *testing.T) {
	closed := []string{
		"token", "tokens", "admin_secret", "private_key", "csr", "proof", "idempotency_key", "display_name", "instance_uid",
		"description", "capabilities", "state_hash", "name", "id", "data", "secret_id",
	}
	for _, key := range slices.Concat(setup.AuditRequestKeys(), setup.AuditResponseKeys()) {
		if slices.Contains(closed, key) {
			t.Errorf("%s is open", key)
		}
	}
}

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
