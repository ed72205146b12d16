package edge_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/identity"
	"github.com/google/uuid"
	"github.com/open-telemetry/opamp-go/protobufs"
)

// withRequest asks for a certificate with whatever stands in the place of the CSR.
func withRequest(field []byte) func(*protobufs.AgentToServer) {
	return func(m *protobufs.AgentToServer) {
		m.ConnectionSettingsRequest = &protobufs.ConnectionSettingsRequest{Opamp: &protobufs.OpAMPConnectionSettingsRequest{
			CertificateRequest: &protobufs.CertificateRequest{Csr: field},
		}}
	}
}

// withStatus tells what became of the offer with that hash.
func withStatus(hash []byte, status protobufs.ConnectionSettingsStatuses) func(*protobufs.AgentToServer) {
	return func(m *protobufs.AgentToServer) {
		m.ConnectionSettingsStatus = &protobufs.ConnectionSettingsStatus{LastConnectionSettingsHash: hash, Status: status}
	}
}

const applied = protobufs.ConnectionSettingsStatuses_ConnectionSettingsStatuses_APPLIED

// proof is the block that goes behind a CSR for the key next.
func (a *agent) proof(by, next crypto.Signer) []byte {
	t := a.w.t
	t.Helper()
	spki := must(x509.MarshalPKIXPublicKey(next.Public()))(t)
	return pem.EncodeToMemory(&pem.Block{Type: identity.ProofBlock, Bytes: must(identity.Proof(a.cert.Leaf, by, spki))(t)})
}

func newKey(t *testing.T) crypto.Signer {
	t.Helper()
	return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
}

// greeted opens a WebSocket and has the first exchange done.
func (a *agent) greeted(change ...func(*protobufs.AgentToServer)) *wire {
	a.w.t.Helper()
	c := a.mustDial()
	c.send(a.message(append(change, withDescription("host-1"))...))
	reply := c.receive()
	const offers = uint64(protobufs.ServerCapabilities_ServerCapabilities_OffersConnectionSettings | protobufs.ServerCapabilities_ServerCapabilities_AcceptsConnectionSettingsRequest)
	if reply.Capabilities&offers != offers {
		a.w.t.Errorf("the edge says it can do %b", reply.Capabilities)
	}
	return c
}

func TestAnAgentRenewsWithACSR(t *testing.T) {
	for name, renew := range map[string]func(*agent, *protobufs.AgentToServer) *protobufs.ServerToAgent{
		"on a WebSocket": func(a *agent, m *protobufs.AgentToServer) *protobufs.ServerToAgent {
			c := a.greeted()
			c.send(m)
			return c.receive()
		},
		"with its first message": func(a *agent, m *protobufs.AgentToServer) *protobufs.ServerToAgent {
			c := a.mustDial()
			c.send(m)
			return c.receive()
		},
		"with a poll": func(a *agent, m *protobufs.AgentToServer) *protobufs.ServerToAgent {
			reply, refused := a.poll(m)
			if refused != nil {
				a.w.t.Fatalf("%+v", refused)
			}
			return reply
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.t = t
			a := w.enrolled()
			id, old := a.id(), a.cert.Leaf
			// Whatever the CSR names is not looked at.
			other := &x509.CertificateRequest{Subject: pkix.Name{CommonName: uuid.NewString()}, DNSNames: []string{"edge.example.com"}}
			csr := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: must(x509.CreateCertificateRequest(rand.Reader, other, a.key))(t)})
			reply := renew(a, a.message(withDescription("host-1"), withRequest(csr)))
			if len(reply.GetConnectionSettings().GetOpamp().GetCertificate().GetPrivateKey()) != 0 {
				t.Error("the offer brings a private key")
			}
			leaf := a.take(reply)
			if leaf.Subject.CommonName != id || len(leaf.DNSNames) != 0 || leaf.SerialNumber.Cmp(old.SerialNumber) == 0 {
				t.Errorf("the next leaf is %s of %s for %v", leaf.SerialNumber, leaf.Subject.CommonName, leaf.DNSNames)
			}
			a.greeted(withStatus(reply.ConnectionSettings.Hash, applied))
			w.eventually("the row has the new leaf alone", 15*time.Second, func() bool {
				row, err := w.vault.Agent(t.Context(), id)
				return err == nil && row.Fingerprint == identity.Fingerprint(leaf.Raw) && row.NextSerialNumber == ""
			})
			if got := w.metric(`ampora_edge_renewals_total{by="agent",result="offered"}`); got != "1" {
				t.Errorf("renewals counted: %q", got)
			}
		})
	}
}

