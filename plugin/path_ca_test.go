package ampora_test

import (
	"crypto"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/hashicorp/vault/sdk/logical"
)

func TestTheFirstRootIsActiveAndALaterOneWaits(t *testing.T) {
	m := newMount(t)
	m.no(apitype.NotConfigured, write, "ca/root", nil)
	m.ok(write, "config", data{"trust_domain": "test.example"})
	first := call[apitype.CAIssuer](m, write, "ca/root", data{"common_name": "First", "ttl": "720h"})
	second := call[apitype.CAIssuer](m, write, "ca/root", data{"key_type": "ec", "key_bits": 384})
	if first.State != "active" || second.State != "draft" || first.CommonName != "First" {
		t.Errorf("%+v, %+v", first, second)
	}
	if c := certificate(t, first.Certificate); !c.IsCA || c.NotAfter.Unix() != first.Expiration || !c.NotAfter.Equal(m.clock.now().Add(720*time.Hour)) {
		t.Errorf("not what was asked for: %+v", c)
	}
	if got := call[apitype.CAIssuer](m, read, "ca/issuers/"+first.IssuerID, nil); !equalJSON(t, got, first) {
		t.Errorf("read %+v", got)
	}
	all := call[apitype.ListResponse[apitype.CAIssuer]](m, list, "ca/issuers", nil)
	if !slices.Equal(all.Keys, []string{first.IssuerID, second.IssuerID}) || !equalJSON(t, all.KeyInfo[second.IssuerID], second) {
		t.Errorf("list %+v", all)
	}
	if got := m.actions(data{"entity_type": "issuer"}); !slices.Equal(got, []string{"Issuer.Created", "Issuer.Activated", "Issuer.Created"}) {
		t.Errorf("events %v", got)
	}
}

func TestActivatingAnIssuerLeavesTheOldOneTrusted(t *testing.T) {
	m := ready(t)
	id, _ := m.enrol(nil)
	second := call[apitype.CAIssuer](m, write, "ca/root", nil)
	if got := call[apitype.CAIssuer](m, write, "ca/issuers/"+second.IssuerID, data{"state": "active"}); got.State != "active" {
		t.Errorf("%+v", got)
	}
	bundle := call[apitype.CABundle](m, read, "ca/bundle", nil)
	if len(bundle.Certificates) != 2 || bundle.Certificates[0] != second.Certificate || bundle.Certificates[1] != id.IssuingCA {
		t.Error("the bundle is not the active issuer, then the trusted one")
	}
	if next, _ := m.enrol(nil); next.IssuingCA != second.Certificate {
		t.Error("the old issuer still signs")
	}
	m.storage.Reset()
	m.ok(write, "ca/issuers/"+second.IssuerID, data{"state": "active"})
	if w := m.storage.Writes(); len(w) != 0 {
		t.Errorf("activating again wrote %v", w)
	}
	m.no(apitype.FieldInvalid, write, "ca/issuers/"+second.IssuerID, data{"state": "trusted"})
	m.no(apitype.FieldInvalid, write, "ca/issuers/"+second.IssuerID, data{"state": "active", "force": true})
	m.no(apitype.FieldInvalid, write, "ca/issuers/"+second.IssuerID, nil)
	m.no(apitype.IssuerUnknown, write, "ca/issuers/none", data{"state": "active"})
	m.no(apitype.IssuerUnknown, read, "ca/issuers/none", nil)
}

