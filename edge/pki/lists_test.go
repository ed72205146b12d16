package pki_test

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

var away = apitype.Errorf(apitype.VaultUnavailable, "Vault cannot be reached")

func TestEachIssuersListIsServedAsItWasSigned(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		for path, signer := range map[string]*issuer{
			"/pki/": w.engine.issuers[0], "/pki/" + w.engine.issuers[0].id + "/": w.engine.issuers[0], "/pki/" + w.engine.issuers[1].id + "/": w.engine.issuers[1],
		} {
			der, text := w.get(path+"crl.der"), w.get(path+"crl.pem")
			if der.Code != 200 || der.Header().Get("Content-Type") != "application/pkix-crl" || text.Code != 200 || text.Header().Get("Content-Type") != "application/x-pem-file" {
				t.Fatalf("%s: %d %v, %d %v", path, der.Code, der.Header(), text.Code, text.Header())
			}
			list, err := x509.ParseRevocationList(der.Body.Bytes())
			must(t, err)
			must(t, list.CheckSignatureFrom(signer.cert))
			block, rest := pem.Decode(text.Body.Bytes())
			if block == nil || block.Type != "X509 CRL" || len(rest) > 0 || !bytes.Equal(block.Bytes, der.Body.Bytes()) {
				t.Errorf("%s: the PEM holds something else", path)
			}
		}
	})
}

func TestAListSaysHowLongItMayBeKept(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		synctest.Wait()
		first := w.get("/pki/crl.der")
		etag := first.Header().Get("ETag")
		list, err := x509.ParseRevocationList(first.Body.Bytes())
		must(t, err)
		if !strings.HasPrefix(etag, `"`) || !strings.Contains(etag, list.Number.String()) || !strings.Contains(etag, w.engine.issuers[0].id) {
			t.Errorf("ETag %s", etag)
		}
		if got := first.Header().Get("Last-Modified"); got != list.ThisUpdate.Format(http.TimeFormat) {
			t.Errorf("Last-Modified %s", got)
		}
		if got := first.Header().Get("Expires"); got != list.NextUpdate.Format(http.TimeFormat) {
			t.Errorf("Expires %s", got)
		}
		if age := maxAge(t, first); age < life/2-time.Second || age > life/2+life/20 {
			t.Errorf("max-age %s of a life of %s", age, life)
		}
		same := w.get("/pki/crl.der", "If-None-Match", etag)
		if same.Code != http.StatusNotModified || same.Body.Len() != 0 || same.Header().Get("ETag") != etag || maxAge(t, same) == 0 {
			t.Errorf("%d %v", same.Code, same.Header())
		}
		// Times count seconds, and a list may follow within one.
		if got := w.get("/pki/crl.der", "If-Modified-Since", first.Header().Get("Last-Modified")); got.Code != http.StatusOK {
			t.Errorf("by its time alone: %d", got.Code)
		}
		head := w.send(httptest.NewRequest(http.MethodHead, "/pki/crl.pem", nil))
		if head.Code != 200 || head.Body.Len() != 0 || head.Header().Get("Content-Length") == "" || head.Header().Get("ETag") == "" {
			t.Errorf("HEAD: %d %v", head.Code, head.Header())
		}
		w.engine.revoke(leaf(t))
		time.Sleep(2 * time.Second)
		synctest.Wait()
		next := w.get("/pki/crl.der", "If-None-Match", etag)
		if next.Code != 200 || next.Header().Get("ETag") == etag {
			t.Errorf("after a revocation: %d %v", next.Code, next.Header())
		}
		for outcome, want := range map[string]float64{"ok": 4, "not_modified": 1} {
			if got := w.count("pki_requests_total", "crl", outcome); got != want {
				t.Errorf("%v requests that ended %s", got, outcome)
			}
		}
	})
}

func TestWhatIsNotServed(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		for path, want := range map[string]int{
			"/pki/":                          404,
			"/pki/crl":                       404,
			"/pki/crl.der/":                  404,
			"/pki//crl.der":                  404,
			"/pki/CRL.der":                   404,
			"/pki/x/y/crl.der":               404,
			"/pki/00000000/crl.pem":          404,
			"/pki/../crl.der":                404,
			"/pki/trust-bundle.pem/":         404,
			"/pki/ocsp/crl.der":              200, // a question without sense
			"/pki/" + w.engine.issuers[0].id: 404,
			"/pki/trust-bundle.pem":          200,
			"/pki/crl.der?serial=1":          200,
		} {
			if got := w.get(path); got.Code != want {
				t.Errorf("%s: %d", path, got.Code)
			}
		}
		for path, allowed := range map[string]string{
			"/pki/crl.der": "GET, HEAD", "/pki/crl.pem": "GET, HEAD", "/pki/trust-bundle.pem": "GET, HEAD", "/pki/ocsp/AAAA": "GET, HEAD",
		} {
			for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodOptions, "PROPFIND"} {
				got := w.send(httptest.NewRequest(method, path, nil))
				if got.Code != http.StatusMethodNotAllowed || got.Header().Get("Allow") != allowed {
					t.Errorf("%s %s: %d %v", method, path, got.Code, got.Header())
				}
			}
		}
	})
}

