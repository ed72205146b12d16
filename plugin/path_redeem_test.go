package ampora_test

import (
	"crypto"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"net"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/identity"
	"github.com/ampora/ampora/plugin/token"
)

func TestATokenTurnsIntoAnAgent(t *testing.T) {
	m := ready(t)
	m.group("acme", "web", nil)
	issued := m.issue(data{"label": "rack 7", "tenant": "acme", "group": "web"})
	check := call[apitype.RedeemCheckResponse](m, write, "redeem/check", data{"token": issued.Token})
	if want := (apitype.RedeemCheckResponse{TokenID: issued.TokenID, Tenant: "acme", Group: "web", ExpiresAt: issued.ExpiresAt}); check != want {
		t.Errorf("check: %+v", check)
	}
	const instance = "018f3d2c-7d4e-7b6a-9c3f-0a1b2c3d4e5f"
	id := m.redeem(data{
		"token": issued.Token, "csr": newCSR(t), "instance_uid": instance, "display_name": "collector", "description": `{"os":"linux"}`,
		"capabilities": 0x1900, "source_ip": "192.0.2.77", "idempotency_key": "0123456789abcdef",
	})
	secret, _ := token.Parse(token.Bootstrap, issued.Token)
	if id.AgentID != secret.AgentID() || id.Tenant != "acme" || id.Group != "web" || id.PrivateKey != "" || id.PrivateKeyType != "" {
		t.Errorf("%+v", id)
	}
	want := apitype.Agent{
		AgentID: id.AgentID, DisplayName: "collector", InstanceUID: instance, Description: `{"os":"linux"}`, Capabilities: 0x1900, Tenant: "acme", Group: "web",
		State: "active", StateText: "Active", SerialNumber: id.SerialNumber, Fingerprint: id.Fingerprint, Certificate: id.Certificate, Expiration: id.Expiration,
		EnrolledAt: m.clock.now().Format(time.RFC3339), TokenID: issued.TokenID, KeyOrigin: "csr", SourceIP: "192.0.2.77",
	}
	if got := m.agent(id.AgentID); !equalJSON(t, got, want) {
		t.Errorf("row %+v", got)
	}
	want.Certificate = ""
	if got := m.agents(nil); len(got.Keys) != 1 || !equalJSON(t, got.KeyInfo[id.AgentID], want) {
		t.Errorf("list %+v", got)
	}
	m.no(apitype.TokenRedeemed, write, "redeem/check", data{"token": issued.Token})
	m.no(apitype.TokenRedeemed, write, "redeem", data{"token": issued.Token, "csr": newCSR(t)})
	if got := m.tokens(nil); len(got.Keys) != 0 {
		t.Errorf("still listed: %v", got.Keys)
	}
}

func TestAnAgentWithoutANameHasTheTokensLabel(t *testing.T) {
	m := ready(t)
	id, _ := m.enrol(data{"label": "rack 7"})
	if a := m.agent(id.AgentID); a.DisplayName != "rack 7" {
		t.Errorf("%+v", a)
	}
}

