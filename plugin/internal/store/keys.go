package store

// The layout of the storage. Ids are sharded by their first two characters, so that no List returns the world.
const (
	ConfigKey      = "config"
	CAStateKey     = "ca/state"
	IssuerPrefix   = "ca/issuer/" // seal-wrapped: holds the issuers' keys
	EpochKey       = "epoch"
	PoolPrefix     = "pool/" // seal-wrapped: holds what proves the pools' admin secrets
	TokenPrefix    = "token/"
	BatchPrefix    = "batch/"
	AgentPrefix    = "agent/"
	RevokedPrefix  = "revoked/"
	RevokeJobs     = "revoke-job/"
	HandoverPrefix = "handover/"
	CRLPrefix      = "crl/" // <issuer id>: how far the numbers of its lists go
	EventPrefix    = "event/"
	TidiedKey      = "audit/tidied"
	EdgePrefix     = "edge/"
)

// Sharded is the key of the row named id below prefix.
func Sharded(prefix, id string) string { return prefix + id[:2] + "/" + id }
