package federation_test

import (
	"crypto"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/handover"
	"github.com/ampora/ampora/plugin/internal/ca"
)

func text(t *testing.T, v any) string {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func TestAPeersChangeOfItsIssuersIsFollowed(t *testing.T) {
	us, them := pair(t)
	first := them.issuer("")
	before := us.row("them")
	them.rotate()
	them.configure(func(c *apitype.Config) { c.Endpoint = "wss://moved.example/v1/opamp" })
	us.must(us.follow(them))
	got, want := us.row("them"), before
	want.CABundle, want.EndpointCABundle = them.card().CABundle, them.card().CABundle
	want.BundleSequence, want.BundleTime, want.UpdatedAt = got.BundleSequence, got.BundleTime, got.UpdatedAt
	if text(t, got) != text(t, want) || got.BundleSequence <= before.BundleSequence || strings.Count(got.CABundle, "BEGIN") != 2 {
		t.Errorf("keys and sequence only:\n%s\n%s", text(t, got), text(t, want))
	}
	if e := us.events()[0]; e.Action != apitype.ActionPeerUpdated || e.OriginPeerID != "them" || len(e.Details) != 2 {
		t.Errorf("%+v", e)
	}
	us.must(us.follow(them)) // once more, and nothing changes
	if n := us.told()[apitype.ActionPeerUpdated]; n != 1 {
		t.Errorf("%d events", n)
	}

	// The old issuer is retired, and what it signs counts no more.
	them.retire(first.ID)
	us.must(us.follow(them))
	signed, err := handover.Sign(first.Key, handover.TypeReceipt, handover.Receipt{Issuer: "them"})
	us.must(err)
	us.no(apitype.HandoverSignatureInvalid, handover.Verify(signed, handover.TypeReceipt, us.peer("them").Pinned, &handover.Receipt{}))
	us.no(apitype.HandoverSignatureInvalid, us.bring(them.forge(first.Key, func(b *handover.Bundle) {
		b.Certificates = append(b.Certificates, ca.EncodeCertificate(first.Certificate.Raw))
	})))
}

// bring brings a bundle of them.
func (s *side) bring(compact string) error {
	s.Helper()
	_, err := s.UpdateBundle(s.Context(), operator, "them", apitype.PeerBundleRequest{BundleJWS: compact})
	return err
}

// A peer that was away during several changes follows as long as one issuer has stayed.
func TestAPeerThatHasMissedSomeChangesFollows(t *testing.T) {
	us, them := pair(t)
	for range 3 {
		them.rotate()
	}
	us.must(us.follow(them))
	if n := strings.Count(us.row("them").CABundle, "BEGIN"); n != 4 {
		t.Errorf("%d certificates", n)
	}
	// All that are known are gone: nobody can tell them from a thief now, but an operator can.
	known := us.peer("them").Pinned
	next := them.rotate()
	for _, c := range known {
		for _, i := range list(them) {
			if i.Certificate == ca.EncodeCertificate(c.Raw) {
				them.retire(i.IssuerID)
			}
		}
	}
	us.no(apitype.HandoverSignatureInvalid, us.follow(them))
	us.meet(them)
	if got := us.peer("them").Pinned; len(got) != 1 || !got[0].Equal(them.issuer(next).Certificate) {
		t.Errorf("%d pinned", len(got))
	}
}

func list(s *side) []apitype.CAIssuer {
	s.Helper()
	set, err := s.issuers.Set(s.Context())
	s.must(err)
	return set.Describe()
}

func TestAnOldBundleDoesNotComeBack(t *testing.T) {
	us, them := pair(t)
	old := them.card().BundleJWS
	first := them.issuer("")
	them.rotate()
	us.must(us.follow(them))
	us.no(apitype.BundleOutdated, us.bring(old))
	them.retire(first.ID)
	us.must(us.follow(them))
	us.no(apitype.HandoverSignatureInvalid, us.bring(old))
	// By hand it does: the other side may have been restored from a backup.
	card := them.card()
	us.must(second(us.Write(t.Context(), operator, "them", apitype.PeerRequest{
		CABundle: ptr(ca.EncodeCertificate(first.Certificate.Raw)), BundleJWS: &old,
	})))
	if got := us.row("them"); strings.Count(got.CABundle, "BEGIN") != 1 || got.BundleSequence == 0 {
		t.Errorf("%+v", got)
	}
	us.must(second(us.Write(t.Context(), operator, "them", apitype.PeerRequest{CABundle: &card.CABundle})))
	if got := us.row("them"); got.CABundle != card.CABundle || got.BundleSequence != 0 || got.EndpointCABundle != card.CABundle {
		t.Errorf("keys by hand: %+v", got)
	}
	us.must(us.follow(them)) // the sequence is known again
	if got := us.row("them"); got.BundleSequence == 0 {
		t.Errorf("%+v", got)
	}
}

func TestABundleThatIsNotThePeersIsRefused(t *testing.T) {
	us, them := pair(t)
	third := installation(t, "third", us.clock)
	key := them.issuer("").Key
	one := ca.EncodeCertificate(them.issuer("").Certificate.Raw)
	now := time.Now().Add(*us.clock)
	other, otherKey := certificateOf(t, elliptic.P256(), func(*x509.Certificate) {})
	leaf, _ := certificateOf(t, elliptic.P256(), func(c *x509.Certificate) { c.IsCA, c.KeyUsage = false, x509.KeyUsageDigitalSignature })
	noSigner, _ := certificateOf(t, elliptic.P256(), func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature })
	expired, _ := certificateOf(t, elliptic.P256(), func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Second) })
	early, _ := certificateOf(t, elliptic.P256(), func(c *x509.Certificate) { c.NotBefore = now.Add(10 * time.Minute) })
	curve, _ := certificateOf(t, elliptic.P224(), func(*x509.Certificate) {})
	many := []string{one}
	for range handover.MaxBundle {
		c, _ := certificateOf(t, elliptic.P256(), func(*x509.Certificate) {})
		many = append(many, c)
	}
	private, err := ca.MarshalKey(key)
	us.must(err)
	before := us.row("them")
	type change = func(*handover.Bundle)
	with := func(certs ...string) change {
		return func(b *handover.Bundle) { b.Certificates = append([]string{one}, certs...) }
	}
	for name, c := range map[string]struct {
		code   apitype.Code
		key    crypto.Signer
		change change
	}{
		"an unpinned key":                   {apitype.HandoverSignatureInvalid, third.issuer("").Key, func(*handover.Bundle) {}},
		"an unpinned key that it brings":    {apitype.HandoverSignatureInvalid, otherKey, with(other)},
		"another issuer":                    {apitype.BundleInvalid, key, func(b *handover.Bundle) { b.Issuer = "third" }},
		"our own":                           {apitype.BundleInvalid, key, func(b *handover.Bundle) { b.Issuer = "us" }},
		"another trust domain":              {apitype.BundleInvalid, key, func(b *handover.Bundle) { b.TrustDomain = "us.example" }},
		"no sequence":                       {apitype.BundleInvalid, key, func(b *handover.Bundle) { b.Sequence = 0 }},
		"a sequence beyond all":             {apitype.BundleInvalid, key, func(b *handover.Bundle) { b.Sequence = 1 << 53 }},
		"an older sequence":                 {apitype.BundleOutdated, key, func(b *handover.Bundle) { b.Sequence = 1 }},
		"the same sequence, another bundle": {apitype.BundleInvalid, key, func(b *handover.Bundle) { b.Sequence--; b.Certificates = append(b.Certificates, other) }},
		"signed in the future":              {apitype.BundleInvalid, key, func(b *handover.Bundle) { b.IssuedAt = now.Add(10 * time.Minute).Unix() }},
		"signed in the year 300000000":      {apitype.BundleInvalid, key, func(b *handover.Bundle) { b.IssuedAt, b.Expires = 1<<62, 1<<62+1 }},
		"signed before all time":            {apitype.BundleInvalid, key, func(b *handover.Bundle) { b.IssuedAt = -1 << 62 }},
		"no time of signing":                {apitype.BundleInvalid, key, func(b *handover.Bundle) { b.IssuedAt = 0 }},
		"expired":                           {apitype.BundleInvalid, key, func(b *handover.Bundle) { b.Expires = now.Add(-10 * time.Minute).Unix() }},
		"good for ever":                     {apitype.BundleInvalid, key, func(b *handover.Bundle) { b.Expires = 1 << 62 }},
		"good for 31 days":                  {apitype.BundleInvalid, key, func(b *handover.Bundle) { b.Expires = now.Add(31 * 24 * time.Hour).Unix() }},
		"no certificate":                    {apitype.BundleInvalid, key, func(b *handover.Bundle) { b.Certificates = nil }},
		"all keys dropped":                  {apitype.BundleInvalid, key, func(b *handover.Bundle) { b.Certificates = []string{other} }},
		"a leaf":                            {apitype.BundleInvalid, key, with(leaf)},
		"a CA that may not sign":            {apitype.BundleInvalid, key, with(noSigner)},
		"an expired one":                    {apitype.BundleInvalid, key, with(expired)},
		"one that is not valid yet":         {apitype.BundleInvalid, key, with(early)},
		"a key on another curve":            {apitype.BundleInvalid, key, with(curve)},
		"one twice":                         {apitype.BundleInvalid, key, with(one)},
		"text":                              {apitype.BundleInvalid, key, with("hello")},
		"a private key":                     {apitype.BundleInvalid, key, with(private)},
		"65 certificates":                   {apitype.BundleInvalid, key, func(b *handover.Bundle) { b.Certificates = many }},
		"more than fits":                    {apitype.BundleInvalid, key, func(b *handover.Bundle) { b.Certificates = []string{strings.Repeat(one, 200)} }},
	} {
		if text := us.no(c.code, us.bring(them.forge(c.key, c.change))); strings.Contains(text, "MIG") {
			t.Errorf("%s: %s", name, text)
		}
	}
	for name, compact := range map[string]string{
		"nothing": "", "text": "hello", "a token": "eyJhbGciOiJub25lIn0.e30.", "the certificates": one, "large": strings.Repeat("a", 900<<10),
	} {
		if apitype.CodeOf(us.bring(compact)) != apitype.BundleInvalid {
			t.Errorf("%s: %v", name, us.bring(compact))
		}
	}
	receipt, err := handover.Sign(key, handover.TypeReceipt, handover.Receipt{Issuer: "them"})
	us.must(err)
	us.no(apitype.BundleInvalid, us.bring(receipt))
	us.no(apitype.PeerUnknown, second(us.UpdateBundle(t.Context(), operator, "nobody", apitype.PeerBundleRequest{BundleJWS: them.card().BundleJWS})))
	us.no(apitype.BundleInvalid, us.bring(third.card().BundleJWS+"x"))
	us.no(apitype.HandoverSignatureInvalid, us.bring(third.card().BundleJWS))
	if got := us.row("them"); text(t, got) != text(t, before) || len(us.events()) != 1 {
		t.Errorf("a refused bundle changed something: %+v", got)
	}
	us.must(us.bring(them.forge(key, with(other)))) // the forger's tools are good ones
}