func TestTheLeafSaysWhatWeSayAndNothingOfTheCSR(t *testing.T) {
	m := ready(t)
	m.ok(write, "config", data{"crl_distribution_points": "http://pki.example/{issuer_id}/crl", "ocsp_servers": "http://pki.example/ocsp", "leaf_ttl": "24h"})
	issuer := call[apitype.ListResponse[apitype.CAIssuer]](m, list, "ca/issuers", nil).Keys[0]
	evil, _ := url.Parse("spiffe://test.example/agent/" + unknownID)
	hostile := &x509.CertificateRequest{
		Subject:  pkix.Name{CommonName: unknownID, Organization: []string{"admin"}, ExtraNames: []pkix.AttributeTypeAndValue{{Type: []int{2, 5, 4, 5}, Value: "1"}}},
		DNSNames: []string{"edge.test.example", "localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, EmailAddresses: []string{"root@test.example"}, URIs: []*url.URL{evil},
		ExtraExtensions: []pkix.Extension{
			{Id: []int{2, 5, 29, 19}, Critical: true, Value: []byte{0x30, 3, 1, 1, 0xff}},               // a CA
			{Id: []int{2, 5, 29, 37}, Value: []byte{0x30, 10, 6, 8, 0x2b, 6, 1, 5, 5, 7, 3, 1}},         // serverAuth
			{Id: []int{1, 3, 6, 1, 4, 1, 99999, 1}, Critical: true, Value: []byte{4, 3, 'x', 'y', 'z'}}, // whatever
		},
	}
	for name, scope := range map[string]string{"without a tenant": "", "with a tenant": "acme"} {
		t.Run(name, func(t *testing.T) {
			key := ecKey(t, elliptic.P256())
			id := m.redeem(data{"token": m.issue(data{"tenant": scope}).Token, "csr": csrOf(t, key, hostile)})
			c := certificate(t, id.Certificate)
			uri := "spiffe://test.example/agent/" + id.AgentID
			if scope != "" {
				uri = "spiffe://test.example/tenant/acme/agent/" + id.AgentID
			}
			if c.Subject.String() != "CN="+id.AgentID || len(c.URIs) != 1 || c.URIs[0].String() != uri || len(c.DNSNames)+len(c.EmailAddresses)+len(c.IPAddresses) != 0 {
				t.Errorf("names: %s, %v %v %v %v", c.Subject, c.URIs, c.DNSNames, c.EmailAddresses, c.IPAddresses)
			}
			if c.IsCA || !slices.Equal(c.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}) || len(c.UnknownExtKeyUsage) != 0 || c.KeyUsage != x509.KeyUsageDigitalSignature {
				t.Errorf("it is good for %v, CA %v", c.ExtKeyUsage, c.IsCA)
			}
			for _, e := range c.Extensions {
				if e.Id.String() == "1.3.6.1.4.1.99999.1" {
					t.Error("an extension of the CSR stands in it")
				}
			}
			if !key.PublicKey.Equal(c.PublicKey) {
				t.Error("it has another key")
			}
			if !slices.Equal(c.CRLDistributionPoints, []string{"http://pki.example/" + issuer + "/crl"}) || !slices.Equal(c.OCSPServer, []string{"http://pki.example/ocsp"}) {
				t.Errorf("%v %v", c.CRLDistributionPoints, c.OCSPServer)
			}
			// Not before the issuer, which was made at the same moment, and so 5 minutes back.
			if now := m.clock.now(); !c.NotBefore.Equal(now.Add(-5*time.Minute)) || !c.NotAfter.Equal(now.Add(24*time.Hour)) || c.NotAfter.Unix() != id.Expiration {
				t.Errorf("valid from %s to %s", c.NotBefore, c.NotAfter)
			}
			serial, ok := identity.ParseSerial(c.SerialNumber)
			if !ok || serial.Kind() != identity.KindLeaf || serial.AgentID() != id.AgentID || serial.Generation() != 1 || serial.String() != id.SerialNumber {
				t.Errorf("serial %v", serial)
			}
			if sum := sha256.Sum256(c.Raw); hex.EncodeToString(sum[:]) != id.Fingerprint {
				t.Errorf("fingerprint %s", id.Fingerprint)
			}
			if leaf, err := identity.VerifyLeaf(c, []*x509.Certificate{certificate(t, id.IssuingCA)}, "test.example", m.clock.now()); err != nil || leaf.Tenant != scope || leaf.AgentID != id.AgentID {
				t.Errorf("the edge would not take it: %v", err)
			}
		})
	}
}

