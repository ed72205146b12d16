package edge_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"io"
	"math/big"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/ampora/ampora/edge"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/identity"
	"golang.org/x/crypto/ocsp"
)

func withPKI(o *edge.Options) { o.PKIListen = "127.0.0.1:0" }

// pki asks for something below /pki/, in plain HTTP.
func (w *world) pki(path string) (*http.Response, []byte) {
	w.t.Helper()
	return w.fetch(http.DefaultClient, http.MethodGet, "http://"+w.edge.PKIAddr().String()+"/pki/"+path, nil)
}

func (w *world) fetch(client *http.Client, method, address string, body []byte) (*http.Response, []byte) {
	w.t.Helper()
	req := must(http.NewRequestWithContext(w.t.Context(), method, address, bytes.NewReader(body)))(w.t)
	if body != nil {
		req.Header.Set("Content-Type", "application/ocsp-request")
	}
	resp := must(client.Do(req))(w.t)
	defer resp.Body.Close()
	return resp, must(io.ReadAll(resp.Body))(w.t)
}

// overTLS is a client without a certificate of its own.
func (w *world) overTLS() *http.Client {
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: w.roots}, ForceAttemptHTTP2: true}
	w.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 20 * time.Second}
}

// list is the list that the edge serves, nil as long as there is none.
func (w *world) list(path string, signer *x509.Certificate) *x509.RevocationList {
	w.t.Helper()
	resp, body := w.pki(path)
	if resp.StatusCode != http.StatusOK {
		return nil
	}
	list := must(x509.ParseRevocationList(body))(w.t)
	if err := list.CheckSignatureFrom(signer); err != nil {
		w.t.Fatal(err)
	}
	return list
}

// names waits until the list names these and nothing else.
func (w *world) names(path string, signer *x509.Certificate, want ...*big.Int) {
	w.t.Helper()
	w.eventually("the list names what is revoked", 30*time.Second, func() bool {
		list := w.list(path, signer)
		if list == nil || len(list.RevokedCertificateEntries) != len(want) {
			return false
		}
		for _, serial := range want {
			found := false
			for _, entry := range list.RevokedCertificateEntries {
				found = found || entry.SerialNumber.Cmp(serial) == 0
			}
			if !found {
				return false
			}
		}
		return true
	})
}

func (w *world) issuer(certificate string) *x509.Certificate {
	w.t.Helper()
	block, _ := pem.Decode([]byte(certificate))
	return must(x509.ParseCertificate(block.Bytes))(w.t)
}

func (w *world) active() *x509.Certificate {
	w.t.Helper()
	return w.issuer(must(w.vault.CABundle(w.t.Context()))(w.t).Bundle)
}

func ocspQuestion(t *testing.T, serial *big.Int, signer *x509.Certificate) []byte {
	t.Helper()
	return must(ocsp.CreateRequest(&x509.Certificate{SerialNumber: serial}, signer, &ocsp.RequestOptions{Hash: crypto.SHA256}))(t)
}

// standing is what OCSP says.
func (w *world) standing(serial *big.Int, signer *x509.Certificate) string {
	w.t.Helper()
	question := ocspQuestion(w.t, serial, signer)
	_, posted := w.fetch(http.DefaultClient, http.MethodPost, "http://"+w.edge.PKIAddr().String()+"/pki/ocsp", question)
	return ocspStatus(w.t, posted, signer)
}

func ocspStatus(t *testing.T, body []byte, signer *x509.Certificate) string {
	t.Helper()
	parsed, err := ocsp.ParseResponse(body, signer)
	if refused, is := err.(ocsp.ResponseError); is {
		return refused.Status.String()
	}
	if err != nil {
		t.Fatal(err)
	}
	return map[int]string{ocsp.Good: "good", ocsp.Revoked: "revoked", ocsp.Unknown: "unknown"}[parsed.Status]
}

