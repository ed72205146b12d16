package ca_test

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/identity"
	"github.com/ampora/ampora/plugin/internal/ca"
)

// outer is somebody's own CA of two levels.
type outer struct {
	root, sub       *x509.Certificate
	rootKey, subKey crypto.Signer
}

func caTemplate(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(42), Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(1000 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, MaxPathLen: -1, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
}

func sign(t testing.TB, template, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		t.Fatal(err)
	}
	return parse(t, der)
}

func newOuter(t testing.TB, change func(root, sub *x509.Certificate)) outer {
	t.Helper()
	o := outer{rootKey: newKey(t, ca.KeyEC, 384), subKey: newKey(t, ca.KeyEC, 256)}
	root, sub := caTemplate("Outer root"), caTemplate("Outer sub")
	if change != nil {
		change(root, sub)
	}
	o.root = sign(t, root, root, o.rootKey.Public(), o.rootKey)
	o.sub = sign(t, sub, o.root, o.subKey.Public(), o.rootKey)
	return o
}

func chainPEM(chain ...*x509.Certificate) string { return strings.Join(ca.EncodeChain(chain), "") }

const issuerID = "0c3f1f2e-3f0d-4d8f-9a53-0d7a8cf0f8b4"

func TestIntermediateComesBackSigned(t *testing.T) {
	key, csrText, err := ca.NewIntermediateCSR(issuerID, "", ca.KeySpec{Type: ca.KeyEC, Bits: 256})
	if err != nil {
		t.Fatal(err)
	}
	b, _ := pem.Decode([]byte(csrText))
	csr, err := x509.ParseCertificateRequest(b.Bytes)
	if err != nil || csr.CheckSignature() != nil {
		t.Fatalf("the CSR does not verify: %v", err)
	}
	if csr.Subject.String() != "SERIALNUMBER=0c3f1f2e,CN=Ampora CA 0c3f1f2e" {
		t.Errorf("subject %s", csr.Subject)
	}
	o := newOuter(t, nil)
	template := caTemplate("")
	template.Subject = csr.Subject
	ours := sign(t, template, o.sub, csr.PublicKey, o.subKey)
	issuer, err := ca.AcceptSigned(issuerID, key, "\n"+chainPEM(ours, o.sub, o.root)+"\n\n", now)
	if err != nil {
		t.Fatal(err)
	}
	if issuer.ID != issuerID || !issuer.Certificate.Equal(ours) || len(issuer.Chain) != 2 || !issuer.Chain[1].Equal(o.root) {
		t.Error("the issuer is not what was given")
	}
	leaf, err := ca.SignLeaf(issuer, leafTemplate(newKey(t, ca.KeyEC, 256).Public()))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := identity.VerifyLeaf(parse(t, leaf.DER), []*x509.Certificate{issuer.Certificate}, trustDomain, now); err != nil {
		t.Error(err)
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(o.root)
	between.AddCert(o.sub)
	between.AddCert(ours)
	if _, err := parse(t, leaf.DER).Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}); err != nil {
		t.Errorf("crypto/x509 along the whole chain: %v", err)
	}
}

