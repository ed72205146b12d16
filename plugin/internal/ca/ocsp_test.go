package ca_test

import (
	"crypto"
	"crypto/x509"
	"math/big"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/identity"
	"github.com/ampora/ampora/plugin/internal/ca"
	"golang.org/x/crypto/ocsp"
)

func ask(t testing.TB, issuer *ca.Issuer, serial *big.Int, algorithm crypto.Hash) *ca.OCSPRequest {
	t.Helper()
	der, err := ocsp.CreateRequest(&x509.Certificate{SerialNumber: serial}, issuer.Certificate, &ocsp.RequestOptions{Hash: algorithm})
	if err != nil {
		t.Fatal(err)
	}
	r, err := ca.ParseOCSPRequest(der)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestAnOCSPAnswerIsTheIssuersOwn(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	one, other := newRoot(t, time.Hour), newRoot(t, time.Hour)
	serial := leafSerial(t, 3)
	for _, algorithm := range []crypto.Hash{crypto.SHA1, crypto.SHA256} {
		r := ask(t, one, serial.Big(), algorithm)
		if !r.Names(one) || r.Names(other) || !r.Ours || r.Serial != serial {
			t.Fatalf("%v: read as %+v", algorithm, r)
		}
		revoked := &ca.Revoked{Serial: serial, Time: now.Add(-time.Hour), Reason: "keyCompromise"}
		for want, status := range map[int]ca.OCSPStatus{ocsp.Good: {Known: true}, ocsp.Revoked: {Known: true, Revoked: revoked}, ocsp.Unknown: {}} {
			der, err := one.SignOCSP(r, status, now, time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			got, err := ocsp.ParseResponse(der, one.Certificate)
			if err != nil {
				t.Fatal(err)
			}
			if got.Status != want || got.SerialNumber.Cmp(serial.Big()) != 0 {
				t.Errorf("%v: status %d of %s", algorithm, got.Status, got.SerialNumber)
			}
			if life := got.NextUpdate.Sub(got.ThisUpdate); (life == 0) != (want == ocsp.Unknown) {
				t.Errorf("status %d may be kept for %s", want, life)
			}
			if want == ocsp.Revoked && (got.RevocationReason != 1 || !got.RevokedAt.Equal(revoked.Time)) {
				t.Errorf("revoked %s for %d", got.RevokedAt, got.RevocationReason)
			}
			if _, err := ocsp.ParseResponse(der, other.Certificate); err == nil {
				t.Error("another issuer's signature counts")
			}
		}
	}
	if r := ask(t, one, big.NewInt(5), crypto.SHA1); r.Ours {
		t.Error("a serial that we never give is ours")
	}
	if r := ask(t, one, identity.RandomSerial(identity.KindEdge).Big(), crypto.SHA1); !r.Ours {
		t.Error("an edge's serial is not ours")
	}
	for _, garbage := range [][]byte{nil, {}, []byte("hello"), make([]byte, 1<<16)} {
		if _, err := ca.ParseOCSPRequest(garbage); err == nil {
			t.Errorf("%d bytes of garbage are a request", len(garbage))
		}
	}
}

func FuzzParseOCSPRequest(f *testing.F) {
	issuer := newRoot(f, time.Hour)
	der, err := ocsp.CreateRequest(&x509.Certificate{SerialNumber: leafSerial(f, 1).Big()}, issuer.Certificate, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(der)
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := ca.ParseOCSPRequest(data)
		if err != nil || !r.Names(issuer) {
			return
		}
		if _, err := issuer.SignOCSP(r, ca.OCSPStatus{Known: true}, time.Now(), time.Minute); err != nil {
			t.Errorf("what is read cannot be answered: %v", err)
		}
	})
}
