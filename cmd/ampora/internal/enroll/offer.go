package enroll

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/ampora/ampora/cmd/ampora/internal/idfiles"
	"github.com/ampora/ampora/cmd/ampora/internal/opampconn"
	"github.com/ampora/ampora/plugin/identity"
	"github.com/google/uuid"
	"github.com/open-telemetry/opamp-go/protobufs"
)

// offer is what the edge answered, checked as far as that goes without connecting.
type offer struct {
	id   idfiles.Identity
	leaf *x509.Certificate
}

// readOffer finds an offer with a certificate in a message; nil when the message carries none.
func readOffer(msg *protobufs.ServerToAgent) *protobufs.OpAMPConnectionSettings {
	settings := msg.GetConnectionSettings().GetOpamp()
	if len(settings.GetCertificate().GetCert()) == 0 {
		return nil
	}
	return settings
}

// checkOffer holds the offer against what was asked for: the certificate must be for our key and for the agent that asks.
func checkOffer(msg *protobufs.ServerToAgent, key crypto.Signer, keyPEM []byte, agentID, asked string, ca []byte, uid uuid.UUID) (*offer, error) {
	settings := readOffer(msg)
	block, _ := pem.Decode(settings.GetCertificate().GetCert())
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("the edge offered something that is no certificate")
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("the edge offered a certificate that cannot be read: %w", err)
	}
	public, ok := leaf.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(key.Public()) {
		return nil, errors.New("the edge offered a certificate for another key than ours")
	}
	serial, ok := identity.ParseSerial(leaf.SerialNumber)
	if !ok || serial.Kind() != identity.KindLeaf || leaf.Subject.CommonName != serial.AgentID() {
		return nil, errors.New("the edge offered a certificate that names no agent of Ampora")
	}
	if serial.AgentID() != agentID {
		return nil, fmt.Errorf("the edge offered a certificate for agent %s, but agent %s has asked", serial.AgentID(), agentID)
	}
	if settings.GetTls().GetInsecureSkipVerify() {
		return nil, errors.New("the edge offered settings that leave it unverified")
	}
	if given := msg.GetAgentIdentification().GetNewInstanceUid(); len(given) == len(uid) {
		copy(uid[:], given)
	}
	o := &offer{leaf: leaf}
	o.id = idfiles.Identity{
		Cert: settings.GetCertificate().GetCert(), Key: keyPEM, CA: serverRoots(settings, ca),
		Endpoint: settings.GetDestinationEndpoint(), InstanceUID: uid.String(),
		Offer: msg.GetConnectionSettings().GetHash(),
	}
	if o.id.Endpoint == "" {
		o.id.Endpoint = asked
	}
	if _, err := opampconn.ParseEndpoint(o.id.Endpoint); err != nil {
		return nil, fmt.Errorf("the edge offered an endpoint that cannot be used: %w", err)
	}
	if _, err := o.id.Roots(); err != nil {
		return nil, fmt.Errorf("the edge offered roots that cannot be used: %w", err)
	}
	return o, nil
}

// serverRoots are what verifies the edge from now on: what it offered, else what the person gave. Nothing means that its
// certificate is a public one.
func serverRoots(settings *protobufs.OpAMPConnectionSettings, given []byte) []byte {
	for _, ca := range [][]byte{[]byte(settings.GetTls().GetCaPemContents()), settings.GetCertificate().GetCaCert(), given} {
		if len(bytes.TrimSpace(ca)) > 0 {
			return ca
		}
	}
	return nil
}
