package pki_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/base64"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ampora/ampora/plugin/identity"
	"golang.org/x/crypto/ocsp"
)

func TestOCSPByPostAndGet(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		bad := leaf(t)
		w.engine.signRevoked(bad)
		for want, serial := range map[string]*big.Int{"good": leaf(t).Big(), "revoked": bad.Big(), "unknown": big.NewInt(4711)} {
			question := w.question(serial)
			plain := base64.StdEncoding.EncodeToString(question)
			for name, r := range map[string]*http.Request{
				"escaped":                              httptest.NewRequest(http.MethodGet, "/pki/ocsp/"+url.QueryEscape(plain), nil),
				"as it is, '/' and all":                httptest.NewRequest(http.MethodGet, "/pki/ocsp/"+plain, nil),
				"with the slash of the URL before it":  httptest.NewRequest(http.MethodGet, "/pki/ocsp//"+plain, nil),
				"without padding":                      httptest.NewRequest(http.MethodGet, "/pki/ocsp/"+strings.TrimRight(plain, "="), nil),
				"with '+' unescaped once too often":    {Method: http.MethodGet, URL: &url.URL{Path: "/pki/ocsp/" + strings.ReplaceAll(plain, "+", " ")}},
				"in lines, as an old client writes it": httptest.NewRequest(http.MethodGet, "/pki/ocsp/"+plain[:64]+"%0A"+plain[64:], nil),
			} {
				if got := w.status(w.send(r)); got != want {
					t.Errorf("%s: %s, want %s", name, got, want)
				}
			}
			for _, path := range []string{"/pki/ocsp", "/pki/ocsp/"} {
				r := httptest.NewRequest(http.MethodPost, path, bytes.NewReader(question))
				r.Header.Set("Content-Type", "application/ocsp-request; charset=binary")
				if got := w.status(w.send(r)); got != want {
					t.Errorf("POST %s: %s, want %s", path, got, want)
				}
			}
		}
	})
}

func TestWhatCachesAreToldOfAnAnswer(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		bad := leaf(t)
		w.engine.signRevoked(bad)
		for _, serial := range []identity.Serial{leaf(t), bad} {
			question := w.question(serial.Big())
			got := w.get(ocspPath(question))
			parsed, err := ocsp.ParseResponse(got.Body.Bytes(), w.engine.issuers[0].cert)
			must(t, err)
			h := got.Header()
			if h.Get("Last-Modified") != parsed.ThisUpdate.Format(http.TimeFormat) || h.Get("Expires") != parsed.NextUpdate.Format(http.TimeFormat) ||
				!strings.HasPrefix(h.Get("ETag"), `"`) || !strings.Contains(h.Get("Cache-Control"), "public") || maxAge(t, got) != life/2 {
				t.Errorf("%v", h)
			}
			same := w.get(ocspPath(question), "If-None-Match", h.Get("ETag"))
			if same.Code != http.StatusNotModified || same.Body.Len() != 0 {
				t.Errorf("%d", same.Code)
			}
			head := w.send(httptest.NewRequest(http.MethodHead, ocspPath(question), nil))
			if head.Code != 200 || head.Body.Len() != 0 || head.Header().Get("ETag") != h.Get("ETag") {
				t.Errorf("HEAD: %d %v", head.Code, head.Header())
			}
			if got := w.post(question).Header(); got.Get("ETag") != "" || got.Get("Expires") != "" {
				t.Errorf("POST: %v", got)
			}
		}
		// What may change at any moment is not kept by anybody.
		for name, got := range map[string]*httptest.ResponseRecorder{
			"unknown": w.get(ocspPath(w.question(big.NewInt(5)))), "garbage by GET": w.get("/pki/ocsp/AAAA"), "garbage by POST": w.post([]byte("x")),
		} {
			if h := got.Header(); got.Code != 200 || h.Get("Cache-Control") != "no-store" || h.Get("ETag")+h.Get("Expires")+h.Get("Last-Modified") != "" {
				t.Errorf("%s: %d %v", name, got.Code, h)
			}
		}
	})
}

