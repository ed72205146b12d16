package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"errors"
	"fmt"
)

// ProofBlock is the PEM type under which a renewal's proof travels in OpAMP: one such block stands behind the CSR's in the csr
// field of the CertificateRequest, and holds what Proof has made.
const ProofBlock = "AMPORA RENEWAL PROOF"

// proofPrefix keeps a signature made for a renewal from being good for anything else, and the other way round.
const proofPrefix = "ampora renewal proof v1\x00"

// MaxProof bounds a proof in bytes of base64: that of an RSA-4096 key has 684.
const MaxProof = 1024

// ErrProof means that a renewal's proof is not the signature of the certificate's key.
var ErrProof = errors.New("identity: the proof is no signature of the certificate's key over the new public key")

// proofMessage is what a renewal's proof signs: the prefix, the fingerprint of the certificate that is presented (32 bytes),
// and the new public key (SubjectPublicKeyInfo, DER).
func proofMessage(presented *x509.Certificate, newKey []byte) []byte {
	fingerprint := sha256.Sum256(presented.Raw)
	return append(append([]byte(proofPrefix), fingerprint[:]...), newKey...)
}

// Proof shows that the holder of the presented certificate's key asks for a certificate for newKey (SubjectPublicKeyInfo,
// DER). The signature is ECDSA in ASN.1 over SHA-256 (P-256) or SHA-384 (P-384), Ed25519, or RSA PKCS #1 v1.5 over SHA-256.
func Proof(presented *x509.Certificate, key crypto.Signer, newKey []byte) ([]byte, error) {
	message := proofMessage(presented, newKey)
	switch public := key.Public().(type) {
	case ed25519.PublicKey:
		return key.Sign(rand.Reader, message, crypto.Hash(0))
	case *ecdsa.PublicKey:
		if public.Curve.Params().BitSize == 384 {
			sum := sha512.Sum384(message)
			return key.Sign(rand.Reader, sum[:], crypto.SHA384)
		}
		sum := sha256.Sum256(message)
		return key.Sign(rand.Reader, sum[:], crypto.SHA256)
	case *rsa.PublicKey:
		sum := sha256.Sum256(message)
		return key.Sign(rand.Reader, sum[:], crypto.SHA256)
	default:
		return nil, fmt.Errorf("identity: no proof with a %T", public)
	}
}

// VerifyProof checks what Proof has made: ErrProof when it is something else.
func VerifyProof(presented *x509.Certificate, newKey, proof []byte) error {
	algorithm := x509.PureEd25519
	switch key := presented.PublicKey.(type) {
	case *ecdsa.PublicKey:
		algorithm = x509.ECDSAWithSHA256
		if key.Curve.Params().BitSize == 384 {
			algorithm = x509.ECDSAWithSHA384
		}
	case *rsa.PublicKey:
		algorithm = x509.SHA256WithRSA
	}
	if presented.CheckSignature(algorithm, proofMessage(presented, newKey), proof) != nil {
		return ErrProof
	}
	return nil
}
