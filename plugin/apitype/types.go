package apitype

// Durations are in whole seconds, as in Vault's own engines. Times are RFC 3339 in UTC unless a field says otherwise.

// Config is what ampora/config holds. Reading answers every field; see ConfigUpdate for writing.
type Config struct {
	PeerID                string   `json:"peer_id"`
	TrustDomain           string   `json:"trust_domain"`
	Endpoint              string   `json:"endpoint"`
	EndpointCABundle      string   `json:"endpoint_ca_bundle"`
	FederationURL         string   `json:"federation_url"`
	TokenTTL              int64    `json:"token_ttl"`
	TokenMinTTL           int64    `json:"token_min_ttl"`
	TokenMaxTTL           int64    `json:"token_max_ttl"`
	LeafTTL               int64    `json:"leaf_ttl"`
	LeafMaxTTL            int64    `json:"leaf_max_ttl"`
	Tenancy               string   `json:"tenancy"` // off, or hard: every row belongs to a tenant
	KeyOrigin             string   `json:"key_origin"`
	RetryWindow           int64    `json:"retry_window"`
	RenewProof            string   `json:"renew_proof"` // key: renewing proves the current key; edge: the edge's word is enough
	CRLExpiry             int64    `json:"crl_expiry"`  // from a CRL's making to its nextUpdate; OCSP answers likewise
	PublicPKI             bool     `json:"public_pki"`  // crl and ocsp are served here, without a Vault token
	CRLDistributionPoints []string `json:"crl_distribution_points"`
	OCSPServers           []string `json:"ocsp_servers"`
	HeartbeatInterval     int64    `json:"heartbeat_interval"`
	EdgeAllowedDomains    []string `json:"edge_allowed_domains"`
	HandoverTTL           int64    `json:"handover_ttl"`
	HandoverMaxTTL        int64    `json:"handover_max_ttl"`
	AuditRetention        int64    `json:"audit_retention"`
	AgentRetention        int64    `json:"agent_retention"`
}

// CARootRequest makes a self-signed issuer. Every field may be left out.
type CARootRequest struct {
	CommonName string `json:"common_name,omitempty"`
	KeyType    string `json:"key_type,omitempty"` // ec (default), ed25519, rsa
	KeyBits    int    `json:"key_bits,omitempty"` // ec: 256, 384; rsa: 3072, 4096
	TTL        int64  `json:"ttl,omitempty"`      // default 10 years
}

// CAIssuer is one issuer, without its key.
type CAIssuer struct {
	IssuerID     string   `json:"issuer_id"`
	State        string   `json:"state"` // draft, active, trusted, retired
	Certificate  string   `json:"certificate,omitempty"`
	CAChain      []string `json:"ca_chain,omitempty"`
	SerialNumber string   `json:"serial_number,omitempty"`
	CommonName   string   `json:"common_name"`
	Expiration   int64    `json:"expiration,omitempty"` // Unix seconds
}

// CAIntermediateResponse is the CSR of a new draft issuer; its key stays in Vault.
type CAIntermediateResponse struct {
	IssuerID string `json:"issuer_id"`
	CSR      string `json:"csr"`
}

// CASetSignedRequest brings the signed chain back: the issuer's own certificate first, then its parents up to the root.
type CASetSignedRequest struct {
	Certificate string `json:"certificate"`
}

// CABundle is what agents and edges must trust: the active issuer first, then the trusted ones.
type CABundle struct {
	Certificates []string `json:"certificates"`
	Bundle       string   `json:"bundle"` // the same as one PEM
}

// TokenIssueRequest asks for bootstrap tokens.
type TokenIssueRequest struct {
	Label      string   `json:"label,omitempty"`
	TTL        int64    `json:"ttl,omitempty"`
	Tenant     string   `json:"tenant,omitempty"`
	Group      string   `json:"group,omitempty"`
	BoundCIDRs []string `json:"bound_cidrs,omitempty"`
}

// IssuedToken is the one answer that ever holds a token's plaintext.
type IssuedToken struct {
	Token     string `json:"token"`
	TokenID   string `json:"token_id"`
	ExpiresAt string `json:"expires_at"`
}

