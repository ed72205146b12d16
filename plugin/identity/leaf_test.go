package identity_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"net/url"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/identity"
)

const trustDomain = "test.example"

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

type issuer struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func signed(t testing.TB, template, parent *x509.Certificate, public *ecdsa.PublicKey, key *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func newIssuer(t testing.TB, name string) issuer {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: identity.RandomSerial(identity.KindIssuer).Big(), Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	key := newKey(t)
	return issuer{certificate: signed(t, template, template, &key.PublicKey, key), key: key}
}

func leafTemplate(t testing.TB, tenant string) *x509.Certificate {
	t.Helper()
	serial, err := identity.LeafSerial(agentID, 3)
	if err != nil {
		t.Fatal(err)
	}
	return &x509.Certificate{
		SerialNumber: serial.Big(), Subject: pkix.Name{CommonName: agentID}, URIs: []*url.URL{identity.SPIFFEID(trustDomain, tenant, agentID)},
		NotBefore: now.Add(-time.Minute), NotAfter: now.Add(time.Minute), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
	}
}

func parseURL(t testing.TB, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestALeafOfOursIsRead(t *testing.T) {
	other, ours := newIssuer(t, "Other"), newIssuer(t, "Ours")
	for _, tenant := range []string{"", "acme"} {
		c := signed(t, leafTemplate(t, tenant), ours.certificate, &newKey(t).PublicKey, ours.key)
		leaf, err := identity.VerifyLeaf(c, []*x509.Certificate{other.certificate, ours.certificate}, trustDomain, now)
		if err != nil {
			t.Fatal(err)
		}
		serial, _ := identity.LeafSerial(agentID, 3)
		want := identity.Leaf{AgentID: agentID, Tenant: tenant, Serial: serial, Fingerprint: identity.Fingerprint(c.Raw), NotAfter: c.NotAfter, IssuerIndex: 1}
		if *leaf != want {
			t.Errorf("%+v", leaf)
		}
		for at, fine := range map[time.Time]bool{
			c.NotBefore: true, c.NotAfter: true, c.NotBefore.Add(-time.Nanosecond): false, c.NotAfter.Add(time.Second): false,
		} {
			if _, err := identity.VerifyLeaf(c, []*x509.Certificate{ours.certificate}, trustDomain, at); (err == nil) != fine || err != nil && !errors.Is(err, identity.ErrExpired) {
				t.Errorf("at %s: %v", at, err)
			}
		}
	}
}

func TestEverySingleDeviationIsRefused(t *testing.T) {
	ours := newIssuer(t, "Ours")
	const otherID = "168ebc90-119e-887f-b750-88f3042876db"
	spiffe := "spiffe://" + trustDomain
	serialOf := func(kind identity.Kind) *big.Int {
		s, _ := identity.LeafSerial(agentID, 3)
		s[0] = byte(kind)
		return s.Big()
	}
	for name, deviate := range map[string]func(*x509.Certificate){
		"another agent in the CN":        func(c *x509.Certificate) { c.Subject.CommonName = otherID },
		"no CN":                          func(c *x509.Certificate) { c.Subject = pkix.Name{} },
		"the CN in capitals":             func(c *x509.Certificate) { c.Subject.CommonName = "630DCD29-66C4-8366-9112-5448BBB25B4F" },
		"another agent in the URI":       func(c *x509.Certificate) { c.URIs[0] = identity.SPIFFEID(trustDomain, "", otherID) },
		"another trust domain":           func(c *x509.Certificate) { c.URIs[0] = identity.SPIFFEID("other.example", "", agentID) },
		"the trust domain in capitals":   func(c *x509.Certificate) { c.URIs[0] = parseURL(t, "spiffe://TEST.example/agent/"+agentID) },
		"a port":                         func(c *x509.Certificate) { c.URIs[0] = parseURL(t, "spiffe://test.example:1/agent/"+agentID) },
		"a user":                         func(c *x509.Certificate) { c.URIs[0] = parseURL(t, "spiffe://a@test.example/agent/"+agentID) },
		"a query":                        func(c *x509.Certificate) { c.URIs[0] = parseURL(t, spiffe+"/agent/"+agentID+"?a") },
		"an empty query":                 func(c *x509.Certificate) { c.URIs[0] = parseURL(t, spiffe+"/agent/"+agentID+"?") },
		"a fragment":                     func(c *x509.Certificate) { c.URIs[0] = parseURL(t, spiffe+"/agent/"+agentID+"#a") },
		"another scheme":                 func(c *x509.Certificate) { c.URIs[0] = parseURL(t, "https://test.example/agent/"+agentID) },
		"another path":                   func(c *x509.Certificate) { c.URIs[0] = parseURL(t, spiffe+"/workload/"+agentID) },
		"two slashes":                    func(c *x509.Certificate) { c.URIs[0] = parseURL(t, spiffe+"//agent/"+agentID) },
		"a slash at the end":             func(c *x509.Certificate) { c.URIs[0] = parseURL(t, spiffe+"/agent/"+agentID+"/") },
		"a tenant without a name":        func(c *x509.Certificate) { c.URIs[0] = parseURL(t, spiffe+"/tenant//agent/"+agentID) },
		"a tenant with an escaped slash": func(c *x509.Certificate) { c.URIs[0] = parseURL(t, spiffe+"/tenant/a%2fb/agent/"+agentID) },
		"an escaped letter":              func(c *x509.Certificate) { c.URIs[0] = parseURL(t, spiffe+"/%61gent/"+agentID) },
		"no URI":                         func(c *x509.Certificate) { c.URIs = nil },
		"two URIs":                       func(c *x509.Certificate) { c.URIs = append(c.URIs, c.URIs[0]) },
		"a DNS name beside":              func(c *x509.Certificate) { c.DNSNames = []string{"a.example"} },
		"an address beside":              func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(10, 0, 0, 1)} },
		"an e-mail address beside":       func(c *x509.Certificate) { c.EmailAddresses = []string{"a@a.example"} },
		"good for servers":               func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} },
		"good for anything":              func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} },
		"no extended usage":              func(c *x509.Certificate) { c.ExtKeyUsage = nil },
		"a CA":                           func(c *x509.Certificate) { c.IsCA, c.KeyUsage = true, c.KeyUsage|x509.KeyUsageCertSign },
		"an edge's serial":               func(c *x509.Certificate) { c.SerialNumber = serialOf(identity.KindEdge) },
		"an issuer's serial":             func(c *x509.Certificate) { c.SerialNumber = serialOf(identity.KindIssuer) },
		"a serial of no kind":            func(c *x509.Certificate) { c.SerialNumber = serialOf(9) },
		"a foreign serial":               func(c *x509.Certificate) { c.SerialNumber = big.NewInt(4711) },
		"the serial of another agent":    func(c *x509.Certificate) { s, _ := identity.LeafSerial(otherID, 3); c.SerialNumber = s.Big() },
	} {
		t.Run(name, func(t *testing.T) {
			template := leafTemplate(t, "")
			deviate(template)
			c := signed(t, template, ours.certificate, &newKey(t).PublicKey, ours.key)
			if leaf, err := identity.VerifyLeaf(c, []*x509.Certificate{ours.certificate}, trustDomain, now); !errors.Is(err, identity.ErrUntrusted) || leaf != nil {
				t.Errorf("%+v, %v", leaf, err)
			}
		})
	}
}

