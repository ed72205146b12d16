package apitype

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
)

// SyncRevoked ends every leaf of the agent up to and including the generation.
type SyncRevoked struct {
	AgentID    string
	Generation uint32
	NotAfter   int64 // Unix seconds: when the last of those leaves has expired and the entry may be dropped
}

// RevokedSet is many of them. It travels as one string, the base64 of 28 bytes for each: agent id, generation (4 bytes) and
// not_after (8 bytes), big-endian. Vault's audit device makes an HMAC of every string in an answer, and an edge that has lost
// touch asks for all of them.
type RevokedSet []SyncRevoked

const revokedBytes = agentIDBytes + 4 + 8

var errRevokedSet = errors.New("apitype: this is no set of revoked agents")

// MarshalJSON fails for an agent id that is no UUID.
func (s RevokedSet) MarshalJSON() ([]byte, error) {
	raw := make([]byte, 0, len(s)*revokedBytes)
	for _, r := range s {
		id, err := agentIDRaw(r.AgentID)
		if err != nil {
			return nil, err
		}
		raw = append(raw, id...)
		raw = binary.BigEndian.AppendUint32(raw, r.Generation)
		raw = binary.BigEndian.AppendUint64(raw, uint64(r.NotAfter))
	}
	return json.Marshal(base64.StdEncoding.EncodeToString(raw))
}

// UnmarshalJSON takes what MarshalJSON makes, and nothing else: a set that cannot be read is an error and never an empty one.
func (s *RevokedSet) UnmarshalJSON(text []byte) error {
	var encoded string
	if err := json.Unmarshal(text, &encoded); err != nil || encoded == "" { // an empty set is left out
		return errRevokedSet
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil || len(raw)%revokedBytes != 0 {
		return errRevokedSet
	}
	*s = make(RevokedSet, 0, len(raw)/revokedBytes)
	for ; len(raw) > 0; raw = raw[revokedBytes:] {
		*s = append(*s, SyncRevoked{
			AgentID: agentIDText(raw), Generation: binary.BigEndian.Uint32(raw[16:]), NotAfter: int64(binary.BigEndian.Uint64(raw[20:])),
		})
	}
	return nil
}
