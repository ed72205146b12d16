package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"strings"
	"testing"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/client"
	"github.com/ampora/ampora/plugin/plugintest"
)

// peer is an engine that others know as id.
func peer(t *testing.T, id string) *client.Client {
	t.Helper()
	c := plugintest.Start(t).Client(t)
	if err := c.UpdateConfig(t.Context(), map[string]any{
		"peer_id": id, "trust_domain": id + ".example", "endpoint": "wss://edge." + id + ".example:4320/v1/opamp",
		"federation_url": "https://edge." + id + ".example:4320/federation",
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.CARoot(t.Context(), apitype.CARootRequest{}); err != nil {
		t.Fatal(err)
	}
	return c
}

// card is what federation/bundle of an engine answers.
func card(t *testing.T, c *client.Client) string {
	t.Helper()
	answer, err := c.FederationBundle(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(answer)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// knows makes the other side a peer by its card.
func knows(t *testing.T, c *client.Client, name, card string) {
	t.Helper()
	var fields apitype.PeerRequest
	if err := json.Unmarshal([]byte(card), &fields); err != nil {
		t.Fatal(err)
	}
	if _, err := c.WritePeer(t.Context(), name, fields); err != nil {
		t.Fatal(err)
	}
}

// peerMaterial is what two peers have signed: their cards, a handover token and a receipt.
func peerMaterial(t *testing.T) map[string]string {
	t.Helper()
	eu, west := peer(t, "eu-region"), peer(t, "eu-west-region")
	euCard, westCard := card(t, eu), card(t, west)
	knows(t, eu, "west", westCard)
	knows(t, west, "eu", euCard)

	issued, err := eu.IssueToken(t.Context(), apitype.TokenIssueRequest{})
	if err != nil {
		t.Fatal(err)
	}
	agent, err := eu.Redeem(t.Context(), apitype.RedeemRequest{
		Token: issued.Token, CSR: newCSR(t), Capabilities: apitype.CapabilityAcceptsOpAMP, DisplayName: "collector-7",
	})
	if err != nil {
		t.Fatal(err)
	}
	handed, err := eu.Handover(t.Context(), agent.AgentID, apitype.HandoverRequest{Peer: "west"})
	if err != nil {
		t.Fatal(err)
	}
	taken, err := west.RedeemHandover(t.Context(), apitype.HandoverRedeemRequest{Token: handed.HandoverToken})
	if err != nil {
		t.Fatal(err)
	}
	signed, err := eu.HandoverManifest(t.Context(), apitype.HandoverManifestRequest{Peer: "west", HandoverIDs: []string{handed.HandoverID}})
	if err != nil {
		t.Fatal(err)
	}
	token := handed.HandoverToken
	half := len(token) / 2
	leaky := strings.Replace(euCard, "-----BEGIN CERTIFICATE-----", `-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n-----BEGIN CERTIFICATE-----`, 1)
	return map[string]string{
		"handover.token": token + "\n", "handover.id": handed.HandoverID, "handover.agent": agent.AgentID, "receipt": taken.Receipt,
		"eu.json": euCard, "west.json": westCard, "eu-answer.json": `{"data":` + euCard + `}`, "leaky.json": leaky,
		"web.handover": signed.Manifest + "\n" + token + "\n", "cut.handover": signed.Manifest + "\n" + token,
		"doubled.handover": signed.Manifest + "\n" + token + "\n" + token + "\n", "headless.handover": token + "\n" + token + "\n",
		"wrapped.token": token[:half] + "\n  " + token[half:], "cut.token": token[:half], "changed.token": token[:half] + flipped(token[half]) + token[half+1:],
	}
}

// flipped is another letter of base64.
func flipped(c byte) string {
	if c == 'A' {
		return "B"
	}
	return "A"
}

func newCSR(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}
