package inspect

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"time"
)

// inspectPEM looks at every block, and at what they say of each other.
func inspectPEM(data []byte, now time.Time) []Item {
	b := bundle{now: now}
	rest := data
	for {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil {
			break
		}
		b.add(block)
	}
	if bytes.Contains(rest, []byte("-----BEGIN")) {
		b.items = append(b.items, Item{
			Kind: KindUnknown, Problem: "a PEM block is broken",
			Guesses: []string{"its last line is missing, or lines were joined or indented: copy it again, from -----BEGIN to -----END"},
		})
	}
	b.relate()
	return b.items
}

// bundle gathers blocks; the slices run in step with items, nil where an item is something else.
type bundle struct {
	now   time.Time
	items []Item
	certs []*x509.Certificate
	keys  []crypto.PublicKey
}

func (b *bundle) add(block *pem.Block) {
	var (
		item Item
		cert *x509.Certificate
		key  crypto.PublicKey
	)
	switch block.Type {
	case "CERTIFICATE":
		item, cert = certificateItem(block.Bytes, b.now)
	case "CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST":
		item = requestItem(block.Bytes)
	case "PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY":
		item, key = keyItem(block)
	case "ENCRYPTED PRIVATE KEY":
		item = Item{Kind: KindPrivateKey, Problem: "it is encrypted; neither the edge nor the supervisor can use it"}
	default:
		item = Item{Kind: KindUnknown, Problem: "this PEM block is neither a certificate nor a key"}
	}
	b.items, b.certs, b.keys = append(b.items, item), append(b.certs, cert), append(b.keys, key)
}

// relate says which certificate signed which, and which key belongs to which.
func (b *bundle) relate() {
	for i, cert := range b.certs {
		if cert == nil {
			continue
		}
		for j, issuer := range b.certs {
			if issuer != nil && i != j && cert.CheckSignatureFrom(issuer) == nil {
				b.items[i].Fields.add("signed_by", fingerprint(issuer))
				break
			}
		}
		for j, key := range b.keys {
			if key == nil {
				continue
			}
			if k, ok := cert.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); ok && k.Equal(key) {
				b.items[j].Fields.add("belongs_to", fingerprint(cert))
			}
		}
	}
}
