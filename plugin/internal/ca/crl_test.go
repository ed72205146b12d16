package ca_test

import (
	"crypto/x509"
	"math/big"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/identity"
	"github.com/ampora/ampora/plugin/internal/ca"
	"github.com/google/uuid"
)

func leafSerial(t testing.TB, generation uint32) identity.Serial {
	t.Helper()
	s, err := identity.LeafSerial(uuid.NewString(), generation)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestACRLNamesWhatIsRevoked(t *testing.T) {
	now := time.Now()
	for _, spec := range []struct {
		kind string
		bits int
	}{{"ec", 256}, {"ec", 384}, {"ed25519", 0}, {"rsa", 3072}} {
		key, err := ca.ParseKeySpec(spec.kind, spec.bits)
		if err != nil {
			t.Fatal(err)
		}
		issuer, err := ca.NewRoot(now, "", key, 0)
		if err != nil {
			t.Fatal(err)
		}
		var revoked []ca.Revoked
		want := map[string]int{}
		for reason, code := range map[string]int{"unspecified": 0, "keyCompromise": 1, "affiliationChanged": 3, "superseded": 4, "cessationOfOperation": 5, "privilegeWithdrawn": 9} {
			if !ca.KnownReason(reason) {
				t.Errorf("%s is not known", reason)
			}
			r := ca.Revoked{Serial: leafSerial(t, 1), Time: now.Add(-time.Hour), Reason: reason}
			revoked, want[r.Serial.Big().String()] = append(revoked, r), code
		}
		der, err := issuer.SignCRL(revoked, big.NewInt(7), now, 15*time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		crl, err := x509.ParseRevocationList(der)
		if err != nil {
			t.Fatal(err)
		}
		if err := crl.CheckSignatureFrom(issuer.Certificate); err != nil {
			t.Errorf("%s: %v", spec.kind, err)
		}
		if crl.Number.Int64() != 7 || !crl.ThisUpdate.Before(now) || (crl.NextUpdate.Sub(now)-15*time.Minute).Abs() > time.Second {
			t.Errorf("number %s, from %s to %s", crl.Number, crl.ThisUpdate, crl.NextUpdate)
		}
		for _, e := range crl.RevokedCertificateEntries {
			if code, ok := want[e.SerialNumber.String()]; !ok || code != e.ReasonCode || e.RevocationTime.Sub(now.Add(-time.Hour)).Abs() > time.Second {
				t.Errorf("entry %+v, want reason %d", e, code)
			}
			delete(want, e.SerialNumber.String())
		}
		if len(want) != 0 {
			t.Errorf("%d are missing", len(want))
		}
	}
	if ca.KnownReason("certificateHold") || ca.KnownReason("") {
		t.Error("a reason is known that we do not give")
	}
}

func BenchmarkSignCRLOf100000(b *testing.B) {
	key, err := ca.ParseKeySpec("", 0)
	if err != nil {
		b.Fatal(err)
	}
	issuer, err := ca.NewRoot(time.Now(), "", key, 0)
	if err != nil {
		b.Fatal(err)
	}
	revoked := make([]ca.Revoked, 100_000)
	for i := range revoked {
		revoked[i] = ca.Revoked{Serial: leafSerial(b, 1), Time: time.Now(), Reason: "keyCompromise"}
	}
	for b.Loop() {
		if _, err := issuer.SignCRL(revoked, big.NewInt(1), time.Now(), time.Hour); err != nil {
			b.Fatal(err)
		}
	}
}
