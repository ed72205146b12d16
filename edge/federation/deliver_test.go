package federation_test

import (
	"crypto/tls"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/ampora/ampora/edge/federation"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/handover"
)

func TestAReceiptIsCarriedAndTheAnswerBroughtBack(t *testing.T) {
	far := newFar(t, nil)
	e := &engine{}
	w := newWorld(t, e, far.row()).run()
	e.waits("far", handover.StepRedeemed, "the.receipt.itself")
	w.now(far.row())
	eventually(t, "the answer is with Vault", func() bool { return get(e, func(e *engine) int { return len(e.answers) }) > 0 })
	eventually(t, "it is counted", func() bool { return w.metric("receipts_sent_total", "answered") == 1 })
	if far.count("POST /federation/receipts the.receipt.itself") != 1 {
		t.Errorf("%q", far.asked)
	}
	if got := get(e, func(e *engine) string { return e.answers[0] }); handover.Unverified(got, handover.TypeReceipt, &handover.Receipt{}) != nil {
		t.Errorf("Vault was brought %q", got)
	}
	if r := w.report("far"); !r.Up || r.Error != "" || r.CheckedAt == 0 {
		t.Errorf("%+v", r)
	}
	if w.metric("peer_up", "far") != 1 || w.metric("peer_latency_seconds", "far") < 0 {
		t.Error("the peer is not up")
	}
	if !far.versions["HTTP/2.0"] {
		t.Errorf("not over HTTP/2: %v", far.versions)
	}
}

func TestAPeerThatDoesNotKeepToTheProtocolIsNotBelieved(t *testing.T) {
	elsewhere := newFar(t, nil)
	for name, tc := range map[string]struct {
		serve  func(w http.ResponseWriter, path, body string)
		change func(*httptest.Server, *authority)
		row    func(*federation.Peer)
		why    string
	}{
		"redirects": {serve: func(w http.ResponseWriter, path, _ string) {
			w.Header().Set("Location", elsewhere.URL+path)
			w.WriteHeader(307)
		}, why: "redirect"},
		"huge": {serve: func(w http.ResponseWriter, _, _ string) {
			w.Header().Set("Content-Type", "application/jose")
			for range 1000 {
				if _, err := w.Write([]byte(strings.Repeat("a", 1<<10))); err != nil {
					return
				}
			}
		}, why: "more than"},
		"huge header": {serve: func(w http.ResponseWriter, _, _ string) {
			w.Header().Set("X-Long", strings.Repeat("a", 1<<20))
		}, why: ""}, // as HTTP/2 says it
		"another web server":     {serve: func(w http.ResponseWriter, _, _ string) { w.WriteHeader(404) }, why: "not as an edge does"},
		"broken":                 {serve: func(w http.ResponseWriter, _, _ string) { w.WriteHeader(500) }, why: "answers 500"},
		"cuts off":               {serve: func(http.ResponseWriter, string, string) { panic(http.ErrAbortHandler) }, why: ""},
		"wrong CA":               {row: func(p *federation.Peer) { p.Roots = elsewhere.ca.pem() }, why: "unknown authority"},
		"no CA but the system's": {row: func(p *federation.Peer) { p.Roots = "" }, why: "x509"},
		"a CA that is none":      {row: func(p *federation.Peer) { p.Roots = "none" }, why: "no certificate"},
		"plain http":             {row: func(p *federation.Peer) { p.URL = "http" + strings.TrimPrefix(p.URL, "https") }, why: "no https URL"},
		"another name":           {row: func(p *federation.Peer) { p.URL = strings.Replace(p.URL, "127.0.0.1", "localhost", 1) }, why: "x509"},
		"nobody there":           {row: func(p *federation.Peer) { p.URL = "https://127.0.0.1:1/federation" }, why: "refused"},
		"expired server certificate": {change: func(s *httptest.Server, a *authority) {
			s.TLS.Certificates = []tls.Certificate{a.server(time.Now().Add(-time.Minute))}
		}, why: "expired"},
		"old TLS": {change: func(s *httptest.Server, _ *authority) { s.TLS.MaxVersion = tls.VersionTLS11 }, why: "version"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			change := tc.change
			if change == nil {
				change = func(*httptest.Server, *authority) {}
			}
			far := newFar(t, tc.serve, change)
			row := far.row()
			if tc.row != nil {
				tc.row(&row)
			}
			e := &engine{}
			e.waits("far", handover.StepRedeemed, "a.b.c")
			w := newWorld(t, e, row).run()
			eventually(t, "the peer is down for the right reason", func() bool {
				r := w.report("far")
				return r.CheckedAt > 0 && !r.Up && r.Error != "" && strings.Contains(r.Error, tc.why)
			})
			eventually(t, "it is logged", func() bool { return w.log.has("cannot be reached", "peer=far") })
			if get(e, func(e *engine) int { return len(e.answers) + len(e.bundles) }) > 0 {
				t.Error("something of it has reached Vault")
			}
			if w.metric("peer_up", "far") != 0 {
				t.Error("the metric says up")
			}
		})
	}
	t.Cleanup(func() {
		if elsewhere.count("") > 0 {
			t.Errorf("the redirect was followed: %q", elsewhere.asked)
		}
	})
}

