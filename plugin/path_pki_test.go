package ampora_test

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/plugintest"
	"github.com/hashicorp/vault/sdk/logical"
	"golang.org/x/crypto/ocsp"
)

// crl is a list as an edge gets it, checked against the issuer's certificate.
func (m *mount) crl(issuer string, body data) (apitype.CRL, *x509.RevocationList) {
	m.Helper()
	got := call[apitype.CRL](m, write, "edge/crl", body)
	der, err := base64.StdEncoding.DecodeString(got.CRL)
	if err != nil {
		m.Fatal(err)
	}
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		m.Fatal(err)
	}
	if err := list.CheckSignatureFrom(certificate(m, issuer)); err != nil {
		m.Fatal(err)
	}
	if list.Number.String() != got.Number || len(list.RevokedCertificateEntries) != got.Entries || list.ThisUpdate.Unix() != got.ThisUpdate || list.NextUpdate.Unix() != got.NextUpdate {
		m.Fatalf("a list of %s to %s, number %s, with %d entries: %+v", list.ThisUpdate, list.NextUpdate, list.Number, len(list.RevokedCertificateEntries), got)
	}
	return got, list
}

// named waits until the active issuer's list names exactly these certificates, with their reasons.
func (m *mount) named(issuer string, body data, want map[string]int) {
	m.Helper()
	eventually(m, "the list names what is revoked", func() bool {
		_, list := m.crl(issuer, body)
		got := map[string]int{}
		for _, e := range list.RevokedCertificateEntries {
			got[e.SerialNumber.String()] = e.ReasonCode
		}
		return fmt.Sprint(got) == fmt.Sprint(want)
	})
}

// question is an OCSP request about a certificate.
func question(t testing.TB, c, issuer *x509.Certificate) string {
	t.Helper()
	der, err := ocsp.CreateRequest(c, issuer, nil)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(der)
}

// status asks as an edge does, and holds the answer against what is said of it.
func (m *mount) status(c, issuer *x509.Certificate) (string, *ocsp.Response) {
	m.Helper()
	got := call[apitype.OCSPResponse](m, write, "edge/ocsp", data{"request": question(m, c, issuer)})
	der, err := base64.StdEncoding.DecodeString(got.Response)
	if err != nil {
		m.Fatal(err)
	}
	parsed, err := ocsp.ParseResponse(der, issuer)
	if err != nil {
		if (got.Status == "unauthorized" || got.Status == "try_later" || got.Status == "malformed") && got.ThisUpdate == 0 && got.NextUpdate == 0 {
			return got.Status, nil
		}
		m.Fatalf("%+v: %v", got, err)
	}
	if want := map[int]string{ocsp.Good: "good", ocsp.Revoked: "revoked", ocsp.Unknown: "unknown"}[parsed.Status]; got.Status != want || parsed.SerialNumber.Cmp(c.SerialNumber) != 0 {
		m.Errorf("said to be %s, is %s of %s", got.Status, want, parsed.SerialNumber)
	}
	if keep := got.NextUpdate > got.ThisUpdate; keep != (got.Status != "unknown") || keep && (parsed.NextUpdate.Unix() != got.NextUpdate || parsed.ThisUpdate.Unix() != got.ThisUpdate) {
		m.Errorf("to be kept until %d, or %s", got.NextUpdate, parsed.NextUpdate)
	}
	return got.Status, parsed
}

func (m *mount) standing(c, issuer *x509.Certificate) string {
	m.Helper()
	s, _ := m.status(c, issuer)
	return s
}

