package enroll

import (
	"context"
	"crypto"
	"crypto/x509"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/authority"
	"github.com/ampora/ampora/plugin/internal/ca"
)

// issued is a leaf with what belongs to it but is not kept in the row.
type issued struct {
	issuer     *ca.Issuer
	privateKey string // PEM, when the key is of our making
	keyType    string
	cut        bool
}

// newLeaf signs the row's next leaf and writes it into the row. Nothing is stored.
func (e *Enroller) newLeaf(ctx context.Context, cfg apitype.Config, set *authority.Set, row *agentRow, k *intake) (*issued, error) {
	now, err := e.Epoch.Now(ctx)
	if err != nil {
		return nil, err
	}
	generation := now.Generation(row.Leaf.Generation)
	issuer, err := set.Active()
	if err != nil {
		return nil, err
	}
	if cfg.TrustDomain == "" {
		return nil, apitype.Errorf(apitype.NotConfigured, "trust_domain is not set")
	}
	out := &issued{issuer: issuer}
	var public crypto.PublicKey
	if k.csr != nil {
		public = k.csr.PublicKey
		row.CSRKeyHash = k.csr.KeyHash[:]
	} else {
		spec, err := ca.ParseKeySpec("", 0)
		if err != nil {
			return nil, err
		}
		key, err := ca.NewKey(spec)
		if err != nil {
			return nil, err
		}
		if out.privateKey, err = ca.MarshalKey(key); err != nil {
			return nil, err
		}
		out.keyType = spec.Type
		public = key.Public()
		row.CSRKeyHash = nil
	}
	leaf, err := ca.SignLeaf(issuer, ca.LeafTemplate{
		PublicKey: public, AgentID: row.AgentID, Tenant: row.Tenant, TrustDomain: cfg.TrustDomain, Generation: generation,
		TTL: row.leafTTL(cfg), Now: e.Now(),
		CRLDistributionPoints: cfg.CRLDistributionPoints, OCSPServers: cfg.OCSPServers,
	})
	if err != nil {
		return nil, err
	}
	out.cut = leaf.TTLCut
	row.Leaf = leafRow{
		Certificate: leaf.PEM, IssuerID: issuer.ID, Serial: leaf.Serial.String(), Generation: generation,
		Fingerprint: leaf.Fingerprint, NotAfter: leaf.NotAfter,
	}
	row.IdempotencyHash = k.idempotency
	return out, nil
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
		EntityType: "certificate", EntityID: row.Leaf.Serial, Action: apitype.ActionCertificateIssued, Tenant: row.Tenant, AgentID: row.AgentID,
		Details: map[string]any{"fingerprint": row.Leaf.Fingerprint, "expires_at": formatTime(row.Leaf.NotAfter), "issuer_id": row.Leaf.IssuerID, "ttl_cut": i.cut},
	}
}

func (i *issued) answer(row *agentRow) *apitype.Identity {
	chain := []*x509.Certificate{i.issuer.Certificate}
	return &apitype.Identity{
		AgentID: row.AgentID, Certificate: row.Leaf.Certificate,
		IssuingCA: ca.EncodeCertificate(i.issuer.Certificate.Raw), CAChain: ca.EncodeChain(append(chain, i.issuer.Chain...)),
		SerialNumber: row.Leaf.Serial, Fingerprint: row.Leaf.Fingerprint, Expiration: row.Leaf.NotAfter.Unix(),
		Tenant: row.Tenant, Group: row.Group, TokenID: row.TokenID, Pool: row.Pool, PoolID: row.PoolID, PrivateKey: i.privateKey, PrivateKeyType: i.keyType, TTLCut: i.cut,
	}
}

// stored answers the leaf that the row holds.
func (e *Enroller) stored(set *authority.Set, row *agentRow) (*apitype.Identity, error) {
	issuer, err := set.Issuer(row.Leaf.IssuerID)
	if err != nil {
		return nil, err
	}
	return (&issued{issuer: issuer}).answer(row), nil
}
