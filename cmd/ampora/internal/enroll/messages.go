package enroll

import (
	"os"
	"runtime"

	"github.com/google/uuid"
	"github.com/open-telemetry/opamp-go/protobufs"
)

// firstMessage is what an agent says of itself when it connects.
func (e *enrolment) firstMessage(uid uuid.UUID) *protobufs.AgentToServer {
	host, err := os.Hostname()
	if err != nil {
		host = "" // it is only told, never relied on
	}
	name := e.name
	if name == "" {
		name = host
	}
	return &protobufs.AgentToServer{
		InstanceUid: uid[:],
		Capabilities: uint64(protobufs.AgentCapabilities_AgentCapabilities_ReportsStatus |
			protobufs.AgentCapabilities_AgentCapabilities_AcceptsOpAMPConnectionSettings |
			protobufs.AgentCapabilities_AgentCapabilities_ReportsConnectionSettingsStatus),
		AgentDescription: &protobufs.AgentDescription{
			IdentifyingAttributes: attributes("service.name", name, "service.instance.id", uid.String()),
			NonIdentifyingAttributes: attributes(
				"host.name", host, "os.type", runtime.GOOS, "host.arch", runtime.GOARCH,
				"service.instance.name", e.name), // several agents of one host are told apart by it
		},
	}
}

// knock says no more than who is there. An identity that is only tried belongs to an agent that describes itself otherwise, and
// what it said of itself must stay.
func knock(uid uuid.UUID) *protobufs.AgentToServer {
	return &protobufs.AgentToServer{
		InstanceUid: uid[:], Capabilities: uint64(protobufs.AgentCapabilities_AgentCapabilities_ReportsStatus),
	}
}

// askForCertificate adds the CSR to a first message.
func askForCertificate(msg *protobufs.AgentToServer, csr []byte) {
	msg.ConnectionSettingsRequest = &protobufs.ConnectionSettingsRequest{
		Opamp: &protobufs.OpAMPConnectionSettingsRequest{
			CertificateRequest: &protobufs.CertificateRequest{Csr: csr},
		},
	}
}

// applied says in a first message that the offer with this hash is what the agent came with.
func applied(msg *protobufs.AgentToServer, hash []byte) {
	if len(hash) == 0 {
		return
	}
	msg.ConnectionSettingsStatus = &protobufs.ConnectionSettingsStatus{
		LastConnectionSettingsHash: hash,
		Status:                     protobufs.ConnectionSettingsStatuses_ConnectionSettingsStatuses_APPLIED,
	}
}

func goodbye(uid uuid.UUID) *protobufs.AgentToServer {
	return &protobufs.AgentToServer{InstanceUid: uid[:], SequenceNum: 1, AgentDisconnect: &protobufs.AgentDisconnect{}}
}

func attributes(pairs ...string) []*protobufs.KeyValue {
	var list []*protobufs.KeyValue
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] == "" {
			continue
		}
		list = append(list, &protobufs.KeyValue{
			Key:   pairs[i],
			Value: &protobufs.AnyValue{Value: &protobufs.AnyValue_StringValue{StringValue: pairs[i+1]}},
		})
	}
	return list
}