func TestListsAndOCSPOfTheRealEngine(t *testing.T) {
	w := newWorld(t, withPKI)
	signer := w.active()
	one, other := w.enrolled(), w.enrolled()
	w.names("crl.der", signer)
	for _, a := range []*agent{one, other} {
		if got := w.standing(a.cert.Leaf.SerialNumber, signer); got != "good" {
			t.Fatalf("an agent of ours: %s", got)
		}
	}

	// Both listeners, both methods, both forms say the same.
	question := ocspQuestion(t, one.cert.Leaf.SerialNumber, signer)
	path := "/pki/ocsp/" + url.PathEscape(base64.StdEncoding.EncodeToString(question))
	tlsBase, plainBase := "https://"+w.addr, "http://"+w.edge.PKIAddr().String()
	_, first := w.fetch(http.DefaultClient, http.MethodGet, plainBase+path, nil)
	for _, got := range [][]byte{
		second(w.fetch(w.overTLS(), http.MethodGet, tlsBase+path, nil)), second(w.fetch(w.overTLS(), http.MethodPost, tlsBase+"/pki/ocsp", question)),
	} {
		if !bytes.Equal(got, first) || ocspStatus(t, got, signer) != "good" {
			t.Error("one question has two answers")
		}
	}
	_, der := w.pki("crl.der")
	_, text := w.pki("crl.pem")
	if block, _ := pem.Decode(text); block == nil || !bytes.Equal(block.Bytes, der) || !bytes.Equal(second(w.fetch(w.overTLS(), http.MethodGet, tlsBase+"/pki/crl.der", nil)), der) {
		t.Error("one list has two forms")
	}

	if _, err := w.vault.RevokeAgent(t.Context(), one.id(), apitype.RevokeRequest{Reason: "keyCompromise"}); err != nil {
		t.Fatal(err)
	}
	w.eventually("OCSP says revoked", 20*time.Second, func() bool { return w.standing(one.cert.Leaf.SerialNumber, signer) == "revoked" })
	w.names("crl.der", signer, one.cert.Leaf.SerialNumber)
	if got := w.standing(other.cert.Leaf.SerialNumber, signer); got != "good" {
		t.Errorf("the other agent: %s", got)
	}
	if w.metric("ampora_edge_crl_entries") != "1" || w.metric("ampora_edge_crl_number") == "0" || !strings.HasPrefix(w.metric(`ampora_edge_pki_requests_total{about="ocsp",outcome="revoked"}`), "1") {
		_, all := w.admin("/metrics")
		t.Error(all)
	}

	never := must(identity.LeafSerial(one.id(), 77))(t)
	foreign := selfSigned(t)
	for name, c := range map[string]struct {
		serial *big.Int
		signer *x509.Certificate
		want   string
	}{
		"a generation that was never signed": {never.Big(), signer, "unknown"},
		"a number that is none of ours":      {big.NewInt(4711), signer, "unknown"},
		"a foreign issuer":                   {other.cert.Leaf.SerialNumber, foreign, "unauthorized"},
	} {
		if got := w.standing(c.serial, c.signer); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

func second(_ *http.Response, body []byte) []byte { return body }

func TestWhileVaultIsAwayWhatIsKnownIsStillServed(t *testing.T) {
	w := newWorld(t, withPKI)
	signer := w.active()
	known, late := w.enrolled(), w.enrolled()
	w.names("crl.der", signer)
	if got := w.standing(known.cert.Leaf.SerialNumber, signer); got != "good" {
		t.Fatal(got)
	}
	w.engine.SetAway(true)
	if w.list("crl.der", signer) == nil {
		t.Error("the list is gone")
	}
	if got := w.standing(known.cert.Leaf.SerialNumber, signer); got != "good" {
		t.Errorf("an answer from before: %s", got)
	}
	if got := w.standing(late.cert.Leaf.SerialNumber, signer); got != "try later" {
		t.Errorf("a new question: %s", got)
	}
	if status, body := w.admin("/readyz"); status != http.StatusOK {
		t.Errorf("%d %s", status, body)
	}
	w.engine.SetAway(false)
	w.eventually("questions are answered again", 20*time.Second, func() bool { return w.standing(late.cert.Leaf.SerialNumber, signer) == "good" })
}

func TestEveryIssuerHasItsList(t *testing.T) {
	w := newWorld(t, withPKI)
	old := w.active()
	bundle := must(w.vault.CABundle(t.Context()))(t)
	before := w.enrolled()
	w.names("crl.der", old)
	resp, _ := w.pki("crl.der")
	oldID, _, _ := strings.Cut(strings.Trim(resp.Header.Get("ETag"), `"`), ".")
	next := must(w.vault.CARoot(t.Context(), apitype.CARootRequest{CommonName: "Next"}))(t)
	if _, err := w.vault.SetIssuerState(t.Context(), next.IssuerID, apitype.IssuerRequest{State: "active"}); err != nil {
		t.Fatal(err)
	}
	signer := w.issuer(next.Certificate)
	w.eventually("the new issuer's list is the one without a name", 30*time.Second, func() bool {
		resp, body := w.pki("crl.der")
		if resp.StatusCode != http.StatusOK {
			return false
		}
		list := must(x509.ParseRevocationList(body))(t)
		return list.CheckSignatureFrom(signer) == nil && strings.HasPrefix(resp.Header.Get("ETag"), `"`+next.IssuerID)
	})
	if _, err := w.vault.RevokeAgent(t.Context(), before.id(), apitype.RevokeRequest{}); err != nil {
		t.Fatal(err)
	}
	w.names(oldID+"/crl.der", old, before.cert.Leaf.SerialNumber)
	w.names(next.IssuerID+"/crl.der", signer)
	_, served := w.pki("trust-bundle.pem")
	for _, part := range []string{strings.TrimSpace(next.Certificate), strings.TrimSpace(bundle.Bundle)} {
		if !strings.Contains(string(served), part) {
			t.Errorf("the trust bundle lacks an issuer:\n%s", served)
		}
	}
	if resp, _ := w.pki("00000000-0000-4000-8000-000000000000/crl.der"); resp.StatusCode != http.StatusNotFound {
		t.Error(resp.Status)
	}
}

func TestThePlainListenerServesNothingElse(t *testing.T) {
	w := newWorld(t, withPKI)
	base := "http://" + w.edge.PKIAddr().String()
	for path, want := range map[string]int{"/": 404, "/v1/opamp": 404, "/api/tokens/pools/web/issue": 404, "/metrics": 404, "/pki/amp-bs.x": 400, "/pki/crl.der?t=amp-bs.x": 400} {
		if resp, body := w.fetch(http.DefaultClient, http.MethodGet, base+path, nil); resp.StatusCode != want {
			t.Errorf("%s: %d %s", path, resp.StatusCode, body)
		}
	}
	w.eventually("1 MB is refused", 20*time.Second, func() bool {
		// The edge reads none of it, so on a slow machine the connection may be gone before the client sees why.
		resp, err := http.Post(base+"/pki/ocsp", "application/ocsp-request", bytes.NewReader(make([]byte, 1<<20)))
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusRequestEntityTooLarge
	})
	without := newWorld(t)
	if without.edge.PKIAddr() != nil {
		t.Error("there is a plain listener that nobody asked for")
	}
}

func selfSigned(t *testing.T) *x509.Certificate {
	t.Helper()
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Elsewhere"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	return must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key))(t)))(t)
}