// Token states as a token row shows them. A redeemed token has no row: its agent is the record of it.
const (
	TokenStateIssued  = "issued"
	TokenStateRevoked = "revoked"
	TokenStateExpired = "expired"
)

// TokenInfo is a token row: everything but the secret.
type TokenInfo struct {
	TokenID    string   `json:"token_id"`
	State      string   `json:"state"`
	Label      string   `json:"label"`
	Tenant     string   `json:"tenant"`
	Group      string   `json:"group"`
	Pool       string   `json:"pool"`
	PoolID     string   `json:"pool_id,omitempty"`
	BatchID    string   `json:"batch_id,omitempty"` // of tokens that were issued together
	BoundCIDRs []string `json:"bound_cidrs"`
	IssuedBy   string   `json:"issued_by"`
	IssuedAt   string   `json:"issued_at"`
	ExpiresAt  string   `json:"expires_at"`
	Reason     string   `json:"reason,omitempty"` // of the revocation
}

// RevokeAllResponse answers tokens/revoke-all.
type RevokeAllResponse struct {
	Tenant    string `json:"tenant"` // whose tokens ended; empty: everybody's
	RevokedAt string `json:"revoked_at"`
	Reason    string `json:"reason"`
}

// RestoreResponse answers config/after-restore.
type RestoreResponse struct {
	RestoreCount int    `json:"restore_count"` // how often this mount was restored, 255 at most
	RestoredAt   string `json:"restored_at"`
}

// RedeemCheckRequest asks whether a token would be taken right now. Nothing is consumed.
type RedeemCheckRequest struct {
	Token    string `json:"token"`
	SourceIP string `json:"source_ip,omitempty"`
}

// RedeemCheckResponse says what the token is good for.
type RedeemCheckResponse struct {
	TokenID   string `json:"token_id"`
	Tenant    string `json:"tenant"`
	Group     string `json:"group"`
	ExpiresAt string `json:"expires_at"`
}

// RedeemRequest turns a token into an agent. Exactly one of CSR and GenerateKey is set.
type RedeemRequest struct {
	Token          string `json:"token"`
	CSR            string `json:"csr,omitempty"` // PEM
	GenerateKey    bool   `json:"generate_key,omitempty"`
	InstanceUID    string `json:"instance_uid,omitempty"` // UUID text
	DisplayName    string `json:"display_name,omitempty"`
	Description    string `json:"description,omitempty"`  // OpAMP AgentDescription as one JSON string
	Capabilities   uint64 `json:"capabilities,omitempty"` // OpAMP AgentCapabilities bit mask; 0 = not stated
	SourceIP       string `json:"source_ip,omitempty"`
	IdempotencyKey string `json:"idempotency_key,omitempty"` // 16 to 128 printable ASCII characters
}

// Identity is an agent's certificate with all that belongs to it.
type Identity struct {
	AgentID        string   `json:"agent_id"`
	Certificate    string   `json:"certificate"`
	IssuingCA      string   `json:"issuing_ca"`
	CAChain        []string `json:"ca_chain"`
	SerialNumber   string   `json:"serial_number"` // colon hex
	Fingerprint    string   `json:"fingerprint"`   // SHA-256 of the DER, lower-case hex
	Expiration     int64    `json:"expiration"`    // Unix seconds
	Tenant         string   `json:"tenant"`
	Group          string   `json:"group"`
	TokenID        string   `json:"token_id"`       // of the token that made the agent, and its pool: they join the
	Pool           string   `json:"pool,omitempty"` // redemption with the issue in Vault's audit device
	PoolID         string   `json:"pool_id,omitempty"`
	PrivateKey     string   `json:"private_key,omitempty"` // PEM PKCS #8, with generate_key only
	PrivateKeyType string   `json:"private_key_type,omitempty"`
	TTLCut         bool     `json:"-"` // the leaf ends with its issuer; on Vault this is a warning
}