func TestAPeerThatHangsHoldsUpNobodyElse(t *testing.T) {
	release := make(chan struct{})
	hanging := newFar(t, func(http.ResponseWriter, string, string) { <-release })
	t.Cleanup(func() { close(release) })
	far := newFar(t, nil)
	e := &engine{}
	e.answer = func(string) (*apitype.ReceiptResponse, error) { return &apitype.ReceiptResponse{}, nil }
	e.waits("hanging", handover.StepRedeemed, "a.b.c")
	w := newWorld(t, e, hanging.row(func(p *federation.Peer) { p.Name, p.PeerID = "hanging", "hanging" }), far.row()).run()
	eventually(t, "it hangs", func() bool { return hanging.count("POST") > 0 })
	e.waits("far", handover.StepRedeemed, "d.e.f")
	w.now(hanging.row(func(p *federation.Peer) { p.Name, p.PeerID = "hanging", "hanging" }), far.row())
	eventually(t, "the other one is served", func() bool { return get(e, func(e *engine) int { return len(e.answers) }) > 0 })
}

func TestAForgedAnswerIsRefusedByVaultAndSeenInTheLog(t *testing.T) {
	stranger := newAuthority(t)
	far := newFar(t, nil)
	far.does(func(w http.ResponseWriter, path, _ string) {
		if path == "/federation/receipts" {
			w.Header().Set("Content-Type", "application/jose")
			_, _ = w.Write([]byte(stranger.receipt("far", handover.StepReleased)))
			return
		}
		far.honest(w, path)
	})
	e := &engine{answer: func(string) (*apitype.ReceiptResponse, error) {
		return nil, apitype.Errorf(apitype.HandoverSignatureInvalid, "no pinned key has signed this")
	}}
	e.waits("far", handover.StepRedeemed, "a.b.c")
	w := newWorld(t, e, far.row()).run()
	eventually(t, "it is seen", func() bool {
		return w.log.has("could not be settled", "peer=far", string(apitype.HandoverSignatureInvalid)) && w.metric("receipts_sent_total", "answer_refused") > 1
	})
	if n := strings.Count(w.log.String(), "could not be settled"); n != 1 {
		t.Errorf("it is logged %d times", n)
	}
}

func TestAnAnswerThatIsNoneIsNotBroughtToVault(t *testing.T) {
	for name, answer := range map[string]func(w http.ResponseWriter){
		"204":   func(w http.ResponseWriter) { w.WriteHeader(204) },
		"HTML":  func(w http.ResponseWriter) { _, _ = w.Write([]byte("<html>")) },
		"empty": func(w http.ResponseWriter) { w.Header().Set("Content-Type", "text/plain") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			far := newFar(t, func(w http.ResponseWriter, path, _ string) { answer(w) })
			e := &engine{}
			e.waits("far", handover.StepRedeemed, "a.b.c")
			w := newWorld(t, e, far.row()).run()
			eventually(t, "it is seen", func() bool { return w.log.has("does not answer with a receipt") })
			if get(e, func(e *engine) int { return len(e.answers) }) > 0 {
				t.Error("Vault was asked")
			}
		})
	}
}

func TestAPeerThatWasDownIsServedWhenItIsBack(t *testing.T) {
	down := func(w http.ResponseWriter, _, _ string) { w.WriteHeader(503) }
	far := newFar(t, down)
	e := &engine{}
	e.waits("far", handover.StepRedeemed, "a.b.c")
	w := newWorld(t, e, far.row()).run()
	eventually(t, "it is tried more than once", func() bool { return far.count("POST") > 2 && !w.report("far").Up })
	far.does(nil)
	eventually(t, "the answer is with Vault", func() bool { return get(e, func(e *engine) int { return len(e.answers) }) > 0 })
	eventually(t, "it is up again", func() bool { return w.report("far").Up && w.log.has("can be reached again", "peer=far") })
}

