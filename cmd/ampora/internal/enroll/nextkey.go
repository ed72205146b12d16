package enroll

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"

	"github.com/ampora/ampora/cmd/ampora/internal/idfiles"
	"github.com/ampora/ampora/plugin/identity"
	"github.com/google/uuid"
)

// nextKey is the key that the next certificate is for.
type nextKey struct {
	pem    []byte
	signer crypto.Signer
	stored bool   // in the stage
	proof  []byte // PEM: the current key agrees; nil for the current key itself
}

// nextKey is the current key, or a new one, which is stored before anybody is asked. A new key of an earlier run is taken up,
// for it may have a certificate by now.
func (r *renewal) nextKey(id *idfiles.Identity, who *whose) (*nextKey, error) {
	pair, err := id.Pair()
	if err != nil {
		return nil, err
	}
	current, ok := pair.PrivateKey.(crypto.Signer)
	if !ok {
		return nil, errors.New("the key of the identity cannot sign")
	}
	if !r.NewKey {
		return &nextKey{pem: id.Key, signer: current}, nil
	}
	p, err := r.dir.Pending()
	if err != nil {
		return nil, err
	}
	var text []byte
	if p != nil && p.TokenID == renewalOf(who) && !bytes.Equal(bytes.TrimSpace(p.Key), bytes.TrimSpace(id.Key)) {
		text = p.Key
	} else {
		if text, err = newKey(kindOf(current)); err != nil {
			return nil, err
		}
		if err := r.begin(text, id, who); err != nil {
			return nil, err
		}
	}
	signer, err := parseKey(text)
	if err != nil {
		return nil, errors.Join(err, r.dir.Drop())
	}
	public, err := x509.MarshalPKIXPublicKey(signer.Public())
	if err != nil {
		return nil, err
	}
	proof, err := identity.Proof(who.leaf, current, public)
	if err != nil {
		return nil, err
	}
	return &nextKey{pem: text, signer: signer, stored: true, proof: pem.EncodeToMemory(&pem.Block{Type: identity.ProofBlock, Bytes: proof})}, nil
}

// request is what goes into OpAMP's field for a CSR.
func (k *nextKey) request(uid uuid.UUID) ([]byte, error) {
	csr, err := newRequest(k.signer, uid)
	return append(csr, k.proof...), err
}

// renewalOf marks the stage.
func renewalOf(who *whose) string {
	return idfiles.RenewalOf(hex.EncodeToString(who.leaf.SerialNumber.Bytes()))
}

// kindOf is what newKey calls a key's kind.
func kindOf(key crypto.Signer) string {
	switch k := key.(type) {
	case *rsa.PrivateKey:
		return "rsa"
	case ed25519.PrivateKey:
		return "ed25519"
	case *ecdsa.PrivateKey:
		if k.Curve.Params().BitSize == 384 {
			return "p384"
		}
	}
	return "ec"
}
