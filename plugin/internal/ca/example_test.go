package ca_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"time"

	"github.com/ampora/ampora/plugin/identity"
	"github.com/ampora/ampora/plugin/internal/ca"
)

// An agent's own key goes in as a CSR, and a certificate that any edge can verify offline comes out.
func Example() {
	now := time.Now()
	spec, _ := ca.ParseKeySpec("", 0)
	issuer, err := ca.NewRoot(now, "", spec, 0)
	if err != nil {
		fmt.Println(err)
		return
	}

	agentKey, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	der, _ := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, agentKey)
	csr, err := ca.ParseCSR(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})))
	if err != nil {
		fmt.Println(err)
		return
	}

	leaf, err := ca.SignLeaf(issuer, ca.LeafTemplate{
		PublicKey: csr.PublicKey, AgentID: "7d444840-9dc0-81d1-b245-5ffdce74fad2", TrustDomain: "ampora.example",
		TTL: 90 * 24 * time.Hour, Now: now,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	certificate, _ := ca.ParseCertificate(leaf.PEM)
	agent, err := identity.VerifyLeaf(certificate, []*x509.Certificate{issuer.Certificate}, "ampora.example", now)
	fmt.Println(err)
	fmt.Println(certificate.URIs[0])
	fmt.Println(agent.Serial)
	// Output:
	// <nil>
	// spiffe://ampora.example/agent/7d444840-9dc0-81d1-b245-5ffdce74fad2
	// 01:7d:44:48:40:9d:c0:81:d1:b2:45:5f:fd:ce:74:fa:d2:00:00:00
}
