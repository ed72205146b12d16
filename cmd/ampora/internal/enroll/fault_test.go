package enroll

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ampora/ampora/cmd/ampora/internal/idfiles"
	"github.com/ampora/ampora/edge"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/token"
	"github.com/gorilla/websocket"
)

// TestACertificateThatCouldNotBeTriedIsTriedByTheNextRun: the edge sends agents to an address where nobody is yet.
func TestACertificateThatCouldNotBeTriedIsTriedByTheNextRun(t *testing.T) {
	home := freeAddr(t)
	w := newWorld(t, func(o *edge.Options) { o.Advertise = "wss://" + home + "/v1/opamp" })
	dir := filepath.Join(t.TempDir(), "id")
	r := w.enrol(dir, w.token(), func(c *Cmd) { c.Timeout = 5 * time.Second })
	w.refuses("", r, "connecting with it failed", "no token is needed")
	if _, err := os.Stat(filepath.Join(dir, idfiles.Cert)); err == nil {
		t.Error("an identity that was not verified is in place")
	}
	again := w.enrol(dir, "", func(c *Cmd) { c.Timeout = 4 * time.Second })
	w.refuses("", again, "connecting with it failed")

	w.start(home)
	id := w.mustEnrol(dir, "")
	if id.Endpoint != "wss://"+home+"/v1/opamp" {
		t.Errorf("endpoint %s", id.Endpoint)
	}
}

// TestACertificateThatWasRevokedBeforeItWasTriedGivesWayToAFreshToken continues where the test above leaves off, with an edge that
// says no.
func TestACertificateThatWasRevokedBeforeItWasTriedGivesWayToAFreshToken(t *testing.T) {
	home := freeAddr(t)
	w := newWorld(t, func(o *edge.Options) { o.Advertise = "wss://" + home + "/v1/opamp" })
	dir := filepath.Join(t.TempDir(), "id")
	first := w.token()
	w.refuses("", w.enrol(dir, first, func(c *Cmd) { c.Timeout = 4 * time.Second }), "connecting with it failed")
	secret, err := token.Parse(token.Bootstrap, first)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.client.DeleteAgent(t.Context(), secret.AgentID()); err != nil {
		t.Fatal(err)
	}
	w.start(home)
	second := w.token()
	id := w.mustEnrol(dir, second)
	who, err := describe(id)
	if err != nil || who.agentID == secret.AgentID() {
		t.Errorf("agent %+v, %v", who, err)
	}
}

// TestAnAnswerThatWasLostCostsAFreshTokenAndSaysSo: the token is spent then, and no retry_window is set.
func TestAnAnswerThatWasLostCostsAFreshTokenAndSaysSo(t *testing.T) {
	w := newWorld(t)
	through := w.swallow(answers)
	dir := filepath.Join(t.TempDir(), "id")
	w.refuses(dir, w.enrol(dir, w.token(), through), "token_redeemed", "most likely spent", "vault delete ampora/agents/")
	w.mustEnrol(dir, w.token())
}

// TestARequestThatWasLostIsRepeatedWithTheSameKey: the key is stored before the token is spent, so the next run goes on with it.
func TestARequestThatWasLostIsRepeatedWithTheSameKey(t *testing.T) {
	w := newWorld(t)
	through := w.swallow(requests)
	dir := filepath.Join(t.TempDir(), "id")
	secret := w.token()
	r := w.enrol(dir, secret, through, func(c *Cmd) { c.Timeout = 4 * time.Second })
	w.refuses("", r, "not known whether the token is spent", "run the same command again")
	d, err := idfiles.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	p, err := d.Pending()
	if err != nil || p == nil {
		t.Fatalf("the key was not kept: %v", err)
	}
	d.Close()
	id := w.mustEnrol(dir, secret)
	if string(id.Key) != string(p.Key) || id.InstanceUID != p.InstanceUID {
		t.Error("another key or uid was used")
	}
}

