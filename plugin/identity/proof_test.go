package identity_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"math/big"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/identity"
)

func TestProofIsTheKeysAndForOneNewKeyOnly(t *testing.T) {
	keys := map[string]crypto.Signer{}
	for name, curve := range map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384()} {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		keys[name] = key
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	keys["Ed25519"] = ed
	if keys["RSA"], err = rsa.GenerateKey(rand.Reader, 3072); err != nil {
		t.Fatal(err)
	}
	newKey, other := []byte("a new public key"), []byte("another public key")
	for name, key := range keys {
		t.Run(name, func(t *testing.T) {
			presented, again := selfSigned(t, key, 1), selfSigned(t, key, 2)
			proof, err := identity.Proof(presented, key, newKey)
			if err != nil {
				t.Fatal(err)
			}
			if err := identity.VerifyProof(presented, newKey, proof); err != nil {
				t.Errorf("a good proof: %v", err)
			}
			if err := identity.VerifyProof(presented, other, proof); !errors.Is(err, identity.ErrProof) {
				t.Errorf("for another new key: %v", err)
			}
			if err := identity.VerifyProof(again, newKey, proof); !errors.Is(err, identity.ErrProof) {
				t.Errorf("for another certificate of the same key: %v", err)
			}
			if err := identity.VerifyProof(presented, newKey, nil); !errors.Is(err, identity.ErrProof) {
				t.Errorf("without a proof: %v", err)
			}
			for otherName, otherKey := range keys {
				if otherName == name {
					continue
				}
				if err := identity.VerifyProof(selfSigned(t, otherKey, 1), newKey, proof); !errors.Is(err, identity.ErrProof) {
					t.Errorf("by %s: %v", otherName, err)
				}
			}
		})
	}
}

func selfSigned(t *testing.T, key crypto.Signer, serial int64) *x509.Certificate {
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}