func TestARetiredIssuerIsTrustedNowhereAnyMore(t *testing.T) {
	m := ready(t)
	old, _ := m.enrol(nil)
	oldest := call[apitype.ListResponse[apitype.CAIssuer]](m, list, "ca/issuers", nil).Keys[0]
	second := call[apitype.CAIssuer](m, write, "ca/root", nil)
	m.no(apitype.InUse, write, "ca/issuers/"+oldest, data{"state": "retired", "force": true})
	m.ok(write, "ca/issuers/"+second.IssuerID, data{"state": "active"})
	server := func() string {
		return call[apitype.EdgeCertificate](m, write, "edge/certificate", data{"csr": newCSR(t)}).IssuingCA
	}
	if server() != old.IssuingCA {
		t.Error("the edge's certificate depends on an issuer that agents do not know yet")
	}
	err := m.no(apitype.InUse, write, "ca/issuers/"+oldest, data{"state": "retired"})
	if until := time.Unix(old.Expiration, 0).UTC().Format(time.RFC3339); !strings.Contains(err.Error(), "1 certificate of") || !strings.Contains(err.Error(), until) {
		t.Errorf("the refusal does not say how many until when: %v", err)
	}
	revision := call[apitype.SyncResponse](m, read, "edge/sync", nil).Revision
	if got := call[apitype.CAIssuer](m, write, "ca/issuers/"+oldest, data{"state": "retired", "force": true}); got.State != "retired" {
		t.Errorf("%+v", got)
	}
	if b := call[apitype.CABundle](m, read, "ca/bundle", nil); b.Bundle != second.Certificate {
		t.Error("it is still in the bundle")
	}
	if s := call[apitype.SyncResponse](m, read, "edge/sync", data{"since": revision}); len(s.Issuers) != 1 || s.Issuers[0].IssuerID != second.IssuerID {
		t.Errorf("edges are told %+v", s)
	}
	if server() != second.Certificate {
		t.Error("it still signs for edges")
	}
	m.no(apitype.IssuerInvalid, write, "ca/issuers/"+oldest, data{"state": "active"})
	if e := m.events(data{"action": "Issuer.Retired"}); len(e) != 1 || e[0].EntityID != oldest || e[0].Details["force"] != true || e[0].Details["leaves"] != float64(1) {
		t.Errorf("%+v", e)
	}
	m.storage.Reset()
	m.ok(write, "ca/issuers/"+oldest, data{"state": "retired"})
	if w := m.storage.Writes(); len(w) != 0 {
		t.Errorf("retiring again wrote %v", w)
	}
}

func TestAnIssuerIsRetiredOnceItsCertificatesHaveEnded(t *testing.T) {
	m := ready(t)
	old, _ := m.enrol(nil)
	oldest := call[apitype.ListResponse[apitype.CAIssuer]](m, list, "ca/issuers", nil).Keys[0]
	second := call[apitype.CAIssuer](m, write, "ca/root", nil)
	m.ok(write, "ca/issuers/"+second.IssuerID, data{"state": "active"})
	m.no(apitype.InUse, write, "ca/issuers/"+oldest, data{"state": "retired"})
	m.clock.advance(time.Unix(old.Expiration, 0).Sub(m.clock.now()))
	m.ok(write, "ca/issuers/"+oldest, data{"state": "retired"})
}

