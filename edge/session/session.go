// Package session decides: who is let in, what a bootstrap token turns into, what a known agent is told, and when a session
// ends (DESIGN.md section 7). It speaks plain Go values; the protocol's bytes stop at edge/opamp.
package session

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"net/netip"
	"time"

	"github.com/ampora/ampora/edge/delivery"
	"github.com/ampora/ampora/plugin/apitype"
)

// Transport is how an agent speaks OpAMP. It is a metric label as well.
type Transport string

// The transports.
const (
	WebSocket Transport = "ws"
	HTTP      Transport = "http"
)

// Kind says what a session is for. It is a metric label as well.
type Kind string

// The kinds.
const (
	KindBootstrap Kind = "bootstrap" // entered with a token, leaves with a certificate
	KindAgent     Kind = "agent"     // entered with a certificate
)

// Caller is who asks to be let in, as far as the transport knows.
type Caller struct {
	Transport Transport
	// Source is the peer's address, or what the PROXY protocol says it is.
	Source netip.Addr
	// Certificate is the first one of the TLS handshake (or of the session it resumes), nil without. The handshake proved
	// possession of its key and nothing else.
	Certificate *x509.Certificate
	// Authorization holds the values of that header.
	Authorization []string
}

// Message is what one AgentToServer says that matters here.
type Message struct {
	InstanceUID  string // UUID text
	Capabilities uint64 // OpAMP AgentCapabilities
	// HasDescription says that Description and DisplayName are meant.
	HasDescription bool
	Description    string // one JSON string
	DisplayName    string
	CSR            string // PEM, empty without
	Proof          string // base64, empty without: see identity.Proof
	// Settings is what the agent says became of an offer.
	Settings SettingsStatus
	// Remote is what the agent says of its remote config, nil when it says nothing of it.
	Remote *RemoteStatus
	// Goodbye is the agent's last message.
	Goodbye bool
}

// SettingsState is what became of an offer; the zero value is that the agent says nothing of one, or is still at it.
type SettingsState byte

// The states that matter here.
const (
	SettingsApplied SettingsState = iota + 1
	SettingsFailed
)

// SettingsStatus is the last offer's state. Leaf says which offer: it is the digest of the leaf that was offered.
type SettingsStatus struct {
	State SettingsState
	Leaf  Digest
	Error string // of one that failed, as the agent puts it; fit for the log
}

// Digest is the SHA-256 of a certificate's DER, or of what stands in for one.
type Digest = [sha256.Size]byte

// Reply is what to tell an agent. The zero value says only what every first reply says: what this server can do.
type Reply struct {
	Kind            Kind
	Offer           *Offer
	NewInstanceUID  string
	ReportFullState bool
	Configuration   *delivery.Configuration
	// Refusal excludes everything else: OpAMP allows nothing beside an error.
	Refusal *Refusal
}

// Offer is new connection settings for the agent.
type Offer struct {
	Endpoint    string // wss or https URL
	Certificate string // PEM: the leaf
	Leaf        Digest // of that leaf
	PrivateKey  string // PEM, only when Vault made the key
	// ServerRoots verify this edge's server certificate, as PEM. Empty means the system's roots.
	ServerRoots string
	Heartbeat   time.Duration // never zero: that would switch heartbeats off

	issuerRoots bool // as in Options
}

// Close codes of RFC 6455 section 7.4.1 that sessions end with.
const (
	CloseNormal    = 1000
	CloseGoingAway = 1001
	ClosePolicy    = 1008
)

// Conn is the way to an agent on a WebSocket. Both methods are safe for concurrent use and give up by themselves on a peer
// that does not read; neither waits for the agent's answer.
type Conn interface {
	Send(Reply) error
	// Close ends the session with a close frame that carries the code and the reason (at most 123 bytes of it).
	Close(code int, reason string)
}

// Session is one that was let in. Message is called for one message after the other; everything may happen at the same time
// as whatever the desk does on its own account.
type Session interface {
	Kind() Kind
	// Connected tells that the WebSocket stands. Plain HTTP never calls it.
	Connected(Conn)
	// Message takes a message and answers what to send, nil for nothing.
	Message(context.Context, Message) *Reply
	// Silence is how long the peer may now say nothing before it is cut off.
	Silence() time.Duration
	// Closed tells that the connection, or the one plain HTTP request, is over. It may be called more than once.
	Closed()
	// LogFields say whom it is about, as key and value in turn.
	LogFields() []any
}

// Issuer turns tokens into identities, and gives agents their next leaf. Refusals are *apitype.Error in the chain; whatever
// means that Vault could not answer has the code vault_unavailable. Redeem and Renew repeat by themselves, with the same
// idempotency key, as long as ctx lasts.
type Issuer interface {
	RedeemCheck(context.Context, apitype.RedeemCheckRequest) (*apitype.RedeemCheckResponse, error)
	Redeem(context.Context, apitype.RedeemRequest) (*apitype.Identity, error)
	Renew(ctx context.Context, agentID string, in apitype.RenewRequest) (*apitype.Identity, error)
}

// Reporter tells the engine of sessions; errors as with Issuer.
type Reporter interface {
	Report(context.Context, apitype.ReportRequest) (*apitype.ReportResponse, error)
}
