package opamp

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/ampora/ampora/edge/session"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/google/uuid"
	"github.com/open-telemetry/opamp-go/protobufs"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// Bounds of what is taken over from an agent.
const (
	maxDescription = 16 << 10 // bytes of JSON; a larger description counts as empty
	maxDisplayName = 256      // bytes, as the engine's rows
)

// decode reads what matters out of a message.
func decode(in *protobufs.AgentToServer) (session.Message, *apitype.Error) {
	uid, err := uuid.FromBytes(in.GetInstanceUid())
	if err != nil {
		return session.Message{}, apitype.Errorf(apitype.MessageInvalid, "instance_uid must be 16 bytes, a UUID")
	}
	m := session.Message{
		InstanceUID: uid.String(), Capabilities: in.GetCapabilities(), Goodbye: in.GetAgentDisconnect() != nil,
	}
	m.CSR = string(in.GetConnectionSettingsRequest().GetOpamp().GetCertificateRequest().GetCsr())
	if d := in.GetAgentDescription(); d != nil {
		m.HasDescription = true
		m.Description, m.DisplayName = describe(d)
	}
	return m, nil
}

// describe makes the description comparable: attributes in the order of their keys, one spelling of JSON.
func describe(d *protobufs.AgentDescription) (description, displayName string) {
	byKey := func(a, b *protobufs.KeyValue) int { return strings.Compare(a.GetKey(), b.GetKey()) }
	slices.SortStableFunc(d.IdentifyingAttributes, byKey)
	slices.SortStableFunc(d.NonIdentifyingAttributes, byKey)
	raw, err := protojson.Marshal(d)
	if err != nil || len(raw) > 2*maxDescription {
		raw = []byte("{}")
	}
	var compact bytes.Buffer // protojson adds random white space
	if json.Compact(&compact, raw) != nil || compact.Len() > maxDescription {
		return "{}", displayNameOf(d)
	}
	return compact.String(), displayNameOf(d)
}

// displayNameOf picks the name that people know the agent by.
func displayNameOf(d *protobufs.AgentDescription) string {
	for _, key := range []string{"service.instance.name", "host.name", "service.name"} {
		for _, attributes := range [][]*protobufs.KeyValue{d.IdentifyingAttributes, d.NonIdentifyingAttributes} {
			for _, a := range attributes {
				if a.GetKey() != key {
					continue
				}
				if name := printable(a.GetValue().GetStringValue()); name != "" {
					return name
				}
			}
		}
	}
	return ""
}

func printable(s string) string {
	s = strings.TrimSpace(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, s))
	if len(s) > maxDisplayName {
		s = strings.TrimSpace(strings.ToValidUTF8(s[:maxDisplayName], ""))
	}
	return s
}

// What this server can do. A bootstrap session exists to hand out connection settings; a known agent's is not asked for any.
const (
	bootstrapCapabilities = uint64(protobufs.ServerCapabilities_ServerCapabilities_AcceptsStatus |
		protobufs.ServerCapabilities_ServerCapabilities_OffersConnectionSettings |
		protobufs.ServerCapabilities_ServerCapabilities_AcceptsConnectionSettingsRequest)
	agentCapabilities = uint64(protobufs.ServerCapabilities_ServerCapabilities_AcceptsStatus)
)

// encode writes a reply.
func encode(r session.Reply, instance []byte) *protobufs.ServerToAgent {
	out := &protobufs.ServerToAgent{InstanceUid: instance}
	if r.Refusal != nil {
		out.ErrorResponse = encodeRefusal(r.Refusal)
		return out // OpAMP: beside an error all other fields must be unset
	}
	out.Capabilities = agentCapabilities
	if r.Kind == session.KindBootstrap {
		out.Capabilities = bootstrapCapabilities
	}
	if r.ReportFullState {
		out.Flags = uint64(protobufs.ServerToAgentFlags_ServerToAgentFlags_ReportFullState)
	}
	if uid, err := uuid.Parse(r.NewInstanceUID); err == nil {
		out.AgentIdentification = &protobufs.AgentIdentification{NewInstanceUid: uid[:]}
	}
	if r.Offer != nil {
		out.ConnectionSettings = encodeOffer(r.Offer)
	}
	return out
}

func encodeRefusal(r *session.Refusal) *protobufs.ServerErrorResponse {
	out := &protobufs.ServerErrorResponse{
		Type:         protobufs.ServerErrorResponseType_ServerErrorResponseType_BadRequest,
		ErrorMessage: r.Err.Error(),
	}
	if r.Passing() {
		out.Type = protobufs.ServerErrorResponseType_ServerErrorResponseType_Unavailable
		out.Details = &protobufs.ServerErrorResponse_RetryInfo{
			RetryInfo: &protobufs.RetryInfo{RetryAfterNanoseconds: uint64(r.RetryAfter)},
		}
	}
	return out
}

// encodeOffer never leaves the certificate out (the stock supervisor would then stop verifying servers) and never says a
// heartbeat of zero (agents would stop theirs). The server's roots stand twice: stock agents read ca_cert, the
// specification's place is tls.
func encodeOffer(o *session.Offer) *protobufs.ConnectionSettingsOffers {
	settings := &protobufs.OpAMPConnectionSettings{
		DestinationEndpoint: o.Endpoint,
		Certificate: &protobufs.TLSCertificate{
			Cert: []byte(o.Certificate), PrivateKey: []byte(o.PrivateKey), CaCert: []byte(o.ServerRoots),
		},
		HeartbeatIntervalSeconds: uint64(max(1, o.Heartbeat/time.Second)),
	}
	if o.ServerRoots != "" {
		settings.Tls = &protobufs.TLSConnectionSettings{CaPemContents: o.ServerRoots}
	}
	raw, _ := proto.MarshalOptions{Deterministic: true}.Marshal(settings) // strings of ours: always valid
	hash := sha256.Sum256(raw)
	return &protobufs.ConnectionSettingsOffers{Hash: hash[:], Opamp: settings}
}
