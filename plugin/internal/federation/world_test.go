package federation_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/handover"
	"github.com/ampora/ampora/plugin/internal/audit"
	"github.com/ampora/ampora/plugin/internal/authority"
	"github.com/ampora/ampora/plugin/internal/ca"
	"github.com/ampora/ampora/plugin/internal/federation"
	"github.com/ampora/ampora/plugin/internal/named"
	"github.com/ampora/ampora/plugin/internal/settings"
	"github.com/ampora/ampora/plugin/internal/store"
	"github.com/ampora/ampora/plugin/internal/storetest"
	"github.com/hashicorp/vault/sdk/logical"
)

var operator = audit.Origin{Actor: apitype.Actor{DisplayName: "operator"}, RequestID: "request"}

// side is one process of one installation, as far as its issuers and peers go, over a storage that outlives it.
type side struct {
	*testing.T
	*federation.Peers
	issuers *authority.Authority
	cfg     *settings.Settings
	log     *audit.Log
	storage *storetest.Faulty
	clock   *time.Duration // how far it is ahead
	gone    []string       // what PeerGone was called with
	refuse  error          // what it answers

	first uint64 // sequence of the bundle of it that the other side has pinned
	third *side
}

// process is a process of an installation whose clock is shared with others of the test.
func process(t *testing.T, storage *storetest.Faulty, clock *time.Duration) *side {
	rows := store.New(store.NewCache(storage))
	now := func() time.Time { return time.Now().Add(*clock) }
	log := audit.NewLog(rows, now, 90*24*time.Hour)
	s := &side{T: t, log: log, cfg: settings.New(rows, log, now), issuers: authority.New(rows, log, now), storage: storage, clock: clock}
	ground := named.Ground{Store: rows, Log: log, Locks: store.NewLocks(), Settings: s.cfg, Now: now}
	s.Peers = federation.New(ground, s.issuers)
	s.PeerGone = func(_ context.Context, peer *federation.Peer, why string) error {
		s.gone = append(s.gone, peer.Name+" "+why)
		return s.refuse
	}
	return s
}

// installation is a side that is configured and has an issuer.
func installation(t *testing.T, peerID string, clock *time.Duration) *side {
	t.Helper()
	s := process(t, &storetest.Faulty{Storage: &logical.InmemStorage{}}, clock)
	s.configure(func(c *apitype.Config) {
		c.PeerID, c.TrustDomain = peerID, peerID+".example"
		c.Endpoint, c.FederationURL = "wss://"+peerID+".example:4320/v1/opamp", "https://"+peerID+".example:4320/federation"
	})
	s.root()
	return s
}

// pair is two installations with one clock, of which the first has the second as its peer "them".
func pair(t *testing.T) (us, them *side) {
	t.Helper()
	clock := new(time.Duration)
	us, them = installation(t, "us", clock), installation(t, "them", clock)
	us.meet(them)
	return us, them
}

func (s *side) restart() *side {
	s.Helper()
	return process(s.T, s.storage, s.clock)
}

func (s *side) configure(change func(*apitype.Config)) {
	s.Helper()
	_, err := s.cfg.Update(s.Context(), operator, false, func(c *apitype.Config) []string { change(c); return []string{"x"} })
	s.must(err)
}

// meet writes the other side's card to peers/<its peer_id>.
func (s *side) meet(other *side) apitype.Peer {
	s.Helper()
	card := other.card()
	peer, err := s.Write(s.Context(), operator, card.PeerID, whole(card))
	s.must(err)
	return peer
}

func (s *side) card() apitype.FederationBundle {
	s.Helper()
	card, err := s.Card(s.Context())
	s.must(err)
	return card
}

// whole is a card as the other side writes it.
func whole(card apitype.FederationBundle) apitype.PeerRequest {
	return apitype.PeerRequest{
		PeerID: &card.PeerID, TrustDomain: &card.TrustDomain, Endpoint: &card.Endpoint, EndpointCABundle: &card.EndpointCABundle,
		FederationURL: &card.FederationURL, CABundle: &card.CABundle, BundleJWS: &card.BundleJWS,
	}
}

// follow brings the other side's newest bundle, as an edge does.
func (s *side) follow(other *side) error {
	s.Helper()
	_, err := s.UpdateBundle(s.Context(), operator, other.self(), apitype.PeerBundleRequest{BundleJWS: other.card().BundleJWS})
	return err
}

func (s *side) self() string {
	s.Helper()
	id, err := s.Self(s.Context())
	s.must(err)
	return id
}

// root makes a self-signed issuer and answers its id.
func (s *side) root() string {
	s.Helper()
	issuer, err := s.issuers.NewRoot(s.Context(), operator, apitype.CARootRequest{})
	s.must(err)
	return issuer.IssuerID
}

// rotate makes a new issuer the one that signs, and answers its id.
func (s *side) rotate() string {
	s.Helper()
	id := s.root()
	*s.clock += time.Second
	_, err := s.issuers.Activate(s.Context(), operator, id)
	s.must(err)
	return id
}

func (s *side) retire(id string) {
	s.Helper()
	none := func(context.Context, string) (int, time.Time, error) { return 0, time.Time{}, nil }
	_, err := s.issuers.Retire(s.Context(), operator, id, true, none)
	s.must(err)
}

// issuer is an issuer with its key; without an id, the one that signs.
func (s *side) issuer(id string) *ca.Issuer {
	s.Helper()
	set, err := s.issuers.Set(s.Context())
	s.must(err)
	i, err := set.Active()
	if id != "" {
		i, err = set.Issuer(id)
	}
	s.must(err)
	return i
}

func (s *side) peer(name string) *federation.Peer {
	s.Helper()
	p, err := s.Get(s.Context(), name)
	s.must(err)
	return p
}

func (s *side) row(name string) apitype.Peer {
	s.Helper()
	p, err := s.Read(s.Context(), name)
	s.must(err)
	return p
}

func (s *side) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *side) no(code apitype.Code, err error) string {
	s.Helper()
	if got := apitype.CodeOf(err); got != code {
		s.Fatalf("code %q (%v), want %q", got, err, code)
	}
	return err.Error()
}

func (s *side) events() []apitype.Event {
	s.Helper()
	page, _, err := s.log.Page(s.Context(), audit.Query{EntityType: "peer", Limit: audit.MaxLimit})
	s.must(err)
	return page
}

func (s *side) told() map[string]int {
	s.Helper()
	counts := map[string]int{}
	for _, e := range s.events() {
		counts[e.Action]++
	}
	return counts
}

func ptr[T any](v T) *T { return &v }

// forge is a bundle of the side, changed and signed with a key of whomever.
func (s *side) forge(key crypto.Signer, change func(*handover.Bundle)) string {
	s.Helper()
	set, err := s.issuers.Set(s.Context())
	s.must(err)
	now := time.Now().Add(*s.clock)
	b := handover.Bundle{
		Issuer: s.self(), Sequence: set.Sequence() + 1, IssuedAt: now.Unix(), Expires: now.Add(time.Hour).Unix(), TrustDomain: s.self() + ".example",
		Certificates: ca.EncodeChain(set.AnchorCertificates()),
	}
	change(&b)
	text, err := handover.Sign(key, handover.TypeBundle, b)
	s.must(err)
	return text
}

// certificateOf makes a self-signed certificate.
func certificateOf(t *testing.T, curve elliptic.Curve, change func(*x509.Certificate)) (string, crypto.Signer) {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "one"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	change(template)
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return ca.EncodeCertificate(der), key
}
