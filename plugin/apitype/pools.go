package apitype

// PoolRequest makes a pool or changes the fields that are set.
type PoolRequest struct {
	DefaultTTL     *int64    `json:"default_ttl,omitempty"` // 0: config.token_ttl
	MaxTTL         *int64    `json:"max_ttl,omitempty"`     // 0: config.token_max_ttl
	LeafTTL        *int64    `json:"leaf_ttl,omitempty"`    // 0: config.leaf_ttl
	Group          *string   `json:"group,omitempty"`
	BoundCIDRs     *[]string `json:"bound_cidrs,omitempty"`     // of redemption
	MaxOutstanding *int64    `json:"max_outstanding,omitempty"` // 0: no cap
}

// Pool is a token pool's row. AdminSecret is there in the one answer that creates or rotates it.
type Pool struct {
	PoolID             string   `json:"pool_id"`
	Name               string   `json:"name"`
	Tenant             string   `json:"tenant"`
	Group              string   `json:"group"`
	DefaultTTL         int64    `json:"default_ttl"`
	MaxTTL             int64    `json:"max_ttl"`
	LeafTTL            int64    `json:"leaf_ttl"`
	BoundCIDRs         []string `json:"bound_cidrs"`
	MaxOutstanding     int64    `json:"max_outstanding"`
	AdminSecretEnabled bool     `json:"admin_secret_enabled"`
	CreatedAt          string   `json:"created_at"`
	CreatedBy          string   `json:"created_by"`
	RevokedAt          string   `json:"revoked_at,omitempty"` // when all its tokens were last ended
	RevocationReason   string   `json:"revocation_reason,omitempty"`
	AdminSecret        string   `json:"admin_secret,omitempty"`
}

// MaxCount is how many tokens one request may issue.
const MaxCount = 1000

// PoolIssueRequest asks a pool for tokens. With Count the answer is a list, even of one.
type PoolIssueRequest struct {
	TTL   int64  `json:"ttl,omitempty"` // 0: the pool's default_ttl
	Label string `json:"label,omitempty"`
	Count *int64 `json:"count,omitempty"` // 1 to MaxCount
}

// PoolAdminIssueRequest is the same from a holder of the pool's admin secret, as an edge passes it on.
type PoolAdminIssueRequest struct {
	AdminSecret string `json:"admin_secret"`
	TTL         int64  `json:"ttl,omitempty"`
	// HolderLabel is the label. It has a name of its own because Vault's audit log shows the requests of those as well who
	// have no good secret, and a label that operators give is readable there.
	HolderLabel string `json:"holder_label,omitempty"`
	Count       *int64 `json:"count,omitempty"`
	SourceIP    string `json:"source_ip,omitempty"` // of the holder, as the edge saw it
}

// PoolIssueResponse is one token, or as many as were asked for by Count.
type PoolIssueResponse struct {
	Token     string        `json:"token,omitempty"`
	TokenID   string        `json:"token_id,omitempty"`
	ExpiresAt string        `json:"expires_at,omitempty"`
	Tokens    []IssuedToken `json:"tokens,omitempty"`
	BatchID   string        `json:"batch_id,omitempty"` // joins Tokens in events and lists
}
