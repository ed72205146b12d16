package pki

import (
	"bytes"
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
	"testing"
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
		_, _ = parseQuestion(der) // whatever it is, no panic
	})
}