func TestAnAnswerIsRepeatedWhileItIsFresh(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		question := w.question(leaf(t).Big())
		ask := func() string { return w.status(w.post(question)) }
		asked := func() int { _, n := w.engine.asked(); return n }
		for range 10 {
			if got := ask(); got != "good" {
				t.Error(got)
			}
		}
		if asked() != 1 {
			t.Errorf("the engine was asked %d times", asked())
		}
		time.Sleep(life/2 + time.Second)
		ask()
		ask()
		if asked() != 2 {
			t.Errorf("the engine was asked %d times by half of the life", asked())
		}
		// Without Vault the answer goes on to its end.
		w.engine.set(func() { w.engine.fail = away })
		time.Sleep(life - time.Minute)
		if got := ask(); got != "good" {
			t.Error(got)
		}
		if got := w.get(ocspPath(question)); maxAge(t, got) > time.Minute {
			t.Error(got.Header())
		}
		time.Sleep(time.Minute + time.Second)
		if got := ask(); got != "try later" {
			t.Error(got)
		}
		w.engine.set(func() { w.engine.fail = nil })
		if got := ask(); got != "good" {
			t.Error(got)
		}

		before := asked()
		for range 3 {
			if got := w.status(w.post(w.question(big.NewInt(7)))); got != "unknown" {
				t.Error(got)
			}
		}
		if asked() != before+3 {
			t.Error("an unknown certificate was remembered")
		}
		if memory, vault := w.count("pki_ocsp_answers_total", "memory"), w.count("pki_ocsp_answers_total", "vault"); memory != 10 || vault < 7 {
			t.Errorf("%v from memory, %v from Vault", memory, vault)
		}
	})
}

func TestARevocationEndsEveryAnswerFromMemory(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		serial, other := leaf(t), leaf(t)
		question := w.question(serial.Big())
		ask := func() string { return w.status(w.post(question)) }
		if got := ask(); got != "good" {
			t.Fatal(got)
		}
		w.post(w.question(other.Big()))
		w.engine.revoke(serial)
		time.Sleep(time.Second)
		synctest.Wait()
		if got := ask(); got != "revoked" {
			t.Errorf("after the feed has told: %s", got)
		}
		_, before := w.engine.asked()
		w.post(w.question(other.Big()))
		if _, n := w.engine.asked(); n != before+1 {
			t.Error("the others' answers are still from before")
		}
		// Vault is away at that moment: no answer is better than the old one.
		third := leaf(t)
		question = w.question(third.Big())
		ask()
		w.engine.set(func() { w.engine.fail = away })
		w.engine.tell(third)
		time.Sleep(time.Second)
		if got := ask(); got != "try later" {
			t.Errorf("with Vault away: %s", got)
		}
	})
}

// What the snapshot knows outweighs an answer that was made before it, wherever that comes from.
func TestWhatTheSnapshotCallsRevokedIsNeverGood(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		serial := leaf(t)
		question := w.question(serial.Big())
		hold := make(chan struct{})
		w.engine.set(func() { w.engine.hold = hold })
		early := make(chan string, 2)
		go func() { early <- w.status(w.post(question)) }()
		synctest.Wait()
		w.engine.revoke(serial) // while the answer 'good' is on its way
		time.Sleep(time.Second)
		w.engine.set(func() { w.engine.hold = nil })
		if got := w.status(w.post(question)); got != "revoked" {
			t.Errorf("who asks afterwards waits for the old answer: %s", got)
		}
		close(hold)
		if got := <-early; got != "try later" {
			t.Errorf("the answer that the revocation overtook: %s", got)
		}
		if got := w.status(w.get(ocspPath(question))); got != "revoked" {
			t.Errorf("the late answer was remembered: %s", got)
		}

		stubborn := leaf(t) // the feed names it, the answers do not
		w.engine.tell(stubborn)
		time.Sleep(time.Second)
		for range 3 {
			if got := w.status(w.post(w.question(stubborn.Big()))); got != "try later" {
				t.Errorf("good, against the snapshot: %s", got)
			}
		}
		if got := w.get(ocspPath(w.question(stubborn.Big()))); got.Header().Get("Cache-Control") != "no-store" {
			t.Error(got.Header())
		}
	})
}

func TestOneQuestionOfManyIsOneCall(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		question := w.question(leaf(t).Big())
		hold := make(chan struct{})
		w.engine.set(func() { w.engine.hold = hold })
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				if got := w.status(w.post(question)); got != "good" {
					t.Error(got)
				}
			})
		}
		synctest.Wait()
		close(hold)
		all.Wait()
		if _, n := w.engine.asked(); n != 1 {
			t.Errorf("the engine was asked %d times", n)
		}
	})
}

// Who gives up takes nobody along.
func TestACallerWhoLeavesDoesNotEndTheQuestion(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		question := w.question(leaf(t).Big())
		hold := make(chan struct{})
		w.engine.set(func() { w.engine.hold = hold })
		request := httptest.NewRequest(http.MethodGet, ocspPath(question), nil)
		ctx, leave := context.WithCancel(t.Context())
		gone, waits := make(chan string, 1), make(chan string, 1)
		go func() { gone <- w.status(w.send(request.WithContext(ctx))) }()
		synctest.Wait()
		go func() { waits <- w.status(w.post(question)) }()
		synctest.Wait()
		leave()
		if got := <-gone; got != "try later" {
			t.Error(got)
		}
		close(hold)
		if got := <-waits; got != "good" {
			t.Error(got)
		}
	})
}

