package handover

import (
	"encoding/hex"
	"strings"
	"time"
	"unicode"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/google/uuid"
)

// Bounds of claims, in bytes. Those of names and texts are wider than what any installation takes: the row's own rules come
// on top, in the place where the row is made.
const (
	maxName        = 128
	maxText        = 512
	maxURL         = 2048
	maxBundleText  = 128 << 10
	maxDescription = 64 << 10
	hashChars      = 64
)

// check refuses, with handover_malformed, claims that are missing or out of bounds. It names the claim, never its value.
func (t *Token) check() error {
	for _, claim := range []struct {
		name, value string
		needed      bool
		most        int
	}{
		{"iss", t.Issuer, true, maxName},
		{"aud", t.Audience, true, maxName},
		{"sub", t.Subject, true, maxText},
		{"cnf.x5t#S256", t.Confirmation.X5TS256, true, hashChars},
		{"agent.display_name", t.Agent.DisplayName, false, maxText},
		{"agent.instance_uid", t.Agent.InstanceUID, false, maxName},
		{"agent.tenant", t.Agent.Tenant, false, maxName},
		{"agent.group", t.Agent.Group, false, maxName},
		{"agent.configuration", t.Agent.Configuration, false, maxName},
		{"target.name", t.Target.Name, true, maxName},
		{"target.endpoint", t.Target.Endpoint, true, maxURL},
		{"source.endpoint", t.Source.Endpoint, false, maxURL},
		{"audit", t.Audit, false, maxName},
	} {
		if claim.needed && claim.value == "" {
			return malformed(claim.name, "is missing")
		}
		if len(claim.value) > claim.most {
			return malformed(claim.name, "is too long")
		}
		if strings.ContainsFunc(claim.value, invisible) {
			return malformed(claim.name, "holds control characters")
		}
	}
	switch {
	case !canonicalUUID(t.ID):
		return malformed("jti", "is no UUID")
	case !canonicalUUID(t.Agent.AgentID):
		return malformed("agent.agent_id", "is no UUID")
	case t.Agent.Certificate == "":
		return malformed("agent.certificate", "is missing")
	case len(t.Agent.Certificate) > MaxCertificate:
		return malformed("agent.certificate", "is too long")
	case len(t.Agent.Description) > maxDescription:
		return malformed("agent.description", "is too long")
	case t.Target.CABundle == "":
		return malformed("target.ca_bundle", "is missing")
	case len(t.Target.CABundle) > maxBundleText:
		return malformed("target.ca_bundle", "is too long")
	case t.Previous != "" && !isHash(t.Previous):
		return malformed("prev", "is no SHA-256 in lower-case hex")
	}
	return t.checkDates()
}

// latest bounds times, so that no difference of two overflows. It is in the year 36812.
const latest = 1 << 40

// checkDates checks the times against each other.
func (t *Token) checkDates() error {
	for _, claim := range []struct {
		name  string
		value int64
	}{{"iat", t.IssuedAt}, {"nbf", t.NotBefore}, {"exp", t.Expires}} {
		if claim.value == 0 {
			return malformed(claim.name, "is missing")
		}
		if claim.value < 0 || claim.value > latest {
			return malformed(claim.name, "is no time of ours")
		}
	}
	if t.Agent.EnrolledAt < 0 || t.Agent.EnrolledAt > latest {
		return malformed("agent.enrolled_at", "is no time of ours")
	}
	if t.Expires <= t.IssuedAt || t.Expires <= t.NotBefore {
		return malformed("exp", "is not after iat and nbf")
	}
	if most := int64((MaxLifetime + Leeway) / time.Second); t.Expires-t.IssuedAt > most || t.Expires-t.NotBefore > most {
		return malformed("exp", "is more than a day after iat or nbf")
	}
	return nil
}

// checkTimes checks the times against the clock.
func (t *Token) checkTimes(now time.Time) error {
	ahead := now.Add(Leeway)
	switch {
	case time.Unix(t.IssuedAt, 0).After(ahead):
		return malformed("iat", "is in the future: one of the two clocks is wrong")
	case time.Unix(t.NotBefore, 0).After(ahead):
		return malformed("nbf", "is in the future: one of the two clocks is wrong")
	case now.After(time.Unix(t.Expires, 0).Add(Leeway)):
		return apitype.Errorf(apitype.HandoverExpired, "its time is over")
	}
	return nil
}

func malformed(claim, what string) error {
	return apitype.Errorf(apitype.HandoverMalformed, "the claim %s %s", claim, what)
}

// invisible is what makes a line in a log or on a terminal lie.
func invisible(r rune) bool {
	return unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp)
}

func canonicalUUID(text string) bool {
	id, err := uuid.Parse(text)
	return err == nil && id.String() == text
}

func isHash(text string) bool {
	raw, err := hex.DecodeString(text)
	return err == nil && len(text) == hashChars && hex.EncodeToString(raw) == text
}