func TestWhatIsNotKnownYetIsNotMadeUp(t *testing.T) {
	paths := func(w *world) []string {
		return []string{"/pki/crl.der", "/pki/crl.pem", "/pki/" + w.engine.issuers[1].id + "/crl.der"}
	}
	inWorld(t, func(e *engine) { e.revision = -1 }, func(t *testing.T, w *world) {
		for _, path := range append(paths(w), "/pki/trust-bundle.pem") {
			if got := w.get(path); got.Code != http.StatusServiceUnavailable || got.Header().Get("Retry-After") == "" || got.Header().Get("Cache-Control") != "no-store" {
				t.Errorf("before the snapshot, %s: %d %v", path, got.Code, got.Header())
			}
		}
		w.engine.set(func() { w.engine.revision, w.engine.fail = 1, away })
		time.Sleep(20 * time.Second)
		for _, path := range paths(w) {
			if got := w.get(path); got.Code != http.StatusServiceUnavailable || got.Header().Get("Retry-After") == "" {
				t.Errorf("before the list, %s: %d", path, got.Code)
			}
		}
		if got := w.get("/pki/trust-bundle.pem"); got.Code != 200 {
			t.Errorf("the bundle: %d", got.Code)
		}
		w.engine.set(func() { w.engine.fail = nil })
		time.Sleep(retryLast * 2)
		for _, path := range paths(w) {
			if got := w.get(path); got.Code != 200 {
				t.Errorf("%s: %d", path, got.Code)
			}
		}
	})
	inWorld(t, func(e *engine) { e.issuers = nil }, func(t *testing.T, w *world) {
		for _, path := range []string{"/pki/crl.der", "/pki/trust-bundle.pem"} {
			if got := w.get(path); got.Code != http.StatusServiceUnavailable || !strings.Contains(got.Body.String(), "issuer_missing") {
				t.Errorf("without an issuer, %s: %d %s", path, got.Code, got.Body)
			}
		}
	})
}

// retryLast is the longest pause between tries.
const retryLast = 30 * time.Second

func TestAListIsFetchedAtHalfOfItsLifeAndServedToItsEnd(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		time.Sleep(time.Minute)
		before, _ := w.engine.asked()
		if before > 2*(1+roundsPerChange) {
			t.Fatalf("%d lists asked for at the start", before)
		}
		etag := w.get("/pki/crl.der").Header().Get("ETag")
		time.Sleep(life/2 + life/20)
		if n, _ := w.engine.asked(); n < before+2 || n > before+6 {
			t.Errorf("%d lists asked for by half of their life", n-before)
		}
		for _, in := range w.engine.requests(2) {
			if in.Number == "" {
				t.Errorf("%+v: the whole list for nothing", in)
			}
		}
		time.Sleep(life / 10)
		second := w.get("/pki/crl.der")
		if second.Header().Get("ETag") == etag {
			t.Error("the list of the next half life is not here")
		}
		// Vault goes away: the list is good until its next update, and not a moment longer.
		w.engine.set(func() { w.engine.fail = away })
		list, err := x509.ParseRevocationList(second.Body.Bytes())
		must(t, err)
		time.Sleep(time.Until(list.NextUpdate) - time.Second)
		late := w.get("/pki/crl.der")
		if late.Code != 200 || late.Header().Get("ETag") != second.Header().Get("ETag") || maxAge(t, late) > time.Second {
			t.Errorf("shortly before the end: %d %v", late.Code, late.Header())
		}
		time.Sleep(2 * time.Second)
		if got := w.get("/pki/crl.der"); got.Code != http.StatusServiceUnavailable || got.Header().Get("Retry-After") == "" {
			t.Errorf("after the end: %d %v", got.Code, got.Header())
		}
		if strings.Count(w.log.String(), "no newer list") != 2 { // once for each issuer
			t.Errorf("the log says too little or too much:\n%s", w.log)
		}
		w.engine.set(func() { w.engine.fail = nil })
		time.Sleep(2 * retryLast)
		if got := w.get("/pki/crl.der"); got.Code != 200 {
			t.Errorf("when Vault is back: %d", got.Code)
		}
	})
}

func TestAnUnchangedListStays(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		before := w.get("/pki/crl.pem")
		w.engine.tell(leaf(t)) // a revocation that this issuer has nothing to do with
		time.Sleep(3 * time.Second)
		if n, _ := w.engine.asked(); n < 4 {
			t.Errorf("%d lists asked for", n)
		}
		after := w.get("/pki/crl.pem")
		if after.Code != 200 || after.Header().Get("ETag") != before.Header().Get("ETag") || !bytes.Equal(after.Body.Bytes(), before.Body.Bytes()) {
			t.Errorf("%d %v", after.Code, after.Header())
		}
	})
}

