package enroll

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"strings"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/authority"
	"github.com/ampora/ampora/plugin/internal/ca"
)

// leafKey is the key that a leaf is for.
type leafKey struct {
	public  crypto.PublicKey
	hash    [sha256.Size]byte // of its SubjectPublicKeyInfo
	private string            // PEM, when the key is of our making
	typ     string
}

func csrKey(c *ca.CSR) leafKey { return leafKey{public: c.PublicKey, hash: c.KeyHash} }

// newKey makes a key for an agent that cannot.
func newKey() (leafKey, error) {
	spec, err := ca.ParseKeySpec("", 0)
	if err != nil {
		return leafKey{}, err
	}
	key, err := ca.NewKey(spec)
	if err != nil {
		return leafKey{}, err
	}
	out, err := publicKey(key.Public())
	if err != nil {
		return leafKey{}, err
	}
	out.typ = spec.Type
	out.private, err = ca.MarshalKey(key)
	return out, err
}

func publicKey(public crypto.PublicKey) (leafKey, error) {
	spki, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return leafKey{}, err
	}
	return leafKey{public: public, hash: sha256.Sum256(spki)}, nil
}

// issued is a leaf with what belongs to it but is not kept in the row.
type issued struct {
	leaf   leafRow
	issuer *ca.Issuer
	key    leafKey
	cut    bool
}

// newLeaf signs the agent's next leaf. Nothing is stored, and the row stays as it is.
func (e *Enroller) newLeaf(ctx context.Context, cfg apitype.Config, set *authority.Set, row *agentRow, key leafKey) (*issued, error) {
	now, err := e.Epoch.Now(ctx)
	if err != nil {
		return nil, err
	}
	issuer, err := set.Active()
	if err != nil {
		return nil, err
	}
	if cfg.TrustDomain == "" {
		return nil, apitype.Errorf(apitype.NotConfigured, "trust_domain is not set")
	}
	generation := now.Generation(row.newest())
	leaf, err := ca.SignLeaf(issuer, ca.LeafTemplate{
		PublicKey: key.public, AgentID: row.AgentID, Tenant: row.Tenant, TrustDomain: cfg.TrustDomain, Generation: generation,
		TTL: row.leafTTL(cfg), Now: e.Now(),
		CRLDistributionPoints: issuersOwn(cfg.CRLDistributionPoints, issuer), OCSPServers: issuersOwn(cfg.OCSPServers, issuer),
	})
	if err != nil {
		return nil, err
	}
	return &issued{issuer: issuer, key: key, cut: leaf.TTLCut, leaf: leafRow{
		Certificate: leaf.PEM, IssuerID: issuer.ID, Serial: leaf.Serial.String(), Generation: generation,
		Fingerprint: leaf.Fingerprint, KeyHash: key.hash[:], NotAfter: leaf.NotAfter,
	}}, nil
}

// issuersOwn are URLs with the issuer's id filled in: each issuer has a list of its own, and a leaf keeps its URL for life.
func issuersOwn(urls []string, issuer *ca.Issuer) []string {
	var own []string
	for _, u := range urls {
		own = append(own, strings.ReplaceAll(u, "{issuer_id}", issuer.ID))
	}
	return own
}

// leafTTL is how long the agent's leaves live: as its pool said when it enrolled, else as the mount says.
func (a *agentRow) leafTTL(cfg apitype.Config) time.Duration {
	ttl := cfg.LeafTTL
	if a.LeafTTL > 0 {
		ttl = min(a.LeafTTL, cfg.LeafMaxTTL)
	}
	return time.Duration(ttl) * time.Second
}

func (i *issued) event(row *agentRow) apitype.Event {
	return apitype.Event{
		EntityType: "certificate", EntityID: i.leaf.Serial, Action: apitype.ActionCertificateIssued, Tenant: row.Tenant, AgentID: row.AgentID,
		Details: map[string]any{"fingerprint": i.leaf.Fingerprint, "expires_at": formatTime(i.leaf.NotAfter), "issuer_id": i.leaf.IssuerID, "ttl_cut": i.cut},
	}
}

func (i *issued) answer(row *agentRow) *apitype.Identity {
	chain := []*x509.Certificate{i.issuer.Certificate}
	return &apitype.Identity{
		AgentID: row.AgentID, Certificate: i.leaf.Certificate,
		IssuingCA: ca.EncodeCertificate(i.issuer.Certificate.Raw), CAChain: ca.EncodeChain(append(chain, i.issuer.Chain...)),
		SerialNumber: i.leaf.Serial, Fingerprint: i.leaf.Fingerprint, Expiration: i.leaf.NotAfter.Unix(),
		Tenant: row.Tenant, Group: row.Group, TokenID: row.TokenID, Pool: row.Pool, PoolID: row.PoolID,
		PrivateKey: i.key.private, PrivateKeyType: i.key.typ, TTLCut: i.cut,
	}
}

// stored answers a leaf that the row holds.
func stored(set *authority.Set, row *agentRow, leaf leafRow) (*apitype.Identity, error) {
	issuer, err := set.Issuer(leaf.IssuerID)
	if err != nil {
		return nil, err
	}
	return (&issued{issuer: issuer, leaf: leaf}).answer(row), nil
}
