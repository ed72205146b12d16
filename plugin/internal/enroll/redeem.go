package enroll

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"net/netip"
	"strings"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/audit"
	"github.com/ampora/ampora/plugin/internal/authority"
	"github.com/ampora/ampora/plugin/internal/ca"
	"github.com/ampora/ampora/plugin/internal/name"
	"github.com/ampora/ampora/plugin/internal/settings"
	"github.com/ampora/ampora/plugin/internal/store"
	"github.com/ampora/ampora/plugin/token"
	"github.com/google/uuid"
)

// Bounds of an idempotency key in characters.
const (
	minIdempotencyKey = 16
	maxIdempotencyKey = 128
)

// Check says whether a token would be taken right now. It consumes nothing.
func (e *Enroller) Check(ctx context.Context, tenant string, in apitype.RedeemCheckRequest) (apitype.RedeemCheckResponse, error) {
	var none apitype.RedeemCheckResponse
	secret, err := token.Parse(token.Bootstrap, in.Token)
	if err != nil {
		return none, err
	}
	source, err := parseSource(in.SourceIP)
	if err != nil {
		return none, err
	}
	set, err := e.Authority.Set(ctx)
	if err != nil {
		return none, err
	}
	if _, err := set.Active(); err != nil {
		return none, err
	}
	defer e.Locks.Agent(secret.AgentID())()
	m, err := e.meet(ctx, secret.AgentID(), secret.ID())
	if err != nil {
		return none, err
	}
	row, err := m.redeemable(tenant, secret, source, e.Now())
	if err != nil {
		return none, err
	}
	return apitype.RedeemCheckResponse{TokenID: row.TokenID, Tenant: row.Tenant, Group: row.Group, ExpiresAt: formatTime(row.ExpiresAt)}, nil
}

// redeemable answers the token's row if it can be redeemed, else the refusal.
func (m met) redeemable(tenant string, secret token.Secret, source netip.Addr, now time.Time) (*tokenRow, error) {
	hash := secret.Hash()
	switch t := m.token; {
	case m.agent != nil && hash.Equal(m.agent.TokenHash) && !inTenant(tenant, m.agent.Tenant),
		m.gone() && !inTenant(tenant, m.revoked.Tenant):
		return nil, apitype.Errorf(apitype.TenantMismatch, "the token belongs elsewhere")
	case m.agent != nil && hash.Equal(m.agent.TokenHash), m.gone():
		return nil, apitype.Errorf(apitype.TokenRedeemed, "the token has made its agent")
	case t == nil, !hash.Equal(t.Hash):
		return nil, unknownToken()
	case !inTenant(tenant, t.Tenant):
		return nil, apitype.Errorf(apitype.TenantMismatch, "the token belongs elsewhere")
	case t.Revoked:
		return nil, apitype.Errorf(apitype.TokenRevoked, "the token was revoked")
	case !now.Before(t.ExpiresAt):
		return nil, apitype.Errorf(apitype.TokenExpired, "the token expired at %s", formatTime(t.ExpiresAt))
	case !inCIDRs(t.BoundCIDRs, source):
		return nil, apitype.Errorf(apitype.CIDRMismatch, "the source address is outside the token's bound_cidrs")
	default:
		return t, nil
	}
}

func inCIDRs(cidrs []string, source netip.Addr) bool {
	for _, text := range cidrs {
		if p, err := netip.ParsePrefix(text); err == nil && source.IsValid() && p.Contains(source) {
			return true
		}
	}
	return len(cidrs) == 0
}

func parseSource(text string) (netip.Addr, error) {
	if text == "" {
		return netip.Addr{}, nil
	}
	a, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Addr{}, apitype.Errorf(apitype.FieldInvalid, "source_ip is no IP address")
	}
	return a.Unmap().WithZone(""), nil
}

