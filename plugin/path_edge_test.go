package ampora_test

import (
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"net"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/identity"
)

func TestAnEdgeGetsAServerCertificateForItsNamesAlone(t *testing.T) {
	m := ready(t)
	m.ok(write, "config", data{"edge_allowed_domains": "edges.test.example,10.0.0.7"})
	evil, _ := url.Parse("spiffe://test.example/agent/" + unknownID)
	key := ecKey(t, elliptic.P256())
	csr := csrOf(t, key, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "vault"}, DNSNames: []string{"vault.example"}, URIs: []*url.URL{evil}})
	for _, c := range []struct {
		name string
		body data
		dns  []string
		ips  []string
	}{
		{"by default the endpoint's host", data{}, []string{"edge.test.example"}, nil},
		{"an allowed domain", data{"dns_names": "edges.test.example"}, []string{"edges.test.example"}, nil},
		{"a name below it", data{"dns_names": []string{"a.b.edges.test.example", "edge.test.example"}}, []string{"a.b.edges.test.example", "edge.test.example"}, nil},
		{"an allowed address", data{"ip_sans": "10.0.0.7"}, nil, []string{"10.0.0.7"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.body["csr"] = csr
			answer := call[apitype.EdgeCertificate](m, write, "edge/certificate", c.body)
			got := certificate(t, answer.Certificate)
			var ips []string
			for _, ip := range got.IPAddresses {
				ips = append(ips, ip.String())
			}
			if !slices.Equal(got.DNSNames, c.dns) || !slices.Equal(ips, c.ips) || len(got.URIs)+len(got.EmailAddresses) != 0 {
				t.Errorf("names %v %v %v", got.DNSNames, got.IPAddresses, got.URIs)
			}
			if got.IsCA || !slices.Equal(got.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}) || !key.PublicKey.Equal(got.PublicKey) {
				t.Errorf("it is good for %v", got.ExtKeyUsage)
			}
			if !got.NotAfter.Equal(m.clock.now().Add(7*24*time.Hour)) || got.NotAfter.Unix() != answer.Expiration {
				t.Errorf("valid to %s", got.NotAfter)
			}
			if s, ok := identity.ParseSerial(got.SerialNumber); !ok || s.Kind() != identity.KindEdge || s.String() != answer.SerialNumber {
				t.Errorf("serial %v", s)
			}
			if answer.CAChain[0] != answer.IssuingCA || got.CheckSignatureFrom(certificate(t, answer.IssuingCA)) != nil {
				t.Error("not signed by the issuer")
			}
			if _, err := identity.VerifyLeaf(got, []*x509.Certificate{certificate(t, answer.IssuingCA)}, "test.example", m.clock.now()); err == nil {
				t.Error("an edge's certificate passes for an agent's")
			}
		})
	}
	if n := len(m.keys("edge/")); n != 0 {
		t.Errorf("%d rows", n)
	}
}