func TestABundleByHandIsLookedAtAsWell(t *testing.T) {
	us, them := pair(t)
	card, third := them.card(), installation(t, "third", us.clock)
	other, _ := certificateOf(t, elliptic.P256(), func(*x509.Certificate) {})
	more := card.CABundle + other
	before := us.row("them")
	for _, in := range []apitype.PeerRequest{
		{CABundle: &more, BundleJWS: &card.BundleJWS},                           // not what is signed
		{CABundle: ptr(other + "hello")},                                        // not PEM alone
		{CABundle: ptr("")},                                                     // nothing
		{CABundle: ptr(strings.Repeat(other, 300))},                             // too much
		{CABundle: ptr(third.card().CABundle + third.card().CABundle)},          // twice
		{CABundle: &card.CABundle, BundleJWS: ptr(third.card().CABundle)},       // no JWS
		{CABundle: ptr(strings.ReplaceAll(card.CABundle, "CERTIF", "TRUSTED"))}, // another kind of block
	} {
		us.no(apitype.BundleInvalid, second(us.Write(t.Context(), operator, "them", in)))
	}
	us.no(apitype.HandoverSignatureInvalid, second(us.Write(t.Context(), operator, "them", apitype.PeerRequest{CABundle: &card.CABundle, BundleJWS: ptr(third.card().BundleJWS)})))
	if got := us.row("them"); text(t, got) != text(t, before) {
		t.Errorf("%+v", got)
	}
	them.rotate()
	us.must(second(us.Write(t.Context(), operator, "them", apitype.PeerRequest{BundleJWS: ptr(them.card().BundleJWS)}))) // as an edge brings it
	if got := us.row("them"); got.CABundle != them.card().CABundle {
		t.Errorf("%+v", got)
	}
}

