package ca_test

import (
	"crypto"
	"strings"
	"testing"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/ca"
)

func TestParseKeySpec(t *testing.T) {
	for _, c := range []struct {
		keyType string
		bits    int
		want    ca.KeySpec
	}{
		{"", 0, ca.KeySpec{Type: "ec", Bits: 256}},
		{"", 384, ca.KeySpec{Type: "ec", Bits: 384}},
		{"ec", 0, ca.KeySpec{Type: "ec", Bits: 256}},
		{"ec", 256, ca.KeySpec{Type: "ec", Bits: 256}},
		{"ed25519", 0, ca.KeySpec{Type: "ed25519"}},
		{"rsa", 0, ca.KeySpec{Type: "rsa", Bits: 3072}},
		{"rsa", 4096, ca.KeySpec{Type: "rsa", Bits: 4096}},
	} {
		got, err := ca.ParseKeySpec(c.keyType, c.bits)
		if err != nil || got != c.want {
			t.Errorf("%q %d: %v, %v", c.keyType, c.bits, got, err)
		}
	}
	for _, c := range []ca.KeySpec{{"ec", 224}, {"ec", 521}, {"rsa", 2048}, {"rsa", 8192}, {"ed25519", 256}, {"dsa", 0}, {"EC", 256}, {"ec", -1}} {
		_, err := ca.ParseKeySpec(c.Type, c.Bits)
		wantCode(t, err, apitype.KeyNotAllowed)
		if _, err := ca.NewKey(c); c.Type != "ed25519" && err == nil {
			t.Errorf("NewKey made %v", c)
		}
	}
}

func TestKeysComeBackFromPEM(t *testing.T) {
	for _, spec := range []ca.KeySpec{{"ec", 256}, {"ec", 384}, {"ed25519", 0}, {"rsa", 3072}} {
		key := newKey(t, spec.Type, spec.Bits)
		if got := ca.KeyType(key.Public()); got != spec.Type {
			t.Errorf("KeyType %q, want %q", got, spec.Type)
		}
		text, err := ca.MarshalKey(key)
		if err != nil {
			t.Fatal(err)
		}
		back, err := ca.ParseKey(text)
		if err != nil {
			t.Fatal(err)
		}
		if !back.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(key.Public()) {
			t.Errorf("%v: another key came back", spec)
		}
	}
}

func TestParseKeyNeverQuotesTheKey(t *testing.T) {
	text, err := ca.MarshalKey(newKey(t, ca.KeyEC, 256))
	if err != nil {
		t.Fatal(err)
	}
	secret := strings.Split(text, "\n")[1]
	for _, broken := range []string{"", text[:len(text)/2], strings.Replace(text, "PRIVATE", "RSA PRIVATE", 2), strings.Replace(text, secret[:4], "AAAA", 1)} {
		_, err := ca.ParseKey(broken)
		if err == nil {
			t.Fatal("a broken key parsed")
		}
		for i := 0; i+8 <= len(secret); i++ {
			if strings.Contains(err.Error(), secret[i:i+8]) {
				t.Fatalf("the error quotes the key: %v", err)
			}
		}
	}
}