func TestEdgesGetNoOtherNames(t *testing.T) {
	m := newMount(t)
	m.no(apitype.NotConfigured, write, "edge/certificate", data{"csr": newCSR(t)})
	m.ok(write, "config", data{"trust_domain": "test.example", "endpoint": "wss://edge.test.example/v1/opamp", "edge_allowed_domains": "edges.test.example"})
	m.no(apitype.IssuerMissing, write, "edge/certificate", data{"csr": newCSR(t)})
	m.ok(write, "ca/root", nil)
	for _, c := range []struct {
		name string
		code apitype.Code
		body data
	}{
		{"another name", apitype.EdgeNameNotAllowed, data{"dns_names": "vault.example"}},
		{"a name that only ends alike", apitype.EdgeNameNotAllowed, data{"dns_names": "evil-edges.test.example"}},
		{"the parent domain", apitype.EdgeNameNotAllowed, data{"dns_names": "test.example"}},
		{"a good and a bad name", apitype.EdgeNameNotAllowed, data{"dns_names": "edge.test.example,vault.example"}},
		{"another address", apitype.EdgeNameNotAllowed, data{"ip_sans": "127.0.0.1"}},
		{"a wildcard", apitype.FieldInvalid, data{"dns_names": "*.edges.test.example"}},
		{"capitals", apitype.FieldInvalid, data{"dns_names": "EDGE.test.example"}},
		{"an address as a name", apitype.FieldInvalid, data{"dns_names": "10.0.0.7"}},
		{"a name as an address", apitype.FieldInvalid, data{"ip_sans": "edge.test.example"}},
		{"33 names", apitype.EdgeNameNotAllowed, data{"dns_names": slices.Repeat([]string{"edge.test.example"}, 33)}},
		{"no CSR", apitype.CSRInvalid, data{"csr": ""}},
		{"a CSR of garbage", apitype.CSRInvalid, data{"csr": "hello"}},
		{"a CSR for P-224", apitype.KeyNotAllowed, data{"csr": csrOf(t, ecKey(t, elliptic.P224()), &x509.CertificateRequest{})}},
	} {
		t.Run(c.name, func(t *testing.T) {
			body := data{"csr": newCSR(t)}
			for k, v := range c.body {
				body[k] = v
			}
			m.no(c.code, write, "edge/certificate", body)
		})
	}
	m.ok(write, "config", data{"endpoint": "wss://127.0.0.1:4320/v1/opamp"})
	answer := call[apitype.EdgeCertificate](m, write, "edge/certificate", data{"csr": newCSR(t)})
	if c := certificate(t, answer.Certificate); len(c.IPAddresses) != 1 || !c.IPAddresses[0].Equal(net.IPv4(127, 0, 0, 1)) || len(c.DNSNames) != 0 {
		t.Errorf("names %v %v", c.DNSNames, c.IPAddresses)
	}
}

const instance = "018f3d2c-7d4e-7b6a-9c3f-0a1b2c3d4e5f"

// report reports one session.
func (m *mount) report(s apitype.SessionReport) apitype.SessionAnswer {
	m.Helper()
	out := call[apitype.ReportResponse](m, write, "edge/report", data{"name": "edge-1", "version": "v1.0.0", "live": 1, "sessions": []apitype.SessionReport{s}})
	if len(out.Sessions) != 1 {
		m.Fatalf("%+v", out)
	}
	return out.Sessions[0]
}

