package ca

import (
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"net"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/identity"
)

// EdgeTTL is the lifetime of an edge's server certificate when none is asked for.
const EdgeTTL = 7 * 24 * time.Hour

// EdgeTemplate is what an edge's server certificate will say. The caller has checked that the edge may have the names.
type EdgeTemplate struct {
	PublicKey crypto.PublicKey
	DNSNames  []string
	IPs       []net.IP
	Now       time.Time
	TTL       time.Duration // 0 = EdgeTTL
}

// SignEdge signs a server certificate for an edge: serverAuth only and no URI name, so that it can never pass for an
// agent. Errors as in SignLeaf, and edge_name_not_allowed when there is no name.
func SignEdge(issuer *Issuer, t EdgeTemplate) (Leaf, error) {
	var first string
	switch {
	case len(t.DNSNames) > 0:
		first = t.DNSNames[0]
	case len(t.IPs) > 0:
		first = t.IPs[0].String()
	default:
		return Leaf{}, apitype.Errorf(apitype.EdgeNameNotAllowed, "no name was asked for")
	}
	subject := pkix.Name{CommonName: first}
	if len(first) > maxCommonName {
		subject = pkix.Name{} // verifiers go by the SAN, which takes any length
	}
	ttl := t.TTL
	if ttl == 0 {
		ttl = EdgeTTL
	}
	return issuer.sign(&x509.Certificate{
		Subject:     subject,
		DNSNames:    t.DNSNames,
		IPAddresses: t.IPs,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, t.PublicKey, identity.RandomSerial(identity.KindEdge), t.Now, ttl)
}
