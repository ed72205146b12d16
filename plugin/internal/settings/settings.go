// Package settings keeps the mount's configuration: one row, read from memory, changed field by field.
package settings

import (
	"context"
	"sync"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/audit"
	"github.com/ampora/ampora/plugin/internal/store"
)

// Key origins.
const (
	KeyOriginAny    = "any"
	KeyOriginCSR    = "csr"
	KeyOriginServer = "server"
)

// What a renewal rests on.
const (
	RenewProofKey  = "key"  // the current leaf's key
	RenewProofEdge = "edge" // the edge's word
)

// Tenancies.
const (
	TenancyOff  = "off"
	TenancyHard = "hard" // every token, pool, agent, group and configuration belongs to a tenant
)

// Defaults is the configuration of a mount that nobody has configured.
func Defaults() apitype.Config {
	const minute, hour, day = 60, 3600, 86400
	return apitype.Config{
		TokenTTL: 24 * hour, TokenMinTTL: 15 * minute, TokenMaxTTL: 168 * hour,
		LeafTTL: 90 * day, LeafMaxTTL: 365 * day,
		Tenancy: TenancyOff, KeyOrigin: KeyOriginAny, RenewProof: RenewProofKey, HeartbeatInterval: 30, CRLExpiry: 15 * minute,
		HandoverTTL: hour, HandoverMaxTTL: 24 * hour,
		AuditRetention: 90 * day, AgentRetention: 30 * day,
		CRLDistributionPoints: []string{}, OCSPServers: []string{}, EdgeAllowedDomains: []string{},
	}
}

// row is the stored configuration. A field that an older build did not know keeps its default, because the row is decoded
// over the defaults.
type row struct {
	apitype.Config
	Record *audit.Record `json:"record,omitempty"`
}

func (*row) SchemaName() string { return "config" }
func (*row) SchemaVersion() int { return 1 }

// Settings is the mount's configuration. It is safe for concurrent use.
type Settings struct {
	store *store.Store
	log   *audit.Log
	now   func() time.Time

	mu        sync.RWMutex
	cached    *row
	hardening bool // see Harden
}

// New makes Settings that read their row at first use.
func New(s *store.Store, log *audit.Log, now func() time.Time) *Settings {
	return &Settings{store: s, log: log, now: now}
}

// Get is the configuration as it stands. The answer is the caller's own, but its lists are shared and not to be changed.
func (s *Settings) Get(ctx context.Context) (apitype.Config, error) {
	r, hardening, err := s.get(ctx)
	if err != nil {
		return apitype.Config{}, err
	}
	c := r.Config
	if hardening {
		c.Tenancy = TenancyHard
	}
	return c, nil
}

func (s *Settings) get(ctx context.Context) (r *row, hardening bool, err error) {
	s.mu.RLock()
	r, hardening = s.cached, s.hardening
	s.mu.RUnlock()
	if r != nil {
		return r, hardening, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err = s.read(ctx)
	return r, s.hardening, err
}

// read fills the cache. The caller holds mu.
func (s *Settings) read(ctx context.Context) (*row, error) {
	if s.cached != nil {
		return s.cached, nil
	}
	r := &row{Config: Defaults()}
	if _, err := s.store.Get(ctx, store.ConfigKey, r); err != nil {
		return nil, err
	}
	s.cached = r
	s.log.SetRetention(time.Duration(r.AuditRetention) * time.Second)
	return r, nil
}

// Update changes the configuration by change, which works on a copy and names the fields that it changed. hasIssuer says
// whether an issuer exists, which fixes peer_id and trust_domain; callers serialise this with the making of issuers.
func (s *Settings) Update(ctx context.Context, origin audit.Origin, hasIssuer bool, change func(*apitype.Config) []string) (apitype.Config, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old, err := s.read(ctx)
	if err != nil {
		return apitype.Config{}, err
	}
	if err := s.log.Ensure(ctx, old.Record); err != nil {
		return apitype.Config{}, err
	}
	next := *old
	fields := change(&next.Config)
	if err := validate(&next.Config); err != nil {
		return apitype.Config{}, err
	}
	if hasIssuer && next.PeerID != old.PeerID && old.PeerID != "" {
		return apitype.Config{}, apitype.Errorf(apitype.ConfigFixed, "peer_id cannot change any more")
	}
	if hasIssuer && next.TrustDomain != old.TrustDomain {
		return apitype.Config{}, apitype.Errorf(apitype.ConfigFixed, "trust_domain cannot change any more")
	}
	if old.Tenancy == TenancyHard && next.Tenancy != TenancyHard {
		return apitype.Config{}, apitype.Errorf(apitype.ConfigFixed, "tenancy is hard, and stays so")
	}
	next.Record = audit.NewRecord(origin, s.now(), apitype.Event{
		EntityType: "config", EntityID: "config", Action: apitype.ActionConfigUpdated, Details: map[string]any{"fields": fields},
	})
	s.cached = nil // what is stored is unknown until the Put is known to have worked
	if err := s.store.Put(ctx, store.ConfigKey, &next); err != nil {
		return apitype.Config{}, err
	}
	s.cached = &next
	s.log.SetRetention(time.Duration(next.AuditRetention) * time.Second)
	s.log.Tell(ctx, next.Record)
	return next.Config, nil
}

// Settle stores the event of a change that a crash cut short.
func (s *Settings) Settle(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := s.read(ctx)
	if err != nil {
		return err
	}
	return s.log.Ensure(ctx, r.Record)
}

// Forget drops the cache, because the row changed behind our back.
func (s *Settings) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cached = nil
}
