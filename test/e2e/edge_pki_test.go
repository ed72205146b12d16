package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/test/fleet"
)

// Whoever checks an agent's certificate by the URLs that stand in it learns the truth. The commands are those of the page in
// edge/.
func TestOpenSSLChecksAgentsByTheURLsInTheirCertificates(t *testing.T) {
	t.Parallel()
	in := install(t)
	pki := fleet.FreeAddr(t)
	in.edge("one", "--pki-listen", pki)
	base := "http://" + pki + "/pki"
	must(t, in.engine.UpdateConfig(in.ctx(), map[string]any{
		"ocsp_servers": []string{base + "/ocsp"}, "crl_distribution_points": []string{base + "/{issuer_id}/crl.der"},
	}))
	dir := t.TempDir()
	agent := func(name string) (id string) {
		issued := in.token()
		out := filepath.Join(dir, name)
		if said, ok := in.enroll("wss://"+in.addr+"/v1/opamp", issued.Token, out); !ok {
			t.Fatal(said)
		}
		in.secrets.addKey(in.read(filepath.Join(out, "key.pem")))
		must(t, os.Rename(filepath.Join(out, "cert.pem"), filepath.Join(dir, name+".pem")))
		return in.wantEnrolled(issued).AgentID
	}
	bad := agent("bad")
	agent("good")

	uri, ok := in.openssl("x509", "-in", filepath.Join(dir, "good.pem"), "-noout", "-ocsp_uri")
	if !ok || strings.TrimSpace(uri) != base+"/ocsp" {
		t.Fatalf("OCSP is at %q", uri)
	}
	ocsp := func(name string) string {
		said, _ := in.openssl("ocsp", "-issuer", in.ca, "-cert", filepath.Join(dir, name), "-url", strings.TrimSpace(uri), "-CAfile", in.ca, "-partial_chain")
		return said
	}
	verify := func(name string) string { // the list comes from the URL in the certificate
		said, _ := in.openssl("verify", "-CAfile", in.ca, "-partial_chain", "-crl_download", "-crl_check", filepath.Join(dir, name))
		return said
	}
	says := func(what, part string, ask func() string) {
		t.Helper()
		var said string
		defer func() {
			if t.Failed() {
				t.Log(said)
			}
		}()
		eventually(t, what, 30*time.Second, func() bool { said = ask(); return strings.Contains(said, part) })
	}
	for _, name := range []string{"bad.pem", "good.pem"} {
		says("OCSP says that "+name+" is good", name+": good", func() string { return ocsp(name) })
		says("the answer is signed by the issuer", "Response verify OK", func() string { return ocsp(name) })
		says("the list does not name "+name, name+": OK", func() string { return verify(name) })
	}

	_, err := in.engine.RevokeAgent(in.ctx(), bad, apitype.RevokeRequest{Reason: "keyCompromise"})
	must(t, err)
	says("OCSP says why the agent is revoked", "Reason: keyCompromise", func() string { return ocsp("bad.pem") })
	says("the list names the agent", "certificate revoked", func() string { return verify("bad.pem") })
	says("the other agent is good", "good.pem: good", func() string { return ocsp("good.pem") })
	says("the other agent is not in the list", "good.pem: OK", func() string { return verify("good.pem") })

	// The list in a file, for those who fetch it with curl.
	resp, err := http.Get(base + "/crl.pem")
	must(t, err)
	defer resp.Body.Close()
	file, err := os.Create(filepath.Join(dir, "crl.pem"))
	must(t, err)
	_, err = file.ReadFrom(resp.Body)
	must(t, err)
	must(t, file.Close())
	if said, ok := in.openssl("crl", "-in", file.Name(), "-CAfile", in.ca, "-noout", "-text"); !ok || !strings.Contains(said, "verify OK") || strings.Count(said, "Serial Number:") != 1 {
		t.Errorf("the list:\n%s", said)
	}
	if said, ok := in.openssl("verify", "-CAfile", in.ca, "-partial_chain", "-CRLfile", file.Name(), "-crl_check", filepath.Join(dir, "good.pem")); !ok || !strings.Contains(said, "good.pem: OK") {
		t.Error(said)
	}

	// Vault is sealed: what the edge knows goes on, and what it would have to ask is put off.
	must(t, in.vault.Seal(in.ctx()))
	if said := ocsp("bad.pem"); !strings.Contains(said, "bad.pem: revoked") {
		t.Errorf("while Vault is away: %s", said)
	}
	if said, _ := in.openssl("ocsp", "-issuer", in.ca, "-serial", "4711", "-url", strings.TrimSpace(uri)); !strings.Contains(strings.ToLower(said), "trylater") {
		t.Errorf("a new question: %s", said)
	}
	if said := verify("good.pem"); !strings.Contains(said, "good.pem: OK") {
		t.Errorf("while Vault is away: %s", said)
	}
	must(t, in.vault.Unseal(in.ctx()))
	says("questions are answered again", "4711: unknown", func() string {
		said, _ := in.openssl("ocsp", "-issuer", in.ca, "-serial", "4711", "-url", strings.TrimSpace(uri), "-CAfile", in.ca)
		return said
	})
}
