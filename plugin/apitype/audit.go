package apitype

// Event is one audit record (DESIGN.md section 10).
type Event struct {
	ID           string         `json:"id"`
	Time         string         `json:"time"` // of the action, RFC 3339 with milliseconds, UTC
	EntityType   string         `json:"entity_type"`
	EntityID     string         `json:"entity_id"`
	Action       string         `json:"action"` // "Token.Issued", ...
	Actor        Actor          `json:"actor"`
	Tenant       string         `json:"tenant"`
	AgentID      string         `json:"agent_id,omitempty"`
	SourceIP     string         `json:"source_ip,omitempty"`
	OriginPeerID string         `json:"origin_peer_id,omitempty"`
	RelatedEvent string         `json:"related_event,omitempty"`
	RequestID    string         `json:"request_id,omitempty"` // Vault's; empty for the system
	Details      map[string]any `json:"details,omitempty"`
}

// Actor is who did it.
type Actor struct {
	DisplayName string `json:"display_name"` // Vault's, or "system"
	EntityID    string `json:"entity_id,omitempty"`
	AgentID     string `json:"agent_id,omitempty"` // for agent-driven actions: the edge's identity stands above, the agent here
}

// Actions.
const (
	ActionTokenIssued          = "Token.Issued"
	ActionTokenRevoked         = "Token.Revoked"
	ActionTokenAllRevoked      = "Token.AllRevoked"
	ActionTokenRedeemed        = "Token.Redeemed"
	ActionPoolCreated          = "Pool.Created"
	ActionPoolUpdated          = "Pool.Updated"
	ActionPoolSecretRotated    = "Pool.AdminSecretRotated"
	ActionPoolRevoked          = "Pool.Revoked"
	ActionPoolDeleted          = "Pool.Deleted"
	ActionGroupCreated         = "Group.Created"
	ActionGroupUpdated         = "Group.Updated"
	ActionGroupDeleted         = "Group.Deleted"
	ActionConfigurationCreated = "Configuration.Created"
	ActionConfigurationUpdated = "Configuration.Updated"
	ActionConfigurationDeleted = "Configuration.Deleted"
	ActionCertificateIssued    = "Certificate.Issued"
	ActionCertificateRenewed   = "Certificate.Renewed"
	ActionCertificateRevoked   = "Certificate.Revoked"
	ActionCertificateSuspected = "Certificate.CloneSuspected"
	ActionAgentUpdated         = "Agent.Updated"
	ActionAgentDeleted         = "Agent.Deleted"
	ActionAgentExpired         = "Agent.Expired"
	ActionIssuerCreated        = "Issuer.Created"
	ActionIssuerActivated      = "Issuer.Activated"
	ActionIssuerRetired        = "Issuer.Retired"
	ActionPeerCreated          = "Peer.Created"
	ActionPeerUpdated          = "Peer.Updated"
	ActionPeerSuspended        = "Peer.Suspended"
	ActionPeerDeleted          = "Peer.Deleted"
	ActionHandoverIssued       = "Handover.Issued"
	ActionHandoverRedeemed     = "Handover.Redeemed"
	ActionHandoverReleased     = "Handover.Released"
	ActionHandoverConnected    = "Handover.Connected"
	ActionHandoverCompleted    = "Handover.Completed"
	ActionHandoverRejected     = "Handover.Rejected"
	ActionHandoverCancelled    = "Handover.Cancelled"
	ActionHandoverExpired      = "Handover.Expired"
	ActionHandoverLapsed       = "Handover.Lapsed"
	ActionHandoverForced       = "Handover.Forced"
	ActionConfigUpdated        = "Config.Updated"
	ActionConfigRestored       = "Config.Restored"
	ActionAccessRefused        = "Access.Refused" // refusals of one source in one minute, in sum
)

// EventsRequest selects events, newest first.
type EventsRequest struct {
	EntityType string `json:"entity_type,omitempty"`
	EntityID   string `json:"entity_id,omitempty"`
	AgentID    string `json:"agent_id,omitempty"`
	Action     string `json:"action,omitempty"`
	SourceIP   string `json:"source_ip,omitempty"`
	Pool       string `json:"pool,omitempty"`   // name or id
	Tenant     string `json:"tenant,omitempty"` // on the tenantless path; a tenant's path goes before it
	Since      string `json:"since,omitempty"`  // RFC 3339
	Until      string `json:"until,omitempty"`  // RFC 3339
	Limit      int    `json:"limit,omitempty"`  // default 100, at most 1000
	Cursor     string `json:"cursor,omitempty"` // NextCursor of the page before
}

// EventsResponse is one page of events.
type EventsResponse struct {
	Events     []Event `json:"events"`
	NextCursor string  `json:"next_cursor"`
}
