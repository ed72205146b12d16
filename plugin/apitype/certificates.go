package apitype

// RenewRequest asks for an agent's next leaf. Without CSR and GenerateKey the next leaf is for the key that the agent has.
type RenewRequest struct {
	// Fingerprint is that of the leaf that the agent presents (SHA-256 of the DER, lower-case hex): its current one, or the
	// next one that it has begun to use.
	Fingerprint string `json:"fingerprint"`
	CSR         string `json:"csr,omitempty"` // PEM
	// Proof shows that whoever asks holds the presented leaf's key; see identity.Proof. Needed with a CSR for another key.
	Proof          string `json:"proof,omitempty"` // base64
	GenerateKey    bool   `json:"generate_key,omitempty"`
	SourceIP       string `json:"source_ip,omitempty"`
	IdempotencyKey string `json:"idempotency_key,omitempty"` // 16 to 128 printable ASCII characters
}

// RevokeAgentsRequest revokes many agents: exactly one of the first four fields selects them.
type RevokeAgentsRequest struct {
	AgentIDs []string `json:"agent_ids,omitempty"` // at most MaxAgentsTogether
	Group    string   `json:"group,omitempty"`
	Pool     string   `json:"pool,omitempty"` // name or id
	All      bool     `json:"all,omitempty"`  // every agent of the path's tenant
	Reason   string   `json:"reason,omitempty"`
}

// RevokeAgentsResponse answers a RevokeAgentsRequest.
type RevokeAgentsResponse struct {
	Revoked        int    `json:"revoked"` // agents that were not revoked before
	Reason         string `json:"reason"`
	RevocationTime int64  `json:"revocation_time"` // Unix seconds
}

// IssuerRequest moves an issuer on to another state.
type IssuerRequest struct {
	State string `json:"state"` // active or retired
	Force bool   `json:"force,omitempty"`
}

// CRLRequest asks for an issuer's list of revoked certificates.
type CRLRequest struct {
	IssuerID string `json:"issuer_id,omitempty"` // default: the active one
	// Number is that of the list that the caller holds: if it is still the newest, CRL is left out of the answer.
	Number string `json:"number,omitempty"`
}

// CRL is an issuer's list of revoked certificates (RFC 5280 section 5).
type CRL struct {
	IssuerID   string `json:"issuer_id"`
	Number     string `json:"number"`        // decimal
	CRL        string `json:"crl,omitempty"` // DER in base64
	Entries    int    `json:"entries"`
	ThisUpdate int64  `json:"this_update"` // Unix seconds
	NextUpdate int64  `json:"next_update"` // Unix seconds
}

// OCSPRequest carries a client's question (RFC 6960 section 4.1) to the engine.
type OCSPRequest struct {
	Request string `json:"request"` // DER in base64
}

// OCSPResponse carries the answer (RFC 6960 section 4.2), which may be an error that stands there unsigned.
type OCSPResponse struct {
	Response   string `json:"response"`    // DER in base64
	Status     string `json:"status"`      // good, revoked, unknown, or the error: malformed, unauthorized, try_later
	ThisUpdate int64  `json:"this_update"` // Unix seconds; 0: not to be kept
	NextUpdate int64  `json:"next_update"` // Unix seconds; 0: not to be kept
}

// EdgeInfo is what an edge last said of itself. In lists its key is its name, and <tenant>/<name> where the path has no
// tenant and the edge has one.
type EdgeInfo struct {
	Name     string `json:"name"`
	Tenant   string `json:"tenant"` // that it reports for
	Version  string `json:"version"`
	Revision string `json:"revision"` // of the snapshot that it decides by
	Live     int    `json:"live"`     // sessions
	SeenAt   string `json:"seen_at"`
}
