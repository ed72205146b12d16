package ca_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/ca"
)

var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

const (
	agentID     = "7d444840-9dc0-81d1-b245-5ffdce74fad2"
	trustDomain = "ampora.example"
)

// rsaKey makes one key per size, since making one takes seconds.
var rsaKey = func() func(t testing.TB, bits int) *rsa.PrivateKey {
	var mu sync.Mutex
	keys := map[int]*rsa.PrivateKey{}
	return func(t testing.TB, bits int) *rsa.PrivateKey {
		t.Helper()
		mu.Lock()
		defer mu.Unlock()
		if keys[bits] == nil {
			key, err := rsa.GenerateKey(rand.Reader, bits)
			if err != nil {
				t.Fatal(err)
			}
			keys[bits] = key
		}
		return keys[bits]
	}
}()

func newKey(t testing.TB, keyType string, bits int) crypto.Signer {
	t.Helper()
	if keyType == ca.KeyRSA {
		return rsaKey(t, bits)
	}
	spec, err := ca.ParseKeySpec(keyType, bits)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ca.NewKey(spec)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newRoot(t testing.TB, ttl time.Duration) *ca.Issuer {
	t.Helper()
	root, err := ca.NewRoot(now, "", ca.KeySpec{Type: ca.KeyEC, Bits: 256}, ttl)
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// hostileRequest asks for everything that it must not get.
func hostileRequest() *x509.CertificateRequest {
	return &x509.CertificateRequest{
		Subject:        pkix.Name{CommonName: "00000000-0000-8000-8000-000000000000", Organization: []string{"system:masters"}},
		DNSNames:       []string{"edge.ampora.example", "*"},
		EmailAddresses: []string{"root@ampora.example"},
		IPAddresses:    []net.IP{net.IPv4(127, 0, 0, 1)},
		URIs:           []*url.URL{{Scheme: "spiffe", Host: trustDomain, Path: "/agent/00000000-0000-8000-8000-000000000000"}},
		ExtraExtensions: []pkix.Extension{
			{Id: []int{2, 5, 29, 19}, Critical: true, Value: []byte{0x30, 0x03, 0x01, 0x01, 0xff}}, // basicConstraints CA:TRUE
		},
	}
}

func csrDER(t testing.TB, key crypto.Signer, template *x509.CertificateRequest) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func csrPEM(t testing.TB, key crypto.Signer, template *x509.CertificateRequest) string {
	t.Helper()
	return block("CERTIFICATE REQUEST", csrDER(t, key, template))
}

func block(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func wantCode(t *testing.T, err error, code apitype.Code) {
	t.Helper()
	if got := apitype.CodeOf(err); got != code {
		t.Fatalf("code %q (%v), want %q", got, err, code)
	}
}

func wantText(t *testing.T, err error, part string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), part) {
		t.Fatalf("error %v does not say %q", err, part)
	}
}

func parse(t testing.TB, der []byte) *x509.Certificate {
	t.Helper()
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
