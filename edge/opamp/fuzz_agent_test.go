package opamp

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/netip"
	"net/url"
	"testing"
	"time"

	"github.com/ampora/ampora/edge/metrics"
	"github.com/ampora/ampora/edge/session"
	"github.com/ampora/ampora/edge/trust"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/identity"
	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"
	"github.com/open-telemetry/opamp-go/protobufs"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"
)

// renewer gives every agent a next leaf and remembers what it was asked.
type renewer struct {
	issuer
	asked []apitype.RenewRequest
}

func (r *renewer) Renew(_ context.Context, _ string, in apitype.RenewRequest) (*apitype.Identity, error) {
	r.asked = append(r.asked, in)
	return &apitype.Identity{Certificate: "NEXT"}, nil
}

// known is an agent's leaf and the snapshot by which it passes.
type known struct {
	leaf     *x509.Certificate
	snapshot *trust.Snapshot
}

func (k known) Current() *trust.Snapshot { return k.snapshot }

func newKnown(t testing.TB) known {
	t.Helper()
	const domain = "test.example"
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sign := func(template, parent *x509.Certificate) *x509.Certificate {
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
		der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, key)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return cert
	}
	root := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "issuer"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	ca := sign(root, root)
	id := uuid.NewString()
	serial, err := identity.LeafSerial(id, 1)
	if err != nil {
		t.Fatal(err)
	}
	leaf := sign(&x509.Certificate{
		SerialNumber: serial.Big(), Subject: pkix.Name{CommonName: id}, URIs: []*url.URL{identity.SPIFFEID(domain, "", id)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, ca)
	return known{leaf, &trust.Snapshot{
		FetchedAt: time.Now(), Issuers: []*x509.Certificate{ca}, Settings: apitype.SyncSettings{TrustDomain: domain, Endpoint: "wss://edge.example:4320"},
	}}
}

// FuzzAgentMessage sends arbitrary bytes over a known agent's connection, twice. Whatever they are: nothing panics; Vault is
// asked for a next leaf at most once, only for an agent that can take one and within bounds; the second answer is the first
// one again; and an answer is either an error alone or an offer that has a certificate and a heartbeat.
func FuzzAgentMessage(f *testing.F) {
	uid := make([]byte, 16)
	asking := func(field string) *protobufs.ConnectionSettingsRequest {
		return &protobufs.ConnectionSettingsRequest{Opamp: &protobufs.OpAMPConnectionSettingsRequest{
			CertificateRequest: &protobufs.CertificateRequest{Csr: []byte(field)},
		}}
	}
	for _, m := range []*protobufs.AgentToServer{
		{InstanceUid: uid},
		{InstanceUid: uid, Capabilities: apitype.CapabilityAcceptsOpAMP, ConnectionSettingsRequest: asking("csr\n" + aProof)},
		{InstanceUid: uid, ConnectionSettingsRequest: asking("csr")},
		{InstanceUid: uid, Capabilities: ^uint64(0), ConnectionSettingsRequest: asking("csr"), AgentDisconnect: &protobufs.AgentDisconnect{}},
		{InstanceUid: uid, ConnectionSettingsStatus: &protobufs.ConnectionSettingsStatus{
			LastConnectionSettingsHash: make([]byte, offerHashSize), Status: protobufs.ConnectionSettingsStatuses_ConnectionSettingsStatuses_FAILED}},
	} {
		raw, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw, true)
		f.Add(raw, false)
	}
	k := newKnown(f)
	f.Fuzz(func(t *testing.T, raw []byte, ws bool) {
		var in protobufs.AgentToServer
		if len(raw) > maxSize || proto.Unmarshal(raw, &in) != nil {
			return // opamp-go's own door
		}
		m, err := metrics.New(prometheus.NewRegistry())
		if err != nil {
			t.Fatal(err)
		}
		engine := &renewer{}
		desk := session.NewDesk(session.Options{
			Issuer: engine, Reporter: engine, Trust: k, ServerRoots: func() (string, error) { return "ROOTS", nil },
			MaxStaleness: 24 * time.Hour, Metrics: m, Logger: hclog.NewNullLogger(),
		})
		transport := session.HTTP
		if ws {
			transport = session.WebSocket
		}
		s, err := desk.Admit(t.Context(), session.Caller{Transport: transport, Source: netip.IPv6Loopback(), Certificate: k.leaf})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Closed()
		c := &conversation{handler: &Handler{Options: Options{Desk: desk, Metrics: m, Logger: hclog.NewNullLogger()}}, session: s}
		out := c.onPoll(t.Context(), nil, &in)
		again := c.onPoll(t.Context(), nil, &in)
		if !proto.Equal(out.GetConnectionSettings(), again.GetConnectionSettings()) {
			t.Fatalf("%v, and then %v", out, again)
		}
		if len(engine.asked) > 1 {
			t.Fatalf("asked %d times", len(engine.asked))
		}
		for _, asked := range engine.asked {
			if in.GetCapabilities()&apitype.CapabilityAcceptsOpAMP == 0 || in.GetAgentDisconnect() != nil {
				t.Fatal("asked for an agent that cannot take a certificate")
			}
			if asked.CSR == "" || asked.GenerateKey || len(asked.CSR) > 16<<10 || len(asked.Proof) > 1024 ||
				asked.Fingerprint != identity.Fingerprint(k.leaf.Raw) || len(asked.IdempotencyKey) < 16 {
				t.Fatalf("a request that the engine refuses: %+v", asked)
			}
		}
		for _, reply := range []*protobufs.ServerToAgent{out, again} {
			if reply.GetErrorResponse() != nil && (reply.ConnectionSettings != nil || reply.Capabilities != 0 || reply.Flags != 0) {
				t.Fatalf("something beside an error: %v", reply)
			}
			if offer := reply.GetConnectionSettings().GetOpamp(); reply.GetConnectionSettings() != nil &&
				(len(offer.GetCertificate().GetCert()) == 0 || offer.GetHeartbeatIntervalSeconds() == 0 || offer.GetDestinationEndpoint() == "") {
				t.Fatalf("an offer that breaks agents: %v", reply)
			}
		}
	})
}
