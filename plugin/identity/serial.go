// Package identity says what an agent's certificate looks like and reads one back. The plugin signs by it and the edge
// verifies by it, so that both speak of the same agent.
//
// # Serial number
//
// Always 20 octets (the most that RFC 5280 section 4.1.2.2 allows), positive, and it needs no index:
//
//	octet  0      kind: 01 leaf, 02 edge certificate or OCSP signer, 03 issuer
//	octets 1-16   agent_id, or random bytes for the other kinds
//	octets 17-19  generation, big-endian: the top octet is the mount's restore count, the others count the agent's leaves
//
// # Leaf
//
// CN = agent_id; one URI SAN, the SPIFFE ID spiffe://<trust_domain>[/tenant/<tenant>]/agent/<agent_id>; no other name;
// extended key usage clientAuth; signed directly by one of our issuers. CN, SPIFFE ID and serial name the same agent.
package identity

import (
	"encoding/hex"
	"fmt"
	"math/big"
	"strings"

	"github.com/google/uuid"
)

// Kind is what a certificate of ours is for.
type Kind byte

// The kinds.
const (
	KindLeaf   Kind = 1
	KindEdge   Kind = 2
	KindIssuer Kind = 3
)

// SerialBytes is the length of every serial number of ours.
const SerialBytes = 20

// MaxGeneration is the highest generation: 24 bits.
const MaxGeneration = 1<<24 - 1

// Serial is the number of a certificate of ours. It is comparable; the zero value is no serial.
type Serial [SerialBytes]byte

// LeafSerial is the serial of an agent's leaf. The id is a UUID and the generation at most MaxGeneration.
func LeafSerial(agentID string, generation uint32) (Serial, error) {
	id, err := uuid.Parse(agentID)
	if err != nil || len(agentID) != 36 {
		return Serial{}, fmt.Errorf("identity: agent id is no UUID")
	}
	if generation > MaxGeneration {
		return Serial{}, fmt.Errorf("identity: generation %d is over %d", generation, MaxGeneration)
	}
	return serial(KindLeaf, id, generation), nil
}

// RandomSerial is the serial of a certificate that is no leaf.
func RandomSerial(kind Kind) Serial {
	id := uuid.New()
	low := uuid.New()
	return serial(kind, id, uint32(low[0])<<16|uint32(low[1])<<8|uint32(low[2]))
}

func serial(kind Kind, id uuid.UUID, generation uint32) Serial {
	var s Serial
	s[0] = byte(kind)
	copy(s[1:17], id[:])
	s[17], s[18], s[19] = byte(generation>>16), byte(generation>>8), byte(generation)
	return s
}

// ParseSerial reads a certificate's serial number. It answers false for one that is not of our making.
func ParseSerial(n *big.Int) (Serial, bool) {
	if n == nil || n.Sign() <= 0 || n.BitLen() > SerialBytes*8 {
		return Serial{}, false
	}
	var s Serial
	n.FillBytes(s[:])
	switch s.Kind() {
	case KindLeaf, KindEdge, KindIssuer:
		return s, true
	}
	return Serial{}, false
}

// ParseSerialText reads what String writes.
func ParseSerialText(text string) (Serial, bool) {
	b, err := hex.DecodeString(strings.ReplaceAll(text, ":", ""))
	if err != nil || len(b) != SerialBytes {
		return Serial{}, false
	}
	s, ok := ParseSerial(new(big.Int).SetBytes(b))
	return s, ok && s.String() == text
}

// Kind is the serial's first octet.
func (s Serial) Kind() Kind { return Kind(s[0]) }

// AgentID is the agent of a leaf's serial.
func (s Serial) AgentID() string { return uuid.UUID(s[1:17]).String() }

// Generation is which of the agent's leaves it is.
func (s Serial) Generation() uint32 {
	return uint32(s[17])<<16 | uint32(s[18])<<8 | uint32(s[19])
}

// Big is the serial as crypto/x509 takes it.
func (s Serial) Big() *big.Int { return new(big.Int).SetBytes(s[:]) }

// String is colon-separated lower-case hex, as Vault's PKI engine writes serials.
func (s Serial) String() string {
	parts := make([]string, len(s))
	for i, b := range s {
		parts[i] = hex.EncodeToString([]byte{b})
	}
	return strings.Join(parts, ":")
}
