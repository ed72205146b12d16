package apitype

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// AgentIDs is many ids of agents. It travels as one string, the base64 of 16 bytes for each: Vault's audit device makes an
// HMAC of every string in an answer.
type AgentIDs []string

const agentIDBytes = 16

var errAgentIDs = errors.New("apitype: these are no ids of agents")

// MarshalJSON fails for an id that is no UUID.
func (s AgentIDs) MarshalJSON() ([]byte, error) {
	raw := make([]byte, 0, len(s)*agentIDBytes)
	for _, id := range s {
		b, err := agentIDRaw(id)
		if err != nil {
			return nil, err
		}
		raw = append(raw, b...)
	}
	return json.Marshal(base64.StdEncoding.EncodeToString(raw))
}

// UnmarshalJSON takes what MarshalJSON makes, and nothing else.
func (s *AgentIDs) UnmarshalJSON(text []byte) error {
	var encoded string
	if err := json.Unmarshal(text, &encoded); err != nil {
		return errAgentIDs
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil || len(raw)%agentIDBytes != 0 {
		return errAgentIDs
	}
	*s = make(AgentIDs, 0, len(raw)/agentIDBytes)
	for ; len(raw) > 0; raw = raw[agentIDBytes:] {
		*s = append(*s, agentIDText(raw))
	}
	return nil
}

func agentIDRaw(id string) ([]byte, error) {
	raw, err := hex.DecodeString(strings.ReplaceAll(id, "-", ""))
	if err != nil || len(raw) != agentIDBytes || len(id) != 36 {
		return nil, fmt.Errorf("apitype: %q is no agent's id", id)
	}
	return raw, nil
}

// agentIDText writes the id that the first 16 bytes are.
func agentIDText(raw []byte) string {
	id := hex.EncodeToString(raw[:agentIDBytes])
	return strings.Join([]string{id[:8], id[8:12], id[12:16], id[16:20], id[20:]}, "-")
}