// Roots of edges that are not the peer's issuers are an address like any other: they change by hand.
func TestTheRootsOfEdgesFollowOnlyWhereTheyAreTheIssuers(t *testing.T) {
	us, them := pair(t)
	web, _ := certificateOf(t, elliptic.P256(), func(*x509.Certificate) {})
	for _, roots := range []string{"", web} {
		us.must(second(us.Write(t.Context(), operator, "them", apitype.PeerRequest{EndpointCABundle: &roots})))
		them.rotate()
		us.must(us.follow(them))
		if got := us.row("them"); got.EndpointCABundle != roots || got.CABundle != them.card().CABundle {
			t.Errorf("%+v", got)
		}
	}
	third := installation(t, "third", us.clock)
	in := whole(third.card())
	in.EndpointCABundle = nil
	made, err := us.Write(t.Context(), operator, "third", in)
	if err != nil || made.EndpointCABundle != "" {
		t.Errorf("%+v, %v", made, err)
	}
}

func TestAPinThatHasExpiredSignsNothing(t *testing.T) {
	us, them := pair(t)
	short, err := them.issuers.NewRoot(t.Context(), operator, apitype.CARootRequest{TTL: 3600})
	us.must(err)
	us.must(second(them.issuers.Activate(t.Context(), operator, short.IssuerID)))
	us.must(us.follow(them))
	if n := len(us.peer("them").Pinned); n != 2 {
		t.Fatalf("%d pinned", n)
	}
	seq := us.row("them").BundleSequence
	*us.clock += 59 * time.Minute // an hour less what clocks may differ
	card := them.card()
	if strings.Count(card.CABundle, "BEGIN") != 1 {
		t.Errorf("a card has an issuer that is about to expire: %s", card.CABundle)
	}
	*us.clock += time.Minute
	if n := len(us.peer("them").Pinned); n != 1 {
		t.Errorf("%d pinned", n)
	}
	us.must(us.follow(them)) // what it has left out had ended here, too
	if got := us.row("them").BundleSequence; got != seq {
		t.Errorf("%d, %d", got, seq)
	}
}

