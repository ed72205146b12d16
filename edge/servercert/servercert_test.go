package servercert

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/hashicorp/go-hclog"
)

// signer signs with lifetimes that the engine does not allow.
type signer struct {
	t    *testing.T
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	life time.Duration

	mu   sync.Mutex
	away bool
	asks []apitype.EdgeCertificateRequest
}

func newSigner(t *testing.T, life time.Duration) *signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s := &signer{t: t, key: key, life: life}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "issuer"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	if s.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *signer) EdgeCertificate(_ context.Context, in apitype.EdgeCertificateRequest) (*apitype.EdgeCertificate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away {
		return nil, errors.New("away")
	}
	s.asks = append(s.asks, in)
	block, _ := pem.Decode([]byte(in.CSR))
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil || csr.CheckSignature() != nil {
		s.t.Errorf("the CSR is no good: %v", err)
		return nil, errors.New("bad CSR")
	}
	var ips []net.IP
	for _, ip := range in.IPs {
		ips = append(ips, net.ParseIP(ip))
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(int64(len(s.asks) + 1)), NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(s.life),
		DNSNames: in.DNSNames, IPAddresses: ips, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, s.cert, csr.PublicKey, s.key)
	if err != nil {
		return nil, err
	}
	text := func(der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	return &apitype.EdgeCertificate{Certificate: text(der), IssuingCA: text(s.cert.Raw), CAChain: []string{text(s.cert.Raw)}}, nil
}

func (s *signer) asked() []apitype.EdgeCertificateRequest {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.asks)
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(15 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatal("never: " + what)
}

func TestIssuedCertificates(t *testing.T) {
	s := newSigner(t, 6*time.Second)
	holder := &Holder{}
	var mu sync.Mutex
	var names []string
	issued := NewIssued(Issued{Signer: s, Holder: holder, Logger: hclog.NewNullLogger(), Names: func() []string {
		mu.Lock()
		defer mu.Unlock()
		return names
	}})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { issued.Run(ctx) })
	defer wg.Wait()
	defer cancel()

	if _, err := holder.GetCertificate(nil); err == nil || !holder.NotAfter().IsZero() {
		t.Error("a certificate before there is one")
	}
	s.mu.Lock()
	s.away = true
	s.mu.Unlock()
	mu.Lock()
	names = []string{"edge.example", "192.0.2.1"}
	mu.Unlock()
	issued.Wake()
	time.Sleep(50 * time.Millisecond)
	s.mu.Lock()
	s.away = false
	s.mu.Unlock()
	eventually(t, "the first certificate, once Vault is back", func() bool { return !holder.NotAfter().IsZero() })
	first, err := holder.GetCertificate(nil)
	if err != nil || first.Leaf.VerifyHostname("edge.example") != nil || first.Leaf.VerifyHostname("192.0.2.1") != nil {
		t.Fatalf("%v, %v", first, err)
	}
	if err := verifies(first, holder.Roots()); err != nil {
		t.Error(err)
	}
	start := time.Now()
	eventually(t, "the renewal", func() bool { c, _ := holder.GetCertificate(nil); return c != first })
	if d := time.Since(start); d < 2*time.Second || d > 5*time.Second {
		t.Errorf("renewed after %v of 6 s", d)
	}
	all := s.asked()
	if all[0].CSR == all[1].CSR {
		t.Error("the key was used again")
	}
	mu.Lock()
	names = []string{"other.example"}
	mu.Unlock()
	issued.Wake()
	eventually(t, "the other name", func() bool {
		c, _ := holder.GetCertificate(nil)
		return c.Leaf.VerifyHostname("other.example") == nil
	})
}

// A certificate whose issuer was retired is replaced at once; until Vault signs with an issuer that is known here, again and
// again, but not in a rush. Other news about issuers changes nothing.
func TestACertificateOfARetiredIssuerIsReplacedAtOnce(t *testing.T) {
	first, second := newSigner(t, time.Hour), newSigner(t, time.Hour)
	var mu sync.Mutex
	signing, known := first, []*x509.Certificate{first.cert}
	set := func(s *signer, certs ...*x509.Certificate) {
		mu.Lock()
		defer mu.Unlock()
		signing, known = s, certs
	}
	holder := &Holder{}
	issued := NewIssued(Issued{
		Holder: holder, Logger: hclog.NewNullLogger(), Names: func() []string { return []string{"edge.example"} },
		Signer: signs(func(ctx context.Context, in apitype.EdgeCertificateRequest) (*apitype.EdgeCertificate, error) {
			mu.Lock()
			s := signing
			mu.Unlock()
			return s.EdgeCertificate(ctx, in)
		}),
		Trusts: func(issuer *x509.Certificate) bool {
			mu.Lock()
			defer mu.Unlock()
			return slices.ContainsFunc(known, issuer.Equal)
		},
	})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { issued.Run(ctx) })
	defer wg.Wait()
	defer cancel()
	signedBy := func(s *signer) func() bool {
		return func() bool {
			c, err := holder.GetCertificate(nil)
			return err == nil && c.Leaf.CheckSignatureFrom(s.cert) == nil
		}
	}
	eventually(t, "the first certificate", signedBy(first))

	set(first, second.cert, first.cert) // another issuer is active now
	for range 20 {
		issued.Wake()
		time.Sleep(5 * time.Millisecond)
	}
	if n := len(first.asked()); n != 1 {
		t.Errorf("asked %d times, although the issuer still is one", n)
	}
	start := time.Now()
	set(first, second.cert) // it was retired, and Vault has not heard of it
	issued.Wake()
	eventually(t, "asking again, with the issuer retired", func() bool { return len(first.asked()) > 2 })
	if n, most := len(first.asked()), 3+int(time.Since(start)/(retryMin/2)); n > most {
		t.Errorf("asked %d times in %v", n, time.Since(start))
	}
	set(second, second.cert)
	eventually(t, "the certificate of the issuer that is left", signedBy(second))
	if err := verifies(holder.current.Load().certificate, holder.Roots()); err != nil {
		t.Error(err)
	}
}

type signs func(context.Context, apitype.EdgeCertificateRequest) (*apitype.EdgeCertificate, error)

func (f signs) EdgeCertificate(ctx context.Context, in apitype.EdgeCertificateRequest) (*apitype.EdgeCertificate, error) {
	return f(ctx, in)
}

func TestRootsAreCertificatesAndNothingElse(t *testing.T) {
	s := newSigner(t, time.Hour)
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.cert.Raw})
	keyDER, err := x509.MarshalPKCS8PrivateKey(s.key)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "ca.pem")
	for name, c := range map[string]struct {
		content []byte
		ok      bool
	}{
		"a certificate":        {append([]byte("# our CA\n"), certificate...), true},
		"with a key":           {append(certificate, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})...), false},
		"nothing":              {nil, false},
		"a broken certificate": {pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")}), false},
	} {
		if err := os.WriteFile(path, c.content, 0o600); err != nil {
			t.Fatal(err)
		}
		roots, err := readRoots(path)
		if (err == nil) != c.ok || c.ok && roots != string(certificate) {
			t.Errorf("%s: %q, %v", name, roots, err)
		}
	}
	if roots, err := readRoots(SystemRoots); err != nil || roots != "" {
		t.Errorf("the system's: %q, %v", roots, err)
	}
}
