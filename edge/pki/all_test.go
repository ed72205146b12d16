package pki_test

import (
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// all asks for the lists of all issuers.
func (w *world) all(method string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "/federation/crls", nil)
	for n := 0; n < len(header); n += 2 {
		r.Header.Set(header[n], header[n+1])
	}
	got := httptest.NewRecorder()
	w.handler.ServeAll(got, r)
	return got
}

func TestTheListsOfAllIssuersAreServedTogether(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		first := w.all(http.MethodGet)
		etag, rest := first.Header().Get("ETag"), first.Body.Bytes()
		if first.Code != 200 || first.Header().Get("Content-Type") != "application/x-pem-file" || etag == "" || maxAge(t, first) == 0 || first.Header().Get("Expires") == "" {
			t.Errorf("%d %v", first.Code, first.Header())
		}
		for _, signer := range w.engine.issuers {
			var block *pem.Block
			if block, rest = pem.Decode(rest); block == nil || block.Type != "X509 CRL" {
				t.Fatal("a list is missing")
			}
			list, err := x509.ParseRevocationList(block.Bytes)
			must(t, err)
			must(t, list.CheckSignatureFrom(signer.cert))
		}
		if strings.TrimSpace(string(rest)) != "" {
			t.Errorf("there is more: %q", rest)
		}
		if same := w.all(http.MethodGet, "If-None-Match", etag); same.Code != http.StatusNotModified || same.Body.Len() != 0 {
			t.Errorf("%d", same.Code)
		}
		if head := w.all(http.MethodHead); head.Code != 200 || head.Body.Len() != 0 {
			t.Errorf("HEAD: %d", head.Code)
		}
		if got := w.all(http.MethodPost); got.Code != http.StatusMethodNotAllowed || got.Header().Get("Allow") != "GET, HEAD" {
			t.Errorf("POST: %d %v", got.Code, got.Header())
		}
		w.engine.revoke(leaf(t))
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if next := w.all(http.MethodGet, "If-None-Match", etag); next.Code != 200 || next.Header().Get("ETag") == etag || next.Body.Len() == first.Body.Len() {
			t.Errorf("after a revocation: %d %v", next.Code, next.Header())
		}
	})
}

func TestAPartOfTheListsIsNotServedAsTheWhole(t *testing.T) {
	inWorld(t, func(e *engine) { e.fail = away }, func(t *testing.T, w *world) {
		if got := w.all(http.MethodGet); got.Code != http.StatusServiceUnavailable || !strings.Contains(got.Body.String(), "not_ready") || got.Header().Get("Retry-After") == "" {
			t.Errorf("without lists: %d %s", got.Code, got.Body)
		}
	})
	inWorld(t, nil, func(t *testing.T, w *world) {
		w.engine.set(func() { w.engine.fail = away })
		time.Sleep(life + time.Minute)
		if got := w.all(http.MethodGet); got.Code != http.StatusServiceUnavailable || !strings.Contains(got.Body.String(), "vault_unavailable") {
			t.Errorf("after their end: %d %s", got.Code, got.Body)
		}
	})
	inWorld(t, func(e *engine) { e.issuers = nil }, func(t *testing.T, w *world) {
		if got := w.all(http.MethodGet); got.Code != http.StatusServiceUnavailable || !strings.Contains(got.Body.String(), "issuer_missing") {
			t.Errorf("without an issuer: %d %s", got.Code, got.Body)
		}
	})
}
