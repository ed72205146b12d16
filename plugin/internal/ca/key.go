package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/ampora/ampora/plugin/apitype"
)

// Key types, as in the fields key_type and private_key_type of Vault's own PKI engine.
const (
	KeyEC      = "ec"
	KeyEd25519 = "ed25519"
	KeyRSA     = "rsa"
)

// RSA moduli outside these bounds, in bits, are refused: smaller ones are weak, larger ones are slow to check, which
// makes them a weapon.
const (
	minRSABits = 3072
	maxRSABits = 4096
)

// minRSAExponent is the smallest public exponent taken, as in FIPS 186-5: odd and above 2^16.
const minRSAExponent = 1<<16 + 1

const pemPrivateKey = "PRIVATE KEY"

// KeySpec says which key to make. ParseKeySpec is the way to one.
type KeySpec struct {
	Type string // KeyEC, KeyEd25519 or KeyRSA
	Bits int    // ec: 256 or 384; rsa: 3072 or 4096; ed25519: 0
}

// ParseKeySpec reads key_type and key_bits. Empty and 0 mean the default: ec with 256 bits, rsa with 3072. The error is
// key_not_allowed.
func ParseKeySpec(keyType string, bits int) (KeySpec, error) {
	spec := KeySpec{Type: keyType, Bits: bits}
	if spec.Type == "" {
		spec.Type = KeyEC
	}
	if spec.Bits == 0 {
		spec.Bits = map[string]int{KeyEC: 256, KeyRSA: minRSABits}[spec.Type]
	}
	switch spec {
	case KeySpec{KeyEC, 256}, KeySpec{KeyEC, 384}, KeySpec{KeyEd25519, 0}, KeySpec{KeyRSA, 3072}, KeySpec{KeyRSA, 4096}:
		return spec, nil
	}
	return KeySpec{}, apitype.Errorf(apitype.KeyNotAllowed, "key_type and key_bits name no such key")
}

// NewKey makes a key. RSA keys take seconds.
func NewKey(spec KeySpec) (crypto.Signer, error) {
	switch {
	case spec == KeySpec{KeyEC, 256}:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case spec == KeySpec{KeyEC, 384}:
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case spec.Type == KeyEd25519:
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	case spec.Type == KeyRSA && spec.Bits >= minRSABits && spec.Bits <= maxRSABits:
		return rsa.GenerateKey(rand.Reader, spec.Bits)
	}
	return nil, apitype.Errorf(apitype.KeyNotAllowed, "no such key can be made")
}

// KeyType names the type of a public key: KeyEC, KeyEd25519, KeyRSA, or "" for any other.
func KeyType(public crypto.PublicKey) string {
	switch public.(type) {
	case *ecdsa.PublicKey:
		return KeyEC
	case ed25519.PublicKey:
		return KeyEd25519
	case *rsa.PublicKey:
		return KeyRSA
	}
	return ""
}

// MarshalKey is the private key as one PEM block of PKCS #8.
func MarshalKey(key crypto.Signer) (string, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", fmt.Errorf("ca: %w", err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: pemPrivateKey, Bytes: der})), nil
}

// ParseKey reads what MarshalKey writes. It is for our own storage; its errors say nothing of the content.
func ParseKey(text string) (crypto.Signer, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil || block.Type != pemPrivateKey {
		return nil, errors.New("ca: stored key is no PEM block of PKCS #8")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("ca: stored key does not parse")
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, errors.New("ca: stored key cannot sign")
	}
	return signer, nil
}

// CheckPublicKey refuses, with key_not_allowed, every key that no certificate of ours may hold.
func CheckPublicKey(public crypto.PublicKey) error {
	switch key := public.(type) {
	case *ecdsa.PublicKey:
		if key.Curve != elliptic.P256() && key.Curve != elliptic.P384() {
			return apitype.Errorf(apitype.KeyNotAllowed, "it is an ECDSA key on another curve")
		}
	case ed25519.PublicKey:
	case *rsa.PublicKey:
		bits := key.N.BitLen()
		if bits < minRSABits || bits > maxRSABits {
			return apitype.Errorf(apitype.KeyNotAllowed, "it is an RSA key of %d bits", bits)
		}
		if key.N.Bit(0) == 0 || key.E < minRSAExponent || key.E%2 == 0 {
			return apitype.Errorf(apitype.KeyNotAllowed, "it is an RSA key with an unusual exponent or modulus")
		}
	default:
		return apitype.Errorf(apitype.KeyNotAllowed, "it is a key of another type")
	}
	return nil
}