func TestAServerMadeKeyIsAnsweredOnceAndNotKept(t *testing.T) {
	m := ready(t)
	id := m.redeem(data{"token": m.issue(nil).Token, "generate_key": true})
	if id.PrivateKeyType != "ec" {
		t.Errorf("type %q", id.PrivateKeyType)
	}
	block, rest := pem.Decode([]byte(id.PrivateKey))
	if block == nil || len(rest) != 0 {
		t.Fatal("no PEM key")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if !key.(interface{ Public() crypto.PublicKey }).Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(certificate(t, id.Certificate).PublicKey) {
		t.Error("the key is not the certificate's")
	}
	body := strings.Split(id.PrivateKey, "\n")[1]
	if strings.Contains(m.dump(), body) {
		t.Error("the key is stored")
	}
	if a := m.agent(id.AgentID); a.KeyOrigin != "server" {
		t.Errorf("%+v", a)
	}
}

func TestKeyOriginSaysWhoMakesTheKey(t *testing.T) {
	m := ready(t)
	token := m.issue(nil).Token
	m.ok(write, "config", data{"key_origin": "csr"})
	m.no(apitype.CSRRequired, write, "redeem", data{"token": token, "generate_key": true})
	m.ok(write, "config", data{"key_origin": "server"})
	m.no(apitype.KeyNotAllowed, write, "redeem", data{"token": token, "csr": newCSR(t)})
	m.redeem(data{"token": token, "generate_key": true})
}

// spellings is what people and programs make of a token on the way.
func TestTokensThatAreNoTokensAreRefusedByTheirOwnCodes(t *testing.T) {
	m := ready(t)
	issued := m.issue(nil)
	text := issued.Token
	swapped := text[:10] + string(text[11]) + string(text[10]) + text[12:]
	if text[10] == text[11] {
		swapped = text[:10] + string(text[10]^3) + text[11:]
	}
	for _, c := range []struct {
		name string
		code apitype.Code
		text string
	}{
		{"none", apitype.TokenMalformed, ""},
		{"white space", apitype.TokenMalformed, " \n\t"},
		{"truncated by one", apitype.TokenMalformed, text[:len(text)-1]},
		{"truncated by half", apitype.TokenMalformed, text[:len(text)/2]},
		{"without its kind", apitype.TokenMalformed, text[7:]},
		{"one character too many", apitype.TokenMalformed, text + "a"},
		{"two tokens", apitype.TokenMalformed, text + text},
		{"upper-cased", apitype.TokenMalformed, strings.ToUpper(text)},
		{"payload upper-cased", apitype.TokenMalformed, text[:7] + strings.ToUpper(text[7:])},
		{"with Bearer in front", apitype.TokenMalformed, "Bearer " + text},
		{"a line break inside", apitype.TokenMalformed, text[:20] + "\n" + text[20:]},
		{"an accent inside", apitype.TokenMalformed, text[:20] + "á" + text[22:]},
		{"a pool's secret", apitype.TokenMalformed, token.New(token.PoolSecret).Reveal()},
		{"two characters swapped", apitype.TokenChecksum, swapped},
		{"another checksum", apitype.TokenChecksum, text[:len(text)-7] + token.New(token.Bootstrap).Reveal()[len(text)-7:]},
		{"well-formed and unknown", apitype.TokenUnknown, token.New(token.Bootstrap).Reveal()},
		{"ten megabytes", apitype.TokenMalformed, strings.Repeat("a", 10<<20)},
	} {
		t.Run(c.name, func(t *testing.T) {
			m.no(c.code, write, "redeem/check", data{"token": c.text})
			m.no(c.code, write, "redeem", data{"token": c.text, "csr": newCSR(t)})
		})
	}
	m.no(apitype.TokenMalformed, write, "redeem", nil)
	m.ok(write, "redeem/check", data{"token": "\t " + text + "\r\n"})
	m.redeem(data{"token": "\n" + text + "  ", "csr": newCSR(t)})
}

func TestBadRedemptionsConsumeNothing(t *testing.T) {
	m := ready(t)
	issued := m.issue(data{"bound_cidrs": []string{"10.0.0.0/8", "2001:db8::/32"}, "tenant": "acme"})
	p256 := ecKey(t, elliptic.P256())
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	good := csrOf(t, p256, &x509.CertificateRequest{})
	rsaCSR := func(bits int) string {
		if bits == 1024 {
			t.Setenv("GODEBUG", "rsa1024min=0")
		}
		key, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			t.Fatal(err)
		}
		return csrOf(t, key, &x509.CertificateRequest{})
	}
	unsigned := func() string {
		block, _ := pem.Decode([]byte(good))
		block.Bytes[len(block.Bytes)-1] ^= 1
		return pemOf(block.Type, block.Bytes)
	}()
	before := m.dump()
	for _, c := range []struct {
		name string
		code apitype.Code
		body data
	}{
		{"neither CSR nor generate_key", apitype.CSRRequired, data{}},
		{"both CSR and generate_key", apitype.FieldInvalid, data{"csr": good, "generate_key": true}},
		{"a CSR of garbage", apitype.CSRInvalid, data{"csr": "hello"}},
		{"a CSR of garbage in PEM", apitype.CSRInvalid, data{"csr": pemOf("CERTIFICATE REQUEST", []byte("hello"))}},
		{"a CSR that is a certificate", apitype.CSRInvalid, data{"csr": pemOf("CERTIFICATE", []byte("hello"))}},
		{"a CSR with a broken signature", apitype.CSRInvalid, data{"csr": unsigned}},
		{"two CSRs", apitype.CSRInvalid, data{"csr": good + good}},
		{"a CSR of 17 KiB", apitype.CSRInvalid, data{"csr": good + strings.Repeat("\n", 17<<10)}},
		{"a CSR with a great many names", apitype.CSRInvalid, data{"csr": csrOf(t, p256, &x509.CertificateRequest{DNSNames: slices.Repeat([]string{"a.example"}, 2000)})}},
		{"a CSR for RSA-1024", apitype.KeyNotAllowed, data{"csr": rsaCSR(1024)}},
		{"a CSR for RSA-2048", apitype.KeyNotAllowed, data{"csr": rsaCSR(2048)}},
		{"a CSR for P-224", apitype.KeyNotAllowed, data{"csr": csrOf(t, ecKey(t, elliptic.P224()), &x509.CertificateRequest{})}},
		{"a CSR for P-521", apitype.KeyNotAllowed, data{"csr": csrOf(t, ecKey(t, elliptic.P521()), &x509.CertificateRequest{})}},
		{"no source address", apitype.CIDRMismatch, data{"csr": good, "source_ip": ""}},
		{"a source outside the networks", apitype.CIDRMismatch, data{"csr": good, "source_ip": "192.0.2.1"}},
		{"an IPv6 source outside the networks", apitype.CIDRMismatch, data{"csr": good, "source_ip": "2001:db9::1"}},
		{"a source that is no address", apitype.FieldInvalid, data{"csr": good, "source_ip": "home"}},
		{"a source with a port", apitype.FieldInvalid, data{"csr": good, "source_ip": "10.0.0.1:80"}},
		{"an instance uid that is no UUID", apitype.FieldInvalid, data{"csr": good, "instance_uid": "01ARZ3NDEKTSV4RRFFQ69G5FAV"}},
		{"a display name with a line break", apitype.FieldInvalid, data{"csr": good, "display_name": "a\nb"}},
		{"a display name of 10 kB", apitype.FieldInvalid, data{"csr": good, "display_name": strings.Repeat("a", 10000)}},
		{"a description of 65 KiB", apitype.FieldInvalid, data{"csr": good, "description": strings.Repeat("a", 65<<10)}},
		{"an agent that cannot take a certificate", apitype.CapabilityMissing, data{"csr": good, "capabilities": 0x1801}},
		{"negative capabilities", apitype.FieldInvalid, data{"csr": good, "capabilities": -1}},
		{"an idempotency key of 15 characters", apitype.FieldInvalid, data{"csr": good, "idempotency_key": strings.Repeat("a", 15)}},
		{"an idempotency key of 129 characters", apitype.FieldInvalid, data{"csr": good, "idempotency_key": strings.Repeat("a", 129)}},
		{"an idempotency key with a blank", apitype.FieldInvalid, data{"csr": good, "idempotency_key": "0123456789 abcdef"}},
		{"an idempotency key with an umlaut", apitype.FieldInvalid, data{"csr": good, "idempotency_key": "0123456789äabcdef"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			body := data{"token": issued.Token, "source_ip": "10.0.0.1"}
			for k, v := range c.body {
				body[k] = v
			}
			e := m.no(c.code, write, "redeem", body)
			if c.code == apitype.CapabilityMissing && !strings.Contains(e.Error(), "accepts_opamp_connection_settings") {
				t.Errorf("%v does not name the supervisor's setting", e)
			}
		})
	}
	if m.dump() != before {
		t.Error("a refusal changed the storage")
	}
	m.no(apitype.CIDRMismatch, write, "redeem/check", data{"token": issued.Token, "source_ip": "192.0.2.1"})
	m.no(apitype.FieldInvalid, write, "redeem/check", data{"token": issued.Token, "source_ip": "home"})
	m.ok(write, "redeem/check", data{"token": issued.Token, "source_ip": "::ffff:10.9.9.9"}) // an IPv4 source behind an IPv6 socket
	m.ok(write, "redeem/check", data{"token": issued.Token, "source_ip": "2001:db8::1"})
	m.redeem(data{"token": issued.Token, "source_ip": "10.0.0.1", "csr": csrOf(t, ed, &x509.CertificateRequest{})})
}

