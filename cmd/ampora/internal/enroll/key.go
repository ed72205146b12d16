package enroll

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/ampora/ampora/cmd/ampora/internal/hint"
	"github.com/google/uuid"
)

// rsaBits is the smallest RSA key that is accepted; larger ones only make handshakes slower.
const rsaBits = 3072

// newKey makes a key and its PKCS #8 PEM.
func newKey(kind string) (pemKey []byte, err error) {
	var key crypto.Signer
	switch kind {
	case "ec":
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "p384":
		key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "ed25519":
		_, key, err = ed25519.GenerateKey(rand.Reader)
	case "rsa":
		key, err = rsa.GenerateKey(rand.Reader, rsaBits)
	default:
		err = fmt.Errorf("there is no key type %q", kind)
	}
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// parseKey reads what newKey made.
func parseKey(pemKey []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(pemKey)
	if block == nil {
		return nil, errors.New("the stored key is no PEM")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("the stored key is damaged") // the cause could quote it
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, errors.New("the stored key cannot sign")
	}
	return signer, nil
}

// newRequest makes the CSR. OpAMP wants the instance uid in it; the certificate's names come from the engine alone.
func newRequest(key crypto.Signer, uid uuid.UUID) ([]byte, error) {
	template := &x509.CertificateRequest{Subject: pkix.Name{CommonName: uid.String()}}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), nil
}

// instanceUID reads the wanted uid, or makes one as OpAMP recommends.
func instanceUID(text string) (uuid.UUID, error) {
	if text == "" {
		return uuid.NewV7()
	}
	uid, err := uuid.Parse(text)
	if err != nil || uid == uuid.Nil {
		return uuid.Nil, hint.New("the instance uid is no UUID", "leave --instance-uid out to have one made")
	}
	return uid, nil
}
