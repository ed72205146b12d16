package ca

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/identity"
	"github.com/google/uuid"
)

const (
	// backdate is how far NotBefore lies back, for verifiers whose clocks run late.
	backdate = identity.Backdate
	// minIssuerLife is how long an issuer must still live to sign anything.
	minIssuerLife = time.Minute

	// DefaultIssuerTTL is the lifetime of a self-signed issuer for which none was asked.
	DefaultIssuerTTL = 10 * 365 * 24 * time.Hour
	maxIssuerTTL     = 50 * 365 * 24 * time.Hour

	shortIDChars  = 8
	maxCommonName = 64 // characters, RFC 5280 ub-common-name
)

// Issuer is a CA key of ours with its certificate.
type Issuer struct {
	ID          string // a random UUID
	Certificate *x509.Certificate
	Key         crypto.Signer
	// Chain is the certificate's parents up to the root, nearest first; empty for a self-signed issuer. It is for
	// display only: the trust anchor is Certificate.
	Chain []*x509.Certificate
}

// NewIssuerID makes the id of a new issuer.
func NewIssuerID() string { return uuid.NewString() }

// NewRoot makes a self-signed issuer. An empty commonName means "Ampora CA <short id>", a ttl of 0 DefaultIssuerTTL.
// Errors: field_invalid for the name, ttl_out_of_range, key_not_allowed.
func NewRoot(now time.Time, commonName string, spec KeySpec, ttl time.Duration) (*Issuer, error) {
	id := NewIssuerID()
	subject, err := issuerSubject(id, commonName)
	if err != nil {
		return nil, err
	}
	if ttl == 0 {
		ttl = DefaultIssuerTTL
	}
	if ttl < minIssuerLife || ttl > maxIssuerTTL {
		return nil, apitype.Errorf(apitype.TTLOutOfRange, "an issuer lives between %s and %d years", minIssuerLife, maxIssuerTTL/(365*24*time.Hour))
	}
	key, err := NewKey(spec)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          identity.RandomSerial(identity.KindIssuer).Big(),
		Subject:               subject,
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(ttl),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true, // it signs leaves and no further CA
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("ca: signing the issuer: %w", err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("ca: reading the issuer back: %w", err)
	}
	return &Issuer{ID: id, Certificate: certificate, Key: key}, nil
}

// issuerSubject is the name of an issuer. Verifiers find an issuer by its subject, so no two may share one: the DN's
// serialNumber attribute, whose purpose that is (X.520 section 6.2.9), holds the short id whatever the operator calls it.
func issuerSubject(id, commonName string) (pkix.Name, error) {
	short := id[:min(shortIDChars, len(id))]
	if commonName == "" {
		commonName = "Ampora CA " + short
	}
	if !utf8.ValidString(commonName) || utf8.RuneCountInString(commonName) > maxCommonName {
		return pkix.Name{}, apitype.Errorf(apitype.FieldInvalid, "common_name has at most %d characters of UTF-8", maxCommonName)
	}
	for _, r := range commonName {
		if !unicode.IsPrint(r) {
			return pkix.Name{}, apitype.Errorf(apitype.FieldInvalid, "common_name holds a character that does not print")
		}
	}
	return pkix.Name{CommonName: commonName, SerialNumber: short}, nil
}

// CanSign reports whether the issuer has enough life left to sign anything.
func (i *Issuer) CanSign(now time.Time) bool {
	_, err := i.signable(now)
	return err == nil
}

// signable answers until when the issuer can sign, or issuer_missing when it cannot any more.
func (i *Issuer) signable(now time.Time) (time.Time, error) {
	if i == nil || i.Certificate == nil || i.Key == nil {
		return time.Time{}, apitype.Errorf(apitype.IssuerMissing, "there is no active issuer")
	}
	end := i.Certificate.NotAfter
	if end.Sub(now) < minIssuerLife {
		return time.Time{}, apitype.Errorf(apitype.IssuerMissing, "the active issuer has expired or is about to")
	}
	return end, nil
}