func TestBeforeThereIsAnIssuerNothingIsRedeemed(t *testing.T) {
	m := newMount(t)
	issued := m.issue(nil)
	m.no(apitype.IssuerMissing, write, "redeem/check", data{"token": issued.Token})
	m.no(apitype.IssuerMissing, write, "redeem", data{"token": issued.Token, "csr": newCSR(t)})
	m.configure()
	m.redeem(data{"token": issued.Token, "csr": newCSR(t)})
}

// Zones of IPv6 addresses are any text at all; none reaches a row or an event.
func TestTheSourceIsKeptInItsOneSpelling(t *testing.T) {
	m := ready(t)
	for given, kept := range map[string]string{
		"2001:DB8:0:0::1": "2001:db8::1", "::ffff:192.0.2.1": "192.0.2.1", "fe80::1%<b>\n": "fe80::1", "192.0.2.1": "192.0.2.1", "": "",
	} {
		id := m.redeem(data{"token": m.issue(nil).Token, "csr": newCSR(t), "source_ip": given})
		if a := m.agent(id.AgentID); a.SourceIP != kept {
			t.Errorf("%q is kept as %q", given, a.SourceIP)
		}
		want := kept
		if want == "" {
			want = "192.0.2.10" // of Vault's client
		}
		if e := m.events(data{"agent_id": id.AgentID}); e[0].SourceIP != want {
			t.Errorf("%q is told as %q", given, e[0].SourceIP)
		}
	}
}

