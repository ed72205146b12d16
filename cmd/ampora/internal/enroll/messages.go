package enroll

import (
	"os"
	"runtime"

	"github.com/google/uuid"
	"github.com/open-telemetry/opamp-go/protobufs"
)

// takesOffers is what a client can that is given a certificate.
const takesOffers = uint64(protobufs.AgentCapabilities_AgentCapabilities_ReportsStatus |
	protobufs.AgentCapabilities_AgentCapabilities_AcceptsOpAMPConnectionSettings |
	protobufs.AgentCapabilities_AgentCapabilities_ReportsConnectionSettingsStatus)

// introduction is what a new agent says of itself when it connects. Without a name it has the host's.
func introduction(called string, uid uuid.UUID) *protobufs.AgentToServer {
	host, err := os.Hostname()
	if err != nil {
		host = "" // it is only told, never relied on
	}
	name := called
	if name == "" {
		name = host
	}
	return &protobufs.AgentToServer{
		InstanceUid: uid[:], Capabilities: takesOffers,
		AgentDescription: &protobufs.AgentDescription{
			IdentifyingAttributes: attributes("service.name", name, "service.instance.id", uid.String()),
			NonIdentifyingAttributes: attributes(
				"host.name", host, "os.type", runtime.GOOS, "host.arch", runtime.GOARCH,
				"service.instance.name", called), // several agents of one host are told apart by it
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

// askForCertificate adds what asks for a certificate to a message.
func askForCertificate(msg *protobufs.AgentToServer, csr []byte) *protobufs.AgentToServer {
	msg.ConnectionSettingsRequest = &protobufs.ConnectionSettingsRequest{
		Opamp: &protobufs.OpAMPConnectionSettingsRequest{
			CertificateRequest: &protobufs.CertificateRequest{Csr: csr},
		},
	}
	return msg
}

// applied says that the offer with this hash is what the agent came with, and keeps.
func applied(hash []byte) *protobufs.AgentToServer {
	return &protobufs.AgentToServer{
		Capabilities: takesOffers,
		ConnectionSettingsStatus: &protobufs.ConnectionSettingsStatus{
			LastConnectionSettingsHash: hash,
			Status:                     protobufs.ConnectionSettingsStatuses_ConnectionSettingsStatuses_APPLIED,
		},
	}
}

func goodbye() *protobufs.AgentToServer {
	return &protobufs.AgentToServer{AgentDisconnect: &protobufs.AgentDisconnect{}}
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