func TestWhatIsWrongWithAChainIsSaidOfTheDraftThatItIsFor(t *testing.T) {
	m := ready(t)
	o := newOuter(t, m.clock.now())
	first := call[apitype.CAIntermediateResponse](m, write, "ca/intermediate", nil)
	call[apitype.CAIntermediateResponse](m, write, "ca/intermediate", nil)
	chain := o.sign(t, first.CSR, m.clock.now())
	own, root, _ := strings.Cut(chain, "-----END CERTIFICATE-----\n")
	own += "-----END CERTIFICATE-----\n"
	for name, c := range map[string]struct{ chain, says string }{
		"no root":                  {own, "does not end in a self-signed root"},
		"out of order":             {root + own, "out of order"},
		"somebody else's":          {newOuterChain(t, m.clock.now()), "not for the key"},
		"a signature is cut short": {own[:len(own)-60] + root, "besides PEM blocks"},
		"1 MB of garbage":          {strings.Repeat("\xffx", 1<<19), "over 64 KiB"},
		"nothing":                  {"", "no certificate"},
	} {
		if err := m.no(apitype.IssuerInvalid, write, "ca/intermediate/set-signed", data{"certificate": c.chain}); !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := call[apitype.CAIssuer](m, read, "ca/issuers/"+first.IssuerID, nil); got.Certificate != "" || got.State != "draft" {
		t.Errorf("a refusal left something: %+v", got)
	}
	m.ok(write, "ca/intermediate/set-signed", data{"certificate": chain})
}

func TestRootsThatCannotBeMadeAreRefused(t *testing.T) {
	m := newMount(t)
	m.ok(write, "config", data{"trust_domain": "test.example"})
	for name, c := range map[string]struct {
		code apitype.Code
		body data
	}{
		"RSA-2048":                       {apitype.KeyNotAllowed, data{"key_type": "rsa", "key_bits": 2048}},
		"P-224":                          {apitype.KeyNotAllowed, data{"key_type": "ec", "key_bits": 224}},
		"a key type that does not exist": {apitype.KeyNotAllowed, data{"key_type": "dsa"}},
		"Ed25519 with bits":              {apitype.KeyNotAllowed, data{"key_type": "ed25519", "key_bits": 1}},
		"a name of 65 characters":        {apitype.FieldInvalid, data{"common_name": strings.Repeat("x", 65)}},
		"a name with a line break":       {apitype.FieldInvalid, data{"common_name": "a\nb"}},
		"ten seconds":                    {apitype.TTLOutOfRange, data{"ttl": "10s"}},
		"a hundred years":                {apitype.TTLOutOfRange, data{"ttl": "876000h"}},
	} {
		t.Run(name, func(t *testing.T) { m.no(c.code, write, "ca/root", c.body) })
	}
	if keys := m.keys("ca/"); len(keys) != 0 {
		t.Errorf("a refusal stored %v", keys)
	}
}

// outer is a CA that signs what ca/intermediate asks for, as Vault's pki engine would.
type outer struct {
	key  crypto.Signer
	root *x509.Certificate
}

func newOuter(t testing.TB, now time.Time) outer {
	t.Helper()
	key := ecKey(t, elliptic.P256())
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Outer"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * 365 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return outer{key: key, root: certificate(t, pemOf("CERTIFICATE", der))}
}

// sign answers the chain for the CSR.
func (o outer) sign(t testing.TB, csr string, now time.Time) string {
	t.Helper()
	block, _ := pem.Decode([]byte(csr))
	request, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: request.Subject, NotBefore: now.Add(-time.Minute), NotAfter: now.Add(24 * 30 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, o.root, request.PublicKey, o.key)
	if err != nil {
		t.Fatal(err)
	}
	return pemOf("CERTIFICATE", der) + pemOf("CERTIFICATE", o.root.Raw)
}

func TestAnIntermediateIsSignedElsewhereAndBroughtBack(t *testing.T) {
	m := newMount(t)
	m.no(apitype.NotConfigured, write, "ca/intermediate", nil)
	m.ok(write, "config", data{"trust_domain": "test.example"})
	o := newOuter(t, m.clock.now())
	m.no(apitype.IssuerInvalid, write, "ca/intermediate/set-signed", data{"certificate": pemOf("CERTIFICATE", o.root.Raw)})
	asked := call[apitype.CAIntermediateResponse](m, write, "ca/intermediate", data{"common_name": "Ours"})
	token := m.issue(nil)
	m.no(apitype.IssuerMissing, write, "redeem/check", data{"token": token.Token})
	m.no(apitype.IssuerInvalid, write, "ca/issuers/"+asked.IssuerID, data{"state": "active"})
	if b := call[apitype.CABundle](m, read, "ca/bundle", nil); len(b.Certificates) != 0 {
		t.Error("an unsigned issuer is trusted")
	}
	chain := o.sign(t, asked.CSR, m.clock.now())
	m.no(apitype.IssuerInvalid, write, "ca/intermediate/set-signed", data{"certificate": newOuterChain(t, m.clock.now())})
	issuer := call[apitype.CAIssuer](m, write, "ca/intermediate/set-signed", data{"certificate": chain})
	if issuer.IssuerID != asked.IssuerID || issuer.State != "active" || strings.Join(issuer.CAChain, "") != chain {
		t.Errorf("%+v", issuer)
	}
	m.storage.Reset()
	if again := call[apitype.CAIssuer](m, write, "ca/intermediate/set-signed", data{"certificate": chain}); !equalJSON(t, again, issuer) {
		t.Errorf("again: %+v", again)
	}
	if w := m.storage.Writes(); len(w) != 0 {
		t.Errorf("doing it again wrote %v", w)
	}
	if b := call[apitype.CABundle](m, read, "ca/bundle", nil); len(b.Certificates) != 1 || b.Certificates[0] != issuer.Certificate {
		t.Error("the trust anchor is not the issuer alone")
	}
	id := m.redeem(data{"token": token.Token, "csr": newCSR(t)})
	if id.IssuingCA != issuer.Certificate || strings.Join(id.CAChain, "") != chain {
		t.Error("the leaf's chain is not the issuer and its parents")
	}
	if err := certificate(t, id.Certificate).CheckSignatureFrom(certificate(t, issuer.Certificate)); err != nil {
		t.Error(err)
	}
}

func newOuterChain(t *testing.T, now time.Time) string {
	o := newOuter(t, now)
	return o.sign(t, csrOf(t, ecKey(t, elliptic.P256()), &x509.CertificateRequest{Subject: pkix.Name{CommonName: "Foreign"}}), now)
}

func TestASecondIntermediateWaitsAsADraftUntilItIsActivated(t *testing.T) {
	m := ready(t)
	asked := call[apitype.CAIntermediateResponse](m, write, "ca/intermediate", nil)
	signed := call[apitype.CAIssuer](m, write, "ca/intermediate/set-signed", data{"certificate": newOuter(t, m.clock.now()).sign(t, asked.CSR, m.clock.now())})
	if signed.State != "draft" {
		t.Errorf("%+v", signed)
	}
	if got := call[apitype.CAIssuer](m, write, "ca/issuers/"+asked.IssuerID, data{"state": "active"}); got.State != "active" {
		t.Errorf("%+v", got)
	}
}

func TestTheBundleIsThereAsAPEMFile(t *testing.T) {
	m := newMount(t)
	if resp := m.ok(read, "ca/bundle/pem", nil); len(resp.Data[logical.HTTPRawBody].([]byte)) != 0 {
		t.Error("a bundle before there is an issuer")
	}
	m.configure()
	resp := m.ok(read, "ca/bundle/pem", nil)
	bundle := call[apitype.CABundle](m, read, "ca/bundle", nil)
	if string(resp.Data[logical.HTTPRawBody].([]byte)) != bundle.Bundle || resp.Data[logical.HTTPStatusCode] != 200 || resp.Data[logical.HTTPContentType] != "application/x-pem-file" {
		t.Errorf("%v", resp.Data)
	}
}

func TestAnIssuersKeyIsShownNowhereAndStoredWhereVaultSealWraps(t *testing.T) {
	m := ready(t)
	for _, key := range m.keys("") {
		entry, err := m.storage.Get(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		if has := strings.Contains(string(entry.Value), "PRIVATE KEY"); has != strings.HasPrefix(key, "ca/issuer/") {
			t.Errorf("%s: holds a private key: %v", key, has)
		}
	}
	id := call[apitype.ListResponse[apitype.CAIssuer]](m, list, "ca/issuers", nil).Keys[0]
	for _, resp := range []*logical.Response{m.ok(read, "ca/issuers/"+id, nil), m.ok(list, "ca/issuers", nil), m.ok(read, "ca/bundle", nil), m.ok(read, "edge/sync", nil)} {
		if equalJSON(t, resp.Data, nil) || strings.Contains(toText(t, resp.Data), "PRIVATE KEY") {
			t.Error("a private key is shown")
		}
	}
}

func TestAnExpiredIssuerSignsNothing(t *testing.T) {
	m := newMount(t)
	m.ok(write, "config", data{"trust_domain": "test.example", "endpoint": "wss://edge.test.example/v1/opamp"})
	m.ok(write, "ca/root", data{"ttl": "2h"})
	token := m.issue(nil)
	m.clock.advance(2 * time.Hour)
	m.no(apitype.IssuerMissing, write, "redeem", data{"token": token.Token, "csr": newCSR(t)})
	m.no(apitype.IssuerMissing, write, "edge/certificate", data{"csr": newCSR(t)})
	if m.tokens(nil).KeyInfo[token.TokenID].State != "issued" {
		t.Error("the refusal used the token up")
	}
}

func TestALeafNeverOutlivesItsIssuer(t *testing.T) {
	m := newMount(t)
	m.ok(write, "config", data{"trust_domain": "test.example"})
	root := call[apitype.CAIssuer](m, write, "ca/root", data{"ttl": "24h"})
	resp := m.ok(write, "redeem", data{"token": m.issue(nil).Token, "csr": newCSR(t)})
	if id := decodeAnswer[apitype.Identity](m, resp); id.Expiration != root.Expiration || len(resp.Warnings) != 1 {
		t.Errorf("expires at %d, the issuer at %d; warnings %q", id.Expiration, root.Expiration, resp.Warnings)
	}
	if e := m.events(data{"action": "Certificate.Issued"}); e[0].Details["ttl_cut"] != true {
		t.Errorf("%+v", e[0])
	}
}