// Agent states.
const (
	AgentStateActive            = "active"
	AgentStateRevoked           = "revoked"
	AgentStateHandoverPending   = "handover_pending"   // a handover token is out
	AgentStateReleased          = "released"           // on its way to a peer
	AgentStateMoved             = "moved_to_peer"      // a peer has it
	AgentStateAwaitingRelease   = "awaiting_release"   // on its way from a peer, which has not let go
	AgentStateAwaitingReconnect = "awaiting_reconnect" // expected from a peer
)

// Agent is an agent's row.
type Agent struct {
	AgentID       string `json:"agent_id"`
	DisplayName   string `json:"display_name"`
	InstanceUID   string `json:"instance_uid"`
	Description   string `json:"description"`
	Capabilities  uint64 `json:"capabilities"`
	Tenant        string `json:"tenant"`
	Group         string `json:"group"`
	Configuration string `json:"configuration"` // its own, before that of its group
	// What the agent last said of its remote config: which it was, what became of it, and since when.
	ConfigurationStatus string `json:"configuration_status"` // "", applying, applied or failed
	ConfigurationName   string `json:"configuration_name"`   // empty when it is none that an edge has given the agent
	ConfigurationHash   string `json:"configuration_hash"`
	ConfigurationError  string `json:"configuration_error"` // of one that failed, in the agent's words
	ConfigurationTime   string `json:"configuration_time"`  // of the last change of these
	State               string `json:"state"`
	StateText           string `json:"state_text"`
	SerialNumber        string `json:"serial_number"`
	NextSerialNumber    string `json:"next_serial_number,omitempty"` // of a leaf that is not confirmed yet
	Fingerprint         string `json:"fingerprint"`
	Certificate         string `json:"certificate,omitempty"`
	Expiration          int64  `json:"expiration"`
	EnrolledAt          string `json:"enrolled_at"`
	LastSeen            string `json:"last_seen"`
	Edge                string `json:"edge"`
	TokenID             string `json:"token_id"`
	Pool                string `json:"pool"`
	PoolID              string `json:"pool_id,omitempty"`
	KeyOrigin           string `json:"key_origin"` // csr or server
	SourceIP            string `json:"source_ip"`  // of the redemption
	Peer                string `json:"peer"`       // that has the agent, or with which a handover is under way
	Origin              string `json:"origin"`     // peer that it came from, empty for one that enrolled here
	RevocationReason    string `json:"revocation_reason,omitempty"`
	RevocationTime      string `json:"revocation_time,omitempty"`
}

// AgentUpdateRequest changes the fields that are set.
type AgentUpdateRequest struct {
	DisplayName   *string `json:"display_name,omitempty"`
	Group         *string `json:"group,omitempty"`         // empty for none
	Configuration *string `json:"configuration,omitempty"` // of its own, before that of its group; empty for none
}

// MaxAgentsTogether is how many agents one request may name.
const MaxAgentsTogether = 1000

// AssignRequest puts agents into a group, or into none.
type AssignRequest struct {
	AgentIDs []string `json:"agent_ids"`
	Group    string   `json:"group"`
}

// AssignResponse tells what has changed. Agents that were in the group already are not among the changed.
type AssignResponse struct {
	Group   string   `json:"group"`
	Changed []string `json:"changed"` // agent ids
}

// RevokeRequest gives the reason: for agents one of RFC 5280 section 5.3.1 (unspecified, keyCompromise,
// affiliationChanged, superseded, cessationOfOperation, privilegeWithdrawn), for tokens free text.
type RevokeRequest struct {
	Reason string `json:"reason,omitempty"`
}

// AgentRevocation answers a revocation.
type AgentRevocation struct {
	AgentID        string `json:"agent_id"`
	Reason         string `json:"reason"`
	RevocationTime int64  `json:"revocation_time"` // Unix seconds
}

// ListResponse is a page of keys with what a list shows of each. Keys are ids in ascending order.
type ListResponse[T any] struct {
	Keys    []string     `json:"keys"`
	KeyInfo map[string]T `json:"key_info"`
	// NextAfter is the value of 'after' for the next page, empty on the last.
	NextAfter string `json:"next_after,omitempty"`
}

// Page selects one page of a list. Empty filters select everything.
type Page struct {
	After string
	Limit int // 0 = all
	Pool  string
	Group string
	State string
}
