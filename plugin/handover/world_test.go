package handover_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"net/url"
	"sync"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/handover"
	"github.com/ampora/ampora/plugin/identity"
	"github.com/google/uuid"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// keys makes one key of each kind that an issuer may have.
var keys = map[string]func() crypto.Signer{
	"P-256":   func() crypto.Signer { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) },
	"P-384":   func() crypto.Signer { return must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)) },
	"Ed25519": func() crypto.Signer { _, key, err := ed25519.GenerateKey(rand.Reader); return must(key, err) },
	"RSA":     sync.OnceValue(func() crypto.Signer { return must(rsa.GenerateKey(rand.Reader, 3072)) }),
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

// issuer is a CA with its key.
type issuer struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func newIssuer(name string, key crypto.Signer) issuer {
	template := &x509.Certificate{
		SerialNumber: identity.RandomSerial(identity.KindIssuer).Big(), Subject: pkix.Name{CommonName: name},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(1000 * time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	return issuer{must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)))), key}
}

// side is one installation.
type side struct {
	id     string
	issuer issuer
}

func newSide(id string) *side { return newSideWith(id, keys["P-256"]()) }

func newSideWith(id string, key crypto.Signer) *side { return &side{id, newIssuer(id, key)} }

func (s *side) trustDomain() string { return s.id + ".example" }

func (s *side) keys() handover.PeerKeys {
	return handover.PeerKeys{PeerID: s.id, TrustDomain: s.trustDomain(), Pinned: []*x509.Certificate{s.issuer.cert}}
}

// leaf makes an agent's certificate; deviate may change the template.
func (s *side) leaf(agentID, tenant string, deviate func(*x509.Certificate)) (*x509.Certificate, crypto.Signer) {
	template := &x509.Certificate{
		SerialNumber: must(identity.LeafSerial(agentID, 1)).Big(), Subject: pkix.Name{CommonName: agentID},
		URIs: []*url.URL{identity.SPIFFEID(s.trustDomain(), tenant, agentID)}, NotBefore: now.Add(-time.Minute), NotAfter: now.Add(500 * time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
	}
	if deviate != nil {
		deviate(template)
	}
	key := keys["P-256"]()
	return must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, template, s.issuer.cert, key.Public(), s.issuer.key)))), key
}

// token is a good one for a new agent of the side.
func (s *side) token(target *side) handover.Token {
	agentID := uuid.NewString()
	leaf, _ := s.leaf(agentID, "", nil)
	return s.tokenFor(target, agentID, leaf)
}

func (s *side) tokenFor(target *side, agentID string, leaf *x509.Certificate) handover.Token {
	return handover.Token{
		Issuer: s.id, Audience: target.id, Subject: identity.SPIFFEID(s.trustDomain(), "", agentID).String(), ID: uuid.NewString(),
		IssuedAt: now.Unix(), NotBefore: now.Unix(), Expires: now.Add(time.Hour).Unix(),
		Confirmation: handover.Confirmation{X5TS256: handover.Thumbprint(leaf)},
		Agent: handover.Agent{
			AgentID: agentID, DisplayName: "edge-7", InstanceUID: uuid.NewString(), Description: `{"service.name":"<collector> & co"}`,
			Capabilities: apitype.CapabilityAcceptsOpAMP, Group: "web", Configuration: "default", Certificate: pemOf(leaf), EnrolledAt: now.Unix() - 1000,
		},
		Target: handover.Target{Name: target.id, Endpoint: "wss://" + target.id + ".example:4320/v1/opamp", CABundle: pemOf(target.issuer.cert)},
		Source: handover.Source{Endpoint: "wss://" + s.id + ".example:4320/v1/opamp"}, Audit: uuid.NewString(),
	}
}

// sign signs claims as a handover token.
func (s *side) sign(claims any) string {
	return must(handover.Sign(s.issuer.key, handover.TypeHandover, claims))
}

// onward is the string for an agent that came to s by the string text and goes on to the target.
func (s *side) onward(text string, target *side, change func(*handover.Token)) string {
	compact, lineage, err := handover.Split(text)
	if err != nil {
		panic(err)
	}
	claims := s.token(target)
	claims.Previous = handover.Hash(compact)
	if change != nil {
		change(&claims)
	}
	return handover.Join(s.sign(claims), append([]string{compact}, lineage...))
}

// issuerBelow is an intermediate CA.
func issuerBelow(parent issuer) issuer {
	key := keys["P-256"]()
	template := &x509.Certificate{
		SerialNumber: identity.RandomSerial(identity.KindIssuer).Big(), Subject: pkix.Name{CommonName: "middle"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(1000 * time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	return issuer{must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, template, parent.cert, key.Public(), parent.key)))), key}
}

func pemOf(cert *x509.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}))
}

// peers are the sides that are pinned.
type peers []*side

func (p peers) ByID(id string) (handover.PeerKeys, error) {
	for _, s := range p {
		if s.id == id {
			return s.keys(), nil
		}
	}
	return handover.PeerKeys{}, apitype.Errorf(apitype.PeerUnknown, "no peer has this peer_id")
}
