// Package enroll turns bootstrap tokens into agents and keeps both: the state transitions of tokens, agents and their
// revocation, in plain Go values over storage.
//
// # Redemption is one commit
//
// Whether a token is spent is whether its agent's row, or the tombstone of it, exists: the agent's id follows from the
// token. Redemption signs in memory and then Puts the agent's row; that Put is the commit, and the row carries the record
// of it. Storing the record and deleting the token's row come afterwards and are finished by whoever meets the rows next
// (see meet), so a crash at any point leaves either a token that still works or an agent, a dead token and an event.
//
// # Revocation is one record
//
// revoked/<agent_id> ends every leaf up to a generation. A deletion is the same record with its Deleted mark: the Put is
// the commit, the record is the tombstone, and removing the agent's row is what recovery finishes.
//
// # Batches
//
// Tokens that are issued together are one row, which is one write however many they are: those of one request, and under load
// those of several requests that come at the same time, each with its own record. Nothing is taken out of the row when one of
// them is redeemed, since the agent's row says so; it goes when the last is, or a day after they have expired. A token of a
// batch that is revoked alone gets a row of its own, which stands before the batch's.
//
// All transitions of one agent, and of the token that becomes it, hold that agent's lock, and the mount and the token's
// pool shared (see store.Locks), so that whatever ends many tokens at once ends them all.
package enroll

import (
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/handover"
	"github.com/ampora/ampora/plugin/internal/audit"
	"github.com/ampora/ampora/plugin/internal/epoch"
)

// Bounds in time.
const (
	// idempotencyWindow is how long the same idempotency key gets the same answer.
	idempotencyWindow = 10 * time.Minute
	// tokenGrace is how long an expired token's row is kept, so that its holder is told "expired" and not "unknown".
	tokenGrace = 24 * time.Hour
	// lastSeenStep is how often an agent's last_seen is stored at most.
	lastSeenStep = time.Hour
)

// tokenRow is token/<shard>/<token_id>: a bootstrap token that has not become an agent.
type tokenRow struct {
	TokenID    string        `json:"token_id"`
	Hash       []byte        `json:"hash"` // SHA-256, see package token
	AgentID    string        `json:"agent_id"`
	Revoked    bool          `json:"revoked,omitempty"`
	Reason     string        `json:"reason,omitempty"`
	Label      string        `json:"label,omitempty"`
	Tenant     string        `json:"tenant,omitempty"`
	Group      string        `json:"group,omitempty"`
	BoundCIDRs []string      `json:"bound_cidrs,omitempty"`
	IssuedBy   string        `json:"issued_by"`
	IssuedAt   time.Time     `json:"issued_at"`
	ExpiresAt  time.Time     `json:"expires_at"`
	Mark       epoch.Mark    `json:"mark,omitzero"`
	Pool       poolRef       `json:"pool,omitzero"`
	BatchID    string        `json:"batch_id,omitempty"`
	Record     *audit.Record `json:"record"`

	// Of the moment in which it was read.
	inBatch bool           // it has no row of its own
	unused  bool           // it is known to have no agent
	ended   *apitype.Error // what has ended it together with others
	reason  string         // for which that was
	cidrs   []string       // its pool's
	leafTTL int64          // its pool's
}

// poolRef is the pool that a token comes from.
type poolRef struct {
	ID         string `json:"id"`
	Name       string `json:"name"`
	Generation uint64 `json:"generation"`
}

func (*tokenRow) SchemaName() string { return "token" }
func (*tokenRow) SchemaVersion() int { return 1 }

func (t *tokenRow) state(now time.Time) string {
	switch {
	case t.Revoked, t.ended != nil:
		return apitype.TokenStateRevoked
	case !now.Before(t.ExpiresAt):
		return apitype.TokenStateExpired
	}
	return apitype.TokenStateIssued
}

func (t *tokenRow) info(now time.Time) apitype.TokenInfo {
	info := apitype.TokenInfo{
		TokenID: t.TokenID, State: t.state(now), Label: t.Label, Tenant: t.Tenant, Group: t.Group,
		Pool: t.Pool.Name, PoolID: t.Pool.ID, BatchID: t.BatchID,
		BoundCIDRs: append(append([]string{}, t.BoundCIDRs...), t.cidrs...), IssuedBy: t.IssuedBy, IssuedAt: formatTime(t.IssuedAt),
		ExpiresAt: formatTime(t.ExpiresAt), Reason: t.Reason,
	}
	if !t.Revoked && t.ended != nil {
		info.Reason = t.reason
	}
	return info
}

