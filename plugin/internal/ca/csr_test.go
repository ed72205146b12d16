package ca_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/ca"
)

func curveKey(t testing.TB, curve elliptic.Curve) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestEveryAllowedKeyIsTakenIn(t *testing.T) {
	for name, key := range map[string]crypto.Signer{
		"P-256": newKey(t, ca.KeyEC, 256), "P-384": newKey(t, ca.KeyEC, 384), "Ed25519": newKey(t, ca.KeyEd25519, 0),
		"RSA-3072": newKey(t, ca.KeyRSA, 3072),
	} {
		csr, err := ca.ParseCSR("\n " + csrPEM(t, key, hostileRequest()) + "\r\n\t")
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !csr.PublicKey.(interface{ Equal(crypto.PublicKey) bool }).Equal(key.Public()) {
			t.Errorf("%s: another key", name)
		}
		spki, _ := x509.MarshalPKIXPublicKey(key.Public())
		if csr.KeyHash != sha256.Sum256(spki) {
			t.Errorf("%s: another hash", name)
		}
	}
}

func TestNewCertificateRequestIsTakenToo(t *testing.T) {
	der := csrDER(t, newKey(t, ca.KeyEC, 256), &x509.CertificateRequest{})
	if _, err := ca.ParseCSR(block("NEW CERTIFICATE REQUEST", der)); err != nil {
		t.Fatal(err)
	}
}

func TestHostileCSRs(t *testing.T) {
	key := newKey(t, ca.KeyEC, 256)
	good := csrDER(t, key, hostileRequest())
	goodPEM := block("CERTIFICATE REQUEST", good)
	last := func(der []byte) []byte { b := bytes.Clone(der); b[len(b)-1] ^= 1; return b }
	root := newRoot(t, 0)
	privateKey, err := ca.MarshalKey(key)
	if err != nil {
		t.Fatal(err)
	}

	for name, c := range map[string]struct {
		text string
		code apitype.Code
	}{
		"empty":                         {"", apitype.CSRInvalid},
		"white space only":              {" \n\t", apitype.CSRInvalid},
		"garbage":                       {"hello", apitype.CSRInvalid},
		"bare base64":                   {strings.Join(strings.Split(goodPEM, "\n")[1:4], ""), apitype.CSRInvalid},
		"DER instead of PEM":            {string(good), apitype.CSRInvalid},
		"an empty block":                {block("CERTIFICATE REQUEST", nil), apitype.CSRInvalid},
		"a truncated block":             {goodPEM[:len(goodPEM)/2], apitype.CSRInvalid},
		"truncated DER":                 {block("CERTIFICATE REQUEST", good[:len(good)-10]), apitype.CSRInvalid},
		"trailing DER":                  {block("CERTIFICATE REQUEST", append(bytes.Clone(good), 0)), apitype.CSRInvalid},
		"text before":                   {"Certificate Request:\n" + goodPEM, apitype.CSRInvalid},
		"text after":                    {goodPEM + "tail", apitype.CSRInvalid},
		"two blocks":                    {goodPEM + goodPEM, apitype.CSRInvalid},
		"a key after it":                {goodPEM + privateKey, apitype.CSRInvalid},
		"a broken block before":         {"-----BEGIN CERTIFICATE REQUEST-----\n!\n-----END CERTIFICATE REQUEST-----\n" + goodPEM, apitype.CSRInvalid},
		"PEM headers":                   {strings.Replace(goodPEM, "-----\n", "-----\nProc-Type: 4,ENCRYPTED\n\n", 1), apitype.CSRInvalid},
		"a private key":                 {privateKey, apitype.CSRInvalid},
		"a certificate":                 {ca.EncodeCertificate(root.Certificate.Raw), apitype.CSRInvalid},
		"a certificate under the label": {block("CERTIFICATE REQUEST", root.Certificate.Raw), apitype.CSRInvalid},
		"over-long":                     {goodPEM + strings.Repeat("\n", ca.MaxCSRBytes), apitype.CSRInvalid},
		"a tampered signature":          {block("CERTIFICATE REQUEST", last(good)), apitype.CSRInvalid},
		"somebody else's key":           {block("CERTIFICATE REQUEST", swapKey(t, good, key, newKey(t, ca.KeyEC, 256))), apitype.CSRInvalid},
		"SHA-1":                         {csrPEM(t, rsaKey(t, 3072), &x509.CertificateRequest{SignatureAlgorithm: x509.SHA1WithRSA}), apitype.CSRInvalid},
		"ECDSA with SHA-1":              {csrPEM(t, key, &x509.CertificateRequest{SignatureAlgorithm: x509.ECDSAWithSHA1}), apitype.CSRInvalid},
		"RSA-1024":                      {csrPEM(t, rsaKey(t, 1024), hostileRequest()), apitype.KeyNotAllowed},
		"RSA-2048":                      {csrPEM(t, rsaKey(t, 2048), hostileRequest()), apitype.KeyNotAllowed},
		"P-224":                         {csrPEM(t, curveKey(t, elliptic.P224()), hostileRequest()), apitype.KeyNotAllowed},
		"P-521":                         {csrPEM(t, curveKey(t, elliptic.P521()), hostileRequest()), apitype.KeyNotAllowed},
	} {
		t.Run(name, func(t *testing.T) {
			csr, err := ca.ParseCSR(c.text)
			wantCode(t, err, c.code)
			if csr != nil {
				t.Error("a CSR came with the error")
			}
			for _, foreign := range []string{"system:masters", "root@", "MII", "tail", "Proc-Type"} {
				if strings.Contains(err.Error(), foreign) {
					t.Errorf("the error quotes the input: %v", err)
				}
			}
		})
	}
}