func TestOneReceiptThatThePeerRefusesHoldsUpNoOther(t *testing.T) {
	far := newFar(t, nil)
	far.does(func(w http.ResponseWriter, path, body string) {
		if body == "bad" {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(404)
			_ = json.NewEncoder(w).Encode(map[string]any{"type": "urn:ampora:error:handover_unknown", "detail": "do-not-log-me"})
			return
		}
		far.honest(w, path)
	})
	e := &engine{}
	e.waits("far", handover.StepRedeemed, "bad")
	e.waits("far", handover.StepRedeemed, "good")
	e.answer = func(string) (*apitype.ReceiptResponse, error) {
		e.messages = e.messages[:1]
		return &apitype.ReceiptResponse{}, nil
	}
	w := newWorld(t, e, far.row()).run()
	eventually(t, "the good one is answered", func() bool { return get(e, func(e *engine) int { return len(e.answers) }) > 0 })
	eventually(t, "the bad one is seen, and tried again", func() bool {
		return w.log.has("the peer refuses the receipt", "handover_unknown") && far.count("POST /federation/receipts bad") > 2
	})
	if !w.report("far").Up || w.log.has("do-not-log-me") {
		t.Error("a refusal is taken for more than it is")
	}
}

func TestASuspendedPeerHearsOfNothingButTheEndOfHandovers(t *testing.T) {
	far := newFar(t, nil)
	suspended := func(p *federation.Peer) { p.Suspended, p.Guests = true, true }
	e := &engine{}
	e.answer = func(string) (*apitype.ReceiptResponse, error) {
		e.messages = e.messages[:1]
		return &apitype.ReceiptResponse{}, nil
	}
	e.waits("far", handover.StepRedeemed, "redeemed")
	e.waits("far", handover.StepLapsed, "lapsed")
	w := newWorld(t, e, far.row(suspended)).run()
	eventually(t, "the end is told", func() bool { return far.count("POST /federation/receipts lapsed") == 1 })
	looks := get(e, func(e *engine) int { return e.looks })
	eventually(t, "the outbox was looked at again", func() bool { return get(e, func(e *engine) int { return e.looks }) > looks+1 })
	if far.count("") != 1 {
		t.Errorf("%q", far.asked)
	}
	w.now(far.row())
	eventually(t, "it hears the other one when it is let in again", func() bool { return far.count("POST /federation/receipts redeemed") > 0 })
}

func TestWhatIsSettledAndStillWaitsIsNotCarriedWithoutEnd(t *testing.T) {
	far := newFar(t, nil)
	e := &engine{answer: func(string) (*apitype.ReceiptResponse, error) { return &apitype.ReceiptResponse{}, nil }}
	e.waits("far", handover.StepConnected, "connected")
	began := time.Now()
	newWorld(t, e, far.row()).run()
	eventually(t, "it is carried again", func() bool { return far.count("POST /federation/receipts connected") > 6 })
	if took := time.Since(began); took < 6*quick.Retry/2 {
		t.Errorf("seven times within %s", took)
	}
}

func TestAPeerWithoutAWayToItIsLeftToPeople(t *testing.T) {
	e := &engine{}
	e.waits("far", handover.StepRedeemed, "a.b.c")
	gap := federation.Peer{Name: "far", PeerID: "far", Pinned: pins(newAuthority(t))}
	w := newWorld(t, e, gap).run()
	far := newFar(t, nil)
	other := far.row(func(p *federation.Peer) { p.Name = "other" })
	w.now(gap, other) // so that the outbox is looked into
	eventually(t, "the outbox is looked into", func() bool { return get(e, func(e *engine) int { return e.looks }) > 1 })
	if len(w.log.String()) > 0 && w.log.has("peer=far") || len(w.Report()) > 1 {
		t.Error("it is spoken of")
	}
}

func TestAnEndOfVaultPutsTheOutboxOff(t *testing.T) {
	far := newFar(t, nil)
	e := &engine{err: apitype.Errorf(apitype.VaultUnavailable, "away")}
	e.waits("far", handover.StepRedeemed, "a.b.c")
	w := newWorld(t, e, far.row()).run()
	eventually(t, "Vault is asked more than once", func() bool { return get(e, func(e *engine) int { return e.looks }) > 2 })
	e.set(func(e *engine) { e.err = nil })
	eventually(t, "the answer is with Vault", func() bool { return get(e, func(e *engine) int { return len(e.answers) }) > 0 })
	if n := strings.Count(w.log.String(), "Vault does not say which receipts wait"); n != 1 {
		t.Errorf("it is logged %d times", n)
	}
}

func TestAPeerThatGoesIsForgotten(t *testing.T) {
	far := newFar(t, nil)
	w := newWorld(t, &engine{}, far.row()).run()
	eventually(t, "it is up", func() bool { return w.report("far").Up })
	w.now()
	eventually(t, "it is gone", func() bool { return len(w.Report()) == 0 && w.metric("peer_up", "far") == -1 })
}
