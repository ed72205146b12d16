package plugintest

import (
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/ampora/ampora/plugin/apitype"
	"golang.org/x/crypto/ocsp"
)

func TestAClientIssuesAndReadsThroughTheServer(t *testing.T) {
	s := Start(t)
	s.Configure(t, "wss://localhost:4320/v1/opamp")
	c := s.Client(t)
	issued, err := c.IssueToken(t.Context(), apitype.TokenIssueRequest{Label: "first", TTL: 3600})
	if err != nil {
		t.Fatal(err)
	}
	list, err := c.Tokens(t.Context(), apitype.Page{})
	if err != nil || len(list.Keys) != 1 || list.KeyInfo[issued.TokenID].Label != "first" {
		t.Fatalf("list: %+v, %v", list, err)
	}
	if _, err := c.Token(t.Context(), "00000000-0000-8000-8000-000000000000"); apitype.CodeOf(err) != apitype.TokenUnknown {
		t.Fatalf("reading an unknown token: %v", err)
	}
	id, err := c.Redeem(t.Context(), apitype.RedeemRequest{Token: issued.Token, GenerateKey: true})
	if err != nil || id.PrivateKey == "" {
		t.Fatalf("redeeming: %v", err)
	}
	if _, err := c.RedeemCheck(t.Context(), apitype.RedeemCheckRequest{Token: issued.Token}); apitype.CodeOf(err) != apitype.TokenRedeemed {
		t.Fatalf("checking a spent token: %v", err)
	}
	events, err := c.Events(t.Context(), apitype.EventsRequest{AgentID: id.AgentID})
	if err != nil || len(events.Events) != 2 {
		t.Fatalf("events: %+v, %v", events, err)
	}
}

func parse(t *testing.T, text string) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		t.Fatal("no PEM")
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// What a client gets with a token, and a browser without one.
func TestCRLAndOCSPThroughTheServer(t *testing.T) {
	s := Start(t)
	s.Configure(t, "wss://localhost:4320/v1/opamp")
	c := s.Client(t)
	issued, err := c.IssueToken(t.Context(), apitype.TokenIssueRequest{})
	if err != nil {
		t.Fatal(err)
	}
	id, err := c.Redeem(t.Context(), apitype.RedeemRequest{Token: issued.Token, GenerateKey: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.RevokeAgent(t.Context(), id.AgentID, apitype.RevokeRequest{Reason: "keyCompromise"}); err != nil {
		t.Fatal(err)
	}
	crl, err := c.CRL(t.Context(), apitype.CRLRequest{})
	if err != nil || crl.Entries != 1 {
		t.Fatalf("%+v, %v", crl, err)
	}
	if same, err := c.CRL(t.Context(), apitype.CRLRequest{IssuerID: crl.IssuerID, Number: crl.Number}); err != nil || same.CRL != "" || same.Number != crl.Number {
		t.Errorf("%+v, %v", same, err)
	}
	leaf, issuer := parse(t, id.Certificate), parse(t, id.IssuingCA)
	question, err := ocsp.CreateRequest(leaf, issuer, &ocsp.RequestOptions{Hash: crypto.SHA256})
	if err != nil {
		t.Fatal(err)
	}
	text := base64.StdEncoding.EncodeToString(question)
	if answer, err := c.OCSP(t.Context(), apitype.OCSPRequest{Request: text}); err != nil || answer.Status != "revoked" || answer.NextUpdate == 0 {
		t.Errorf("%+v, %v", answer, err)
	}

	get := func(path string) (*http.Response, []byte) {
		t.Helper()
		resp, err := http.Get(s.URL + "/v1/" + apitype.DefaultMount + "/" + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp, body
	}
	asked := "ocsp/" + url.PathEscape(text)
	for _, path := range []string{"crl", asked} {
		if resp, body := get(path); resp.StatusCode != apitype.NotConfigured.VaultStatus() || !strings.Contains(string(body), "public_pki is off") {
			t.Errorf("%s is %d although public_pki is off: %s", path, resp.StatusCode, body)
		}
	}
	if resp, _ := get("edge/crl"); resp.StatusCode != http.StatusForbidden {
		t.Errorf("edge/crl without a token is %d", resp.StatusCode)
	}
	if err := c.UpdateConfig(t.Context(), map[string]any{"public_pki": true}); err != nil {
		t.Fatal(err)
	}
	resp, body := get("issuer/" + crl.IssuerID + "/crl")
	if list, err := x509.ParseRevocationList(body); err != nil || list.CheckSignatureFrom(issuer) != nil || resp.Header.Get("Content-Type") != "application/pkix-crl" {
		t.Errorf("%d %v: %v", resp.StatusCode, resp.Header, err)
	}
	resp, body = get(asked)
	if answer, err := ocsp.ParseResponse(body, issuer); err != nil || answer.RevocationReason != ocsp.KeyCompromise || resp.Header.Get("Cache-Control") == "" {
		t.Errorf("%d %v: %+v, %v", resp.StatusCode, resp.Header, answer, err)
	}
}

func TestSpecialPathsAreReadAsVaultReadsThem(t *testing.T) {
	for special, paths := range map[string]map[string]bool{
		"crl":          {"crl": true, "crl/pem": false, "crl/": false, "xcrl": false},
		"issuer/+/crl": {"issuer/a/crl": true, "issuer/a/b/crl": false, "issuer/a": false, "issuer/a/crl/pem": false},
		"ocsp/*":       {"ocsp/a": true, "ocsp/a//b/": true, "ocsp": false, "ocspx/a": false},
	} {
		for path, want := range paths {
			if covers(special, path) != want {
				t.Errorf("%s covers %s: %v", special, path, !want)
			}
		}
	}
}
