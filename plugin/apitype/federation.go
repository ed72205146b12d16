package apitype

// PeerRequest makes a peer, or changes the fields that are set. What federation/bundle of the other side answers can be
// written as it is.
type PeerRequest struct {
	PeerID           *string `json:"peer_id,omitempty"` // fixed once written, and one peer's alone
	TrustDomain      *string `json:"trust_domain,omitempty"`
	Endpoint         *string `json:"endpoint,omitempty"`           // wss URL of its edges, for agents
	EndpointCABundle *string `json:"endpoint_ca_bundle,omitempty"` // PEM; verifies those edges. Empty: the system's roots
	FederationURL    *string `json:"federation_url,omitempty"`     // https URL of its edges' /federation; empty in an air gap
	CABundle         *string `json:"ca_bundle,omitempty"`          // PEM; its issuers
	BundleJWS        *string `json:"bundle_jws,omitempty"`         // the same, signed, with the sequence
	// The allow-lists are comma-separated; "*" (the default) allows everything.
	AllowedTenants        *[]string `json:"allowed_tenants,omitempty"`
	AllowedGroups         *[]string `json:"allowed_groups,omitempty"`
	AllowedConfigurations *[]string `json:"allowed_configurations,omitempty"`
	Suspended             *bool     `json:"suspended,omitempty"`
}

// Peer is another installation that we federate with.
type Peer struct {
	Name                  string   `json:"name"`
	PeerID                string   `json:"peer_id"`
	TrustDomain           string   `json:"trust_domain"`
	Endpoint              string   `json:"endpoint"`
	EndpointCABundle      string   `json:"endpoint_ca_bundle"`
	FederationURL         string   `json:"federation_url"`
	CABundle              string   `json:"ca_bundle"`
	AllowedTenants        []string `json:"allowed_tenants"`
	AllowedGroups         []string `json:"allowed_groups"`
	AllowedConfigurations []string `json:"allowed_configurations"`
	Suspended             bool     `json:"suspended"`
	BundleSequence        uint64   `json:"bundle_sequence"`       // of its bundle that is pinned here
	BundleTime            string   `json:"bundle_time"`           // when that was pinned, RFC 3339
	AcknowledgedSequence  uint64   `json:"acknowledged_sequence"` // of ours that it has pinned, 0 while that is unknown
	CreatedAt             string   `json:"created_at"`
	UpdatedAt             string   `json:"updated_at"`
	// Reachability is what each edge found when it last asked.
	Reachability []PeerReach `json:"reachability"`
}

// PeerReach is how an edge last found a peer.
type PeerReach struct {
	Edge      string `json:"edge"`
	Up        bool   `json:"up"`
	Error     string `json:"error"` // why not
	LatencyMS int64  `json:"latency_ms"`
	Time      string `json:"time"` // RFC 3339
	// CRLTime is when the peer's newest revocation lists were signed, RFC 3339; empty when there are none.
	CRLTime string `json:"crl_time"`
}

// PeerBundleRequest brings a newer bundle of a peer. It counts only when a key of the pinned bundle has signed it.
type PeerBundleRequest struct {
	BundleJWS string `json:"bundle_jws"`
}

// FederationBundle is our card: what the other side writes to its peers/<name>.
type FederationBundle struct {
	PeerID           string `json:"peer_id"`
	TrustDomain      string `json:"trust_domain"`
	Endpoint         string `json:"endpoint"`
	EndpointCABundle string `json:"endpoint_ca_bundle"`
	FederationURL    string `json:"federation_url"`
	CABundle         string `json:"ca_bundle"`
	BundleJWS        string `json:"bundle_jws"`
}

// HandoverRequest asks for a handover token.
type HandoverRequest struct {
	Peer          string `json:"peer"`
	Configuration string `json:"configuration,omitempty"` // name at the peer; default: the agent's own
	TTL           int64  `json:"ttl,omitempty"`           // seconds; default handover_ttl
}

// HandoverToken answers it, once.
type HandoverToken struct {
	HandoverToken string `json:"handover_token"`
	HandoverID    string `json:"handover_id"`
	AgentID       string `json:"agent_id"`
	Peer          string `json:"peer"`
	ExpiresAt     string `json:"expires_at"` // RFC 3339
}

// HandoverRedeemRequest shows a handover token to the target: to look at it, or to take the agent over.
type HandoverRedeemRequest struct {
	Token string `json:"token"`
	// Group and Configuration, when set, come before what the token claims.
	Group         *string `json:"group,omitempty"`
	Configuration *string `json:"configuration,omitempty"`
}

// HandoverInspection is what a handover token says and what redeeming it would do.
type HandoverInspection struct {
	HandoverID    string   `json:"handover_id"`
	Peer          string   `json:"peer"` // our name of the source
	SourcePeerID  string   `json:"source_peer_id"`
	SourceAgentID string   `json:"source_agent_id"`
	SPIFFEID      string   `json:"spiffe_id"`
	DisplayName   string   `json:"display_name"`
	InstanceUID   string   `json:"instance_uid"`
	Description   string   `json:"description"`
	Labels        []string `json:"labels"`        // key=value, from the description
	Capabilities  []string `json:"capabilities"`  // names of the OpAMP specification
	Fingerprint   string   `json:"fingerprint"`   // of the leaf
	Expiration    int64    `json:"expiration"`    // of the leaf, Unix seconds
	ExpiresAt     string   `json:"expires_at"`    // of the token, RFC 3339
	AgentID       string   `json:"agent_id"`      // it will have here
	Known         bool     `json:"known"`         // the lineage leads back to a row of ours
	Group         string   `json:"group"`         // it will land in
	ClaimedGroup  string   `json:"claimed_group"` // at the source
	Configuration string   `json:"configuration"` // it will have
	ClaimedConfig string   `json:"claimed_configuration"`
	ConfigExists  bool     `json:"configuration_exists"`
	Lineage       []Hop    `json:"lineage"`  // the way it came, oldest first
	State         string   `json:"state"`    // of the handover here, empty before it was redeemed
	Problems      []string `json:"problems"` // why redeeming would be refused, as "<code>: ..."
}

