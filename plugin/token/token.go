// Package token is the specification and the only reader and writer of Ampora's bearer secrets.
//
// # Format
//
//	secret   = kind "." payload "." checksum
//	kind     = "amp-bs"    ; bootstrap token: single use, turns into an agent's identity
//	         / "amp-ps"    ; a pool's admin secret
//	payload  = 52 characters: 32 random bytes in RFC 4648 base32, lower case, without padding
//	checksum = 7 characters: CRC-32 (IEEE) over kind "." payload as 4 big-endian bytes, in the same base32
//
// There is one spelling only. The last character of payload and checksum carries unused bits, so that Go's decoder takes
// 16 spellings of a payload; Parse therefore formats again what it has read and compares. White space around a pasted
// secret is ignored. The checksum says "copied intact" and nothing more: it lets an edge refuse garbage without asking
// Vault.
//
// # Derived values
//
// All are over the 32 payload bytes, so that a token can be looked up, and its agent found, without storing it:
//
//	hash     = SHA-256(payload bytes)                                 ; all that is kept at rest
//	token_id = UUID version 8 from the first 16 bytes of hash
//	agent_id = UUID version 8 from the first 16 bytes of SHA-256("ampora agent id v1\x00" || payload bytes)
//
// A UUID of version 8 (RFC 9562 section 5.8) keeps 122 of its 128 bits from the hash.
package token

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"strings"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/google/uuid"
)

// Kind tells what a secret is for.
type Kind string

// The kinds of secrets.
const (
	Bootstrap  Kind = "amp-bs"
	PoolSecret Kind = "amp-ps"
)

const (
	payloadBytes = 32
	payloadChars = 52
	crcChars     = 7
	kindChars    = 6
	// Length is the length of every secret in characters.
	Length = kindChars + 1 + payloadChars + 1 + crcChars

	agentDomain = "ampora agent id v1\x00"
)

var encoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// Secret is a parsed secret. It prints as "<secret>"; Reveal is the only way to its text. The zero value is no secret.
type Secret struct {
	kind    Kind
	payload [payloadBytes]byte
}

// New makes a secret from crypto/rand.
func New(kind Kind) Secret {
	s := Secret{kind: kind}
	rand.Read(s.payload[:]) // never fails, see its documentation
	return s
}

// Parse reads a secret of the wanted kind. Errors are *apitype.Error: token_malformed for anything that does not have the
// shape or is of another kind, token_checksum for what has the shape but was not copied intact. They never quote the text.
func Parse(kind Kind, text string) (Secret, error) {
	text = strings.TrimSpace(text)
	if got, _, found := strings.Cut(text, "."); found && Kind(got) != kind && (Kind(got) == Bootstrap || Kind(got) == PoolSecret) {
		return Secret{}, apitype.Errorf(apitype.TokenMalformed, "this is a secret of kind %s where one of kind %s belongs", got, kind)
	}
	switch {
	case text == "":
		return Secret{}, apitype.Errorf(apitype.TokenMalformed, "it is empty")
	case document(text) != "":
		return Secret{}, apitype.Errorf(apitype.TokenMalformed, "this is %s, where a secret of kind %s belongs", document(text), kind)
	case !strings.HasPrefix(text, string(kind)+"."):
		return Secret{}, apitype.Errorf(apitype.TokenMalformed, "it does not begin with %s.", kind)
	case len(text) != Length:
		return Secret{}, apitype.Errorf(apitype.TokenMalformed, "it has %d characters instead of %d", len(text), Length)
	case text[kindChars+1+payloadChars] != '.':
		return Secret{}, apitype.Errorf(apitype.TokenMalformed, "the dot before the checksum is missing")
	}
	body := text[:kindChars+1+payloadChars]
	s := Secret{kind: kind}
	n, err := encoding.Decode(s.payload[:], []byte(body[kindChars+1:]))
	if err != nil || n != payloadBytes {
		return Secret{}, apitype.Errorf(apitype.TokenMalformed, "it holds a character outside a-z and 2-7")
	}
	// One comparison covers the checksum and every second spelling. It need not be in constant time for secrecy's sake
	// (both sides are the caller's own), but costs nothing more.
	if subtle.ConstantTimeCompare([]byte(s.Reveal()), []byte(text)) != 1 {
		return Secret{}, apitype.Errorf(apitype.TokenChecksum, "the checksum does not fit")
	}
	return s, nil
}

// maxHeader bounds what is looked at of a text that may be a signed document.
const maxHeader = 4096

// document names a signed document of package handover, by the type in its header, that somebody gives for a secret. It is ""
// for everything else.
func document(text string) string {
	head, _, found := strings.Cut(text, ".")
	if !found || len(head) > maxHeader || !strings.HasPrefix(head, "ey") {
		return ""
	}
	raw, err := base64.RawURLEncoding.DecodeString(head)
	var header struct {
		Type string `json:"typ"`
	}
	if err != nil || json.Unmarshal(raw, &header) != nil {
		return ""
	}
	switch header.Type {
	case "ampora-handover+jwt":
		return "a handover token, which the peer it was made for takes at handover/redeem"
	case "ampora-receipt+jwt":
		return "a receipt, which is written to handover/receipt"
	case "ampora-bundle+jwt":
		return "a peer's bundle, which is written to peers/<name>"
	}
	return ""
}

// Kind is what the secret is for.
func (s Secret) Kind() Kind { return s.kind }

// Reveal is the secret's text. Whoever calls it answers for where the text goes.
func (s Secret) Reveal() string {
	var b strings.Builder
	b.Grow(Length)
	b.WriteString(string(s.kind))
	b.WriteByte('.')
	b.WriteString(encoding.EncodeToString(s.payload[:]))
	var crc [4]byte
	binary.BigEndian.PutUint32(crc[:], crc32.ChecksumIEEE([]byte(b.String())))
	b.WriteByte('.')
	b.WriteString(encoding.EncodeToString(crc[:]))
	return b.String()
}

// String keeps the secret out of logs and errors.
func (s Secret) String() string { return "<secret>" }

// Format keeps the secret out of whatever fmt prints, with every verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// MarshalText keeps the secret out of JSON.
func (s Secret) MarshalText() ([]byte, error) { return []byte("<secret>"), nil }

// Hash is what is kept at rest.
func (s Secret) Hash() Hash { return sha256.Sum256(s.payload[:]) }

// ID is the public name of the secret: the token_id.
func (s Secret) ID() string { return s.Hash().ID() }

// AgentID is the id of the agent that a bootstrap token turns into.
func (s Secret) AgentID() string {
	h := sha256.New()
	h.Write([]byte(agentDomain))
	h.Write(s.payload[:])
	return uuid8(h.Sum(nil))
}

// Hash is the digest of a secret at rest.
type Hash [sha256.Size]byte

// ID is the public name of the secret with this hash.
func (h Hash) ID() string { return uuid8(h[:]) }

// Equal compares in constant time.
func (h Hash) Equal(other []byte) bool { return subtle.ConstantTimeCompare(h[:], other) == 1 }

// uuid8 makes a UUID version 8 from the first 16 bytes of a digest.
func uuid8(digest []byte) string {
	var u uuid.UUID
	copy(u[:], digest)
	u[6] = u[6]&0x0f | 0x80
	u[8] = u[8]&0x3f | 0x80
	return u.String()
}
