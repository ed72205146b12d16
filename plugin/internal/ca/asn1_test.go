package ca_test

import (
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"testing"
)

// request is a PKCS #10 CertificationRequest, open enough to be put together wrongly.
type request struct {
	Info struct {
		Version    int
		Subject    asn1.RawValue
		PublicKey  asn1.RawValue
		Attributes asn1.RawValue `asn1:"tag:0"`
	}
	Algorithm asn1.RawValue
	Signature asn1.BitString
}

// swapSPKI puts a key of any size into a request and leaves the signature.
func swapSPKI(t testing.TB, der []byte, to crypto.PublicKey) []byte {
	t.Helper()
	var r request
	if rest, err := asn1.Unmarshal(der, &r); err != nil || len(rest) > 0 {
		t.Fatalf("taking the request apart: %v", err)
	}
	spki, err := x509.MarshalPKIXPublicKey(to)
	if err != nil {
		t.Fatal(err)
	}
	r.Info.PublicKey = asn1.RawValue{FullBytes: spki}
	out, err := asn1.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
