package federation_test

import (
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/ampora/ampora/edge/federation"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/handover"
)

var quiet = log.New(io.Discard, "", 0)

func (w *world) ask(method, path, media, body, from string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "https://edge.example"+path, strings.NewReader(body))
	r.RemoteAddr = from + ":1000"
	if media != "" {
		r.Header.Set("Content-Type", media)
	}
	out := httptest.NewRecorder()
	w.ServeHTTP(out, r)
	return out
}

func (w *world) post(receipt string) *httptest.ResponseRecorder {
	return w.ask(http.MethodPost, "/federation/receipts", "application/jose", receipt, "192.0.2.1")
}

func (w *world) card() *httptest.ResponseRecorder {
	return w.ask(http.MethodGet, "/federation/bundle", "", "", "192.0.2.1")
}

// says checks status and code of an answer.
func says(t *testing.T, got *httptest.ResponseRecorder, status int, code apitype.Code) {
	t.Helper()
	if got.Code != status || code != "" && !strings.Contains(got.Body.String(), `"urn:ampora:error:`+string(code)+`"`) {
		t.Errorf("%d %s, where %d %s belongs", got.Code, got.Body, status, code)
	}
}

func TestTheCardIsServedAsVaultHasItAndAlsoWhileVaultIsAway(t *testing.T) {
	a := newAuthority(t)
	e := &engine{err: apitype.Errorf(apitype.VaultUnavailable, "away")}
	w := newWorld(t, e)
	says(t, w.card(), 503, apitype.NotReady)

	e.set(func(e *engine) { e.err, e.card = nil, a.card("home", 7) })
	eventually(t, "the card", func() bool { return w.card().Code == 200 })
	got := w.card()
	if got.Header().Get("Content-Type") != "application/json" || !strings.Contains(got.Body.String(), e.card.BundleJWS) || !strings.Contains(got.Body.String(), `"peer_id":"home"`) {
		t.Errorf("%v %s", got.Header(), got.Body)
	}
	if head := w.ask(http.MethodHead, "/federation/bundle", "", "", "192.0.2.1"); head.Code != 200 || head.Body.Len() != 0 {
		t.Errorf("%d %s", head.Code, head.Body)
	}
	says(t, w.ask(http.MethodPost, "/federation/bundle", "", "", "192.0.2.1"), 405, "")
	says(t, w.ask(http.MethodGet, "/federation/else", "", "", "192.0.2.1"), 404, "")

	e.set(func(e *engine) { e.err = apitype.Errorf(apitype.VaultUnavailable, "away") })
	asked := get(e, func(e *engine) int { return e.cards })
	eventually(t, "Vault is asked in vain", func() bool { w.card(); return get(e, func(e *engine) int { return e.cards }) > asked+1 })
	if again := w.card(); again.Code != 200 || again.Body.String() != got.Body.String() {
		t.Errorf("while Vault is away: %d %s", again.Code, again.Body)
	}

	e.set(func(e *engine) { e.err = apitype.Errorf(apitype.NotConfigured, "peer_id is missing") })
	eventually(t, "Vault has no card any more", func() bool { return w.card().Code == 503 })
	says(t, w.card(), 503, apitype.NotConfigured)
}

func TestACardWhoseSignedPartHasExpiredIsNotServed(t *testing.T) {
	a := newAuthority(t)
	card := a.card("home", 1)
	card.BundleJWS = a.jws(handover.TypeBundle, handover.Bundle{Issuer: "home", Sequence: 1, Expires: time.Now().Add(-time.Minute).Unix()})
	says(t, newWorld(t, &engine{card: card}).card(), 503, apitype.VaultUnavailable)
}

func TestAPeersReceiptIsAnsweredWithWhatVaultSays(t *testing.T) {
	far := newAuthority(t)
	row := federation.Peer{Name: "far", PeerID: "far", Pinned: append(pins(newAuthority(t)), far.cert)}
	e := &engine{receipt: func(string) (*apitype.ReceiptResponse, error) {
		return &apitype.ReceiptResponse{HandoverID: "x", Receipt: "a.b.c", Step: "released"}, nil
	}}
	w := newWorld(t, e, row)
	sent := far.receipt("far", handover.StepRedeemed)
	got := w.post(sent + "\n")
	if got.Code != 200 || got.Body.String() != "a.b.c" || got.Header().Get("Content-Type") != "application/jose" || got.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("%d %v %s", got.Code, got.Header(), got.Body)
	}
	if len(e.receipts) != 1 || e.receipts[0] != sent {
		t.Errorf("Vault was asked %q", e.receipts)
	}
	e.receipt = func(string) (*apitype.ReceiptResponse, error) { return &apitype.ReceiptResponse{}, nil }
	if got := w.post(far.receipt("far", handover.StepPinned)); got.Code != 204 || got.Body.Len() != 0 {
		t.Errorf("%d %s", got.Code, got.Body)
	}
	e.receipt = func(string) (*apitype.ReceiptResponse, error) {
		return nil, apitype.Errorf(apitype.HandoverUnknown, "no such handover")
	}
	says(t, w.post(sent), apitype.HandoverUnknown.EdgeStatus(), apitype.HandoverUnknown)
	e.receipt = func(string) (*apitype.ReceiptResponse, error) { return nil, apitype.Errorf(apitype.OutcomeUnknown, "") }
	away := w.post(sent)
	says(t, away, 503, apitype.VaultUnavailable)
	if away.Header().Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	e.receipt = func(string) (*apitype.ReceiptResponse, error) { return nil, errors.New("secret words") }
	says(t, w.post(sent), 500, apitype.Internal)
	e.receipt = func(string) (*apitype.ReceiptResponse, error) { panic("a bug") }
	says(t, w.post(sent), 500, apitype.Internal)
	if w.metric("federation_requests_total", "receipts", "ok") != 2 || w.metric("federation_requests_total", "receipts", "handover_unknown") != 1 {
		t.Error("the requests are not counted")
	}
}