func TestBadQuestions(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		good := w.question(leaf(t).Big())
		_, before := w.engine.asked()
		for name, question := range map[string][]byte{
			"nothing": {}, "text": []byte("is it good?"), "zeros": make([]byte, 500), "a cut one": good[:len(good)-1], "one with more behind it": append(bytes.Clone(good), 0),
			"a certificate": w.engine.issuers[0].cert.Raw,
		} {
			if got := w.status(w.post(question)); got != "malformed" {
				t.Errorf("%s by POST: %s", name, got)
			}
			if len(question) > 0 {
				if got := w.status(w.get(ocspPath(question))); got != "malformed" {
					t.Errorf("%s by GET: %s", name, got)
				}
			}
		}
		for _, path := range []string{"/pki/ocsp/%00", "/pki/ocsp/-_-_", "/pki/ocsp/A", "/pki/ocsp/////", "/pki/ocsp/" + strings.Repeat("A", 12<<10)} {
			if got := w.status(w.get(path)); got != "malformed" {
				t.Errorf("%.40s: %s", path, got)
			}
		}
		if _, n := w.engine.asked(); n != before {
			t.Error("garbage costs a call to Vault")
		}

		endless := &endless{}
		r := httptest.NewRequest(http.MethodPost, "/pki/ocsp", endless)
		r.Header.Set("Content-Type", "application/ocsp-request")
		r.ContentLength = -1
		if got := w.send(r); got.Code != http.StatusRequestEntityTooLarge || endless.read > 64<<10 {
			t.Errorf("%d after %d bytes", got.Code, endless.read)
		}
		endless.read = 0
		r.ContentLength = 1 << 20
		if got := w.send(r); got.Code != http.StatusRequestEntityTooLarge || endless.read > 0 || got.Header().Get("Connection") != "close" || got.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("1 MB announced: %d after %d bytes, %v", got.Code, endless.read, got.Header())
		}
		for _, contentType := range []string{"", "application/json", "application/ocsp-response", ";"} {
			r := httptest.NewRequest(http.MethodPost, "/pki/ocsp", bytes.NewReader(good))
			r.Header.Set("Content-Type", contentType)
			if got := w.send(r); got.Code != http.StatusUnsupportedMediaType {
				t.Errorf("as %q: %d", contentType, got.Code)
			}
		}
		for _, path := range []string{"/pki/ocsp", "/pki/ocsp/"} {
			if got := w.get(path); got.Code != http.StatusMethodNotAllowed || got.Header().Get("Allow") != http.MethodPost {
				t.Errorf("GET %s: %d %v", path, got.Code, got.Header())
			}
		}
		// What is well formed is the engine's to judge.
		foreign, err := ocsp.CreateRequest(&x509.Certificate{SerialNumber: leaf(t).Big()}, newIssuer(t).cert, nil)
		must(t, err)
		if got := w.status(w.post(foreign)); got != "unauthorized" {
			t.Errorf("of a foreign issuer: %s", got)
		}
	})
}

// endless is a body without an end.
type endless struct{ read int }

func (e *endless) Read(p []byte) (int, error) {
	e.read += len(p)
	return len(p), nil
}

func TestAFloodOfQuestionsSlowsDownItsSourceAlone(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		from := func(address string, question []byte) *httptest.ResponseRecorder {
			r := httptest.NewRequest(http.MethodPost, "/pki/ocsp", bytes.NewReader(question))
			r.Header.Set("Content-Type", "application/ocsp-request")
			r.RemoteAddr = address
			return w.send(r)
		}
		known := w.question(leaf(t).Big())
		from("192.0.2.1:1", known)
		refused := 0
		for n := range 1000 {
			got := from("192.0.2.1:"+strconv.Itoa(n+1), w.question(leaf(t).Big()))
			if got.Code == http.StatusTooManyRequests {
				refused++
				if body, err := io.ReadAll(got.Body); err != nil || !bytes.Equal(body, ocsp.TryLaterErrorResponse) || got.Header().Get("Retry-After") == "" {
					t.Fatalf("%x %v", body, got.Header())
				}
			}
		}
		if refused != 1000-199 {
			t.Errorf("%d of 1000 refused", refused)
		}
		if got := w.status(from("192.0.2.1:9", known)); got != "good" {
			t.Errorf("what is remembered costs nothing: %s", got)
		}
		if got := w.status(from("192.0.2.2:1", w.question(leaf(t).Big()))); got != "good" {
			t.Errorf("another source: %s", got)
		}
		time.Sleep(time.Second)
		if got := w.status(from("192.0.2.1:1", w.question(leaf(t).Big()))); got != "good" {
			t.Errorf("a second later: %s", got)
		}
	})
}