// An RSA modulus of 30,000 bits fits into 16 KiB and must be refused without a computation on it.
func TestAHugeModulusIsRefusedBeforeItIsUsed(t *testing.T) {
	key := rsaKey(t, 3072)
	der := csrDER(t, key, &x509.CertificateRequest{})
	huge := &rsa.PublicKey{N: new(big.Int).SetBit(new(big.Int).Lsh(big.NewInt(1), 30_000), 0, 1), E: 65537}
	der = swapSPKI(t, der, huge)
	_, err := ca.ParseCSR(block("CERTIFICATE REQUEST", der))
	wantCode(t, err, apitype.KeyNotAllowed)
}

func TestAnUnusualRSAExponentIsRefused(t *testing.T) {
	key := rsaKey(t, 3072)
	der := csrDER(t, key, &x509.CertificateRequest{})
	_, err := ca.ParseCSR(block("CERTIFICATE REQUEST", swapSPKI(t, der, &rsa.PublicKey{N: key.N, E: 3})))
	wantCode(t, err, apitype.KeyNotAllowed)
}

// swapKey puts another key of the same size into a request and leaves the signature.
func swapKey(t testing.TB, der []byte, from, to crypto.Signer) []byte {
	t.Helper()
	old, err := x509.MarshalPKIXPublicKey(from.Public())
	if err != nil {
		t.Fatal(err)
	}
	with, err := x509.MarshalPKIXPublicKey(to.Public())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(der, old) || len(old) != len(with) {
		t.Fatal("the key cannot be swapped")
	}
	return bytes.Replace(bytes.Clone(der), old, with, 1)
}

func FuzzParseCSR(f *testing.F) {
	good := csrDER(f, newKey(f, ca.KeyEC, 256), hostileRequest())
	f.Add(block("CERTIFICATE REQUEST", good))
	f.Add(block("NEW CERTIFICATE REQUEST", good))
	f.Add(block("CERTIFICATE REQUEST", good[:40]))
	f.Add(csrPEM(f, newKey(f, ca.KeyEd25519, 0), &x509.CertificateRequest{}))
	f.Add(csrPEM(f, curveKey(f, elliptic.P224()), &x509.CertificateRequest{}))
	f.Add("-----BEGIN CERTIFICATE REQUEST-----\n-----END CERTIFICATE REQUEST-----")
	f.Fuzz(func(t *testing.T, text string) {
		csr, err := ca.ParseCSR(text)
		if err != nil {
			if code := apitype.CodeOf(err); code != apitype.CSRInvalid && code != apitype.KeyNotAllowed {
				t.Fatalf("code %q", code)
			}
			return
		}
		// Whatever parses is one block whose signature verifies by the key that was answered.
		b, rest := pem.Decode([]byte(text))
		if b == nil || len(bytes.TrimSpace(rest)) > 0 {
			t.Fatal("not one block")
		}
		again, err := x509.ParseCertificateRequest(b.Bytes)
		if err != nil || again.CheckSignature() != nil {
			t.Fatal("it does not verify")
		}
		spki, err := x509.MarshalPKIXPublicKey(csr.PublicKey)
		if err != nil || csr.KeyHash != sha256.Sum256(spki) {
			t.Fatal("the hash is of another key")
		}
		if ca.KeyType(csr.PublicKey) == "" {
			t.Fatal("a key of another type")
		}
	})
}