func TestAnotherKeyNeedsAProof(t *testing.T) {
	w := newWorld(t)
	a := w.enrolled()
	c := a.greeted()
	current, next := a.key, newKey(t)
	a.key = next // a.csr() is for it from now on
	for name, field := range map[string][]byte{
		"no proof":             a.csr(),
		"a proof of another":   append(a.csr(), a.proof(next, next)...),
		"a proof for another":  append(a.csr(), a.proof(current, newKey(t))...),
		"a proof that is cut ": append(a.csr(), a.proof(current, next)[:60]...),
	} {
		code := apitype.RenewalProofMissing
		if name == "a proof that is cut " {
			code = apitype.CSRInvalid
		}
		c.send(a.message(withRequest(field)))
		c.mustError(code)
	}
	c.send(a.message(withRequest(append(a.csr(), a.proof(current, next)...)))) // the session is open, and nothing was used up
	reply := c.receive()
	before := a.cert.Leaf
	if leaf := a.take(reply); !leaf.PublicKey.(*ecdsa.PublicKey).Equal(next.Public()) || leaf.Subject.CommonName != before.Subject.CommonName {
		t.Error("the next leaf is not for the new key")
	}
	a.greeted()
}

func TestAReplacedLeafIsRefusedOnceItsSuccessorIsConfirmed(t *testing.T) {
	w := newWorld(t)
	a := w.enrolled()
	thief := *a // has copied key and certificate
	c := a.greeted()
	c.send(a.message(a.withCSR()))
	reply := c.receive()
	leaf := a.take(reply)
	next := a.greeted()
	w.reported()
	c.send(thief.message(withStatus(reply.ConnectionSettings.Hash, applied))) // over the old connection it says nothing
	thief.greeted().conn.Close()                                              // both leaves are good for now
	w.reported()
	if row, err := w.vault.Agent(t.Context(), a.id()); err != nil || row.NextSerialNumber == "" {
		t.Fatalf("the next leaf was confirmed too early: %+v, %v", row, err)
	}

	next.send(a.message(withStatus(reply.ConnectionSettings.Hash, applied)))
	if code, reason := c.closed(15 * time.Second); code != 1008 || reason != string(apitype.CertificateRevoked) {
		t.Errorf("the session of the old leaf ends with %d %s", code, reason)
	}
	thief.mustRefuse(403, apitype.CertificateRevoked)
	next.send(a.message(withDescription("host-1")))
	a.greeted()

	// Another edge has not heard of it: it lets the old leaf in, is told, and ends the session. That is one event.
	elsewhere := &world{t: t, engine: w.engine, vault: w.vault}
	elsewhere.startEdge()
	thief.w = elsewhere
	for range 2 {
		stolen, refused := thief.dial()
		if refused != nil {
			if refused.code != apitype.CertificateRevoked {
				t.Errorf("refused with %s", refused.code)
			}
			continue
		}
		stolen.send(thief.message(withDescription("host-1")))
		if code, reason := stolen.closed(15 * time.Second); code != 1008 || reason != string(apitype.CertificateRevoked) {
			t.Errorf("closed with %d %s", code, reason)
		}
	}
	events, err := w.vault.Events(t.Context(), apitype.EventsRequest{AgentID: a.id(), Action: apitype.ActionCertificateSuspected})
	if err != nil || len(events.Events) != 1 {
		t.Errorf("events: %+v, %v", events, err)
	}
	if row, err := w.vault.Agent(t.Context(), a.id()); err != nil || row.Fingerprint != identity.Fingerprint(leaf.Raw) {
		t.Errorf("the row: %+v, %v", row, err)
	}
}

func TestALostAnswerStrandsNobody(t *testing.T) {
	w := newWorld(t)
	a := w.enrolled()
	c := a.greeted()
	request := a.message(a.withCSR())
	c.send(request)
	lost := c.receive()
	c.send(request) // the same CSR once more
	if again := c.receive(); string(again.GetConnectionSettings().GetHash()) != string(lost.ConnectionSettings.Hash) {
		t.Errorf("the same question is answered with %v", again)
	}
	c.conn.Close()
	c = a.greeted() // back on the leaf that it has
	c.send(a.message(a.withCSR()))
	again := c.receive()
	if string(again.GetConnectionSettings().GetHash()) != string(lost.ConnectionSettings.Hash) {
		t.Errorf("on a new connection the answer is %v", again)
	}
	a.take(again)
	a.greeted()
}
