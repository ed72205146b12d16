package ca

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"strings"

	"github.com/ampora/ampora/plugin/apitype"
)

// MaxCSRBytes is the longest CSR taken, in bytes of PEM. One with an RSA-4096 key and a few names has 2 KiB.
const MaxCSRBytes = 16 << 10

const (
	pemRequest    = "CERTIFICATE REQUEST"
	pemRequestOld = "NEW CERTIFICATE REQUEST" // written by older Windows and Java tools
)

// CSR is all that counts of a certificate signing request.
type CSR struct {
	PublicKey crypto.PublicKey
	// KeyHash is the SHA-256 of the key's SubjectPublicKeyInfo in DER. Two requests for one key have the same.
	KeyHash [sha256.Size]byte
}

// ParseCSR takes in one PEM CSR, with white space around it and nothing else. Its self-signature is verified. Errors:
// key_not_allowed for a well-formed request with a key that no certificate of ours may hold, csr_invalid for all else.
func ParseCSR(text string) (*CSR, error) {
	if len(text) > MaxCSRBytes {
		return nil, apitype.Errorf(apitype.CSRInvalid, "it is over %d KiB", MaxCSRBytes>>10)
	}
	text = strings.TrimSpace(text)
	if text == "" {
		return nil, apitype.Errorf(apitype.CSRInvalid, "it is empty")
	}
	block, rest, err := nextBlock([]byte(text))
	switch {
	case err != nil:
		return nil, apitype.Errorf(apitype.CSRInvalid, "it is no PEM block")
	case block.Type != pemRequest && block.Type != pemRequestOld:
		return nil, apitype.Errorf(apitype.CSRInvalid, "its PEM block is not of type %s", pemRequest)
	case len(rest) > 0:
		return nil, apitype.Errorf(apitype.CSRInvalid, "something follows its PEM block")
	}
	request, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, apitype.Errorf(apitype.CSRInvalid, "its DER does not parse")
	}
	// The key comes before the signature: a modulus of 100,000 bits is cheap to send and dear to verify with.
	if err := CheckPublicKey(request.PublicKey); err != nil {
		return nil, err
	}
	if !strongSignature(request.SignatureAlgorithm) {
		return nil, apitype.Errorf(apitype.CSRInvalid, "its signature algorithm is weak or unknown")
	}
	if err := request.CheckSignature(); err != nil {
		return nil, apitype.Errorf(apitype.CSRInvalid, "its signature is not by its own key")
	}
	// Encoded anew rather than taken as sent, so that one key has one hash however its sender spelled it.
	spki, err := x509.MarshalPKIXPublicKey(request.PublicKey)
	if err != nil {
		return nil, apitype.Errorf(apitype.CSRInvalid, "its key does not encode")
	}
	return &CSR{PublicKey: request.PublicKey, KeyHash: sha256.Sum256(spki)}, nil
}

// strongSignature is needed because crypto/x509 still takes SHA-1 on a CSR, though not on a certificate.
func strongSignature(algorithm x509.SignatureAlgorithm) bool {
	switch algorithm {
	case x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512, x509.PureEd25519,
		x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA,
		x509.SHA256WithRSAPSS, x509.SHA384WithRSAPSS, x509.SHA512WithRSAPSS:
		return true
	}
	return false
}