// formatSource is the address in its one spelling, or nothing when there is none.
func formatSource(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// intake is a redemption request after every check that needs no state.
type intake struct {
	secret      token.Secret
	csr         *ca.CSR // nil with a key of our making
	source      netip.Addr
	instanceUID string
	idempotency []byte // hash, nil without a key
	request     apitype.RedeemRequest
}

func parseIntake(in apitype.RedeemRequest) (*intake, error) {
	secret, err := token.Parse(token.Bootstrap, in.Token)
	if err != nil {
		return nil, err
	}
	k := &intake{secret: secret, request: in}
	switch {
	case in.CSR == "" && !in.GenerateKey:
		return nil, apitype.Errorf(apitype.CSRRequired, "neither csr nor generate_key is given")
	case in.CSR != "" && in.GenerateKey:
		return nil, apitype.Errorf(apitype.FieldInvalid, "csr and generate_key exclude each other")
	case in.CSR != "":
		if k.csr, err = ca.ParseCSR(in.CSR); err != nil {
			return nil, err
		}
	}
	if k.source, err = parseSource(in.SourceIP); err != nil {
		return nil, err
	}
	if in.InstanceUID != "" {
		u, err := uuid.Parse(in.InstanceUID)
		if err != nil {
			return nil, apitype.Errorf(apitype.FieldInvalid, "instance_uid is no UUID")
		}
		k.instanceUID = u.String()
	}
	if err := name.Text("display_name", in.DisplayName, name.MaxLabel); err != nil {
		return nil, err
	}
	if len(in.Description) > name.MaxDescription {
		return nil, apitype.Errorf(apitype.FieldInvalid, "description is longer than %d bytes", name.MaxDescription)
	}
	if in.Capabilities != 0 && in.Capabilities&apitype.CapabilityAcceptsOpAMP == 0 {
		return nil, apitype.Errorf(apitype.CapabilityMissing, "the agent does not accept connection settings")
	}
	if in.IdempotencyKey != "" {
		if n := len(in.IdempotencyKey); n < minIdempotencyKey || n > maxIdempotencyKey || strings.ContainsFunc(in.IdempotencyKey, func(r rune) bool { return r < '!' || r > '~' }) {
			return nil, apitype.Errorf(apitype.FieldInvalid, "idempotency_key must have %d to %d printable ASCII characters", minIdempotencyKey, maxIdempotencyKey)
		}
		sum := sha256.Sum256([]byte(in.IdempotencyKey))
		k.idempotency = sum[:]
	}
	return k, nil
}

// Redeem turns a token into an agent, or answers the same again for the same request.
func (e *Enroller) Redeem(ctx context.Context, origin audit.Origin, tenant string, in apitype.RedeemRequest) (*apitype.Identity, error) {
	k, err := parseIntake(in)
	if err != nil {
		return nil, err
	}
	cfg, err := e.Settings.Get(ctx)
	if err != nil {
		return nil, err
	}
	switch {
	case k.csr == nil && cfg.KeyOrigin == settings.KeyOriginCSR:
		return nil, apitype.Errorf(apitype.CSRRequired, "generate_key is not allowed here")
	case k.csr != nil && cfg.KeyOrigin == settings.KeyOriginServer:
		return nil, apitype.Errorf(apitype.KeyNotAllowed, "keys are made on the server here")
	}
	set, err := e.Authority.Set(ctx)
	if err != nil {
		return nil, err
	}
	agentID := k.secret.AgentID()
	defer e.Locks.Agent(agentID)()
	m, err := e.meet(ctx, agentID, k.secret.ID())
	if err != nil {
		return nil, err
	}
	origin = origin.ForAgent(agentID, formatSource(k.source))
	if m.agent != nil {
		return e.redeemAgain(ctx, origin, tenant, cfg, set, m, k)
	}
	tokenRow, err := m.redeemable(tenant, k.secret, k.source, e.Now())
	if err != nil {
		return nil, err
	}
	row := &agentRow{
		AgentID: agentID, DisplayName: in.DisplayName, InstanceUID: k.instanceUID, Description: in.Description, Capabilities: in.Capabilities,
		Tenant: tokenRow.Tenant, Group: tokenRow.Group,
		TokenID: tokenRow.TokenID, TokenHash: tokenRow.Hash, TokenExpiresAt: tokenRow.ExpiresAt,
		EnrolledAt: e.Now().UTC(), RedeemedAt: e.Now().UTC(), SourceIP: formatSource(k.source), KeyOrigin: settings.KeyOriginCSR,
	}
	row.StateHash = apitype.StateHash(in.Description, in.DisplayName, in.Capabilities)
	if row.DisplayName == "" {
		row.DisplayName = tokenRow.Label
	}
	if k.csr == nil {
		row.KeyOrigin = settings.KeyOriginServer
	}
	issued, err := e.newLeaf(cfg, set, row, k, 1)
	if err != nil {
		return nil, err
	}
	row.Record = audit.NewRecord(origin, e.Now(),
		apitype.Event{
			EntityType: "token", EntityID: row.TokenID, Action: apitype.ActionTokenRedeemed, Tenant: row.Tenant, AgentID: agentID,
			Details: map[string]any{"label": tokenRow.Label, "group": row.Group, "key_origin": row.KeyOrigin},
		},
		issued.event(row))
	if err := e.Store.Put(ctx, store.Sharded(store.AgentPrefix, agentID), row); err != nil { // the commit
		return nil, err
	}
	e.finish(ctx, agentID, &met{token: m.token, agent: row})
	return issued.answer(row), nil
}

// redeemAgain answers a token that has made its agent: with the same certificate for the same request, with a fresh leaf of
// the same agent where the key was of our making (we do not keep it), and else with token_redeemed.
func (e *Enroller) redeemAgain(ctx context.Context, origin audit.Origin, tenant string, cfg apitype.Config, set *authority.Set, m met, k *intake) (*apitype.Identity, error) {
	row, hash := m.agent, k.secret.Hash()
	age := e.Now().Sub(row.RedeemedAt)
	sameKey := k.csr != nil && subtle.ConstantTimeCompare(k.csr.KeyHash[:], row.CSRKeyHash) == 1
	sameRequest := k.idempotency != nil && subtle.ConstantTimeCompare(k.idempotency, row.IdempotencyHash) == 1 && age < idempotencyWindow
	serverKey := k.csr == nil && row.KeyOrigin == settings.KeyOriginServer
	retry := time.Duration(cfg.RetryWindow) * time.Second
	switch {
	case !hash.Equal(row.TokenHash):
		return nil, unknownToken()
	case !inTenant(tenant, row.Tenant):
		return nil, apitype.Errorf(apitype.TenantMismatch, "the token belongs elsewhere")
	case !sameRequest && (!sameKey || age >= retry), !sameKey && !serverKey:
		return nil, apitype.Errorf(apitype.TokenRedeemed, "the token has made its agent")
	case m.revoked != nil:
		return nil, apitype.Errorf(apitype.AgentRevoked, "the agent was revoked")
	case sameKey:
		return e.stored(set, row)
	}
	next := *row
	issued, err := e.newLeaf(cfg, set, &next, k, row.Leaf.Generation+1)
	if err != nil {
		return nil, err
	}
	next.Record = audit.NewRecord(origin, e.Now(), issued.event(&next))
	if err := e.Store.Put(ctx, store.Sharded(store.AgentPrefix, row.AgentID), &next); err != nil {
		return nil, err
	}
	e.finish(ctx, row.AgentID, &met{agent: &next})
	return issued.answer(&next), nil
}

// issued is a leaf with what belongs to it but is not kept in the row.
type issued struct {
	issuer     *ca.Issuer
	privateKey string // PEM, when the key is of our making
	keyType    string
	cut        bool
}

// newLeaf signs a leaf for the row and writes it into the row. Nothing is stored.
func (e *Enroller) newLeaf(cfg apitype.Config, set *authority.Set, row *agentRow, k *intake, generation uint32) (*issued, error) {
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
		TTL: time.Duration(cfg.LeafTTL) * time.Second, Now: e.Now(),
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
		Tenant: row.Tenant, Group: row.Group, PrivateKey: i.privateKey, PrivateKeyType: i.keyType, TTLCut: i.cut,
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
