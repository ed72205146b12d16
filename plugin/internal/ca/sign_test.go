package ca_test

import (
	"crypto"
	"crypto/elliptic"
	"crypto/x509"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/identity"
	"github.com/ampora/ampora/plugin/internal/ca"
)

func leafTemplate(public crypto.PublicKey) ca.LeafTemplate {
	return ca.LeafTemplate{
		PublicKey: public, AgentID: agentID, TrustDomain: trustDomain, Generation: 7, TTL: time.Hour, Now: now,
		CRLDistributionPoints: []string{"http://pki.ampora.example/pki/crl.der"},
		OCSPServers:           []string{"http://pki.ampora.example/pki/ocsp"},
	}
}

func TestLeafIsWhatIdentityVerifies(t *testing.T) {
	for _, issuerSpec := range []ca.KeySpec{{"ec", 256}, {"ec", 384}, {"ed25519", 0}} {
		for _, leafSpec := range []ca.KeySpec{{"ec", 256}, {"ec", 384}, {"ed25519", 0}, {"rsa", 3072}} {
			for _, tenant := range []string{"", "north"} {
				root, err := ca.NewRoot(now, "", issuerSpec, 0)
				if err != nil {
					t.Fatal(err)
				}
				csr, err := ca.ParseCSR(csrPEM(t, newKey(t, leafSpec.Type, leafSpec.Bits), hostileRequest()))
				if err != nil {
					t.Fatal(err)
				}
				template := leafTemplate(csr.PublicKey)
				template.Tenant = tenant
				leaf, err := ca.SignLeaf(root, template)
				if err != nil {
					t.Fatal(err)
				}
				other := newRoot(t, 0)
				got, err := identity.VerifyLeaf(parse(t, leaf.DER), []*x509.Certificate{other.Certificate, root.Certificate}, trustDomain, now)
				if err != nil {
					t.Fatalf("%v by %v: %v", leafSpec, issuerSpec, err)
				}
				want := identity.Leaf{
					AgentID: agentID, Tenant: tenant, Serial: leaf.Serial, Fingerprint: leaf.Fingerprint, NotAfter: leaf.NotAfter, IssuerIndex: 1,
				}
				if *got != want {
					t.Errorf("%+v, want %+v", *got, want)
				}
				if got.Serial.Generation() != 7 {
					t.Errorf("generation %d", got.Serial.Generation())
				}
			}
		}
	}
}

