package enroll_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/identity"
	"github.com/ampora/ampora/plugin/internal/storetest"
	"github.com/hashicorp/vault/sdk/logical"
)

// renewing is a world with one agent whose key the test holds, and a clock that the test moves.
type renewing struct {
	*world
	at    time.Time
	key   crypto.Signer
	first *apitype.Identity
}

func newRenewing(t *testing.T, serverKey bool) *renewing {
	r := &renewing{world: newWorld(t, &storetest.Faulty{Storage: &logical.InmemStorage{}}), at: time.Now(), key: newECKey(t)}
	r.Now = func() time.Time { return r.at }
	r.configure()
	makeGroup(r.world, "web")
	token, err := r.Issue(t.Context(), operator, apitype.TokenIssueRequest{Group: "web"})
	r.must(err)
	request := apitype.RedeemRequest{Token: token.Token, GenerateKey: serverKey}
	if !serverKey {
		request.CSR = csrOf(t, r.key)
	}
	r.first, err = r.Redeem(t.Context(), operator, "", request)
	r.must(err)
	return r
}

func newECKey(t *testing.T) crypto.Signer {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func csrOf(t *testing.T, key crypto.Signer) string {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

func certificate(t *testing.T, id *apitype.Identity) *x509.Certificate {
	block, _ := pem.Decode([]byte(id.Certificate))
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func proofOf(t *testing.T, presented *apitype.Identity, key crypto.Signer, next crypto.Signer) string {
	spki, err := x509.MarshalPKIXPublicKey(next.Public())
	if err != nil {
		t.Fatal(err)
	}
	proof, err := identity.Proof(certificate(t, presented), key, spki)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(proof)
}

func (r *renewing) renew(in apitype.RenewRequest) (*apitype.Identity, error) {
	if in.Fingerprint == "" {
		in.Fingerprint = r.first.Fingerprint
	}
	return r.Renew(r.t.Context(), operator, "", r.first.AgentID, in)
}

func (r *renewing) seen(leaf *apitype.Identity, applied string) apitype.SessionAnswer {
	r.t.Helper()
	a, err := r.Seen(r.t.Context(), operator, "", "edge", apitype.SessionReport{AgentID: leaf.AgentID, SerialNumber: leaf.SerialNumber, Applied: applied})
	r.must(err)
	return a
}

func wantCode(t *testing.T, err error, code apitype.Code) {
	t.Helper()
	if apitype.CodeOf(err) != code {
		t.Errorf("%v instead of %s", err, code)
	}
}

func TestARenewalForAnotherKeyNeedsTheCurrentKeysSignature(t *testing.T) {
	r := newRenewing(t, false)
	next, thief := newECKey(t), newECKey(t)
	_, err := r.renew(apitype.RenewRequest{CSR: csrOf(t, next)})
	wantCode(t, err, apitype.RenewalProofMissing)
	_, err = r.renew(apitype.RenewRequest{CSR: csrOf(t, next), Proof: proofOf(t, r.first, thief, next)})
	wantCode(t, err, apitype.RenewalProofMissing)
	_, err = r.renew(apitype.RenewRequest{CSR: csrOf(t, thief), Proof: proofOf(t, r.first, r.key, next)})
	wantCode(t, err, apitype.RenewalProofMissing)
	_, err = r.renew(apitype.RenewRequest{GenerateKey: true})
	wantCode(t, err, apitype.KeyNotAllowed)

	id, err := r.renew(apitype.RenewRequest{CSR: csrOf(t, next), Proof: proofOf(t, r.first, r.key, next)})
	r.must(err)
	if !certificate(t, id).PublicKey.(*ecdsa.PublicKey).Equal(next.Public()) || id.AgentID != r.first.AgentID {
		t.Error("the next leaf is not for the new key and the same agent")
	}
	if a := r.seen(r.first, ""); a.Leaf != apitype.LeafCurrent {
		t.Errorf("the current leaf is %s while the next is unused", a.Leaf)
	}
}

func TestALeafForTheSameKeyNeedsNoProofAndIsGivenOnce(t *testing.T) {
	r := newRenewing(t, false)
	id, err := r.renew(apitype.RenewRequest{})
	r.must(err)
	if !certificate(t, id).PublicKey.(*ecdsa.PublicKey).Equal(r.key.Public()) || id.PrivateKey != "" {
		t.Error("the next leaf is not for the agent's own key")
	}
	again, err := r.renew(apitype.RenewRequest{CSR: csrOf(t, r.key)})
	r.must(err)
	if again.Certificate != id.Certificate {
		t.Error("asked again for the same key, it was another leaf")
	}
	if n := r.events()[apitype.ActionCertificateRenewed]; n != 1 {
		t.Errorf("%d renewals were told", n)
	}
}

func TestAServerMadeKeyIsRenewedByAnother(t *testing.T) {
	r := newRenewing(t, true)
	id, err := r.renew(apitype.RenewRequest{GenerateKey: true})
	r.must(err)
	if id.PrivateKey == "" || id.PrivateKey == r.first.PrivateKey {
		t.Error("no new key")
	}
	_, err = r.Settings.Update(t.Context(), operator, true, func(c *apitype.Config) []string { c.KeyOrigin = "csr"; return nil })
	r.must(err)
	_, err = r.renew(apitype.RenewRequest{GenerateKey: true})
	wantCode(t, err, apitype.CSRRequired)
}

// The current leaf ends when the agent says that it has applied the next one, or a quarter of an hour after that came.
func TestTheOldLeafEndsWhenTheNextIsConfirmed(t *testing.T) {
	for name, confirm := range map[string]func(r *renewing, next *apitype.Identity) string{
		"applied, over the next":    func(r *renewing, n *apitype.Identity) string { return r.seen(n, n.Fingerprint).Leaf },
		"applied, over the current": func(r *renewing, n *apitype.Identity) string { return r.seen(r.first, n.Fingerprint).Leaf },
		"in use for a while": func(r *renewing, n *apitype.Identity) string {
			if a := r.seen(n, ""); a.Leaf != apitype.LeafNext {
				r.t.Errorf("first seen it is %s", a.Leaf)
			}
			r.at = r.at.Add(14 * time.Minute)
			if a := r.seen(r.first, ""); a.Leaf != apitype.LeafCurrent {
				r.t.Errorf("before its time the old one is %s", a.Leaf)
			}
			r.at = r.at.Add(time.Minute)
			return r.seen(n, "").Leaf
		},
		"it asks for the one after": func(r *renewing, n *apitype.Identity) string {
			_, err := r.renew(apitype.RenewRequest{Fingerprint: n.Fingerprint})
			r.must(err)
			return r.seen(n, "").Leaf
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRenewing(t, false)
			next, err := r.renew(apitype.RenewRequest{})
			r.must(err)
			if standing := confirm(r, next); standing != apitype.LeafCurrent {
				t.Errorf("the confirmed leaf is %s", standing)
			}
			for range 3 {
				if a := r.seen(r.first, ""); a.Leaf != apitype.LeafSuperseded {
					t.Errorf("the old leaf is %s", a.Leaf)
				}
			}
			if n := r.events()[apitype.ActionCertificateSuspected]; n != 1 {
				t.Errorf("%d suspicions were told", n)
			}
			if n := r.events()[apitype.ActionCertificateRevoked]; n != 1 {
				t.Errorf("the end of the old leaf was told %d times", n)
			}
			if _, err := r.renew(apitype.RenewRequest{}); apitype.CodeOf(err) != apitype.CertificateRevoked {
				t.Errorf("renewing by the old leaf: %v", err)
			}
			serial, _ := identity.ParseSerialText(r.first.SerialNumber)
			known, _, dead, err := r.LeafStanding(t.Context(), serial)
			if err != nil || !known || dead == nil || dead.Reason != "superseded" {
				t.Errorf("the old leaf's standing: %v %v %v", known, dead, err)
			}
		})
	}
}

// An answer that got lost strands nobody: the agent comes back on its current leaf, as often as it takes.
func TestALostNextLeafIsReplaced(t *testing.T) {
	r := newRenewing(t, true)
	for range 5 {
		if a := r.seen(r.first, ""); a.Leaf != apitype.LeafCurrent {
			t.Fatalf("the current leaf is %s", a.Leaf)
		}
		_, err := r.renew(apitype.RenewRequest{GenerateKey: true})
		r.must(err)
	}
	agent, err := r.Agent(t.Context(), "", r.first.AgentID)
	r.must(err)
	if !strings.HasSuffix(agent.NextSerialNumber, ":06") || agent.SerialNumber != r.first.SerialNumber {
		t.Errorf("current %s, next %s", agent.SerialNumber, agent.NextSerialNumber)
	}
	// What was replaced is superseded, and its row does not grow for ever.
	for err == nil {
		_, err = r.renew(apitype.RenewRequest{GenerateKey: true})
	}
	wantCode(t, err, apitype.RateLimited)
	if a := r.seen(r.first, ""); a.Leaf != apitype.LeafCurrent {
		t.Errorf("and then the current leaf is %s", a.Leaf)
	}
}

// A thief with the current key renews three times; then the agent is revoked. None of the four leaves is left.
func TestRevocationCoversEveryLeafThatAThiefHasRenewed(t *testing.T) {
	r := newRenewing(t, false)
	leaves := []*apitype.Identity{r.first}
	key := r.key
	for range 3 {
		last, thief := leaves[len(leaves)-1], newECKey(t)
		id, err := r.renew(apitype.RenewRequest{Fingerprint: last.Fingerprint, CSR: csrOf(t, thief), Proof: proofOf(t, last, key, thief)})
		r.must(err)
		leaves, key = append(leaves, id), thief
	}
	_, err := r.RevokeAgent(t.Context(), operator, "", r.first.AgentID, "keyCompromise")
	r.must(err)
	for n, leaf := range leaves {
		if a := r.seen(leaf, ""); a.Leaf != apitype.LeafRevoked {
			t.Errorf("leaf %d is %s", n+1, a.Leaf)
		}
		serial, _ := identity.ParseSerialText(leaf.SerialNumber)
		known, _, dead, err := r.LeafStanding(t.Context(), serial)
		if err != nil || !known || dead == nil {
			t.Errorf("leaf %d: %v %v %v", n+1, known, dead, err)
		}
		_, err = r.renew(apitype.RenewRequest{Fingerprint: leaf.Fingerprint})
		wantCode(t, err, apitype.AgentRevoked)
	}
	feed, err := r.Revoked(t.Context())
	r.must(err)
	if len(feed) != 1 || feed[0].Generation != 4 {
		t.Errorf("edges hear %+v", feed)
	}
	r.ledger.load(r.world)
	if n := len(r.ledger.dead[r.first.AgentID]); n != 4 {
		t.Errorf("the CRL has %d leaves of the agent", n)
	}
	// Deleting it changes nothing of that.
	r.must(r.DeleteAgent(t.Context(), operator, "", r.first.AgentID))
	_, err = r.renew(apitype.RenewRequest{})
	wantCode(t, err, apitype.AgentUnknown)
	r.ledger.load(r.world)
	if n := len(r.ledger.dead[r.first.AgentID]); n != 4 {
		t.Errorf("after its deletion the CRL has %d leaves of the agent", n)
	}
}

func TestALeafThatWasNeverIssuedIsNotKnown(t *testing.T) {
	r := newRenewing(t, false)
	for _, generation := range []uint32{0, 2, 1 << 16} {
		serial, err := identity.LeafSerial(r.first.AgentID, generation)
		r.must(err)
		if known, _, _, err := r.LeafStanding(t.Context(), serial); known || err != nil {
			t.Errorf("generation %d is known: %v", generation, err)
		}
	}
	r.must(r.DeleteAgent(t.Context(), operator, "", r.first.AgentID))
	serial, err := identity.LeafSerial(r.first.AgentID, 0)
	r.must(err)
	if known, _, _, err := r.LeafStanding(t.Context(), serial); known || err != nil {
		t.Errorf("a generation that a revocation covers, but that never was, is known: %v", err)
	}
}

// What was renewed is no redemption any more: neither its token nor its idempotency key gives a leaf.
func TestARenewedAgentsTokenIsSpentForGood(t *testing.T) {
	r := newRenewing(t, true)
	_, err := r.Settings.Update(t.Context(), operator, true, func(c *apitype.Config) []string { c.RetryWindow = 3600; return nil })
	r.must(err)
	token, err := r.Issue(t.Context(), operator, apitype.TokenIssueRequest{})
	r.must(err)
	for _, request := range []apitype.RedeemRequest{
		{Token: token.Token, CSR: csrOf(t, r.key), IdempotencyKey: "0123456789abcdef"},
	} {
		id, err := r.Redeem(t.Context(), operator, "", request)
		r.must(err)
		_, err = r.Redeem(t.Context(), operator, "", request)
		r.must(err)
		_, err = r.Renew(t.Context(), operator, "", id.AgentID, apitype.RenewRequest{Fingerprint: id.Fingerprint})
		r.must(err)
		_, err = r.Redeem(t.Context(), operator, "", request)
		wantCode(t, err, apitype.TokenRedeemed)
		_, err = r.Check(t.Context(), "", apitype.RedeemCheckRequest{Token: token.Token})
		wantCode(t, err, apitype.TokenRedeemed)
	}
}

func TestRenewalRefusesBadInput(t *testing.T) {
	r := newRenewing(t, false)
	for name, c := range map[string]struct {
		in   apitype.RenewRequest
		code apitype.Code
	}{
		"no fingerprint":       {apitype.RenewRequest{Fingerprint: "x"}, apitype.FieldInvalid},
		"another certificate":  {apitype.RenewRequest{Fingerprint: strings.Repeat("a", 64)}, apitype.CertificateRevoked},
		"garbage for a CSR":    {apitype.RenewRequest{CSR: "garbage"}, apitype.CSRInvalid},
		"CSR and generate_key": {apitype.RenewRequest{CSR: csrOf(t, r.key), GenerateKey: true}, apitype.FieldInvalid},
		"proof is no base64":   {apitype.RenewRequest{CSR: csrOf(t, newECKey(t)), Proof: "%"}, apitype.FieldInvalid},
		"a long proof":         {apitype.RenewRequest{Proof: strings.Repeat("A", 2048)}, apitype.FieldInvalid},
		"a short key":          {apitype.RenewRequest{IdempotencyKey: "short"}, apitype.FieldInvalid},
		"no address":           {apitype.RenewRequest{SourceIP: "home"}, apitype.FieldInvalid},
	} {
		_, err := r.renew(c.in)
		if apitype.CodeOf(err) != c.code {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := r.Renew(t.Context(), operator, "other", r.first.AgentID, apitype.RenewRequest{Fingerprint: r.first.Fingerprint})
	wantCode(t, err, apitype.AgentUnknown)
	r.at = r.at.Add(91 * 24 * time.Hour)
	_, err = r.renew(apitype.RenewRequest{})
	wantCode(t, err, apitype.CertificateExpired)
	agent, err := r.Agent(t.Context(), "", r.first.AgentID)
	r.must(err)
	if agent.NextSerialNumber != "" {
		t.Error("bad input made a leaf")
	}
}

func TestAGroupMayRenewOnTheEdgesWord(t *testing.T) {
	r := newRenewing(t, false)
	word := "edge"
	_, err := r.groups.Write(t.Context(), operator, "", "web", apitype.GroupRequest{RenewProof: &word})
	r.must(err)
	next := newECKey(t)
	_, err = r.renew(apitype.RenewRequest{CSR: csrOf(t, next), Proof: proofOf(t, r.first, newECKey(t), next)})
	wantCode(t, err, apitype.RenewalProofMissing) // a wrong proof is worse than none
	_, err = r.renew(apitype.RenewRequest{CSR: csrOf(t, next)})
	r.must(err)
}

// A thief's leaf that was given after the backup is forgotten by the restore; the revocation of its agent covers it all the same.
func TestARevocationAfterARestoreCoversWhatTheBackupForgot(t *testing.T) {
	r := newRenewing(t, false)
	_, err := r.Epoch.AfterRestore(t.Context(), operator, "")
	r.must(err)
	_, err = r.RevokeAgent(t.Context(), operator, "", r.first.AgentID, "keyCompromise")
	r.must(err)
	feed, err := r.Revoked(t.Context())
	r.must(err)
	if len(feed) != 1 || feed[0].Generation != 1<<16 || feed[0].NotAfter < r.at.Add(364*24*time.Hour).Unix() {
		t.Errorf("edges hear %+v", feed)
	}
	if a, err := r.Agent(t.Context(), "", r.first.AgentID); err != nil || a.State != apitype.AgentStateRevoked {
		t.Errorf("%s: %v", a.State, err)
	}
}

// A session that an agent left behind does not take from it the leaf that it has gone over to.
func TestANextLeafThatIsInUseIsNotReplacedByAnotherSession(t *testing.T) {
	r := newRenewing(t, true)
	next, err := r.renew(apitype.RenewRequest{GenerateKey: true})
	r.must(err)
	r.seen(next, "")
	_, err = r.renew(apitype.RenewRequest{GenerateKey: true})
	wantCode(t, err, apitype.RateLimited)
	if a := r.seen(next, next.Fingerprint); a.Leaf != apitype.LeafCurrent {
		t.Errorf("the leaf in use is %s", a.Leaf)
	}
	_, err = r.renew(apitype.RenewRequest{Fingerprint: next.Fingerprint, GenerateKey: true})
	r.must(err)
}