// agentRow is agent/<shard>/<agent_id>. Its existence is what makes the token spent.
type agentRow struct {
	AgentID      string `json:"agent_id"`
	DisplayName  string `json:"display_name,omitempty"`
	InstanceUID  string `json:"instance_uid,omitempty"`
	Description  string `json:"description,omitempty"`
	Capabilities uint64 `json:"capabilities,omitempty"`
	Tenant       string `json:"tenant,omitempty"`
	Group        string `json:"group,omitempty"`
	// Configuration is the agent's own, before that of its group.
	Configuration string `json:"configuration,omitempty"`
	// Remote is what the agent last said of its remote config.
	Remote remoteRow `json:"remote,omitzero"`

	Pool           string    `json:"pool,omitempty"`
	PoolID         string    `json:"pool_id,omitempty"`
	TokenID        string    `json:"token_id"`
	TokenHash      []byte    `json:"token_hash"`
	TokenExpiresAt time.Time `json:"token_expires_at"`
	EnrolledAt     time.Time `json:"enrolled_at"`
	SourceIP       string    `json:"source_ip,omitempty"`
	KeyOrigin      string    `json:"key_origin"`

	Leaf     leafRow   `json:"leaf"`
	Next     *leafRow  `json:"next,omitempty"`     // issued and not confirmed yet: Leaf and Next are both good
	NextSeen time.Time `json:"next_seen,omitzero"` // when Next first came back
	Past     []leafRef `json:"past,omitempty"`     // replaced leaves that have not expired
	LeafTTL  int64     `json:"leaf_ttl,omitempty"` // seconds; 0: config.leaf_ttl

	Out *outgoing `json:"out,omitempty"` // the last handover to a peer
	In  *incoming `json:"in,omitempty"`  // the last one from a peer

	// Of the redemption: what the same request may be recognised by, until the agent has renewed: then it has had its answer.
	// A repetition that gets a fresh leaf does not move EnrolledAt, or it could be repeated for ever.
	CSRKeyHash      []byte `json:"csr_key_hash,omitempty"`     // SHA-256 of the key's SPKI; absent for a server-made key
	IdempotencyHash []byte `json:"idempotency_hash,omitempty"` // SHA-256

	StateHash   string    `json:"state_hash,omitempty"`   // of description, display name and capabilities as the agent last told them
	SuspectedAt uint32    `json:"suspected_at,omitempty"` // generation at which a replaced leaf came back
	SharedAt    uint32    `json:"shared_at,omitempty"`    // generation that was in use twice at a time
	LastSeen    time.Time `json:"last_seen,omitzero"`
	Edge        string    `json:"edge,omitempty"`

	Record *audit.Record `json:"record"`
}

func (*agentRow) SchemaName() string { return "agent" }
func (*agentRow) SchemaVersion() int { return 1 }

// leafRow is one certificate of an agent.
type leafRow struct {
	Certificate string    `json:"certificate"` // PEM
	IssuerID    string    `json:"issuer_id"`
	Peer        string    `json:"peer,omitempty"` // of which it comes; then IssuerID is empty, and Serial is the peer's
	Serial      string    `json:"serial"`
	Generation  uint32    `json:"generation"`
	Fingerprint string    `json:"fingerprint"`
	KeyHash     []byte    `json:"key_hash"` // SHA-256 of the key's SubjectPublicKeyInfo
	NotAfter    time.Time `json:"not_after"`
}

// leafRef is a leaf that counts no longer, kept until it has expired.
type leafRef struct {
	Generation uint32    `json:"generation"`
	IssuerID   string    `json:"issuer_id"`
	NotAfter   time.Time `json:"not_after"`
	Time       time.Time `json:"time"`   // since when
	Reason     string    `json:"reason"` // see ca.Reasons
}

// revokedRow is revoked/<agent_id>.
type revokedRow struct {
	AgentID    string        `json:"agent_id"`
	Tenant     string        `json:"tenant,omitempty"`
	Generation uint32        `json:"generation"` // and every one before
	Reason     string        `json:"reason"`
	Time       time.Time     `json:"time"`
	NotAfter   time.Time     `json:"not_after"`        // of the last leaf that it covers
	Leaves     []leafRef     `json:"leaves,omitempty"` // those that had not expired then
	Deleted    bool          `json:"deleted,omitempty"`
	KeepUntil  time.Time     `json:"keep_until,omitzero"` // of a tombstone: when neither leaf nor token can be valid any more
	Record     *audit.Record `json:"record,omitempty"`    // absent when many were revoked together: see revokeJob
}

func (*revokedRow) SchemaName() string { return "revocation" }
func (*revokedRow) SchemaVersion() int { return 1 }

func (r *revokedRow) sync() apitype.SyncRevoked {
	return apitype.SyncRevoked{AgentID: r.AgentID, Generation: r.Generation, NotAfter: r.NotAfter.Unix()}
}

func (a *agentRow) info(revoked *revokedRow) apitype.Agent {
	info := apitype.Agent{
		AgentID: a.AgentID, DisplayName: a.DisplayName, InstanceUID: a.InstanceUID, Description: a.Description,
		Capabilities: a.Capabilities, Tenant: a.Tenant, Group: a.Group, Configuration: a.Configuration, State: apitype.AgentStateActive, StateText: "Active",
		SerialNumber: a.Leaf.Serial, Fingerprint: a.Leaf.Fingerprint, Certificate: a.Leaf.Certificate, Expiration: a.Leaf.NotAfter.Unix(),
		EnrolledAt: formatTime(a.EnrolledAt), LastSeen: formatTime(a.LastSeen), Edge: a.Edge,
		TokenID: a.TokenID, Pool: a.Pool, PoolID: a.PoolID, KeyOrigin: a.KeyOrigin, SourceIP: a.SourceIP,
	}
	info.ConfigurationStatus, info.ConfigurationName, info.ConfigurationHash = a.Remote.Status, a.Remote.Name, a.Remote.Hash
	info.ConfigurationError, info.ConfigurationTime = a.Remote.Error, formatTime(a.Remote.Time)
	if a.Next != nil {
		info.NextSerialNumber = a.Next.Serial
	}
	if a.In != nil && a.In.State == handover.Active {
		info.Origin = a.In.Peer
	}
	if state, peer := a.handoverState(); state != "" {
		info.State, info.StateText, info.Peer = state, stateText(state, peer), peer
	}
	if revoked.covers(a.newest()) {
		info.State, info.StateText = apitype.AgentStateRevoked, "Revoked"
		info.RevocationReason, info.RevocationTime = revoked.Reason, formatTime(revoked.Time)
	}
	return info
}

// formatTime is RFC 3339 in UTC, or nothing for the zero time.
func formatTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}
