package identity

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"net/url"
	"strings"
	"time"
)

// ErrUntrusted means that a certificate is no leaf of the given issuers. Leaf errors wrap it or ErrExpired.
var (
	ErrUntrusted = errors.New("not a certificate of this installation")
	ErrExpired   = errors.New("certificate has expired or is not yet valid")
)

// Leaf is what a verified certificate says of its agent.
type Leaf struct {
	AgentID     string
	Tenant      string // empty without a tenant
	Serial      Serial
	Fingerprint string // SHA-256 of the DER, lower-case hex
	NotAfter    time.Time
	IssuerIndex int // which of the issuers signed it
}

// Backdate is how far a certificate's NotBefore lies before the moment of its signing, for verifiers whose clocks run late. It
// is less only where the issuer itself is younger.
const Backdate = 5 * time.Minute

// IssuedAt is when a leaf was signed. Its own dates tell, but for a leaf of an issuer that was minutes old.
func IssuedAt(notBefore, notAfter time.Time) time.Time {
	if at := notBefore.Add(Backdate); at.Before(notAfter) {
		return at
	}
	return notBefore
}

// RenewFrom is when two thirds of a leaf's life are over: from then on it is to be renewed.
func RenewFrom(notBefore, notAfter time.Time) time.Time {
	issued := IssuedAt(notBefore, notAfter)
	return issued.Add(notAfter.Sub(issued) * 2 / 3)
}

// SPIFFEID is the one URI name of an agent's leaf.
func SPIFFEID(trustDomain, tenant, agentID string) *url.URL {
	path := "/agent/" + agentID
	if tenant != "" {
		path = "/tenant/" + tenant + path
	}
	return &url.URL{Scheme: "spiffe", Host: trustDomain, Path: path}
}

// Fingerprint is the SHA-256 of a certificate's DER in lower-case hex.
func Fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

// VerifyLeaf checks that cert was signed directly by one of the issuers (chain length one: whatever else a client sends
// does not matter), is a client certificate valid at now, and names one agent of the trust domain in CN, SPIFFE ID and
// serial alike. It does not know of revocation. An issuer is a trust anchor: its own expiry and parents are not looked at,
// but no leaf outlives its issuer.
func VerifyLeaf(cert *x509.Certificate, issuers []*x509.Certificate, trustDomain string, now time.Time) (*Leaf, error) {
	signer := -1
	for i, issuer := range issuers {
		if string(cert.RawIssuer) == string(issuer.RawSubject) && cert.CheckSignatureFrom(issuer) == nil {
			signer = i
			break
		}
	}
	if signer < 0 {
		return nil, ErrUntrusted
	}
	serial, ok := ParseSerial(cert.SerialNumber)
	if !ok || serial.Kind() != KindLeaf || cert.IsCA || !hasClientAuth(cert) {
		return nil, ErrUntrusted
	}
	id := serial.AgentID()
	if cert.Subject.CommonName != id || len(cert.URIs) != 1 ||
		len(cert.DNSNames)+len(cert.EmailAddresses)+len(cert.IPAddresses) != 0 {
		return nil, ErrUntrusted
	}
	tenant, found := tenantOf(cert.URIs[0])
	if !found || cert.URIs[0].String() != SPIFFEID(trustDomain, tenant, id).String() {
		return nil, ErrUntrusted
	}
	if now.Before(cert.NotBefore) || now.After(cert.NotAfter) {
		return nil, ErrExpired
	}
	return &Leaf{
		AgentID: id, Tenant: tenant, Serial: serial, Fingerprint: Fingerprint(cert.Raw), NotAfter: cert.NotAfter, IssuerIndex: signer,
	}, nil
}

func hasClientAuth(cert *x509.Certificate) bool {
	for _, usage := range cert.ExtKeyUsage {
		if usage == x509.ExtKeyUsageClientAuth {
			return true
		}
	}
	return false
}

// tenantOf reads the tenant out of a SPIFFE ID's path. The caller formats the whole again and compares.
func tenantOf(u *url.URL) (string, bool) {
	parts := strings.Split(strings.TrimPrefix(u.Path, "/"), "/")
	switch {
	case len(parts) == 2 && parts[0] == "agent":
		return "", true
	case len(parts) == 4 && parts[0] == "tenant" && parts[2] == "agent" && parts[1] != "":
		return parts[1], true
	}
	return "", false
}