func TestOnlyADirectSignatureOfOneOfTheIssuersCounts(t *testing.T) {
	ours, twin := newIssuer(t, "Ours"), newIssuer(t, "Ours")
	template := leafTemplate(t, "")
	between := &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "Between"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	key := newKey(t)
	intermediate := signed(t, between, ours.certificate, &key.PublicKey, ours.key)
	good := signed(t, template, ours.certificate, &newKey(t).PublicKey, ours.key)
	changed := *good
	changed.Signature = append([]byte{}, good.Signature...)
	changed.Signature[len(changed.Signature)-1] ^= 1
	for name, c := range map[string]*x509.Certificate{
		"another issuer of the same name": signed(t, template, twin.certificate, &newKey(t).PublicKey, twin.key),
		"an issuer below ours":            signed(t, template, intermediate, &newKey(t).PublicKey, key),
		"itself":                          signed(t, template, template, &key.PublicKey, key),
		"a broken signature":              &changed,
		"the issuer itself":               ours.certificate,
	} {
		if _, err := identity.VerifyLeaf(c, []*x509.Certificate{ours.certificate}, trustDomain, now); !errors.Is(err, identity.ErrUntrusted) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := identity.VerifyLeaf(good, nil, trustDomain, now); !errors.Is(err, identity.ErrUntrusted) {
		t.Errorf("without issuers: %v", err)
	}
	// Two issuers of one name: the one that signed is found.
	leaf, err := identity.VerifyLeaf(good, []*x509.Certificate{twin.certificate, ours.certificate}, trustDomain, now)
	if err != nil || leaf.IssuerIndex != 1 {
		t.Errorf("%+v, %v", leaf, err)
	}
}

func TestSPIFFEIDs(t *testing.T) {
	if got := identity.SPIFFEID("a.example", "", agentID).String(); got != "spiffe://a.example/agent/"+agentID {
		t.Error(got)
	}
	if got := identity.SPIFFEID("a.example", "acme", agentID).String(); got != "spiffe://a.example/tenant/acme/agent/"+agentID {
		t.Error(got)
	}
}