// TestAKeyThatWaitsForAnotherTokenIsDropped: what is pending belongs to one token.
func TestAKeyThatWaitsForAnotherTokenIsDropped(t *testing.T) {
	w := newWorld(t)
	dir := filepath.Join(t.TempDir(), "id")
	w.refuses("", w.enrol(dir, w.token(), w.swallow(requests), func(c *Cmd) { c.Timeout = 4 * time.Second }), "not known")
	w.mustEnrol(dir, w.token())
}

// What a proxy loses.
const (
	requests = "CERTIFICATE REQUEST"
	answers  = "BEGIN CERTIFICATE-----"
)

// swallow runs a proxy that passes WebSocket messages to the edge, but ends the connection in the place of a message that holds
// what is to be lost. It answers how to go through it.
func (w *world) swallow(what string) func(*Cmd) {
	w.Helper()
	pem, err := os.ReadFile(w.caFile)
	if err != nil {
		w.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	dialer := websocket.Dialer{TLSClientConfig: &tls.Config{RootCAs: roots}}
	server := httptest.NewTLSServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		up, resp, err := dialer.DialContext(w.Context(), w.endpoint("wss"), http.Header{"Authorization": r.Header["Authorization"]})
		if err != nil {
			passRefusal(rw, resp)
			return
		}
		defer up.Close()
		down, err := (&websocket.Upgrader{}).Upgrade(rw, r, nil)
		if err != nil {
			return
		}
		defer down.Close()
		for {
			if !pass(down, up, what) || !pass(up, down, what) {
				return
			}
		}
	}))
	w.Cleanup(server.Close)
	caFile := filepath.Join(w.TempDir(), "proxy-ca.pem")
	w.write(caFile, string(certPEM(server.Certificate().Raw)))
	return func(c *Cmd) {
		c.Endpoint, c.CAFile, c.Timeout = strings.Replace(server.URL, "https://", "wss://", 1)+"/v1/opamp", caFile, 5*time.Second
	}
}

// pass carries one message over, and reports false for one that is to be lost.
func pass(from, to *websocket.Conn, lose string) bool {
	kind, data, err := from.ReadMessage()
	if err != nil || strings.Contains(string(data), lose) {
		return false
	}
	return to.WriteMessage(kind, data) == nil
}

func passRefusal(rw http.ResponseWriter, resp *http.Response) {
	if resp == nil {
		rw.WriteHeader(http.StatusBadGateway)
		return
	}
	defer resp.Body.Close()
	rw.Header()["Content-Type"] = resp.Header["Content-Type"]
	rw.WriteHeader(resp.StatusCode)
	_, _ = io.Copy(rw, resp.Body) // the client sees what came through
}

// TestAnEdgeWithAPublicCertificateNeedsNoCAFile: the edge offers no roots then; what the person gave is kept, or nothing.
func TestAnEdgeWithAPublicCertificateNeedsNoCAFile(t *testing.T) {
	cert, key, ca := publicCertificate(t)
	w := newWorld(t, func(o *edge.Options) { o.TLSCert, o.TLSKey, o.TLSCA = cert, key, "system" })
	w.caFile = ca
	dir := filepath.Join(t.TempDir(), "id")
	id := w.mustEnrol(dir, w.token())
	want, err := os.ReadFile(ca)
	if err != nil || string(id.CA) != string(want) {
		t.Errorf("the roots that were given are not kept: %v", err)
	}
}

// TestVaultBeingAwayIsWaitedFor: nothing was used up, so the run goes on until its time is over.
func TestVaultBeingAwayIsWaitedFor(t *testing.T) {
	w := newWorld(t)
	dir := filepath.Join(t.TempDir(), "id")
	secret := w.token()
	w.engine.SetAway(true)
	w.refuses(dir, w.enrol(dir, secret, func(c *Cmd) { c.Timeout = 4 * time.Second }), string(apitype.VaultUnavailable))
	go func() {
		time.Sleep(time.Second)
		w.engine.SetAway(false)
	}()
	w.mustEnrol(dir, secret, func(c *Cmd) { c.Timeout = 40 * time.Second })
}