// What a hostile request asks for stands nowhere in the certificate.
func TestLeafTakesNothingButTheKeyFromTheCSR(t *testing.T) {
	root := newRoot(t, 0)
	csr, err := ca.ParseCSR(csrPEM(t, newKey(t, ca.KeyEC, 256), hostileRequest()))
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := ca.SignLeaf(root, leafTemplate(csr.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	c := parse(t, leaf.DER)
	if c.Subject.String() != "CN="+agentID {
		t.Errorf("subject %s", c.Subject)
	}
	if len(c.DNSNames)+len(c.EmailAddresses)+len(c.IPAddresses) != 0 || len(c.URIs) != 1 {
		t.Error("it has foreign names")
	}
	if c.IsCA || !c.BasicConstraintsValid || c.KeyUsage != x509.KeyUsageDigitalSignature {
		t.Error("it is fit for more than signing a handshake")
	}
	if !slices.Equal(c.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}) || len(c.UnknownExtKeyUsage) > 0 {
		t.Errorf("extended key usage %v", c.ExtKeyUsage)
	}
	if c.CRLDistributionPoints[0] != "http://pki.ampora.example/pki/crl.der" || c.OCSPServer[0] != "http://pki.ampora.example/pki/ocsp" {
		t.Error("the revocation addresses are missing")
	}
	if !c.NotBefore.Equal(leaf.NotBefore) || !c.NotAfter.Equal(leaf.NotAfter) || !c.NotAfter.Equal(now.Add(time.Hour)) {
		t.Errorf("validity %s to %s", c.NotBefore, c.NotAfter)
	}
	if leaf.PEM != ca.EncodeCertificate(leaf.DER) || identity.Fingerprint(c.Raw) != leaf.Fingerprint || leaf.TTLCut {
		t.Error("the answer does not fit the certificate")
	}
	pool := x509.NewCertPool()
	pool.AddCert(root.Certificate)
	if _, err := c.Verify(x509.VerifyOptions{Roots: pool, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		t.Errorf("crypto/x509: %v", err)
	}
	if _, err := c.Verify(x509.VerifyOptions{Roots: pool, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}); err == nil {
		t.Error("it passes for a server")
	}
}

func TestLeafNeverOutlivesItsIssuer(t *testing.T) {
	root := newRoot(t, 30*time.Minute)
	leaf, err := ca.SignLeaf(root, leafTemplate(newKey(t, ca.KeyEC, 256).Public()))
	if err != nil {
		t.Fatal(err)
	}
	if !leaf.TTLCut || !leaf.NotAfter.Equal(root.Certificate.NotAfter) {
		t.Errorf("cut %v, ends %s, issuer ends %s", leaf.TTLCut, leaf.NotAfter, root.Certificate.NotAfter)
	}
	template := leafTemplate(newKey(t, ca.KeyEC, 256).Public())
	for _, left := range []time.Duration{59 * time.Second, 0, -time.Hour} {
		template.Now = root.Certificate.NotAfter.Add(-left)
		_, err := ca.SignLeaf(root, template)
		wantCode(t, err, apitype.IssuerMissing)
	}
	template.Now = root.Certificate.NotAfter.Add(-time.Minute)
	if _, err := ca.SignLeaf(root, template); err != nil {
		t.Errorf("with a minute left: %v", err)
	}
	_, err = ca.SignLeaf(nil, template)
	wantCode(t, err, apitype.IssuerMissing)
}

func TestLeafValidityLiesInsideTheIssuers(t *testing.T) {
	root := newRoot(t, 0)
	template := leafTemplate(newKey(t, ca.KeyEC, 256).Public())
	template.Now = now.Add(-2 * time.Minute) // a clock that was set back
	leaf, err := ca.SignLeaf(root, template)
	if err != nil {
		t.Fatal(err)
	}
	if !leaf.NotBefore.Equal(root.Certificate.NotBefore) {
		t.Errorf("not before %s, issuer's %s", leaf.NotBefore, root.Certificate.NotBefore)
	}
}

func TestLeafRefusals(t *testing.T) {
	root := newRoot(t, 0)
	good := newKey(t, ca.KeyEC, 256).Public()
	for name, c := range map[string]struct {
		change func(*ca.LeafTemplate)
		code   apitype.Code
	}{
		"no trust domain": {func(l *ca.LeafTemplate) { l.TrustDomain = "" }, apitype.NotConfigured},
		"a weak key":      {func(l *ca.LeafTemplate) { l.PublicKey = rsaKey(t, 1024).Public() }, apitype.KeyNotAllowed},
		"another curve":   {func(l *ca.LeafTemplate) { l.PublicKey = curveKey(t, elliptic.P521()).Public() }, apitype.KeyNotAllowed},
		"no key":          {func(l *ca.LeafTemplate) { l.PublicKey = nil }, apitype.KeyNotAllowed},
		"no ttl":          {func(l *ca.LeafTemplate) { l.TTL = 0 }, apitype.TTLOutOfRange},
		"no agent id":     {func(l *ca.LeafTemplate) { l.AgentID = "agent-1" }, ""},
		"generation":      {func(l *ca.LeafTemplate) { l.Generation = identity.MaxGeneration + 1 }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			template := leafTemplate(good)
			c.change(&template)
			_, err := ca.SignLeaf(root, template)
			if err == nil {
				t.Fatal("signed")
			}
			wantCode(t, err, c.code)
		})
	}
}

func TestEdgeCertificateIsAServerAndNoAgent(t *testing.T) {
	root := newRoot(t, 0)
	leaf, err := ca.SignEdge(root, ca.EdgeTemplate{
		PublicKey: newKey(t, ca.KeyEC, 256).Public(), DNSNames: []string{"opamp.ampora.example", "edge-1"},
		IPs: []net.IP{net.IPv4(10, 0, 0, 1)}, Now: now,
	})
	if err != nil {
		t.Fatal(err)
	}
	c := parse(t, leaf.DER)
	if c.Subject.CommonName != "opamp.ampora.example" || len(c.URIs) != 0 || leaf.Serial.Kind() != identity.KindEdge {
		t.Errorf("subject %s, kind %d", c.Subject, leaf.Serial.Kind())
	}
	if !slices.Equal(c.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}) || !leaf.NotAfter.Equal(now.Add(7*24*time.Hour)) {
		t.Errorf("usage %v until %s", c.ExtKeyUsage, leaf.NotAfter)
	}
	pool := x509.NewCertPool()
	pool.AddCert(root.Certificate)
	for _, name := range []string{"opamp.ampora.example", "edge-1", "10.0.0.1"} {
		if _, err := c.Verify(x509.VerifyOptions{Roots: pool, CurrentTime: now, DNSName: name}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := identity.VerifyLeaf(c, []*x509.Certificate{root.Certificate}, trustDomain, now); err == nil {
		t.Error("it passes for an agent")
	}
}

func TestEdgeNames(t *testing.T) {
	root := newRoot(t, 0)
	public := newKey(t, ca.KeyEC, 256).Public()
	_, err := ca.SignEdge(root, ca.EdgeTemplate{PublicKey: public, Now: now})
	wantCode(t, err, apitype.EdgeNameNotAllowed)

	leaf, err := ca.SignEdge(root, ca.EdgeTemplate{PublicKey: public, IPs: []net.IP{net.IPv6loopback}, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	if c := parse(t, leaf.DER); c.Subject.CommonName != "::1" {
		t.Errorf("subject %s", c.Subject)
	}
	long := strings.Repeat("a", 60) + "." + strings.Repeat("b", 60) + ".example"
	leaf, err = ca.SignEdge(root, ca.EdgeTemplate{PublicKey: public, DNSNames: []string{long}, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	if c := parse(t, leaf.DER); c.Subject.CommonName != "" || c.DNSNames[0] != long {
		t.Errorf("subject %s, names %v", c.Subject, c.DNSNames)
	}
}