const firstKey, otherKey = "first-idempotency-key", "other-idempotency-key"

func TestTheSameKeyAndCSRGetTheSameAnswerForTenMinutes(t *testing.T) {
	m := ready(t)
	issued := m.issue(nil)
	csr := newCSR(t)
	body := data{"token": issued.Token, "csr": csr, "idempotency_key": firstKey}
	first := m.redeem(body)
	if len(m.keys("token/")) != 0 {
		t.Fatal("the token's row is still there")
	}
	m.clock.advance(10*time.Minute - time.Second)
	m.storage.Reset()
	if again := m.redeem(body); !equalJSON(t, again, first) {
		t.Error("the answer differs")
	}
	if w := m.storage.Writes(); len(w) != 0 {
		t.Errorf("the repetition wrote %v", w)
	}
	m.no(apitype.TokenRedeemed, write, "redeem", data{"token": issued.Token, "csr": newCSR(t), "idempotency_key": firstKey})
	m.no(apitype.TokenRedeemed, write, "redeem", data{"token": issued.Token, "csr": csr, "idempotency_key": otherKey})
	m.no(apitype.TokenRedeemed, write, "redeem", data{"token": issued.Token, "csr": csr})
	m.no(apitype.TokenRedeemed, write, "redeem", data{"token": issued.Token, "generate_key": true, "idempotency_key": firstKey})
	m.clock.advance(time.Second)
	m.no(apitype.TokenRedeemed, write, "redeem", body)
	if got := m.actions(data{"agent_id": first.AgentID}); !slices.Equal(got, []string{"Certificate.Issued", "Token.Redeemed"}) {
		t.Errorf("events %v", got)
	}
}

