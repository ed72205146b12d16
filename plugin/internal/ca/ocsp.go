package ca

import (
	"bytes"
	"crypto"
	_ "crypto/sha1" // what clients identify issuers by, RFC 5019 section 2.1.1; nothing is trusted for it
	_ "crypto/sha256"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"time"

	"github.com/ampora/ampora/plugin/identity"
	"golang.org/x/crypto/ocsp"
)

// OCSPRequest is what a client asks: about one certificate of one issuer (RFC 6960 section 4.1).
type OCSPRequest struct {
	Serial identity.Serial
	Ours   bool // the serial is one that we could have given
	raw    *ocsp.Request
}

// ParseOCSPRequest reads a request. Of several certificates the first counts, and a nonce is not answered, as RFC 5019
// sections 2.1.1 and 4 allow.
func ParseOCSPRequest(der []byte) (*OCSPRequest, error) {
	raw, err := ocsp.ParseRequest(der)
	if err != nil {
		return nil, fmt.Errorf("ca: the OCSP request: %w", err)
	}
	serial, ours := identity.ParseSerial(raw.SerialNumber)
	return &OCSPRequest{Serial: serial, Ours: ours, raw: raw}, nil
}

// Names reports whether the request is about a certificate of this issuer.
func (r *OCSPRequest) Names(i *Issuer) bool {
	if i.Certificate == nil || !r.raw.HashAlgorithm.Available() {
		return false
	}
	name, key, err := issuerHashes(i, r.raw.HashAlgorithm)
	return err == nil && bytes.Equal(name, r.raw.IssuerNameHash) && bytes.Equal(key, r.raw.IssuerKeyHash)
}

// issuerHashes are those of the issuer's name and of its public key's bits.
func issuerHashes(i *Issuer, algorithm crypto.Hash) (name, key []byte, err error) {
	var spki struct {
		Algorithm pkix.AlgorithmIdentifier
		PublicKey asn1.BitString
	}
	if _, err := asn1.Unmarshal(i.Certificate.RawSubjectPublicKeyInfo, &spki); err != nil {
		return nil, nil, err
	}
	sum := func(data []byte) []byte {
		h := algorithm.New()
		h.Write(data)
		return h.Sum(nil)
	}
	return sum(i.Certificate.RawSubject), sum(spki.PublicKey.RightAlign()), nil
}

// OCSPStatus is the answer to a request.
type OCSPStatus struct {
	Known   bool     // the serial was given by the issuer
	Revoked *Revoked // nil: good
}

// SignOCSP answers a request that names this issuer, signed with the issuer's own key, as DER (RFC 6960 section 4.2).
// life is how long the answer may be believed; an unknown serial's is never to be kept, because it may be given any time.
func (i *Issuer) SignOCSP(r *OCSPRequest, status OCSPStatus, now time.Time, life time.Duration) ([]byte, error) {
	template := ocsp.Response{
		Status: ocsp.Good, SerialNumber: r.raw.SerialNumber, IssuerHash: r.raw.HashAlgorithm,
		ThisUpdate: now.UTC().Truncate(time.Second), NextUpdate: now.Add(life).UTC().Truncate(time.Second),
	}
	switch {
	case !status.Known:
		template.Status, template.NextUpdate = ocsp.Unknown, template.ThisUpdate
	case status.Revoked != nil:
		template.Status = ocsp.Revoked
		template.RevokedAt, template.RevocationReason = status.Revoked.Time.UTC(), reasonCodes[status.Revoked.Reason]
	}
	der, err := ocsp.CreateResponse(i.Certificate, i.Certificate, template, i.Key)
	if err != nil {
		return nil, fmt.Errorf("ca: signing the OCSP response: %w", err)
	}
	return der, nil
}

// The answers to what cannot be answered (RFC 6960 section 2.3). They are not signed.
var (
	OCSPMalformed    = ocsp.MalformedRequestErrorResponse
	OCSPUnauthorized = ocsp.UnauthorizedErrorResponse
	OCSPTryLater     = ocsp.TryLaterErrorResponse
	OCSPInternal     = ocsp.InternalErrorErrorResponse
)
