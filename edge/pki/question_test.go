package pki

import (
	"bytes"
	"crypto"
	"encoding/base64"
	"math/big"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"golang.org/x/crypto/ocsp"
)

// Whatever is read from a path is what the path says, however it is spelled: written again it is the same text.
func FuzzFromPath(f *testing.F) {
	for _, seed := range []string{"", "MFEwTzBNMEswSTAJBgUrDgMCGgUABBQ=", "MFEwTzBNMEswSTAJBgUrDgMCGgUABBQ", "a+b/c", "a b/c", "//", "%2B", "MFE\nwTzB", "-_", "====", strings.Repeat("A", 9000)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		der, err := fromPath(text)
		if err != nil {
			return
		}
		if len(der) > maxQuestion {
			t.Fatalf("%d bytes", len(der))
		}
		again := base64.StdEncoding.EncodeToString(der)
		plain := strings.NewReplacer(" ", "+", "\n", "", "\r", "").Replace(strings.TrimLeft(text, "/"))
		if strings.TrimRight(plain, "=") != strings.TrimRight(again, "=") {
			t.Fatalf("%q is read as %q", text, again)
		}
		// Through an address and back, escaped and not.
		for _, address := range []string{"http://edge/pki/ocsp/" + url.PathEscape(again), "http://edge/pki/ocsp/" + again} {
			r, err := http.NewRequest(http.MethodGet, address, nil)
			if err != nil {
				t.Fatal(err)
			}
			got, err := fromPath(strings.TrimPrefix(r.URL.Path, "/pki/ocsp/"))
			if strings.HasPrefix(again, "/") { // no DER begins like this
				continue
			}
			if err != nil || !bytes.Equal(got, der) {
				t.Fatalf("%s: %x, %v", address, got, err)
			}
		}
	})
}

// A question asks one thing: passed on and read again it is the same.
func FuzzParseQuestion(f *testing.F) {
	for _, hash := range []crypto.Hash{crypto.SHA1, crypto.SHA256} {
		r := ocsp.Request{HashAlgorithm: hash, IssuerNameHash: make([]byte, hash.Size()), IssuerKeyHash: make([]byte, hash.Size()), SerialNumber: big.NewInt(1 << 40)}
		der, err := r.Marshal()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(der)
	}
	f.Add(openssl(f))
	f.Fuzz(func(t *testing.T, der []byte) {
		q, err := parseQuestion(der)
		if err != nil {
			return
		}
		again, err := parseQuestion(q.der)
		if err != nil || again.key != q.key || again.serial != q.serial {
			t.Fatalf("%x becomes %x: %v", der, q.der, err)
		}
	})
}

// openssl is what 'openssl ocsp' sends for two certificates, with a nonce.
func openssl(t testing.TB) []byte {
	der, err := base64.StdEncoding.DecodeString(opensslRequest)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestANonceAndFurtherCertificatesChangeNothing(t *testing.T) {
	q, err := parseQuestion(openssl(t))
	if err != nil {
		t.Fatal(err)
	}
	r, err := ocsp.ParseRequest(q.der)
	if err != nil || r.SerialNumber.Cmp(big.NewInt(4711)) != 0 || r.HashAlgorithm != crypto.SHA1 || len(q.der) >= len(openssl(t)) {
		t.Errorf("%+v, %v", r, err)
	}
}

// opensslRequest is the file that 'openssl ocsp -issuer ca.pem -serial 4711 -serial 4712 -reqout FILE' of OpenSSL 3.0 wrote.
const opensslRequest = "MIGoMIGlMH4wPTA7MAkGBSsOAwIaBQAEFCmz0k+S5796KSB8s8hO1mIt+6K5BBQ58wmgZ+jEkEAq/o7htIA+enFzbAICEmcwPTA7MAkGBSsOAwIaBQAEFCmz0k+S5796KSB8s8hO1mIt+6K5BBQ58wmgZ+jEkEAq/o7htIA+enFzbAICEmiiIzAhMB8GCSsGAQUFBzABAgQSBBAH+WWIuwOwaFjAvGF1oa2L"
