package opamp

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/ampora/ampora/edge/delivery"
	"github.com/ampora/ampora/edge/session"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/identity"
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
	m.CSR, m.Proof = splitProof(in.GetConnectionSettingsRequest().GetOpamp().GetCertificateRequest().GetCsr())
	m.Settings = settingsStatus(in.GetConnectionSettingsStatus())
	m.Remote = remoteStatus(in.GetRemoteConfigStatus())
	if d := in.GetAgentDescription(); d != nil {
		m.HasDescription = true
		m.Description, m.DisplayName = describe(d)
	}
	return m, nil
}

// splitProof takes apart what an agent sends in the place of a CSR: the CSR and, for a key other than that of its certificate,
// one block with the proof behind it, which comes back in base64. What is not exactly that is all left in the CSR, which the
// engine then refuses.
func splitProof(field []byte) (csr, proof string) {
	begin := bytes.Index(field, proofBegin)
	if begin < 0 {
		return string(field), ""
	}
	block, rest := pem.Decode(field[begin:])
	if block == nil || block.Type != identity.ProofBlock || len(block.Headers) != 0 || len(block.Bytes) == 0 ||
		len(bytes.TrimSpace(field[:begin])) == 0 || len(bytes.TrimSpace(rest)) != 0 || bytes.Count(field, proofBegin) != 1 {
		return string(field), ""
	}
	return string(field[:begin]), base64.StdEncoding.EncodeToString(block.Bytes)
}

var proofBegin = []byte("-----BEGIN " + identity.ProofBlock + "-----")

// settingsStatus reads what became of an offer. A hash that is none of ours says nothing.
func settingsStatus(in *protobufs.ConnectionSettingsStatus) session.SettingsStatus {
	var out session.SettingsStatus
	if len(in.GetLastConnectionSettingsHash()) != offerHashSize {
		return out
	}
	switch in.GetStatus() {
	case protobufs.ConnectionSettingsStatuses_ConnectionSettingsStatuses_APPLIED:
		out.State = session.SettingsApplied
	case protobufs.ConnectionSettingsStatuses_ConnectionSettingsStatuses_FAILED:
		out.State, out.Error = session.SettingsFailed, printable(in.GetErrorMessage())
	}
	copy(out.Leaf[:], in.GetLastConnectionSettingsHash())
	return out
}

// remoteStatus reads what the agent says of its remote config, nil when it says nothing. A hash of another length is none of
// ours: that config it was not given here.
func remoteStatus(in *protobufs.RemoteConfigStatus) *session.RemoteStatus {
	if in == nil {
		return nil
	}
	var out session.RemoteStatus
	if len(in.GetLastRemoteConfigHash()) != len(out.Hash) {
		return &out
	}
	copy(out.Hash[:], in.GetLastRemoteConfigHash())
	switch in.GetStatus() {
	case protobufs.RemoteConfigStatuses_RemoteConfigStatuses_APPLYING:
		out.State = session.RemoteApplying
	case protobufs.RemoteConfigStatuses_RemoteConfigStatuses_APPLIED:
		out.State = session.RemoteApplied
	case protobufs.RemoteConfigStatuses_RemoteConfigStatuses_FAILED:
		out.State, out.Error = session.RemoteFailed, printableTo(in.GetErrorMessage(), apitype.MaxConfigurationError)
	}
	return &out
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

func printable(s string) string { return printableTo(s, maxDisplayName) }

// printableTo leaves out what does not print, and what is beyond the limit in bytes.
func printableTo(s string, limit int) string {
	s = strings.TrimSpace(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, s))
	if len(s) > limit {
		s = strings.TrimSpace(strings.ToValidUTF8(s[:limit], ""))
	}
	return s
}

// capabilities are what this server can do.
const capabilities = uint64(protobufs.ServerCapabilities_ServerCapabilities_AcceptsStatus |
	protobufs.ServerCapabilities_ServerCapabilities_OffersRemoteConfig |
	protobufs.ServerCapabilities_ServerCapabilities_OffersConnectionSettings |
	protobufs.ServerCapabilities_ServerCapabilities_AcceptsConnectionSettingsRequest)

// encode writes a reply.
func encode(r session.Reply, instance []byte) *protobufs.ServerToAgent {
	out := &protobufs.ServerToAgent{InstanceUid: instance}
	if r.Refusal != nil {
		out.ErrorResponse = encodeRefusal(r.Refusal)
		return out // OpAMP: beside an error all other fields must be unset
	}
	out.Capabilities = capabilities
	if r.ReportFullState {
		out.Flags = uint64(protobufs.ServerToAgentFlags_ServerToAgentFlags_ReportFullState)
	}
	if uid, err := uuid.Parse(r.NewInstanceUID); err == nil {
		out.AgentIdentification = &protobufs.AgentIdentification{NewInstanceUid: uid[:]}
	}
	if r.Offer != nil {
		out.ConnectionSettings = encodeOffer(r.Offer)
	}
	if r.Configuration != nil {
		out.RemoteConfig = encodeConfiguration(r.Configuration)
	}
	return out
}

// encodeConfiguration puts the body under the empty name, which is the one of an agent that has a single configuration. A map
// without any would stop the stock supervisor's collector.
func encodeConfiguration(c *delivery.Configuration) *protobufs.AgentRemoteConfig {
	return &protobufs.AgentRemoteConfig{
		Config: &protobufs.AgentConfigMap{ConfigMap: map[string]*protobufs.AgentConfigObject{
			"": {Body: c.Body, ContentType: c.ContentType},
		}},
		ConfigHash: c.Hash[:],
	}
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

// offerHashSize is the length of an offer's hash in bytes.
const offerHashSize = len(session.Digest{}) + 8

// encodeOffer never leaves the certificate out (the stock supervisor would then stop verifying servers) and never says a
// heartbeat of zero (agents would stop theirs). The server's roots stand twice: stock agents read ca_cert, the
// specification's place is tls.
//
// The hash begins with the digest of the leaf: so any edge that hears of an offer knows which leaf it was about. Behind it
// stand some bytes of a digest of everything but the private key.
func encodeOffer(o *session.Offer) *protobufs.ConnectionSettingsOffers {
	settings := &protobufs.OpAMPConnectionSettings{
		DestinationEndpoint: o.Endpoint,
		Certificate: &protobufs.TLSCertificate{
			Cert: []byte(o.Certificate), CaCert: []byte(o.ServerRoots),
		},
		HeartbeatIntervalSeconds: uint64(max(1, o.Heartbeat/time.Second)),
	}
	if o.ServerRoots != "" {
		settings.Tls = &protobufs.TLSConnectionSettings{CaPemContents: o.ServerRoots}
	}
	raw, _ := proto.MarshalOptions{Deterministic: true}.Marshal(settings) // strings of ours: always valid
	all := sha256.Sum256(raw)
	settings.Certificate.PrivateKey = []byte(o.PrivateKey)
	hash := append(o.Leaf[:len(o.Leaf):len(o.Leaf)], all[:offerHashSize-len(o.Leaf)]...)
	return &protobufs.ConnectionSettingsOffers{Hash: hash, Opamp: settings}
}
