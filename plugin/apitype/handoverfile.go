package apitype

// Bounds of one part of a handover file.
const (
	MaxHandoverPart = 100     // agents
	MaxHandoverText = 512_000 // bytes of handover tokens in one answer, unless one token alone is longer
	// MaxProgressPart is how many handovers of a file are told of in one answer.
	MaxProgressPart = 1000
)

// HandoverIssueRequest asks for handover tokens for a part of the agents of a group, or of a list.
type HandoverIssueRequest struct {
	Peer          string   `json:"peer"`
	Group         string   `json:"group,omitempty"`
	AgentIDs      []string `json:"agent_ids,omitempty"`     // at most MaxAgentsTogether
	Configuration string   `json:"configuration,omitempty"` // name at the peer; default: each agent's own
	TTL           int64    `json:"ttl,omitempty"`           // seconds; default handover_ttl
	After         string   `json:"after,omitempty"`         // next_after of the part before
	Limit         int      `json:"limit,omitempty"`         // agents to look at, at most MaxHandoverPart, which is the default
}

// HandoverIssueResponse is one part. An agent that cannot be moved now stands in Refused, and others that come after it are
// not kept from moving by that.
type HandoverIssueResponse struct {
	Tokens    []IssuedHandover  `json:"tokens"`
	Refused   []HandoverRefusal `json:"refused"`
	ExpiresAt string            `json:"expires_at"` // of the token that ends first, RFC 3339; empty without one
	NextAfter string            `json:"next_after"` // for the next part; empty after the last one
}

// IssuedHandover is one token of a part, which is told only here.
type IssuedHandover struct {
	AgentID       string `json:"agent_id"`
	HandoverID    string `json:"handover_id"`
	HandoverToken string `json:"handover_token"`
}

// HandoverRefusal says why there is no token for an agent.
type HandoverRefusal struct {
	AgentID string `json:"agent_id"`
	Code    Code   `json:"code"`
	Detail  string `json:"detail"`
}

// HandoverManifestRequest asks for the manifest of a handover file.
type HandoverManifestRequest struct {
	Peer        string   `json:"peer"`
	Group       string   `json:"group,omitempty"` // of all of them, when it is given
	HandoverIDs []string `json:"handover_ids"`    // in the order of the file
}

// HandoverManifest answers it.
type HandoverManifest struct {
	Manifest   string `json:"manifest"`    // the first line of the file
	ManifestID string `json:"manifest_id"` // the file's id
	Count      int    `json:"count"`
	ExpiresAt  string `json:"expires_at"` // of the token that ends first, RFC 3339
}

// HandoverProgressRequest asks how far the handovers of a file have come.
type HandoverProgressRequest struct {
	Manifest string `json:"manifest"`
	After    string `json:"after,omitempty"` // next_after of the part before
	Limit    int    `json:"limit,omitempty"` // at most MaxProgressPart, which is the default
}

// HandoverProgress is one part of the answer.
type HandoverProgress struct {
	ManifestID string             `json:"manifest_id"`
	Side       string             `json:"side"` // that is asked: source or target
	Peer       string             `json:"peer"` // our name of the other side
	Group      string             `json:"group"`
	Total      int                `json:"total"` // handovers in the file
	Handovers  []HandoverStanding `json:"handovers"`
	Counts     map[string]int     `json:"counts"` // in this part, by state; those without one under StateAbsent
	NextAfter  string             `json:"next_after"`
}

// StateAbsent stands for handovers of a file that this side has not, or not any more.
const StateAbsent = "absent"

// HandoverStanding is how far one handover of a file has come on this side.
type HandoverStanding struct {
	HandoverID  string `json:"handover_id"`
	AgentID     string `json:"agent_id"`
	DisplayName string `json:"display_name"`
	State       string `json:"state"` // empty when this side does not have it
	Since       string `json:"since"`
	Code        string `json:"code"`
}