func TestWhatIsRevokedStandsInCRLAndOCSP(t *testing.T) {
	m := ready(t)
	gone, _ := m.enrol(nil)
	stays, _ := m.enrol(nil)
	issuer := certificate(t, gone.IssuingCA)
	first, list := m.crl(gone.IssuingCA, nil)
	if first.Entries != 0 || list.NextUpdate.Sub(m.clock.now()) != 15*time.Minute {
		t.Errorf("%+v", first)
	}
	if s := m.standing(certificate(t, gone.Certificate), issuer); s != "good" {
		t.Error(s)
	}
	m.ok(write, "agents/"+gone.AgentID+"/revoke", data{"reason": "keyCompromise"})
	s, answer := m.status(certificate(t, gone.Certificate), issuer)
	if s != "revoked" || answer.RevocationReason != ocsp.KeyCompromise || !answer.RevokedAt.Equal(m.clock.now()) {
		t.Errorf("%s %+v", s, answer)
	}
	if s := m.standing(certificate(t, stays.Certificate), issuer); s != "good" {
		t.Error(s)
	}
	want := map[string]int{certificate(t, gone.Certificate).SerialNumber.String(): 1}
	m.named(gone.IssuingCA, nil, want)
	second, _ := m.crl(gone.IssuingCA, data{"number": first.Number})
	if again := call[apitype.CRL](m, write, "edge/crl", data{"number": second.Number, "issuer_id": second.IssuerID}); again.CRL != "" || again.Number != second.Number || again.Entries != 1 {
		t.Errorf("%+v", again)
	}

	// A deleted agent is revoked, and a restart forgets nothing.
	m.ok(remove, "agents/"+stays.AgentID, nil)
	want[certificate(t, stays.Certificate).SerialNumber.String()] = 5
	m.named(gone.IssuingCA, nil, want)
	m.clock.advance(-time.Hour) // on a node whose clock is behind
	next := mountOn(t, m.storage, m.clock)
	next.named(gone.IssuingCA, nil, want)
	before, _ := m.crl(gone.IssuingCA, nil)
	if after, _ := next.crl(gone.IssuingCA, nil); number(after.Number).Cmp(number(before.Number)) <= 0 {
		t.Errorf("number %s after %s", after.Number, before.Number)
	}
	if s := next.standing(certificate(t, stays.Certificate), issuer); s != "revoked" {
		t.Error(s)
	}
}

func number(text string) *big.Int {
	n, _ := new(big.Int).SetString(text, 10)
	return n
}

func TestEveryIssuerAnswersForWhatItSigned(t *testing.T) {
	m := ready(t)
	old, _ := m.enrol(nil)
	first := call[apitype.ListResponse[apitype.CAIssuer]](m, list, "ca/issuers", nil).Keys[0]
	second := call[apitype.CAIssuer](m, write, "ca/root", nil)
	m.ok(write, "ca/issuers/"+second.IssuerID, data{"state": "active"})
	recent, _ := m.enrol(nil)
	one, other := certificate(t, old.IssuingCA), certificate(t, recent.IssuingCA)
	for _, id := range []apitype.Identity{old, recent} {
		m.ok(write, "agents/"+id.AgentID+"/revoke", nil)
	}
	m.named(old.IssuingCA, data{"issuer_id": first}, map[string]int{certificate(t, old.Certificate).SerialNumber.String(): 0})
	m.named(recent.IssuingCA, nil, map[string]int{certificate(t, recent.Certificate).SerialNumber.String(): 0}) // the active one's
	for name, c := range map[string]struct {
		of, issuer *x509.Certificate
		want       string
	}{
		"the old leaf of its issuer":   {certificate(t, old.Certificate), one, "revoked"},
		"the new leaf of its issuer":   {certificate(t, recent.Certificate), other, "revoked"},
		"the old leaf of the new one":  {certificate(t, old.Certificate), other, "unknown"},
		"the issuer's own certificate": {one, one, "unknown"},
		"a foreign issuer":             {certificate(t, old.Certificate), newOuter(t, m.clock.now()).root, "unauthorized"},
	} {
		if got := m.standing(c.of, c.issuer); got != c.want {
			t.Errorf("%s: %s", name, got)
		}
	}
	asked := call[apitype.CAIntermediateResponse](m, write, "ca/intermediate", nil)
	m.no(apitype.IssuerInvalid, write, "edge/crl", data{"issuer_id": asked.IssuerID})
	m.no(apitype.IssuerUnknown, write, "edge/crl", data{"issuer_id": "none"})
}

func TestWithoutAnIssuerThereIsNoList(t *testing.T) {
	m := newMount(t)
	m.no(apitype.IssuerMissing, write, "edge/crl", nil)
	m.ok(write, "config", data{"public_pki": true})
	m.no(apitype.IssuerMissing, read, "crl", nil)
	m.no(apitype.IssuerUnknown, read, "issuer/none/crl", nil)
}

