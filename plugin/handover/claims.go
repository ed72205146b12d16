package handover

import (
	"crypto/sha256"
	"encoding/hex"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/google/uuid"
)

// Types of signed documents, the header parameter typ (RFC 7515 section 4.1.9).
const (
	TypeHandover = "ampora-handover+jwt"
	TypeReceipt  = "ampora-receipt+jwt"
	TypeBundle   = "ampora-bundle+jwt"
)

// Bounds of what is taken from outside, in bytes unless said.
const (
	MaxString      = 768 << 10 // a handover token with its lineage; Vault takes no string over 1 MiB
	MaxDocument    = 384 << 10 // one JWS: the longest description, quoted, and the largest bundle fit in
	MaxLineage     = 16        // tokens in one string; an agent that moves more often leaves the oldest behind
	MaxBundle      = 64        // certificates in one bundle
	MaxCertificate = 16 << 10  // a leaf in PEM
)

// MaxLifetime is the longest that a handover token may be good for.
const MaxLifetime = 24 * time.Hour

// Leeway is how far two clocks may differ.
const Leeway = 2 * time.Minute

// LapseAfter is how long a target waits for the next step before it gives a handover up.
const LapseAfter = 24 * time.Hour

// Confirmation binds the token to one leaf (RFC 8705 section 3.1).
type Confirmation struct {
	X5TS256 string `json:"x5t#S256"` // SHA-256 of the leaf's DER, base64url without padding
}

// Agent is what a token says of its agent.
type Agent struct {
	AgentID       string `json:"agent_id"` // at the source
	DisplayName   string `json:"display_name,omitempty"`
	InstanceUID   string `json:"instance_uid,omitempty"`
	Description   string `json:"description,omitempty"` // OpAMP AgentDescription as one JSON string
	Capabilities  uint64 `json:"capabilities,omitempty"`
	Tenant        string `json:"tenant,omitempty"`
	Group         string `json:"group,omitempty"`
	Configuration string `json:"configuration,omitempty"`
	Certificate   string `json:"certificate"` // the leaf, PEM
	EnrolledAt    int64  `json:"enrolled_at,omitempty"`
}

// Target is where the source sends the agent, as its own row of that peer says. CABundle are the issuers of the target that
// the source had pinned then: they vouch for the next token of the agent's lineage.
type Target struct {
	Name     string `json:"name"`
	Endpoint string `json:"endpoint"`
	CABundle string `json:"ca_bundle"`
}

// Source is where the agent comes from.
type Source struct {
	Endpoint string `json:"endpoint,omitempty"`
}

// Token is the claims of a handover token. Times are Unix seconds.
type Token struct {
	Issuer    string `json:"iss"` // peer_id of the source
	Audience  string `json:"aud"` // peer_id of the target
	Subject   string `json:"sub"` // SPIFFE ID of the leaf
	ID        string `json:"jti"` // the handover's id, a UUID
	IssuedAt  int64  `json:"iat"`
	NotBefore int64  `json:"nbf"`
	Expires   int64  `json:"exp"`

	Confirmation Confirmation `json:"cnf"`
	Agent        Agent        `json:"agent"`
	Target       Target       `json:"target"`
	Source       Source       `json:"source"`
	// Previous is the hash (see Hash) of the handover token by which the agent came to the source, "" when it enrolled there.
	// The earlier tokens themselves stand behind this one in the string, see Split.
	Previous string `json:"prev,omitempty"`
	// Audit is the id of the source's event Handover.Issued.
	Audit string `json:"audit,omitempty"`
}

// Step is what a receipt says.
type Step string

// The steps of a target, and the answers of a source.
const (
	StepRedeemed  Step = "redeemed"  // the token was redeemed
	StepConnected Step = "connected" // the agent has come
	StepLapsed    Step = "lapsed"    // the target has given it up

	StepReleased  Step = "released"  // the agent may come
	StepRefused   Step = "refused"   // it may not; Code says why
	StepCompleted Step = "completed" // the source has taken in that it came
	StepReturned  Step = "returned"  // the source has taken in that it will not

	// StepPinned tells a peer how new a bundle of its own the sender has pinned, and StepNoted answers it. They are about no
	// handover.
	StepPinned Step = "pinned"
	StepNoted  Step = "noted"
)

// Answer reports whether the step is a source's answer.
func (s Step) Answer() bool {
	switch s {
	case StepReleased, StepRefused, StepCompleted, StepReturned:
		return true
	}
	return false
}

// Receipt is the claims of a receipt.
type Receipt struct {
	Issuer   string `json:"iss"`
	Audience string `json:"aud"`
	IssuedAt int64  `json:"iat"`
	Step     Step   `json:"step"`

	HandoverID string `json:"handover_id,omitempty"` // jti of the token
	TokenHash  string `json:"token_hash,omitempty"`  // see Hash; of the token alone, without its lineage
	AgentID    string `json:"agent_id,omitempty"`    // at the source
	// TargetAgentID is the agent's id at the target.
	TargetAgentID string       `json:"target_agent_id,omitempty"`
	Code          apitype.Code `json:"code,omitempty"`  // with refused
	Event         string       `json:"event,omitempty"` // id of the sender's event, for whoever follows both trails
	// Sequence is the pinned bundle's, with pinned.
	Sequence uint64 `json:"seq,omitempty"`
}

// Bundle is the claims of a peer's own signed card.
type Bundle struct {
	Issuer       string   `json:"iss"` // peer_id
	Sequence     uint64   `json:"seq"` // goes up with every change
	IssuedAt     int64    `json:"iat"`
	Expires      int64    `json:"exp"`
	TrustDomain  string   `json:"trust_domain"`
	Certificates []string `json:"certificates"` // PEM; issuers, the active one first
}

// Hash names a signed document: SHA-256 of its compact form, lower-case hex.
func Hash(compact string) string {
	sum := sha256.Sum256([]byte(compact))
	return hex.EncodeToString(sum[:])
}

const rowDomain = "ampora handover row v1\x00"

// RowID is the id of the row that a handover makes at its target: UUID version 8 from SHA-256 over a domain prefix, the
// issuer, a zero byte and the jti. So the same token always makes the same row, and a replay is seen.
func RowID(issuer, jti string) string {
	sum := sha256.Sum256([]byte(rowDomain + issuer + "\x00" + jti))
	id := uuid.UUID(sum[:16])
	id[6] = id[6]&0x0f | 0x80
	id[8] = id[8]&0x3f | 0x80
	return id.String()
}