// The engine answers with the list that it has, and signs the next one in the background.
func TestAListThatComesLateIsFetched(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		serial := leaf(t)
		w.engine.tell(serial)
		time.Sleep(6 * time.Second)
		w.engine.signRevoked(serial)
		time.Sleep(10 * time.Second)
		list, err := x509.ParseRevocationList(w.get("/pki/crl.der").Body.Bytes())
		must(t, err)
		if len(list.RevokedCertificateEntries) != 1 {
			t.Error("it is not here")
		}
		if n, _ := w.engine.asked(); n > 2+2*2*roundsPerChange {
			t.Errorf("%d lists asked for", n)
		}
	})
}

// roundsPerChange is how often lists are asked for after a change.
const roundsPerChange = 5

func TestManyRevocationsAreFewLists(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		time.Sleep(time.Minute)
		before, _ := w.engine.asked()
		last := leaf(t)
		for range 100 {
			w.engine.revoke(leaf(t))
			time.Sleep(50 * time.Millisecond)
		}
		w.engine.revoke(last)
		time.Sleep(2 * time.Second)
		if n, _ := w.engine.asked(); n > before+2*8 {
			t.Errorf("%d lists asked for in 7 seconds", n-before)
		}
		list, err := x509.ParseRevocationList(w.get("/pki/crl.der").Body.Bytes())
		must(t, err)
		if len(list.RevokedCertificateEntries) != 101 {
			t.Errorf("%d of 101 are in the list", len(list.RevokedCertificateEntries))
		}
	})
}

func TestClocksThatDifferByAnHour(t *testing.T) {
	for name, ahead := range map[string]time.Duration{"the edge is ahead": -time.Hour, "the edge is behind": time.Hour} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(e *engine) { e.clock = ahead }, func(t *testing.T, w *world) {
				serial := leaf(t)
				for range 10 {
					if got := w.get("/pki/crl.der"); got.Code != 200 || maxAge(t, got) > life {
						t.Errorf("%d %v", got.Code, got.Header())
					}
					if got := w.status(w.post(w.question(serial.Big()))); got != "good" {
						t.Error(got)
					}
					time.Sleep(5 * time.Minute)
				}
				w.engine.set(func() { w.engine.fail = away })
				time.Sleep(life + time.Minute)
				if got := w.get("/pki/crl.der"); got.Code != http.StatusServiceUnavailable {
					t.Errorf("a list is served for longer than it lives: %d", got.Code)
				}
				if got := w.status(w.post(w.question(serial.Big()))); got != "try later" {
					t.Error(got)
				}
				if n := strings.Count(w.log.String(), "clock is ahead"); (n > 0) != (ahead < 0) || n > 2 {
					t.Errorf("said %d times that the clocks differ", n)
				}
			})
		})
	}
}

func TestAPanicEndsOneFetch(t *testing.T) {
	inWorld(t, func(e *engine) { e.panics = true }, func(t *testing.T, w *world) {
		if got := w.get("/pki/crl.der"); got.Code != http.StatusServiceUnavailable {
			t.Error(got.Code)
		}
		if got := w.status(w.post(w.question(leaf(t).Big()))); got != "try later" {
			t.Error(got)
		}
		if n := testutil.ToFloat64(w.metrics.Panics); n < 3 {
			t.Errorf("%v panics counted", n)
		}
		w.engine.set(func() { w.engine.panics = false })
		time.Sleep(retryLast)
		if got := w.get("/pki/crl.der"); got.Code != 200 {
			t.Error(got.Code)
		}
		if got := w.status(w.post(w.question(leaf(t).Big()))); got != "good" {
			t.Error(got)
		}
	})
}

func TestTheTrustBundleHoldsEveryIssuer(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		got := w.get("/pki/trust-bundle.pem")
		pool := x509.NewCertPool()
		if got.Code != 200 || got.Header().Get("Content-Type") != "application/x-pem-file" || !pool.AppendCertsFromPEM(got.Body.Bytes()) {
			t.Fatalf("%d %v", got.Code, got.Header())
		}
		for _, i := range w.engine.issuers {
			if !bytes.Contains(got.Body.Bytes(), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.cert.Raw})) {
				t.Error("an issuer is missing")
			}
		}
		if maxAge(t, got) != time.Minute {
			t.Error(got.Header())
		}
		if again := w.get("/pki/trust-bundle.pem", "If-None-Match", got.Header().Get("ETag")); again.Code != http.StatusNotModified {
			t.Error(again.Code)
		}
	})
}

func TestADrainSendsClientsElsewhere(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		w.handler.Drain()
		if got := w.get("/pki/crl.der"); got.Code != 200 || got.Header().Get("Connection") != "close" {
			t.Errorf("%d %v", got.Code, got.Header())
		}
	})
}

func maxAge(t *testing.T, got *httptest.ResponseRecorder) time.Duration {
	t.Helper()
	for part := range strings.SplitSeq(got.Header().Get("Cache-Control"), ", ") {
		if seconds, found := strings.CutPrefix(part, "max-age="); found {
			d, err := time.ParseDuration(seconds + "s")
			must(t, err)
			return d
		}
	}
	return 0
}