func TestTheSameKeyWithAServerMadeKeyGetsAFreshLeafOfTheSameAgent(t *testing.T) {
	m := ready(t)
	issued := m.issue(nil)
	body := data{"token": issued.Token, "generate_key": true, "idempotency_key": firstKey}
	first := m.redeem(body)
	m.clock.advance(9 * time.Minute)
	second := m.redeem(body)
	if second.AgentID != first.AgentID || second.SerialNumber == first.SerialNumber || second.PrivateKey == first.PrivateKey {
		t.Error("not a fresh leaf of the same agent")
	}
	if s, _ := identity.ParseSerialText(second.SerialNumber); s.Generation() != 2 {
		t.Errorf("generation %d", s.Generation())
	}
	if a := m.agent(first.AgentID); a.SerialNumber != second.SerialNumber {
		t.Error("the row has the old leaf")
	}
	if got := m.actions(data{"agent_id": first.AgentID}); !slices.Equal(got, []string{"Certificate.Issued", "Certificate.Issued", "Token.Redeemed"}) {
		t.Errorf("events %v", got)
	}
	m.no(apitype.TokenRedeemed, write, "redeem", data{"token": issued.Token, "generate_key": true, "idempotency_key": otherKey})
	m.no(apitype.TokenRedeemed, write, "redeem", data{"token": issued.Token, "csr": newCSR(t), "idempotency_key": firstKey})
	// The ten minutes are those since the redemption: repeating does not stretch them.
	m.clock.advance(time.Minute)
	m.no(apitype.TokenRedeemed, write, "redeem", body)
}

func TestARetryWindowLetsTheSameCSRKeyAskAgain(t *testing.T) {
	m := ready(t)
	issued := m.issue(nil)
	key := ecKey(t, elliptic.P256())
	csr := func() string { return csrOf(t, key, &x509.CertificateRequest{}) }
	first := m.redeem(data{"token": issued.Token, "csr": csr()})
	m.no(apitype.TokenRedeemed, write, "redeem", data{"token": issued.Token, "csr": csr()})
	m.no(apitype.TokenRedeemed, write, "redeem/check", data{"token": issued.Token})
	m.ok(write, "config", data{"retry_window": "1h"})
	m.clock.advance(time.Hour - time.Second)
	m.ok(write, "redeem/check", data{"token": issued.Token}) // or an edge would not let the agent ask
	if again := m.redeem(data{"token": issued.Token, "csr": csr()}); !equalJSON(t, again, first) {
		t.Error("the answer differs")
	}
	m.no(apitype.TokenRedeemed, write, "redeem", data{"token": issued.Token, "csr": newCSR(t)})
	m.no(apitype.TokenRedeemed, write, "redeem", data{"token": issued.Token, "generate_key": true})
	m.clock.advance(time.Second)
	m.no(apitype.TokenRedeemed, write, "redeem", data{"token": issued.Token, "csr": csr()})
	m.no(apitype.TokenRedeemed, write, "redeem/check", data{"token": issued.Token})
}

func TestARevokedAgentNeverGetsItsAnswerAgain(t *testing.T) {
	m := ready(t)
	m.ok(write, "config", data{"retry_window": "1h"})
	for name, body := range map[string]data{
		"by idempotency key":                        {"csr": newCSR(t), "idempotency_key": firstKey},
		"by retry window":                           {"csr": newCSR(t)},
		"by idempotency key with a server-made key": {"generate_key": true, "idempotency_key": firstKey},
	} {
		t.Run(name, func(t *testing.T) {
			body["token"] = m.issue(nil).Token
			id := m.redeem(body)
			m.redeem(body)
			m.ok(write, "agents/"+id.AgentID+"/revoke", nil)
			m.no(apitype.AgentRevoked, write, "redeem", body)
			m.ok(remove, "agents/"+id.AgentID, nil)
			m.no(apitype.TokenRedeemed, write, "redeem", body)
			m.no(apitype.TokenRedeemed, write, "redeem/check", data{"token": body["token"]})
		})
	}
}

// A repetition finds its answer under the issuer that signed it, though another one signs by now.
func TestARepetitionAfterAChangeOfIssuerHasTheOldChain(t *testing.T) {
	m := ready(t)
	body := data{"token": m.issue(nil).Token, "csr": newCSR(t), "idempotency_key": firstKey}
	first := m.redeem(body)
	m.ok(write, "ca/issuers/"+call[apitype.CAIssuer](m, write, "ca/root", nil).IssuerID, data{"state": "active"})
	if again := m.redeem(body); !equalJSON(t, again, first) {
		t.Error("the answer differs")
	}
}
