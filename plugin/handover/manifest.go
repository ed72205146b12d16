package handover

import (
	"strings"

	"github.com/ampora/ampora/plugin/apitype"
)

// TypeManifest is the type of the signed list of a handover file's tokens.
const TypeManifest = "ampora-manifest+jwt"

// Bounds of a handover file. Vault takes no string over 1 MiB, which the manifest of MaxFileTokens tokens stays below.
const (
	MaxFileTokens = 5000
	MaxFile       = 64 << 20
	MaxManifest   = 960 << 10
)

// Manifest is the claims of a manifest: which handover tokens belong together, and in which order they stand in their file. It
// moves nobody: each token does that for itself.
type Manifest struct {
	Issuer   string `json:"iss"` // peer_id of the source
	Audience string `json:"aud"` // peer_id of the target
	ID       string `json:"jti"` // the file's id, a UUID
	IssuedAt int64  `json:"iat"`
	// Expires is when the first of the tokens does. The manifest itself does not end: what became of its handovers may be asked
	// for later.
	Expires int64           `json:"exp"`
	Group   string          `json:"group,omitempty"` // of the agents at the source; empty when they were chosen one by one
	Entries []ManifestEntry `json:"entries"`
}

// ManifestEntry names one token.
type ManifestEntry struct {
	HandoverID string `json:"handover_id"` // its jti
	TokenHash  string `json:"token_hash"`  // see Hash; of the token alone, without its lineage
}

// check refuses, with handover_malformed, a manifest whose claims are missing, doubled or out of bounds.
func (m *Manifest) check() error {
	switch {
	case m.Issuer == "" || len(m.Issuer) > maxName || strings.ContainsFunc(m.Issuer, invisible):
		return malformed("iss", "is missing or out of bounds")
	case m.Audience == "" || len(m.Audience) > maxName || strings.ContainsFunc(m.Audience, invisible):
		return malformed("aud", "is missing or out of bounds")
	case len(m.Group) > maxName || strings.ContainsFunc(m.Group, invisible):
		return malformed("group", "is out of bounds")
	case !canonicalUUID(m.ID):
		return malformed("jti", "is no UUID")
	case m.IssuedAt <= 0 || m.IssuedAt > latest:
		return malformed("iat", "is no time of ours")
	case m.Expires <= 0 || m.Expires > latest:
		return malformed("exp", "is no time of ours")
	case len(m.Entries) == 0:
		return malformed("entries", "is empty")
	case len(m.Entries) > MaxFileTokens:
		return apitype.Errorf(apitype.HandoverMalformed, "the claim entries has more than %d entries", MaxFileTokens)
	}
	ids, hashes := make(map[string]bool, len(m.Entries)), make(map[string]bool, len(m.Entries))
	for _, entry := range m.Entries {
		if !canonicalUUID(entry.HandoverID) || !isHash(entry.TokenHash) {
			return malformed("entries", "has an entry without a UUID and a hash")
		}
		if ids[entry.HandoverID] || hashes[entry.TokenHash] {
			return malformed("entries", "names a token twice")
		}
		ids[entry.HandoverID], hashes[entry.TokenHash] = true, true
	}
	return nil
}

// ReadManifest reads a manifest without checking who signed it: for looking at, and for finding the keys to check it with. The
// error is handover_malformed.
func ReadManifest(text string) (*Manifest, error) {
	var m Manifest
	if err := Unverified(text, TypeManifest, &m); err != nil {
		return nil, err
	}
	if err := m.check(); err != nil {
		return nil, err
	}
	return &m, nil
}