// Hop is one earlier handover of an agent.
type Hop struct {
	HandoverID string `json:"handover_id"`
	From       string `json:"from"` // peer_id
	To         string `json:"to"`
	Time       string `json:"time"` // RFC 3339
	Event      string `json:"event"`
}

// HandoverRedemption answers a redemption.
type HandoverRedemption struct {
	HandoverID    string `json:"handover_id"`
	AgentID       string `json:"agent_id"`
	Peer          string `json:"peer"`
	State         string `json:"state"`
	Tenant        string `json:"tenant"`
	Group         string `json:"group"`
	Configuration string `json:"configuration"`
	Receipt       string `json:"receipt"` // for the source; edges carry it by themselves where there is a route
}

// Sides of a handover.
const (
	HandoverSource = "source"
	HandoverTarget = "target"
)

// Handover is one handover as this side has it.
type Handover struct {
	HandoverID    string `json:"handover_id"`
	Side          string `json:"side"` // source or target
	AgentID       string `json:"agent_id"`
	PeerAgentID   string `json:"peer_agent_id"` // the agent's id on the other side, as far as it is known
	DisplayName   string `json:"display_name"`
	Tenant        string `json:"tenant"`
	Peer          string `json:"peer"`
	State         string `json:"state"`
	Since         string `json:"since"` // of that state, RFC 3339
	CreatedAt     string `json:"created_at"`
	ExpiresAt     string `json:"expires_at"` // of the token
	Configuration string `json:"configuration"`
	Group         string `json:"group"`
	Fingerprint   string `json:"fingerprint"` // of the leaf that it comes with
	Code          string `json:"code"`        // why it ended otherwise than by arriving
	// Receipt waits to be carried to the peer (redeemed, connected or lapsed), empty when none does.
	Receipt string `json:"receipt"`
}

// HandoverUpdateRequest ends a released handover at its source.
type HandoverUpdateRequest struct {
	Force bool `json:"force"`
}

// ReceiptRequest brings a receipt of a peer.
type ReceiptRequest struct {
	Receipt string `json:"receipt"`
}

// ReceiptResponse is what came of it.
type ReceiptResponse struct {
	HandoverID string `json:"handover_id"`
	State      string `json:"state"`
	Step       string `json:"step"`    // of the answer, empty without
	Receipt    string `json:"receipt"` // the answer, for the peer; empty when none is due
}

// OutboxMessage is a receipt that waits to be carried.
type OutboxMessage struct {
	ID      string `json:"id"` // handover_id, or the peer's name for an acknowledgement of its bundle
	Peer    string `json:"peer"`
	Step    string `json:"step"`
	Receipt string `json:"receipt"`
	Since   string `json:"since"` // RFC 3339
}

// Outbox is what waits, the oldest first, in part when there is much.
type Outbox struct {
	Messages []OutboxMessage `json:"messages"`
}

// SyncPeer is a peer as edges need it.
type SyncPeer struct {
	Name             string `json:"name"`
	PeerID           string `json:"peer_id"`
	Endpoint         string `json:"endpoint"`
	EndpointCABundle string `json:"endpoint_ca_bundle"`
	FederationURL    string `json:"federation_url"`
	CABundle         string `json:"ca_bundle"`
	BundleSequence   uint64 `json:"bundle_sequence"`
	Suspended        bool   `json:"suspended"`
}

// SyncMove is an agent that is not served here any more: it is given its new home and nothing else. Here is its leaf's
// fingerprint; any other leaf of it is refused.
type SyncMove struct {
	AgentID     string `json:"agent_id"`
	Tenant      string `json:"tenant"`
	Fingerprint string `json:"fingerprint"`
	Peer        string `json:"peer"`
	// Over takes the entry back: the agent is served here (again).
	Over bool `json:"over,omitempty"`
}

// SyncGuest is an agent that comes, or has come, from a peer with a leaf that is not ours.
type SyncGuest struct {
	AgentID       string `json:"agent_id"` // here
	Tenant        string `json:"tenant"`
	Peer          string `json:"peer"`
	SourceAgentID string `json:"source_agent_id"` // as its leaf names it
	Fingerprint   string `json:"fingerprint"`
	// Generation is the one that the leaf counts as here: with AgentID it makes the serial by which revocation and session
	// reports name it.
	Generation uint32 `json:"generation"`
	State      string `json:"state"` // awaiting_release, awaiting_reconnect or active
	NotAfter   int64  `json:"not_after"`
	Over       bool   `json:"over,omitempty"` // takes the entry back
}

// Mismatch is a leaf of an expected agent that is not the one its handover token named.
type Mismatch struct {
	AgentID     string `json:"agent_id"` // of the row here
	Fingerprint string `json:"fingerprint"`
	SourceIP    string `json:"source_ip,omitempty"`
}
