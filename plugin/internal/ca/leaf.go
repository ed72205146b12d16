package ca

import (
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"net/url"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/identity"
)

// LeafTemplate is what an agent's certificate will say. Every name in it is ours.
type LeafTemplate struct {
	PublicKey   crypto.PublicKey
	AgentID     string // UUID
	Tenant      string // empty without one
	TrustDomain string
	Generation  uint32
	TTL         time.Duration
	Now         time.Time

	CRLDistributionPoints []string
	OCSPServers           []string
}

// SignLeaf signs an agent's client certificate, as the identity package describes it. Errors: issuer_missing when the
// issuer has expired or has less than a minute left, not_configured without a trust domain, key_not_allowed,
// ttl_out_of_range.
func SignLeaf(issuer *Issuer, t LeafTemplate) (Leaf, error) {
	if t.TrustDomain == "" {
		return Leaf{}, apitype.Errorf(apitype.NotConfigured, "trust_domain is not set")
	}
	serial, err := identity.LeafSerial(t.AgentID, t.Generation)
	if err != nil {
		return Leaf{}, err
	}
	id := serial.AgentID() // in its one spelling
	return issuer.sign(&x509.Certificate{
		Subject:               pkix.Name{CommonName: id},
		URIs:                  []*url.URL{identity.SPIFFEID(t.TrustDomain, t.Tenant, id)},
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		CRLDistributionPoints: t.CRLDistributionPoints,
		OCSPServer:            t.OCSPServers,
	}, t.PublicKey, serial, t.Now, t.TTL)
}
