package ca

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/identity"
)

// Leaf is a certificate that an issuer of ours has signed: an agent's, or an edge's.
type Leaf struct {
	DER         []byte
	PEM         string
	Serial      identity.Serial
	Fingerprint string // SHA-256 of the DER, lower-case hex
	NotBefore   time.Time
	NotAfter    time.Time
	TTLCut      bool // it ends with its issuer, before the ttl that was asked for
}

// sign fills in what every certificate has in common (serial, validity, no CA, one usage) and signs it directly with the
// issuer. A leaf never outlives its issuer: nobody looks at the issuer's own expiry later.
func (i *Issuer) sign(template *x509.Certificate, public crypto.PublicKey, serial identity.Serial, now time.Time, ttl time.Duration) (Leaf, error) {
	end, err := i.signable(now)
	if err != nil {
		return Leaf{}, err
	}
	if err := CheckPublicKey(public); err != nil {
		return Leaf{}, err
	}
	if ttl <= 0 {
		return Leaf{}, apitype.Errorf(apitype.TTLOutOfRange, "a certificate's ttl is positive")
	}
	template.SerialNumber = serial.Big()
	template.NotBefore = now.Add(-backdate)
	template.NotAfter = now.Add(ttl)
	template.BasicConstraintsValid = true
	template.KeyUsage = x509.KeyUsageDigitalSignature
	if begin := i.Certificate.NotBefore; template.NotBefore.Before(begin) {
		template.NotBefore = begin
	}
	cut := template.NotAfter.After(end)
	if cut {
		template.NotAfter = end
	}
	der, err := x509.CreateCertificate(rand.Reader, template, i.Certificate, public, i.Key)
	if err != nil {
		return Leaf{}, fmt.Errorf("ca: signing: %w", err)
	}
	return Leaf{
		DER:         der,
		PEM:         EncodeCertificate(der),
		Serial:      serial,
		Fingerprint: identity.Fingerprint(der),
		// A certificate counts in whole seconds of UTC; what is answered is what stands in it.
		NotBefore: template.NotBefore.UTC().Truncate(time.Second),
		NotAfter:  template.NotAfter.UTC().Truncate(time.Second),
		TTLCut:    cut,
	}, nil
}