func TestOnlyWhatThePeerHasPinnedSignsForIt(t *testing.T) {
	us, them := pair(t)
	them.meet(us)
	signer := func() *ca.Issuer {
		t.Helper()
		text, err := them.Sign(t.Context(), them.peer("us"), handover.TypeReceipt, handover.Receipt{Issuer: "them"})
		us.must(err)
		var by []*ca.Issuer
		for _, i := range list(them) {
			issuer := them.issuer(i.IssuerID)
			if handover.Verify(text, handover.TypeReceipt, []*x509.Certificate{issuer.Certificate}, &handover.Receipt{}) == nil {
				by = append(by, issuer)
			}
		}
		if len(by) != 1 {
			t.Fatalf("%d issuers have signed", len(by))
		}
		return by[0]
	}
	first := them.issuer("")
	next := them.rotate()
	if got := signer(); got.ID != first.ID {
		t.Error("something is signed with an issuer of which the peer may never have heard")
	}
	// The acknowledgement goes the way that edges carry it.
	carry := func() {
		t.Helper()
		us.must(us.follow(them))
		all, err := us.Pending(t.Context())
		us.must(err)
		if len(all) != 1 || all[0].ID != "them" || all[0].Peer != "them" || all[0].Step != "pinned" || all[0].Since == "" {
			t.Fatalf("%+v", all)
		}
		var receipt handover.Receipt
		us.must(handover.Verify(all[0].Receipt, handover.TypeReceipt, them.peer("us").Pinned, &receipt))
		if receipt.Issuer != "us" || receipt.Audience != "them" || receipt.Step != handover.StepPinned || receipt.IssuedAt == 0 {
			t.Fatalf("%+v", receipt)
		}
		us.must(them.Acknowledged(t.Context(), "us", receipt.Sequence))
		us.must(them.Acknowledged(t.Context(), "us", receipt.Sequence-1))
		us.must(us.Told(t.Context(), "them", receipt.Sequence))
		if again, err := us.Pending(t.Context()); err != nil || len(again) != 0 {
			t.Errorf("told twice: %+v, %v", again, err)
		}
	}
	carry()
	if got := signer(); got.ID != next || them.row("us").AcknowledgedSequence != us.row("them").BundleSequence {
		t.Errorf("%+v", them.row("us"))
	}
	third := them.rotate()
	if got := signer(); got.ID != next {
		t.Error("not signed with the newest one that the peer has")
	}
	them.retire(next) // what is left of what it has signs
	if got := signer(); got.ID != first.ID {
		t.Error("not signed with what the peer has")
	}
	carry()
	if got := signer(); got.ID != third {
		t.Error("not signed with the newest one")
	}
	// More than we ever gave is the past of somebody else, or of ours before a restore.
	us.must(them.Acknowledged(t.Context(), "us", 1<<60))
	them.rotate()
	if got := signer(); got.ID != third {
		t.Error("an acknowledgement of the future counts")
	}
}