func TestSignedChainsThatAreRefused(t *testing.T) {
	key := newKey(t, ca.KeyEC, 256)
	o := newOuter(t, nil)
	other := newOuter(t, nil)
	issue := func(change func(*x509.Certificate)) *x509.Certificate {
		template := caTemplate("Ampora CA")
		if change != nil {
			change(template)
		}
		return sign(t, template, o.sub, key.Public(), o.subKey)
	}
	good := issue(nil)
	full := chainPEM(good, o.sub, o.root)
	privateKey, err := ca.MarshalKey(newKey(t, ca.KeyEC, 256))
	if err != nil {
		t.Fatal(err)
	}
	via := func(p outer) string {
		return chainPEM(sign(t, caTemplate("Ampora CA"), p.sub, key.Public(), p.subKey), p.sub, p.root)
	}
	leaf := issue(func(c *x509.Certificate) {
		c.IsCA, c.BasicConstraintsValid, c.KeyUsage = false, true, x509.KeyUsageDigitalSignature
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	})
	tampered := *o.sub
	tampered.Raw = append([]byte(nil), o.sub.Raw...)
	tampered.Raw[len(tampered.Raw)-1] ^= 1

	for name, c := range map[string]struct{ text, says string }{
		"empty":                     {"", "no certificate"},
		"garbage":                   {"hello", "besides PEM blocks"},
		"text between":              {chainPEM(good) + "subject=x\n" + chainPEM(o.sub, o.root), "besides PEM blocks"},
		"a private key in it":       {full + privateKey, "no CERTIFICATE"},
		"broken DER":                {block("CERTIFICATE", []byte("x")), "certificate 1 of the chain does not parse"},
		"over-long":                 {full + strings.Repeat("\n", 64<<10), "over 64 KiB"},
		"too many certificates":     {chainPEM(good, o.sub, o.sub, o.sub, o.sub, o.sub, o.sub, o.sub, o.sub, o.sub, o.root), "over 10 certificates"},
		"another key":               {chainPEM(o.sub, o.root), "not for the key"},
		"the root first":            {chainPEM(o.root, o.sub, good), "out of order: certificate 3 is the issuer's own"},
		"the parents swapped":       {chainPEM(good, o.root, o.sub), "out of order: certificate 1 is signed by certificate 3"},
		"the issuer in the middle":  {chainPEM(o.sub, good, o.root), "out of order: certificate 2 is the issuer's own"},
		"a leaf":                    {chainPEM(leaf, o.sub, o.root), "not a CA"},
		"a CSR":                     {block("CERTIFICATE REQUEST", csrDER(t, key, hostileRequest())), "no CERTIFICATE"},
		"somebody else's PEM":       {block("PGP PUBLIC KEY BLOCK", []byte("x")), "no CERTIFICATE"},
		"1 MB of garbage":           {strings.Repeat("\x00\xffx", 1<<20/3), "over 64 KiB"},
		"1 MB of certificates":      {strings.Repeat(chainPEM(o.sub), 1<<20/len(chainPEM(o.sub))), "over 64 KiB"},
		"no root":                   {chainPEM(good, o.sub), "does not end in a self-signed root"},
		"alone":                     {chainPEM(good), "does not end in a self-signed root"},
		"a gap":                     {chainPEM(good, o.root), "certificate 1 is not signed"},
		"another CA of that name":   {chainPEM(good, other.sub, other.root), "certificate 1 is not signed"},
		"another root of that name": {chainPEM(good, o.sub, other.root), "certificate 2 is not signed"},
		"a tampered parent":         {chainPEM(good, &tampered, o.root), "certificate 2 is not signed"},
		"the root twice":            {chainPEM(good, o.sub, o.root, o.root), "more certificates follow"},
		"no CA":                     {chainPEM(issue(func(c *x509.Certificate) { c.IsCA = false; c.MaxPathLen = 0 }), o.sub, o.root), "not a CA"},
		"no keyCertSign":            {chainPEM(issue(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature }), o.sub, o.root), "keyCertSign"},
		"no cRLSign":                {chainPEM(issue(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCertSign }), o.sub, o.root), "cRLSign"},
		"no subject":                {chainPEM(issue(func(c *x509.Certificate) { c.Subject = pkix.Name{} }), o.sub, o.root), "no subject"},
		"expired":                   {chainPEM(issue(func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Second) }), o.sub, o.root), "certificate 1 has expired"},
		"not valid yet":             {chainPEM(issue(func(c *x509.Certificate) { c.NotBefore = now.Add(time.Hour) }), o.sub, o.root), "certificate 1 is not valid yet"},
		"servers only": {chainPEM(issue(func(c *x509.Certificate) {
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		}), o.sub, o.root), "clientAuth"},
		"a critical extension": {chainPEM(issue(func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: []int{1, 2, 3, 4}, Critical: true, Value: []byte{5, 0}}}
		}), o.sub, o.root), "critical extension"},
		"a parent that has expired": {via(newOuter(t, func(root, _ *x509.Certificate) { root.NotAfter = now.Add(-time.Second) })), "certificate 3 has expired"},
		"a parent of path length 0": {via(newOuter(t, func(_, sub *x509.Certificate) { sub.MaxPathLen = 0; sub.MaxPathLenZero = true })), "path length"},
		"a root of path length 1":   {via(newOuter(t, func(root, _ *x509.Certificate) { root.MaxPathLen = 1 })), "certificate 3 does not allow"},
		"a parent without certSign": {via(newOuter(t, func(_, sub *x509.Certificate) { sub.KeyUsage = x509.KeyUsageDigitalSignature })), "certificate 1 is not signed"},
		"a parent that is no CA":    {via(newOuter(t, func(_, sub *x509.Certificate) { sub.IsCA = false; sub.MaxPathLen = 0 })), "certificate 1 is not signed"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ca.AcceptSigned(issuerID, key, c.text, now)
			wantCode(t, err, apitype.IssuerInvalid)
			wantText(t, err, c.says)
		})
	}
	if _, err := ca.AcceptSigned(issuerID, key, full, now); err != nil {
		t.Errorf("the good one: %v", err)
	}
	if _, err := ca.AcceptSigned(issuerID, key, via(newOuter(t, func(root, sub *x509.Certificate) { root.MaxPathLen = 2; sub.MaxPathLen = 1 })), now); err != nil {
		t.Errorf("path lengths that just do: %v", err)
	}
}
