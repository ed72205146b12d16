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
func (k *keeper) report() error {
	id, err := k.dir.Current()
	if err != nil {
		return err
	}
	who, err := describe(id)
	if err != nil {
		return err
	}
	k.con.Printf("agent_id     %s\n", who.agentID)
	k.con.Printf("instance_uid %s\n", id.InstanceUID)
	k.con.Printf("certificate  %s, valid until %s\n", k.dir.File(idfiles.Cert), who.leaf.NotAfter.UTC().Format(time.RFC3339))
	k.con.Printf("key          %s\n", k.dir.File(idfiles.Key))
	k.con.Printf("endpoint     %s\n", id.Endpoint)
	k.con.Printf("settings     %s, or %s for a collector without a supervisor\n", k.dir.File(idfiles.Supervisor), k.dir.File(idfiles.Extension))
	return nil
}
