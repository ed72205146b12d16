package ca_test

import (
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/identity"
	"github.com/ampora/ampora/plugin/internal/ca"
	"github.com/google/uuid"
)

func TestRootIsACAThatSignsLeavesOnly(t *testing.T) {
	for _, spec := range []ca.KeySpec{{"ec", 256}, {"ec", 384}, {"ed25519", 0}} {
		root, err := ca.NewRoot(now, "", spec, 48*time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		c := root.Certificate
		if err := c.CheckSignatureFrom(c); err != nil {
			t.Errorf("self-signature: %v", err)
		}
		serial, ok := identity.ParseSerial(c.SerialNumber)
		if !ok || serial.Kind() != identity.KindIssuer {
			t.Error("its serial is not of an issuer")
		}
		if !c.IsCA || c.MaxPathLen != 0 || !c.MaxPathLenZero || len(c.SubjectKeyId) == 0 {
			t.Error("basic constraints or subject key id are off")
		}
		if c.KeyUsage != x509.KeyUsageCertSign|x509.KeyUsageCRLSign|x509.KeyUsageDigitalSignature {
			t.Errorf("key usage %b", c.KeyUsage)
		}
		if !c.NotBefore.Equal(now.Add(-5*time.Minute)) || !c.NotAfter.Equal(now.Add(48*time.Hour)) {
			t.Errorf("validity %s to %s", c.NotBefore, c.NotAfter)
		}
		if id, err := uuid.Parse(root.ID); err != nil || id.Version() != 4 {
			t.Errorf("id %q", root.ID)
		}
		if c.Subject.CommonName != "Ampora CA "+root.ID[:8] {
			t.Errorf("common name %q", c.Subject.CommonName)
		}
	}
}

func TestIssuersOfOneNameHaveDifferentSubjects(t *testing.T) {
	spec := ca.KeySpec{Type: ca.KeyEC, Bits: 256}
	a, err := ca.NewRoot(now, "Ampora Öst", spec, 0)
	if err != nil {
		t.Fatal(err)
	}
	b, err := ca.NewRoot(now, "Ampora Öst", spec, 0)
	if err != nil {
		t.Fatal(err)
	}
	if a.Certificate.Subject.CommonName != "Ampora Öst" || b.Certificate.Subject.CommonName != "Ampora Öst" {
		t.Error("the common name is not the one asked for")
	}
	if string(a.Certificate.RawSubject) == string(b.Certificate.RawSubject) {
		t.Error("two issuers have one subject")
	}
}

func TestRootRefusals(t *testing.T) {
	spec := ca.KeySpec{Type: ca.KeyEC, Bits: 256}
	for name, c := range map[string]struct {
		commonName string
		ttl        time.Duration
		spec       ca.KeySpec
		code       apitype.Code
	}{
		"over-long name":    {strings.Repeat("x", 65), 0, spec, apitype.FieldInvalid},
		"control character": {"a\x00b", 0, spec, apitype.FieldInvalid},
		"line break":        {"a\nb", 0, spec, apitype.FieldInvalid},
		"not UTF-8":         {"a\xff", 0, spec, apitype.FieldInvalid},
		"negative ttl":      {"", -time.Hour, spec, apitype.TTLOutOfRange},
		"seconds of ttl":    {"", time.Second, spec, apitype.TTLOutOfRange},
		"a century of ttl":  {"", 100 * 365 * 24 * time.Hour, spec, apitype.TTLOutOfRange},
		"small key":         {"", 0, ca.KeySpec{Type: ca.KeyRSA, Bits: 2048}, apitype.KeyNotAllowed},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ca.NewRoot(now, c.commonName, c.spec, c.ttl)
			wantCode(t, err, c.code)
		})
	}
}