func TestThereIsNothingToTellBeforeAnythingCanBeSigned(t *testing.T) {
	us, them := pair(t)
	if all, err := us.Pending(t.Context()); err != nil || len(all) != 1 {
		t.Fatalf("%+v, %v", all, err)
	}
	us.must(us.Told(t.Context(), "them", us.row("them").BundleSequence+1)) // nothing of the kind is pinned
	if all, err := us.Pending(t.Context()); err != nil || len(all) != 1 {
		t.Fatalf("%+v, %v", all, err)
	}
	us.must(second(us.Write(t.Context(), operator, "them", apitype.PeerRequest{Suspended: ptr(true)})))
	if all, err := us.Pending(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("a suspended peer is told: %+v, %v", all, err)
	}
	us.must(second(us.Write(t.Context(), operator, "them", apitype.PeerRequest{Suspended: ptr(false)})))
	us.configure(func(c *apitype.Config) { c.PeerID = "" })
	if all, err := us.Pending(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("%+v, %v", all, err)
	}
	us.no(apitype.PeerUnknown, us.Told(t.Context(), "nobody", 1))
	us.no(apitype.PeerUnknown, us.Acknowledged(t.Context(), "nobody", 1))
	_ = them
}

func TestACardIsSignedOnceADayAndAtEveryChange(t *testing.T) {
	clock := new(time.Duration)
	us := installation(t, "us", clock)
	seen := []string{}
	card := func(changed bool) apitype.FederationBundle {
		t.Helper()
		c := us.card()
		if slices.Contains(seen, c.BundleJWS) == changed {
			t.Errorf("signed anew: %v", !changed)
		}
		seen = append(seen, c.BundleJWS)
		return c
	}
	sequence := func(c apitype.FederationBundle) uint64 {
		var b handover.Bundle
		us.must(handover.Unverified(c.BundleJWS, handover.TypeBundle, &b))
		if b.Expires-b.IssuedAt != 30*24*3600 || b.Issuer != "us" || b.TrustDomain != "us.example" || strings.Join(b.Certificates, "") != c.CABundle {
			t.Errorf("%+v", b)
		}
		return b.Sequence
	}
	first := card(true)
	*clock += 24*time.Hour - time.Minute
	card(false)
	*clock += 2 * time.Minute
	if again := card(true); sequence(again) != sequence(first) {
		t.Error("nothing has changed, and the sequence has")
	}
	us.configure(func(c *apitype.Config) { c.Endpoint = "wss://b.example/v1/opamp" })
	if moved := card(true); moved.Endpoint != "wss://b.example/v1/opamp" || sequence(moved) != sequence(first) {
		t.Errorf("%+v", moved)
	}
	draft := us.root()
	card(false) // a draft is nobody's
	before := sequence(us.card())
	us.must(second(us.issuers.Activate(t.Context(), operator, draft)))
	if next := card(true); sequence(next) <= before || !strings.HasPrefix(next.CABundle, ca.EncodeCertificate(us.issuer(draft).Certificate.Raw)) {
		t.Error("the active issuer is not the first, or the sequence has not gone up")
	}
	web, _ := certificateOf(t, elliptic.P256(), func(*x509.Certificate) {})
	us.configure(func(c *apitype.Config) { c.EndpointCABundle = web })
	if c := card(true); c.EndpointCABundle != web || c.CABundle == web {
		t.Errorf("%+v", c)
	}
	for _, missing := range []struct {
		change func(*apitype.Config)
		says   string
	}{
		{func(c *apitype.Config) { c.Endpoint = "" }, "endpoint is not set"},
		{func(c *apitype.Config) { c.PeerID = "" }, "peer_id and endpoint are not set"},
	} {
		us.configure(missing.change)
		if text := us.no(apitype.NotConfigured, second(us.Card(t.Context()))); !strings.Contains(text, missing.says) {
			t.Error(text)
		}
	}
}
