package revocation_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"math/big"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/identity"
	"github.com/ampora/ampora/plugin/internal/ca"
	"github.com/ampora/ampora/plugin/internal/revocation"
	"golang.org/x/crypto/ocsp"
)

// standing is what rows say of a leaf.
type standing struct {
	issuerID string
	dead     *revocation.Leaf
}

// responder answers from what the test says of leaves; err is what storage answers.
func (w *world) responder(rows map[identity.Serial]standing, err *error) *revocation.Responder {
	return &revocation.Responder{
		Issuers: func(context.Context) ([]*ca.Issuer, error) {
			var all []*ca.Issuer
			for _, i := range w.issuers {
				all = append(all, i)
			}
			return all, nil
		},
		Standing: func(_ context.Context, s identity.Serial) (bool, string, *revocation.Leaf, error) {
			row, known := rows[s]
			return known, row.issuerID, row.dead, *err
		},
		Expiry: func(context.Context) (time.Duration, error) { return expiry, nil },
		Failed: func(string, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.failures++
		},
		Now: w.clock,
	}
}

func question(t testing.TB, issuer *ca.Issuer, serial *big.Int) []byte {
	t.Helper()
	der, err := ocsp.CreateRequest(&x509.Certificate{SerialNumber: serial}, issuer.Certificate, &ocsp.RequestOptions{Hash: crypto.SHA256})
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestAnAnswerIsWhatTheRowsSay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ours, other := w.newIssuer(), w.newIssuer()
	_, revoked := w.dead(ours)
	_, replaced := w.dead(ours)
	replaced.Reason = "superseded"
	_, good := w.dead(ours)
	_, elsewhere := w.dead(other)
	_, never := w.dead(ours)
	var fault error
	r := w.responder(map[identity.Serial]standing{
		revoked.Serial: {ours.ID, &revoked}, replaced.Serial: {ours.ID, &replaced}, good.Serial: {ours.ID, nil}, elsewhere.Serial: {other.ID, nil},
	}, &fault)
	for name, c := range map[string]struct {
		serial *big.Int
		status string
		code   int
		dead   *revocation.Leaf
		reason int
	}{
		"good":                          {good.Serial.Big(), revocation.Good, ocsp.Good, nil, 0},
		"revoked":                       {revoked.Serial.Big(), revocation.Revoked, ocsp.Revoked, &revoked, ocsp.KeyCompromise},
		"replaced":                      {replaced.Serial.Big(), revocation.Revoked, ocsp.Revoked, &replaced, ocsp.Superseded},
		"never given":                   {never.Serial.Big(), revocation.Unknown, ocsp.Unknown, nil, 0},
		"signed by another issuer":      {elsewhere.Serial.Big(), revocation.Unknown, ocsp.Unknown, nil, 0},
		"a number that we do not give":  {big.NewInt(4711), revocation.Unknown, ocsp.Unknown, nil, 0},
		"an edge's, which has no row":   {identity.RandomSerial(identity.KindEdge).Big(), revocation.Unknown, ocsp.Unknown, nil, 0},
		"another generation of a known": {nextOf(t, good.Serial).Big(), revocation.Unknown, ocsp.Unknown, nil, 0},
	} {
		a := r.Answer(t.Context(), question(t, ours, c.serial))
		got, err := ocsp.ParseResponse(a.DER, ours.Certificate)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if a.Status != c.status || got.Status != c.code || got.SerialNumber.Cmp(c.serial) != 0 {
			t.Errorf("%s: said to be %s, is %d of %s", name, a.Status, got.Status, got.SerialNumber)
		}
		if c.dead != nil && (!got.RevokedAt.Equal(c.dead.Time) || got.RevocationReason != c.reason) {
			t.Errorf("%s: revoked at %s for %d", name, got.RevokedAt, got.RevocationReason)
		}
		if c.code == ocsp.Unknown {
			if !a.ThisUpdate.IsZero() || !a.NextUpdate.IsZero() || got.NextUpdate.After(got.ThisUpdate) {
				t.Errorf("%s: may be kept until %s, %s", name, a.NextUpdate, got.NextUpdate)
			}
		} else if !a.ThisUpdate.Equal(got.ThisUpdate) || !a.NextUpdate.Equal(got.NextUpdate) || got.NextUpdate.Sub(w.clock()) != expiry {
			t.Errorf("%s: from %s to %s", name, got.ThisUpdate, got.NextUpdate)
		}
	}

	fault = errors.New("no quorum")
	if a := r.Answer(t.Context(), question(t, ours, good.Serial.Big())); a.Status != revocation.TryLater || !bytes.Equal(a.DER, ca.OCSPTryLater) || w.failed() != 1 {
		t.Errorf("%+v, %d failures", a, w.failed())
	}
}

func nextOf(t testing.TB, s identity.Serial) identity.Serial {
	t.Helper()
	next, err := identity.LeafSerial(s.AgentID(), s.Generation()+1)
	if err != nil {
		t.Fatal(err)
	}
	return next
}

func TestWhatIsNoQuestionToUsIsAnsweredUnsigned(t *testing.T) {
	t.Parallel()
	w, foreign := newWorld(t), newWorld(t).newIssuer()
	ours := w.newIssuer()
	_, leaf := w.dead(ours)
	var fault error
	r := w.responder(nil, &fault)
	good := question(t, ours, leaf.Serial.Big())
	for name, c := range map[string]struct {
		der    []byte
		status string
	}{
		"nothing":          {nil, revocation.Malformed},
		"garbage":          {[]byte("hello"), revocation.Malformed},
		"a megabyte":       {make([]byte, 1<<20), revocation.Malformed},
		"cut off":          {good[:len(good)-1], revocation.Malformed},
		"long and good":    {append(bytes.Clone(good), make([]byte, revocation.MaxRequest)...), revocation.Malformed},
		"a foreign issuer": {question(t, foreign, leaf.Serial.Big()), revocation.Unauthorized},
	} {
		want := map[string][]byte{revocation.Malformed: ca.OCSPMalformed, revocation.Unauthorized: ca.OCSPUnauthorized}[c.status]
		if a := r.Answer(t.Context(), c.der); a.Status != c.status || !bytes.Equal(a.DER, want) || !a.NextUpdate.IsZero() {
			t.Errorf("%s: %+v", name, a)
		}
	}
	if n := w.failed(); n != 0 {
		t.Errorf("%d failures", n)
	}
}
