package enroll

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"time"

	"github.com/ampora/ampora/cmd/ampora/internal/idfiles"
	"github.com/ampora/ampora/plugin/identity"
)

// whose is whom an identity stands for.
type whose struct {
	agentID string
	leaf    *x509.Certificate
}

func describe(id *idfiles.Identity) (*whose, error) {
	block, _ := pem.Decode(id.Cert)
	if block == nil {
		return nil, errors.New("the certificate is no PEM")
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, err
	}
	serial, ok := identity.ParseSerial(leaf.SerialNumber)
	if !ok || serial.Kind() != identity.KindLeaf {
		return nil, errors.New("the certificate names no agent of Ampora")
	}
	return &whose{agentID: serial.AgentID(), leaf: leaf}, nil
}

// report tells what now lies in the directory.
func (e *enrolment) report() error {
	id, err := e.dir.Current()
	if err != nil {
		return err
	}
	who, err := describe(id)
	if err != nil {
		return err
	}
	e.con.Printf("agent_id     %s\n", who.agentID)
	e.con.Printf("instance_uid %s\n", id.InstanceUID)
	e.con.Printf("certificate  %s, valid until %s\n", e.dir.File(idfiles.Cert), who.leaf.NotAfter.UTC().Format(time.RFC3339))
	e.con.Printf("key          %s\n", e.dir.File(idfiles.Key))
	e.con.Printf("endpoint     %s\n", id.Endpoint)
	e.con.Printf("settings     %s, or %s for a collector without a supervisor\n", e.dir.File(idfiles.Supervisor), e.dir.File(idfiles.Extension))
	return nil
}