func TestWhatNoPeerHasSignedCostsVaultNothingAndIsNotLogged(t *testing.T) {
	far, other := newAuthority(t), newAuthority(t)
	e := &engine{}
	w := newWorld(t, e, federation.Peer{Name: "far", PeerID: "far", Pinned: pins(far)})
	genuine := far.receipt("far", handover.StepRedeemed)
	for name, tc := range map[string]struct {
		media, body string
		status      int
		code        apitype.Code
	}{
		"nothing":              {"application/jose", "", 400, apitype.HandoverMalformed},
		"garbage":              {"application/jose", "do-not-log-me", 400, apitype.HandoverMalformed},
		"a bootstrap token":    {"application/jose", "amp-bs.do-not-log-me.aaaaaaa", 400, apitype.HandoverMalformed},
		"of an unknown peer":   {"application/jose", other.receipt("do-not-log-me", handover.StepRedeemed), 403, apitype.PeerUnknown},
		"signed by another":    {"application/jose", other.receipt("far", handover.StepRedeemed), 403, apitype.HandoverSignatureInvalid},
		"another document":     {"application/jose", far.card("far", 1).BundleJWS, 400, apitype.HandoverMalformed},
		"a changed signature":  {"application/jose", changed(genuine), 403, apitype.HandoverSignatureInvalid},
		"JSON":                 {"application/json", genuine, 415, ""},
		"without a media type": {"", genuine, 415, ""},
		"too large":            {"application/jose", strings.Repeat("a", 97<<10), 413, apitype.BodyTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			says(t, w.ask(http.MethodPost, "/federation/receipts", tc.media, tc.body, "192.0.2.1"), tc.status, tc.code)
		})
	}
	says(t, w.ask(http.MethodGet, "/federation/receipts", "", "", "192.0.2.1"), 405, "")
	if len(e.receipts) > 0 {
		t.Errorf("Vault was asked %q", e.receipts)
	}
	if w.log.has("do-not-log-me") || w.log.has(genuine[:20]) {
		t.Error("the log holds what nobody has signed")
	}
}

func pins(all ...*authority) (out []*x509.Certificate) {
	for _, a := range all {
		out = append(out, a.cert)
	}
	return out
}

// changed has another signature, of the same form.
func changed(compact string) string {
	last := strings.LastIndexByte(compact, '.') + 1
	c := byte('A')
	if compact[last] == c {
		c = 'B'
	}
	return compact[:last] + string(c) + compact[last+1:]
}

func TestManyBadReceiptsAreSlowedAndAPeerBehindTheSameAddressIsNot(t *testing.T) {
	far, other := newAuthority(t), newAuthority(t)
	e := &engine{receipt: func(string) (*apitype.ReceiptResponse, error) { return &apitype.ReceiptResponse{}, nil }}
	w := newWorld(t, e, federation.Peer{Name: "far", PeerID: "far", Pinned: pins(far)})
	bad := other.receipt("far", handover.StepRedeemed)
	limited := false
	for range 1000 { // however slow the machine is, this is more than 5 a second
		got := w.post(bad)
		if limited = got.Code == 429; limited {
			if got.Header().Get("Retry-After") == "" {
				t.Error("no Retry-After")
			}
			break
		}
	}
	if !limited {
		t.Fatal("never limited")
	}
	says(t, w.post(far.receipt("far", handover.StepRedeemed)), 204, "")
	says(t, w.ask(http.MethodPost, "/federation/receipts", "application/jose", bad, "192.0.2.2"), 403, apitype.HandoverSignatureInvalid)
}

func TestBeforeTheFirstSnapshotThereIsNoTelling(t *testing.T) {
	w := newWorld(t, &engine{})
	w.view = nil
	got := w.post("a")
	says(t, got, 503, apitype.NotReady)
	if got.Header().Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
}
