package opamp

import (
	"context"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/ampora/ampora/edge/metrics"
	"github.com/ampora/ampora/edge/session"
	"github.com/ampora/ampora/edge/trust"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/token"
	"github.com/hashicorp/go-hclog"
	"github.com/open-telemetry/opamp-go/protobufs"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"
)

// issuer takes every token and remembers what it was asked last.
type issuer struct {
	last  atomic.Pointer[apitype.RedeemRequest]
	calls atomic.Int64
}

func (*issuer) RedeemCheck(context.Context, apitype.RedeemCheckRequest) (*apitype.RedeemCheckResponse, error) {
	return &apitype.RedeemCheckResponse{}, nil
}

func (i *issuer) Redeem(_ context.Context, in apitype.RedeemRequest) (*apitype.Identity, error) {
	i.last.Store(&in)
	i.calls.Add(1)
	return &apitype.Identity{Certificate: "CERTIFICATE", PrivateKey: "KEY"}, nil
}

func (*issuer) Renew(context.Context, string, apitype.RenewRequest) (*apitype.Identity, error) {
	return nil, apitype.Errorf(apitype.AgentUnknown, "")
}

func (*issuer) Report(context.Context, apitype.ReportRequest) (*apitype.ReportResponse, error) {
	return &apitype.ReportResponse{}, nil
}

type settings struct{}

func (settings) Current() *trust.Snapshot {
	return &trust.Snapshot{FetchedAt: time.Now(), Settings: apitype.SyncSettings{Endpoint: "wss://edge.example:4320"}}
}

// FuzzFirstMessage sends arbitrary bytes as the first message of an agent with a good token. Whatever they are: nothing
// panics; a token is redeemed at most once, and only for a message that says the agent can take a certificate; what goes to
// the engine keeps within its bounds; and an answer is either an error alone or an offer that has a certificate and a
// heartbeat.
func FuzzFirstMessage(f *testing.F) {
	uid := make([]byte, 16)
	text := func(s string) *protobufs.AnyValue {
		return &protobufs.AnyValue{Value: &protobufs.AnyValue_StringValue{StringValue: s}}
	}
	for _, m := range []*protobufs.AgentToServer{
		{},
		{InstanceUid: uid, Capabilities: 1},
		{InstanceUid: uid, Capabilities: apitype.CapabilityAcceptsOpAMP},
		{InstanceUid: uid, Capabilities: ^uint64(0), AgentDisconnect: &protobufs.AgentDisconnect{}},
		{InstanceUid: uid, Capabilities: apitype.CapabilityAcceptsOpAMP, ConnectionSettingsRequest: &protobufs.ConnectionSettingsRequest{
			Opamp: &protobufs.OpAMPConnectionSettingsRequest{CertificateRequest: &protobufs.CertificateRequest{Csr: []byte("-----BEGIN")}}}},
		{InstanceUid: uid, Capabilities: apitype.CapabilityAcceptsOpAMP, AgentDescription: &protobufs.AgentDescription{
			IdentifyingAttributes: []*protobufs.KeyValue{nil, {Key: "service.name", Value: text("a\u202eb\x00")}},
			NonIdentifyingAttributes: []*protobufs.KeyValue{{Key: "host.name", Value: text(strings.Repeat("\u00e9", 300))},
				{Key: "x", Value: &protobufs.AnyValue{Value: &protobufs.AnyValue_ArrayValue{ArrayValue: &protobufs.ArrayValue{Values: []*protobufs.AnyValue{nil, text("y")}}}}}},
		}},
	} {
		raw, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw, true)
		f.Add(raw, false)
	}
	f.Fuzz(func(t *testing.T, raw []byte, ws bool) {
		var in protobufs.AgentToServer
		if len(raw) > maxSize || proto.Unmarshal(raw, &in) != nil {
			return // opamp-go's own door
		}
		m, err := metrics.New(prometheus.NewRegistry())
		if err != nil {
			t.Fatal(err)
		}
		engine := &issuer{}
		desk := session.NewDesk(session.Options{
			Issuer: engine, Reporter: engine, Trust: settings{}, ServerRoots: func() (string, error) { return "ROOTS", nil },
			MaxStaleness: time.Hour, Metrics: m, Logger: hclog.NewNullLogger(),
		})
		transport := session.HTTP
		if ws {
			transport = session.WebSocket
		}
		s, err := desk.Admit(t.Context(), session.Caller{
			Transport: transport, Source: netip.IPv6Loopback(), Authorization: []string{"Bearer " + token.New(token.Bootstrap).Reveal()},
		})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Closed()
		handler := &Handler{Options: Options{Desk: desk, Metrics: m, Logger: hclog.NewNullLogger()}}
		c := &conversation{handler: handler, session: s}
		out := c.onPoll(t.Context(), nil, &in)
		if again := c.onPoll(t.Context(), nil, &in); again.GetConnectionSettings() != nil && out.GetConnectionSettings() != nil {
			t.Fatal("two offers in one session")
		}

		if engine.calls.Load() > 1 {
			t.Fatalf("redeemed %d times", engine.calls.Load())
		}
		if asked := engine.last.Load(); asked != nil {
			if in.GetCapabilities()&apitype.CapabilityAcceptsOpAMP == 0 {
				t.Fatal("redeemed for an agent that cannot take a certificate")
			}
			if len(in.GetInstanceUid()) != 16 {
				t.Fatal("redeemed without an instance_uid")
			}
			if len(asked.DisplayName) > maxDisplayName || !utf8.ValidString(asked.DisplayName) || len(asked.Description) > maxDescription {
				t.Fatalf("out of bounds: %+v", asked)
			}
			if (asked.CSR == "") != asked.GenerateKey || len(asked.IdempotencyKey) < 16 {
				t.Fatalf("a request that the engine refuses: %+v", asked)
			}
		}
		if out.GetErrorResponse() != nil && (out.ConnectionSettings != nil || out.Capabilities != 0 || out.Flags != 0) {
			t.Fatalf("something beside an error: %v", out)
		}
		if offer := out.GetConnectionSettings().GetOpamp(); out.GetConnectionSettings() != nil &&
			(len(offer.GetCertificate().GetCert()) == 0 || offer.GetHeartbeatIntervalSeconds() == 0 || offer.GetDestinationEndpoint() == "") {
			t.Fatalf("an offer that breaks agents: %v", out)
		}
	})
}
