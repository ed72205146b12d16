package apitype

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"strconv"
)

// SyncRequest polls the change feed (DESIGN.md section 8).
type SyncRequest struct {
	Since string `json:"since,omitempty"` // "<epoch>.<n>" as last answered, empty for a full snapshot
	Wait  int64  `json:"wait,omitempty"`  // seconds, at most 3
}

// SyncResponse is a full snapshot or what changed since. Absent parts are unchanged in a delta and empty in a snapshot.
type SyncResponse struct {
	Revision string        `json:"revision"` // "<epoch>.<n>"
	Full     bool          `json:"full"`
	Settings *SyncSettings `json:"settings,omitempty"`
	// Issuers, when present, replaces the whole list: the active issuer first, then the trusted ones.
	Issuers []SyncIssuer `json:"issuers,omitempty"`
	// Revoked adds to the set (or is the set, in a full snapshot).
	Revoked RevokedSet `json:"revoked,omitempty"`
	// Peers, when present, replaces the whole list; empty when the last one has gone.
	Peers []SyncPeer `json:"peers,omitzero"`
	// Moves and Guests add to their sets, or take out what is Over; in a full snapshot they are the sets.
	Moves  []SyncMove  `json:"moves,omitempty"`
	Guests []SyncGuest `json:"guests,omitempty"`
	// Reassigned are agents whose group or own configuration was changed: an edge that serves one reports its session again,
	// and the answer tells. After a full snapshot any may have been.
	Reassigned AgentIDs `json:"reassigned,omitempty"`
	// Configurations says that a group or a configuration was changed, made or deleted: read edge/configurations, which is held
	// to a tenant, as this feed is not. After a full snapshot any may have been.
	Configurations bool `json:"configurations,omitempty"`
}

// SyncSettings is what an edge needs of the configuration.
type SyncSettings struct {
	TrustDomain       string `json:"trust_domain"`
	Endpoint          string `json:"endpoint"`
	EndpointCABundle  string `json:"endpoint_ca_bundle"`
	KeyOrigin         string `json:"key_origin"`
	HeartbeatInterval int64  `json:"heartbeat_interval"` // seconds
	CRLExpiry         int64  `json:"crl_expiry"`         // seconds
	// RestoreCount is how often the mount was restored from a backup. When it changes, rows may be gone that there were.
	RestoreCount int `json:"restore_count"`
}

// SyncIssuer is one trust anchor.
type SyncIssuer struct {
	IssuerID    string `json:"issuer_id"`
	State       string `json:"state"`
	Certificate string `json:"certificate"` // PEM
}

// ReportRequest is what an edge tells of itself and of sessions not yet reported.
type ReportRequest struct {
	Name     string          `json:"name"`
	Version  string          `json:"version"`
	Revision string          `json:"revision"`          // of the snapshot it decides by
	Live     int             `json:"live"`              // sessions open now
	Leaving  bool            `json:"leaving,omitempty"` // it goes down, and nobody is to miss it
	Sessions []SessionReport `json:"sessions,omitempty"`
	// Mismatches are leaves of expected agents that are not the ones their handover tokens named.
	Mismatches []Mismatch `json:"mismatches,omitempty"`
	// Refusals are those of the edge itself, which Vault was not asked about, since the last report.
	Refusals []Refusal `json:"refusals,omitempty"`
	// Peers are those that this edge has tried to reach, as it last found them: all of them, in the place of what it reported
	// before. Without any, what it reported before stays.
	Peers []PeerReport `json:"peers,omitempty"`
}

// MaxPeerReports is how many peers one request may tell of.
const MaxPeerReports = 256

// PeerReport is how an edge found a peer. Times are Unix seconds by the edge's clock.
type PeerReport struct {
	Name      string `json:"name"`
	Up        bool   `json:"up"`
	Error     string `json:"error,omitempty"` // why not, in one line
	LatencyMS int64  `json:"latency_ms,omitempty"`
	CheckedAt int64  `json:"checked_at"`
	// CRLTime is when the oldest of the peer's revocation lists that this edge decides by was signed, 0 without one.
	CRLTime int64 `json:"crl_time,omitempty"`
}

// MaxSessionReports is how many session reports one request may carry.
const MaxSessionReports = 256

