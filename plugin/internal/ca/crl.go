package ca

import (
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"time"

	"github.com/ampora/ampora/plugin/identity"
)

// Revoked is a certificate that counts no longer.
type Revoked struct {
	Serial identity.Serial
	Time   time.Time
	Reason string // see Reasons
}

// CRLBackdate is how far a list's thisUpdate lies before its signing, for verifiers whose clocks run late.
const CRLBackdate = backdate

// reasonCodes are the revocation reasons that we give, with their numbers (RFC 5280 section 5.3.1).
var reasonCodes = map[string]int{
	"unspecified": 0, "keyCompromise": 1, "affiliationChanged": 3, "superseded": 4, "cessationOfOperation": 5, "privilegeWithdrawn": 9,
}

// Reasons are the revocation reasons that we give, in the order of their numbers.
func Reasons() []string {
	return slices.SortedFunc(maps.Keys(reasonCodes), func(a, b string) int { return reasonCodes[a] - reasonCodes[b] })
}

// KnownReason reports whether this is a revocation reason that we give.
func KnownReason(reason string) bool { _, ok := reasonCodes[reason]; return ok }

// SignCRL signs the issuer's list of revoked certificates (RFC 5280 section 5), as DER. Its number must be above those of
// all lists that the issuer has signed before.
func (i *Issuer) SignCRL(revoked []Revoked, number *big.Int, now time.Time, life time.Duration) ([]byte, error) {
	entries := make([]x509.RevocationListEntry, len(revoked))
	for n, r := range revoked {
		entries[n] = x509.RevocationListEntry{SerialNumber: r.Serial.Big(), RevocationTime: r.Time.UTC(), ReasonCode: reasonCodes[r.Reason]}
	}
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		RevokedCertificateEntries: entries, Number: number, ThisUpdate: now.Add(-CRLBackdate).UTC(), NextUpdate: now.Add(life).UTC(),
	}, i.Certificate, i.Key)
	if err != nil {
		return nil, fmt.Errorf("ca: signing the CRL: %w", err)
	}
	return der, nil
}