func TestASessionReportIsAnsweredWithWhatTheRowSays(t *testing.T) {
	m := ready(t)
	m.group("acme", "web", nil)
	id, _ := m.enrol(data{"tenant": "acme", "group": "web"})
	hash := apitype.StateHash("{}", "collector", 0x1900)
	s := apitype.SessionReport{AgentID: id.AgentID, SerialNumber: id.SerialNumber, InstanceUID: instance, StateHash: hash, SourceIP: "192.0.2.5"}
	want := apitype.SessionAnswer{AgentID: id.AgentID, SerialNumber: id.SerialNumber, Leaf: "current", InstanceUID: instance, Tenant: "acme", Group: "web", StateWanted: true, KeyOrigin: "csr"}
	if got := m.report(s); got != want {
		t.Errorf("%+v", got)
	}
	s.HasState, s.Description, s.DisplayName, s.Capabilities = true, "{}", "collector", 0x1900
	want.StateWanted = false
	if got := m.report(s); got != want {
		t.Errorf("with its state: %+v", got)
	}
	a := m.agent(id.AgentID)
	if a.Description != "{}" || a.DisplayName != "collector" || a.Capabilities != 0x1900 || a.InstanceUID != instance || a.Edge != "edge-1" || a.LastSeen != m.clock.now().Format(time.RFC3339) {
		t.Errorf("row %+v", a)
	}
	// An agent that names another instance is told the one it has.
	s.InstanceUID = unknownID
	if got := m.report(s); got.InstanceUID != instance {
		t.Errorf("%+v", got)
	}
	// A state that does not fit its hash, or is out of bounds, is asked for again and not kept.
	for name, bad := range map[string]apitype.SessionReport{
		"another hash":        {HasState: true, Description: "x", StateHash: strings.Repeat("0", 64)},
		"an endless text":     {HasState: true, Description: strings.Repeat("x", 65<<10), StateHash: apitype.StateHash(strings.Repeat("x", 65<<10), "", 0)},
		"a name that lies":    {HasState: true, DisplayName: "a\nb", StateHash: apitype.StateHash("", "a\nb", 0)},
		"only another's hash": {StateHash: strings.Repeat("1", 64)},
	} {
		bad.AgentID, bad.SerialNumber, bad.InstanceUID = id.AgentID, id.SerialNumber, instance
		if got := m.report(bad); !got.StateWanted {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if after := m.agent(id.AgentID); !equalJSON(t, after, a) {
		t.Errorf("row %+v", after)
	}
}

func TestTheStandingOfALeafIsAnswered(t *testing.T) {
	m := ready(t)
	body := data{"token": m.issue(nil).Token, "generate_key": true, "idempotency_key": firstKey}
	first := m.redeem(body)
	second := m.redeem(body)
	old := apitype.SessionReport{AgentID: first.AgentID, SerialNumber: first.SerialNumber, SourceIP: "192.0.2.66"}
	if got := m.report(old); got.Leaf != "superseded" {
		t.Errorf("%+v", got)
	}
	m.report(old)
	suspected := m.events(data{"action": "Certificate.CloneSuspected"})
	if len(suspected) != 1 || suspected[0].EntityID != first.SerialNumber || suspected[0].SourceIP != "192.0.2.66" || suspected[0].Details["current_serial_number"] != second.SerialNumber {
		t.Errorf("%+v", suspected)
	}
	if got := m.report(apitype.SessionReport{AgentID: second.AgentID, SerialNumber: second.SerialNumber}); got.Leaf != "current" {
		t.Errorf("%+v", got)
	}
	serial, _ := identity.LeafSerial(first.AgentID, 9)
	if got := m.report(apitype.SessionReport{AgentID: first.AgentID, SerialNumber: serial.String()}); got.Leaf != "unknown" {
		t.Errorf("a leaf that we never signed: %+v", got)
	}
	stranger, _ := identity.LeafSerial(unknownID, 1)
	if got := m.report(apitype.SessionReport{AgentID: unknownID, SerialNumber: stranger.String()}); got.Leaf != "unknown" {
		t.Errorf("an agent that is not there: %+v", got)
	}
	m.ok(write, "agents/"+first.AgentID+"/revoke", nil)
	for _, serial := range []string{first.SerialNumber, second.SerialNumber} {
		if got := m.report(apitype.SessionReport{AgentID: first.AgentID, SerialNumber: serial}); got.Leaf != "revoked" {
			t.Errorf("%+v", got)
		}
	}
}

func TestBadReportsAreRefused(t *testing.T) {
	m := ready(t)
	id, _ := m.enrol(nil)
	good := func(change func(*apitype.SessionReport)) []apitype.SessionReport {
		s := apitype.SessionReport{AgentID: id.AgentID, SerialNumber: id.SerialNumber}
		change(&s)
		return []apitype.SessionReport{s}
	}
	before := m.dump()
	for _, c := range []struct {
		name string
		code apitype.Code
		body data
	}{
		{"no name", apitype.NameInvalid, data{"name": ""}},
		{"a name with a slash", apitype.NameInvalid, data{"name": "a/b"}},
		{"a version with a line break", apitype.FieldInvalid, data{"version": "v1\n"}},
		{"a revision of 10 kB", apitype.FieldInvalid, data{"revision": strings.Repeat("a", 10000)}},
		{"sessions that are numbers", apitype.FieldInvalid, data{"sessions": []int{1}}},
		{"a session with a wrong type", apitype.FieldInvalid, data{"sessions": []any{data{"agent_id": 5}}}},
		{"257 sessions", apitype.FieldInvalid, data{"sessions": slices.Repeat(good(func(*apitype.SessionReport) {}), 257)}},
		{"a serial of another agent", apitype.FieldInvalid, data{"sessions": good(func(s *apitype.SessionReport) { s.AgentID = unknownID })}},
		{"a serial in capitals", apitype.FieldInvalid, data{"sessions": good(func(s *apitype.SessionReport) { s.SerialNumber = strings.ToUpper(s.SerialNumber) })}},
		{"a serial of an edge", apitype.FieldInvalid, data{"sessions": good(func(s *apitype.SessionReport) { s.SerialNumber = "02" + s.SerialNumber[2:] })}},
		{"no serial", apitype.FieldInvalid, data{"sessions": good(func(s *apitype.SessionReport) { s.SerialNumber = "" })}},
		{"a source that is no address", apitype.FieldInvalid, data{"sessions": good(func(s *apitype.SessionReport) { s.SourceIP = "home" })}},
	} {
		t.Run(c.name, func(t *testing.T) {
			body := data{"name": "edge-1"}
			for k, v := range c.body {
				body[k] = v
			}
			m.no(c.code, write, "edge/report", body)
		})
	}
	if m.dump() != before {
		t.Error("a refusal changed the storage")
	}
	if out := call[apitype.ReportResponse](m, write, "edge/report", data{"name": "edge-1"}); out.Sessions == nil || len(out.Sessions) != 0 {
		t.Errorf("without sessions: %+v", out)
	}
}

func TestTheFeedTellsIssuersSettingsAndRevocations(t *testing.T) {
	m := newMount(t)
	empty := m.sync("")
	if !empty.Full || len(empty.Issuers)+len(empty.Revoked) != 0 || empty.Settings == nil {
		t.Errorf("before anything: %+v", empty)
	}
	m.configure()
	id, _ := m.enrol(nil)
	delta := m.sync(empty.Revision)
	want := apitype.SyncSettings{TrustDomain: "test.example", Endpoint: "wss://edge.test.example:4320/v1/opamp", KeyOrigin: "any", HeartbeatInterval: 30, CRLExpiry: 900}
	if delta.Full || delta.Settings == nil || *delta.Settings != want || len(delta.Issuers) != 1 || delta.Issuers[0].Certificate != id.IssuingCA || delta.Issuers[0].State != "active" {
		t.Errorf("delta %+v", delta)
	}
	if same := m.sync(delta.Revision); same.Full || same.Settings != nil || same.Issuers != nil || same.Revoked != nil || same.Revision != delta.Revision {
		t.Errorf("unchanged %+v", same)
	}
	second := call[apitype.CAIssuer](m, write, "ca/root", nil)
	m.ok(write, "ca/issuers/"+second.IssuerID, data{"state": "active"})
	delta = m.sync(delta.Revision)
	if len(delta.Issuers) != 2 || delta.Issuers[0].IssuerID != second.IssuerID || delta.Issuers[1].State != "trusted" || delta.Settings != nil {
		t.Errorf("delta %+v", delta)
	}
	m.ok(write, "agents/"+id.AgentID+"/revoke", nil)
	if again := m.sync(delta.Revision); len(again.Revoked) != 1 || again.Issuers != nil {
		t.Errorf("delta %+v", again)
	}
	for name, since := range map[string]string{"garbage": "hello", "a foreign epoch": unknownID + ".1", "ahead": strings.Split(delta.Revision, ".")[0] + ".999", "no number": strings.Split(delta.Revision, ".")[0] + ".x"} {
		if full := m.sync(since); !full.Full || len(full.Revoked) != 1 || len(full.Issuers) != 2 || full.Settings == nil {
			t.Errorf("%s: %+v", name, full)
		}
	}
}

func TestAnOpenPollAnswersAtOnceOnAChange(t *testing.T) {
	m := ready(t)
	id, _ := m.enrol(nil)
	since := m.sync("").Revision
	answered := make(chan apitype.SyncResponse)
	go func() {
		answered <- call[apitype.SyncResponse](m, read, "edge/sync", data{"since": since, "wait": 3})
	}()
	m.ok(write, "agents/"+id.AgentID+"/revoke", nil)
	if got := <-answered; len(got.Revoked) != 1 {
		t.Errorf("%+v", got)
	}
}
