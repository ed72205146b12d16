package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	vault "github.com/hashicorp/vault/api"
)

// signed reports whether the issuer has signed the certificate; both are PEM.
func signed(t testing.TB, certificate, issuer string) bool {
	t.Helper()
	return parsed(t, certificate).CheckSignatureFrom(parsed(t, issuer)) == nil
}

func parsed(t testing.TB, text string) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		t.Fatalf("no certificate: %q", text)
	}
	c, err := x509.ParseCertificate(block.Bytes)
	must(t, err)
	return c
}

// servesBy reports whether the edge's own certificate is by the issuer.
func (e *edge) servesBy(issuer string) bool {
	e.t.Helper()
	conn, err := tls.Dial("tcp", e.addr, &tls.Config{InsecureSkipVerify: true}) // who it is from is asked below
	if err != nil {
		return false
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].CheckSignatureFrom(parsed(e.t, issuer)) == nil
}

// TestAChangeOfTheCAStrandsNobody goes from a self-signed CA to one that Vault's pki engine signs, as the page says: no agent
// is touched, none goes back to its token, and each finds its way back to a restarted edge at every step.
func TestAChangeOfTheCAStrandsNobody(t *testing.T) {
	t.Parallel()
	in := install(t, "--config", "heartbeat_interval=2")
	e := in.edge("one")
	schemes := []string{"wss", "https"}
	agents, rows, skip := map[string]*testAgent{}, map[string]*apitype.IssuedToken{}, map[string]int{}
	start := func(scheme, token string, arguments ...string) {
		agents[scheme] = in.agent(e.endpoint(scheme), token, filepath.Join(in.dir, scheme), arguments...)
	}
	for _, scheme := range schemes {
		rows[scheme] = in.token()
		start(scheme, rows[scheme].Token)
	}
	for _, scheme := range schemes {
		agents[scheme].AwaitEnrolled()
	}
	stock := in.token()
	in.supervisor("supervisor", bootstrapServer(e.endpoint("wss"), stock.Token, in.ca))
	connected := func(n int, when string) {
		t.Helper()
		eventually(t, "all agents are connected "+when, time.Minute, func() bool { _, state := e.ready(); return state.Sessions == n })
	}
	connected(3, "to begin with")
	restart := func() {
		t.Helper()
		for _, scheme := range schemes {
			skip[scheme] = len(agents[scheme].All())
		}
		e.kill()
		e.start()
		for _, scheme := range schemes {
			agents[scheme].AwaitBack(skip[scheme])
		}
	}
	retire := func(id string, force bool) error {
		_, err := in.engine.SetIssuerState(in.ctx(), id, apitype.IssuerRequest{State: "retired", Force: force})
		return err
	}

	v := in.vault.Client()
	must(t, v.Sys().MountWithContext(in.ctx(), "pki", &vault.MountInput{Type: "pki", Config: vault.MountConfigInput{MaxLeaseTTL: "87600h"}}))
	_, err := v.Logical().WriteWithContext(in.ctx(), "pki/root/generate/internal", map[string]any{"common_name": "Root", "ttl": "87600h", "key_type": "ec"})
	must(t, err)
	in.setup("--plugin-version", in.version, "--sign-with", "pki", "--new-issuer")
	in.setup("--plugin-version", in.version, "--sign-with", "pki", "--activate")
	issuers, err := in.engine.Issuers(in.ctx())
	must(t, err)
	first, second := issuers[0], issuers[1]
	if first.State != "trusted" || second.State != "active" {
		t.Fatalf("the issuers are %s and %s", first.State, second.State)
	}
	restart() // nobody has been offered the new CA yet
	connected(3, "before they have heard of the new CA")
	if !e.servesBy(first.Certificate) {
		t.Error("the edge's certificate depends on a CA that agents do not know")
	}
	if err := retire(first.IssuerID, false); apitype.CodeOf(err) != apitype.InUse || !strings.Contains(err.Error(), "3 certificates") {
		t.Errorf("retiring the old CA: %v", err)
	}

	// The supervisor renews when its edge says so, after weeks. One that is revoked does not hold up the change.
	_, err = in.engine.RevokeAgent(in.ctx(), in.agentOf(stock).AgentID, apitype.RevokeRequest{})
	must(t, err)
	for _, scheme := range schemes { // they renew, which else comes by itself
		agents[scheme].Stop()
		start(scheme, "", "--renew-every", "3s")
	}
	eventually(t, "both live on the new CA alone", 2*time.Minute, func() bool {
		for _, scheme := range schemes {
			row := in.agentOf(rows[scheme])
			kept := agents[scheme].Saved()
			if row.NextSerialNumber != "" || !signed(t, row.Certificate, second.Certificate) || len(kept) == 0 || row.SerialNumber != kept[len(kept)-1] {
				return false
			}
		}
		return true
	})
	for _, scheme := range schemes {
		agents[scheme].Stop()
		start(scheme, "")
	}
	eventually(t, "the old CA can be retired", time.Minute, func() bool { return retire(first.IssuerID, false) == nil })
	eventually(t, "the edge's certificate is by the new CA", time.Minute, func() bool { return e.servesBy(second.Certificate) })
	restart()
	connected(2, "after the change")
	for _, scheme := range schemes {
		row := in.agentOf(rows[scheme])
		if actions := in.actions(row.AgentID); slices.Contains(actions, apitype.ActionCertificateSuspected) || row.State != apitype.AgentStateActive {
			t.Errorf("%s: %v", scheme, actions)
		}
		for _, event := range agents[scheme].All() {
			if event.Event == "started" && event.By == "token" {
				t.Errorf("%s went back to its token", scheme)
			}
		}
	}

	// The emergency: the CA's key was stolen. Its agents are out within seconds, and the edge does without it.
	third, err := in.engine.CARoot(in.ctx(), apitype.CARootRequest{})
	must(t, err)
	_, err = in.engine.SetIssuerState(in.ctx(), third.IssuerID, apitype.IssuerRequest{State: "active"})
	must(t, err)
	must(t, retire(second.IssuerID, true))
	eventually(t, "the edge's certificate is by the CA that is left", time.Minute, func() bool { return e.servesBy(third.Certificate) })
	eventually(t, "the agents of the stolen CA are out", time.Minute, func() bool { _, state := e.ready(); return state.Sessions == 0 })
}