func TestABadOCSPRequestIsAnsweredAsOne(t *testing.T) {
	m := ready(t)
	m.ok(write, "config", data{"public_pki": true})
	for name, text := range map[string]string{
		"nothing": "", "no base64": "%%%", "no DER": "aGVsbG8=", "a megabyte": strings.Repeat("A", 1<<20), "4 KiB and more": strings.Repeat("A", 5465),
	} {
		if got := call[apitype.OCSPResponse](m, write, "edge/ocsp", data{"request": text}); got.Status != "malformed" || got.NextUpdate != 0 {
			t.Errorf("%s: %+v", name, got)
		}
		if text == "" {
			continue
		}
		resp := m.ok(read, "ocsp/"+text, nil)
		if _, err := ocsp.ParseResponse(resp.Data[logical.HTTPRawBody].([]byte), nil); fmt.Sprint(err) != "ocsp: error from server: malformed" || resp.Data[logical.HTTPCacheControlHeader] != "no-store" {
			t.Errorf("%s: %v, %v", name, err, resp.Data[logical.HTTPCacheControlHeader])
		}
	}
}

func TestWhileStorageIsAwayClientsAreToldToTryLater(t *testing.T) {
	m := ready(t)
	id, _ := m.enrol(nil)
	m.crl(id.IssuingCA, nil)
	m.backend.InvalidateKey(t.Context(), "agent/"+id.AgentID[:2]+"/"+id.AgentID)
	m.storage.Before(func(context.Context, plugintest.Op) error { return errors.New("no quorum") })
	if got := m.standing(certificate(t, id.Certificate), certificate(t, id.IssuingCA)); got != "try_later" {
		t.Error(got)
	}
	m.no(apitype.NotReady, write, "edge/crl", nil) // another node wrote an agent's row: never an empty list
	m.storage.Before(nil)
	m.named(id.IssuingCA, nil, map[string]int{})
	if got := m.standing(certificate(t, id.Certificate), certificate(t, id.IssuingCA)); got != "good" {
		t.Error(got)
	}
}

// What another node wrote is in the next list, whichever row it was.
func TestARevocationByAnotherNodeIsRead(t *testing.T) {
	m := ready(t)
	id, _ := m.enrol(nil)
	m.named(id.IssuingCA, nil, map[string]int{})
	other := mountOn(t, m.storage, m.clock)
	other.ok(write, "agents/"+id.AgentID+"/revoke", nil)
	m.backend.InvalidateKey(t.Context(), "revoked/"+id.AgentID[:2]+"/"+id.AgentID)
	for _, key := range m.keys("crl/") {
		m.backend.InvalidateKey(t.Context(), key)
	}
	m.named(id.IssuingCA, nil, map[string]int{certificate(t, id.Certificate).SerialNumber.String(): 0})
}

