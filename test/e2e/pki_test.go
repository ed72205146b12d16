package e2e

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/identity"
	"golang.org/x/crypto/ocsp"
)

// openssl runs the program and answers all that it said, and whether it was content.
func (in *installation) openssl(arguments ...string) (said string, ok bool) {
	in.t.Helper()
	out, err := exec.CommandContext(in.ctx(), "openssl", arguments...).CombinedOutput()
	if _, refused := err.(*exec.ExitError); err != nil && !refused {
		in.t.Fatalf("openssl %s: %v", arguments[0], err)
	}
	return string(out), err == nil
}

// public reads a path of the engine as anybody may, without a Vault token.
func (in *installation) public(path string) (*http.Response, []byte) {
	in.t.Helper()
	resp, err := http.Get(in.vault.Addr + "/v1/ampora/" + path)
	must(in.t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	must(in.t, err)
	return resp, body
}

// asked has openssl make an OCSP request, sends it with GET, and has openssl judge the answer.
func (in *installation) asked(issuer string, what ...string) string {
	in.t.Helper()
	dir := in.t.TempDir()
	request, answer := filepath.Join(dir, "request"), filepath.Join(dir, "answer")
	about := append([]string{"ocsp", "-sha256", "-issuer", issuer}, what...)
	if said, ok := in.openssl(append(about, "-no_nonce", "-reqout", request)...); !ok {
		in.t.Fatal(said)
	}
	resp, body := in.public("ocsp/" + escaped([]byte(in.read(request))))
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "application/ocsp-response" {
		in.t.Fatalf("%s %v: %s", resp.Status, resp.Header, body)
	}
	must(in.t, os.WriteFile(answer, body, 0o600))
	said, _ := in.openssl(append(about, "-no_nonce", "-respin", answer, "-CAfile", issuer)...)
	return said
}

// escaped is a request as it stands in a path: base64 of which '/' and '+' are escaped, too, since Vault would redirect '//'.
func escaped(der []byte) string { return url.QueryEscape(base64.StdEncoding.EncodeToString(der)) }

var crlNumber = regexp.MustCompile(`crlNumber=0x([0-9A-F]+)`)

// crlAt stores the list that stands at a path as a file, and answers its number in hexadecimal, which is always as long.
func (in *installation) crlAt(path, issuer string) (file, number string) {
	in.t.Helper()
	resp, body := in.public(path)
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "application/x-pem-file" || !strings.HasPrefix(resp.Header.Get("Cache-Control"), "max-age=") {
		in.t.Fatalf("%s: %s %v: %s", path, resp.Status, resp.Header, body)
	}
	file = in.write(strings.ReplaceAll(path, "/", "-"), string(body))
	said, ok := in.openssl("crl", "-in", file, "-CAfile", issuer, "-noout", "-crlnumber")
	found := crlNumber.FindStringSubmatch(said)
	if !ok || !strings.Contains(said, "verify OK") || found == nil {
		in.t.Fatalf("%s: %s", path, said)
	}
	return file, found[1]
}

// verified is what openssl says of a certificate with a list at hand.
func (in *installation) verified(issuer, crl, leaf string) string {
	in.t.Helper()
	said, _ := in.openssl("verify", "-crl_check", "-CAfile", issuer, "-CRLfile", crl, leaf)
	return said
}

// TestOpenSSLAgreesWithVault has the program that everybody uses read what the engine says of its certificates.
func TestOpenSSLAgreesWithVault(t *testing.T) {
	t.Parallel()
	in := install(t)
	if resp, body := in.public("crl"); resp.StatusCode != apitype.NotConfigured.VaultStatus() || !strings.Contains(string(body), "public_pki is off") {
		t.Errorf("with public_pki off: %s: %s", resp.Status, body)
	}
	must(t, in.engine.UpdateConfig(in.ctx(), map[string]any{"public_pki": true}))
	enrolled := func(name string) (*apitype.Identity, string) {
		id := in.redeemed(in.token())
		return id, in.write(name+".pem", id.Certificate)
	}
	gone, revoked := enrolled("revoked")
	_, good := enrolled("good")
	issuer := in.write("issuer.pem", gone.IssuingCA)
	crl, first := in.crlAt("crl/pem", issuer)
	for _, leaf := range []string{revoked, good} {
		if said := in.verified(issuer, crl, leaf); !strings.Contains(said, ": OK") {
			t.Errorf("before: %s", said)
		}
		if said := in.asked(issuer, "-cert", leaf); !strings.Contains(said, "Response verify OK") || !strings.Contains(said, leaf+": good") {
			t.Errorf("before: %s", said)
		}
	}

	_, err := in.engine.RevokeAgent(in.ctx(), gone.AgentID, apitype.RevokeRequest{Reason: "keyCompromise"})
	must(t, err)
	said := in.asked(issuer, "-cert", revoked)
	for _, want := range []string{"Response verify OK", revoked + ": revoked", "Reason: keyCompromise", "Revocation Time: ", "Next Update: "} {
		if !strings.Contains(said, want) {
			t.Errorf("no %q in: %s", want, said)
		}
	}
	var second string
	eventually(t, "the list names the revoked certificate", 20*time.Second, func() bool {
		crl, second = in.crlAt("crl/pem", issuer)
		return strings.Contains(in.verified(issuer, crl, revoked), "certificate revoked")
	})
	if second <= first {
		t.Errorf("number %s after %s", second, first)
	}
	if said := in.verified(issuer, crl, good); !strings.Contains(said, ": OK") {
		t.Error(said)
	}
	if said, _ := in.openssl("crl", "-in", crl, "-noout", "-text"); !strings.Contains(said, strings.ToUpper(strings.ReplaceAll(gone.SerialNumber, ":", ""))) || !strings.Contains(said, "Key Compromise") {
		t.Error(said)
	}

	t.Run("as the page says", func(t *testing.T) {
		in := in.within(t)
		_, rest, found := strings.Cut(in.read("../../plugin/README.md"), "```sh\nvault write ampora/config public_pki=true\n")
		block, _, ended := strings.Cut(rest, "```")
		if !found || !ended {
			t.Fatal("the page has no such block")
		}
		in.write("cert.pem", in.read(good))
		cmd := exec.CommandContext(in.ctx(), "bash", "-euo", "pipefail", "-c", block)
		cmd.Dir, cmd.Env = in.dir, append(environment(), in.vault.Env()...)
		said, err := cmd.CombinedOutput()
		for _, want := range []string{"cert.pem: OK", "Response verify OK", "cert.pem: good"} {
			if err != nil || !strings.Contains(string(said), want) {
				t.Errorf("no %q in (%v): %s", want, err, said)
			}
		}
	})
	t.Run("unknown and several", func(t *testing.T) {
		in := in.within(t)
		never := "0x" + strings.ReplaceAll(identity.RandomSerial(identity.KindLeaf).String(), ":", "")
		if said := in.asked(issuer, "-serial", never); !strings.Contains(said, "Response verify OK") || !strings.Contains(said, never+": unknown") {
			t.Error(said)
		}
		if said := in.asked(issuer, "-cert", revoked, "-cert", good); !strings.Contains(said, revoked+": revoked") || !strings.Contains(said, good+": ERROR: No Status found") {
			t.Error(said)
		}
	})
	t.Run("garbage", func(t *testing.T) {
		in := in.within(t)
		for name, der := range map[string][]byte{"garbage": []byte("hello"), "8 KiB": bytes.Repeat([]byte{0x30}, 8<<10)} {
			resp, body := in.public("ocsp/" + escaped(der))
			if resp.StatusCode != http.StatusOK || !bytes.Equal(body, []byte{0x30, 3, 0x0a, 1, 1}) || resp.Header.Get("Cache-Control") != "no-store" {
				t.Errorf("%s: %s %v: %x", name, resp.Status, resp.Header, body)
			}
		}
		// Vault ends the connection, with or without a word.
		if resp, err := http.Get(in.vault.Addr + "/v1/ampora/ocsp/" + strings.Repeat("A", 2<<20)); err == nil {
			resp.Body.Close()
			if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
				t.Errorf("2 MiB: %s", resp.Status)
			}
		}
		if out, err := in.engine.OCSP(in.ctx(), apitype.OCSPRequest{Request: strings.Repeat("A", 1<<20)}); err != nil || out.Status != "malformed" {
			t.Errorf("1 MiB from an edge: %+v, %v", out, err)
		}
	})
	t.Run("two slashes in a row", func(t *testing.T) {
		in := in.within(t)
		block, _ := pem.Decode([]byte(gone.IssuingCA))
		certificate, err := x509.ParseCertificate(block.Bytes)
		must(t, err)
		for range 100_000 {
			about := &x509.Certificate{SerialNumber: identity.RandomSerial(identity.KindLeaf).Big()}
			der, err := ocsp.CreateRequest(about, certificate, nil)
			must(t, err)
			if !strings.Contains(base64.StdEncoding.EncodeToString(der), "//") {
				continue
			}
			resp, body := in.public("ocsp/" + escaped(der))
			if said, err := ocsp.ParseResponse(body, certificate); err != nil || said.Status != ocsp.Unknown || said.SerialNumber.Cmp(about.SerialNumber) != 0 {
				t.Errorf("%s: %+v, %v", resp.Status, said, err)
			}
			return
		}
		t.Error("no request has two slashes")
	})
	t.Run("another issuer", func(t *testing.T) {
		in := in.within(t)
		made, err := in.engine.CARoot(in.ctx(), apitype.CARootRequest{})
		must(t, err)
		old, err := in.engine.CRL(in.ctx(), apitype.CRLRequest{})
		must(t, err)
		_, err = in.engine.Vault().Logical().WriteWithContext(in.ctx(), "ampora/ca/issuers/"+made.IssuerID, map[string]any{"state": "active"})
		must(t, err)
		next := in.write("next.pem", made.Certificate)
		crl, _ := in.crlAt("issuer/"+old.IssuerID+"/crl/pem", issuer)
		if said := in.verified(issuer, crl, revoked); !strings.Contains(said, "certificate revoked") {
			t.Error(said)
		}
		empty, _ := in.crlAt("crl/pem", next) // the active one's own
		if said, _ := in.openssl("crl", "-in", empty, "-noout", "-text"); !strings.Contains(said, "No Revoked Certificates") {
			t.Error(said)
		}
		if said := in.asked(next, "-serial", "0x"+strings.ReplaceAll(gone.SerialNumber, ":", "")); !strings.Contains(said, ": unknown") {
			t.Errorf("of an issuer that did not sign it: %s", said)
		}
		foreign, _, _ := in.foreignCertificate()
		if said := in.asked(foreign, "-cert", revoked); !strings.Contains(said, "Responder Error: unauthorized") {
			t.Error(said)
		}
	})
	t.Run("after Vault was away", func(t *testing.T) {
		in := in.within(t)
		old, err := in.engine.CRL(in.ctx(), apitype.CRLRequest{})
		must(t, err)
		in.vault.Kill()
		must(t, in.vault.Restart(in.ctx()))
		eventually(t, "the engine has its memory", time.Minute, func() bool {
			resp, _ := in.public("issuer/" + old.IssuerID + "/crl")
			return resp.StatusCode == http.StatusOK
		})
		_, now := in.crlAt("issuer/"+old.IssuerID+"/crl/pem", filepath.Join(in.dir, "next.pem"))
		again, err := in.engine.CRL(in.ctx(), apitype.CRLRequest{})
		must(t, err)
		if len(again.Number) < len(old.Number) || len(again.Number) == len(old.Number) && again.Number <= old.Number {
			t.Errorf("number %s (0x%s) after %s", again.Number, now, old.Number)
		}
		if said := in.asked(issuer, "-cert", revoked); !strings.Contains(said, revoked+": revoked") {
			t.Error(said)
		}
	})
}