// MaxMismatches bounds Mismatches.
const MaxMismatches = 64

// Bounds of Refusals.
const (
	MaxRefusals     = 256
	MaxRefusalCount = 1 << 40
)

// Refusal is how often one source was refused for one reason.
type Refusal struct {
	SourceIP string `json:"source_ip"` // address, IPv6 /64, "other" for what did not fit, "" when it is not known
	Code     Code   `json:"code"`
	Count    int64  `json:"count"`
}

// SessionReport tells that an agent was seen with a leaf. Description and Capabilities travel only when the last answer
// for the agent had StateWanted.
type SessionReport struct {
	AgentID      string `json:"agent_id"`
	SerialNumber string `json:"serial_number"`
	InstanceUID  string `json:"instance_uid"`
	StateHash    string `json:"state_hash"` // StateHash(Description, DisplayName, Capabilities)
	SourceIP     string `json:"source_ip,omitempty"`
	Description  string `json:"description,omitempty"`
	DisplayName  string `json:"display_name,omitempty"`
	Capabilities uint64 `json:"capabilities,omitempty"`
	HasState     bool   `json:"has_state,omitempty"` // Description, DisplayName and Capabilities are meant
	// Since is when the session began, Unix seconds by the edge's clock; with the edge's name it tells sessions apart.
	Since int64 `json:"since,omitempty"`
	// Shared says that another session of the same leaf is live on this edge.
	Shared bool `json:"shared,omitempty"`
	// Applied is the fingerprint of the leaf whose offer the agent says it has applied, for good.
	Applied string `json:"applied,omitempty"`
	// Configuration is what the agent says of its remote config; nil while it has said nothing.
	Configuration *ConfigurationReport `json:"configuration,omitempty"`
}

// Leaf standings in a SessionAnswer.
const (
	LeafCurrent    = "current"
	LeafNext       = "next"       // issued, and not confirmed yet; the current one is good as well
	LeafSuperseded = "superseded" // an older leaf came back: close the session
	LeafRevoked    = "revoked"
	LeafMoved      = "moved"   // a handover has given the agent away: it is given its new home and nothing else
	LeafPending    = "pending" // a handover is to bring the agent, and its source has not let go
	LeafUnknown    = "unknown" // no row of that agent in reach of this edge
)

// SessionAnswer is the row's side of a session report, in the order of the reports.
type SessionAnswer struct {
	AgentID       string `json:"agent_id"`
	SerialNumber  string `json:"serial_number"`
	Leaf          string `json:"leaf"`
	InstanceUID   string `json:"instance_uid"` // of the row; an agent that says otherwise is given this one
	Tenant        string `json:"tenant"`
	Group         string `json:"group"`
	Configuration string `json:"configuration"` // its own, or else that of its group
	StateWanted   bool   `json:"state_wanted"`
	// OwnConfiguration is before that of the group, whatever the group gives.
	OwnConfiguration string `json:"own_configuration,omitempty"`
	// KeyOrigin says who made the key of the agent's leaf (csr or server), which is who has to make the next one.
	KeyOrigin string `json:"key_origin"`
}

// ReportResponse answers every session report.
type ReportResponse struct {
	Sessions []SessionAnswer `json:"sessions"`
}

// EdgeCertificateRequest asks for a server certificate for the edge's own key.
type EdgeCertificateRequest struct {
	CSR      string   `json:"csr"`
	DNSNames []string `json:"dns_names,omitempty"`
	IPs      []string `json:"ip_sans,omitempty"`
}

// EdgeCertificate is a server certificate: serverAuth only, 7 days.
type EdgeCertificate struct {
	Certificate  string   `json:"certificate"`
	IssuingCA    string   `json:"issuing_ca"`
	CAChain      []string `json:"ca_chain"`
	SerialNumber string   `json:"serial_number"`
	Expiration   int64    `json:"expiration"`
}

// StateHash is the digest by which edge and row compare what an agent says of itself: SHA-256 in lower-case hex.
func StateHash(description, displayName string, capabilities uint64) string {
	h := sha256.New()
	for _, part := range []string{description, displayName, strconv.FormatUint(capabilities, 16)} {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(part)))
		h.Write(n[:])
		h.Write([]byte(part))
	}
	return hex.EncodeToString(h.Sum(nil))
}