func TestThePublicIsServedWherePublicPKIIsOn(t *testing.T) {
	m := ready(t)
	id, _ := m.enrol(nil)
	issuerID := call[apitype.ListResponse[apitype.CAIssuer]](m, list, "ca/issuers", nil).Keys[0]
	ask := "ocsp/" + question(t, certificate(t, id.Certificate), certificate(t, id.IssuingCA))
	files := map[string]string{
		"crl": "application/pkix-crl", "crl/pem": "application/x-pem-file", "issuer/" + issuerID + "/crl": "application/pkix-crl",
		"issuer/" + issuerID + "/crl/pem": "application/x-pem-file", ask: "application/ocsp-response",
		strings.TrimRight(ask, "="): "application/ocsp-response",
	}
	for path := range files {
		if refusal := m.no(apitype.NotConfigured, read, path, nil); !strings.Contains(refusal.Detail, "public_pki is off") {
			t.Errorf("%s: %v", path, refusal)
		}
	}
	m.ok(write, "config", data{"public_pki": true, "crl_expiry": "10m"})
	cached := regexp.MustCompile(`^max-age=(\d+), public, no-transform, must-revalidate$`)
	for path, media := range files {
		resp := m.ok(read, path, nil)
		body := resp.Data[logical.HTTPRawBody].([]byte)
		if resp.Data[logical.HTTPStatusCode] != 200 || resp.Data[logical.HTTPContentType] != media {
			t.Errorf("%s: %v %v", path, resp.Data[logical.HTTPStatusCode], resp.Data[logical.HTTPContentType])
		}
		found := cached.FindStringSubmatch(fmt.Sprint(resp.Data[logical.HTTPCacheControlHeader]))
		if len(found) != 2 {
			t.Fatalf("%s: %v", path, resp.Data[logical.HTTPCacheControlHeader])
		}
		if age, _ := strconv.Atoi(found[1]); age != 300 {
			t.Errorf("%s: kept for %d s", path, age)
		}
		if media == "application/ocsp-response" {
			if got, err := ocsp.ParseResponse(body, certificate(t, id.IssuingCA)); err != nil || got.Status != ocsp.Good {
				t.Errorf("%s: %+v, %v", path, got, err)
			}
			continue
		}
		if media == "application/x-pem-file" {
			block, rest := pem.Decode(body)
			if block == nil || block.Type != "X509 CRL" || len(rest) != 0 {
				t.Fatalf("%s is no PEM", path)
			}
			body = block.Bytes
		}
		list, err := x509.ParseRevocationList(body)
		if err != nil {
			t.Fatal(err)
		}
		if err := list.CheckSignatureFrom(certificate(t, id.IssuingCA)); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
	m.ok(write, "config", data{"public_pki": false})
	m.no(apitype.NotConfigured, read, "crl", nil)
	call[apitype.CRL](m, write, "edge/crl", nil) // the edges go on
}

func TestAListIsGoodForWhatTheConfigurationSays(t *testing.T) {
	m := ready(t)
	issuer := call[apitype.CABundle](m, read, "ca/bundle", nil).Certificates[0]
	m.ok(write, "config", data{"crl_expiry": "720h"})
	m.crl(issuer, nil)
	m.ok(write, "config", data{"crl_expiry": "1h"})
	eventually(t, "a list that is good for an hour", func() bool {
		_, list := m.crl(issuer, nil)
		return list.NextUpdate.Sub(m.clock.now()) == time.Hour
	})
}

// An answer that is not known for good is never kept: the serial may be given any time.
func TestAnUnknownSerialIsNotKept(t *testing.T) {
	m := ready(t)
	m.ok(write, "config", data{"public_pki": true})
	issuer := certificate(t, call[apitype.CABundle](m, read, "ca/bundle", nil).Certificates[0])
	resp := m.ok(read, "ocsp/"+question(t, &x509.Certificate{SerialNumber: big.NewInt(4711)}, issuer), nil)
	got, err := ocsp.ParseResponse(resp.Data[logical.HTTPRawBody].([]byte), issuer)
	if err != nil || got.Status != ocsp.Unknown || got.NextUpdate.After(got.ThisUpdate) || resp.Data[logical.HTTPCacheControlHeader] != "no-store" {
		t.Errorf("%+v, %v, %v", got, err, resp.Data)
	}
}

// A renewal that was confirmed, and one that was taken back by revoking many: every leaf that was given is accounted for.
func TestEveryGenerationIsAccountedFor(t *testing.T) {
	m := ready(t)
	m.group("", "web", nil)
	id, _ := m.enrol(data{"group": "web"})
	issuer, first := certificate(t, id.IssuingCA), certificate(t, id.Certificate)
	renewed := call[apitype.Identity](m, write, "agents/"+id.AgentID+"/renew", data{"fingerprint": id.Fingerprint})
	second := certificate(t, renewed.Certificate)
	for name, c := range map[string]*x509.Certificate{"current": first, "next": second} {
		if s := m.standing(c, issuer); s != "good" {
			t.Errorf("the %s leaf is %s", name, s)
		}
	}
	m.named(id.IssuingCA, nil, map[string]int{})
	m.report(apitype.SessionReport{AgentID: id.AgentID, SerialNumber: renewed.SerialNumber, Applied: renewed.Fingerprint})
	if s, answer := m.status(first, issuer); s != "revoked" || answer.RevocationReason != ocsp.Superseded {
		t.Errorf("the replaced leaf is %s", s)
	}
	if s := m.standing(second, issuer); s != "good" {
		t.Errorf("the confirmed leaf is %s", s)
	}
	want := map[string]int{first.SerialNumber.String(): 4}
	m.named(id.IssuingCA, nil, want)

	again := call[apitype.Identity](m, write, "agents/"+id.AgentID+"/renew", data{"fingerprint": renewed.Fingerprint})
	third := certificate(t, again.Certificate)
	m.ok(write, "agents/revoke", data{"group": "web", "reason": "keyCompromise"})
	for _, c := range []*x509.Certificate{second, third} {
		if s, answer := m.status(c, issuer); s != "revoked" || answer.RevocationReason != ocsp.KeyCompromise {
			t.Errorf("a leaf of a revoked agent is %s", s)
		}
		want[c.SerialNumber.String()] = 1
	}
	if s, answer := m.status(first, issuer); s != "revoked" || answer.RevocationReason != ocsp.Superseded {
		t.Errorf("the replaced leaf is %s", s)
	}
	m.named(id.IssuingCA, nil, want)
	mountOn(t, m.storage, m.clock).named(id.IssuingCA, nil, want) // and so after a restart
}
