// Package name holds the rules for what people may call things and write into free text.
package name

import (
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/token"
	"github.com/google/uuid"
)

var pattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9_-]{0,62}[a-z0-9])?$`)

// Check refuses with name_invalid what is no name of a tenant, pool, group, configuration or peer. The error names the
// field and the rule, never the value: a secret pasted into the wrong field must not reach a log.
func Check(field, value string) error {
	if !pattern.MatchString(value) || strings.HasPrefix(value, "amp-") || isUUID(value) {
		return apitype.Errorf(apitype.NameInvalid, "%s is no valid name", field)
	}
	return nil
}

func isUUID(value string) bool {
	if len(value) != 36 && len(value) != 32 {
		return false
	}
	_, err := uuid.Parse(value)
	return err == nil
}

// Bounds of free text in bytes.
const (
	MaxLabel       = 256
	MaxReason      = 512
	MaxDescription = 64 << 10
)

// Text refuses free text that is too long, is no UTF-8, holds control or invisible formatting characters, which could make
// a log lie, or holds one of our secrets, pasted into the wrong field.
func Text(field, value string, limit int) error {
	if len(value) > limit {
		return apitype.Errorf(apitype.FieldInvalid, "%s is longer than %d bytes", field, limit)
	}
	if !utf8.ValidString(value) {
		return apitype.Errorf(apitype.FieldInvalid, "%s is no UTF-8", field)
	}
	if HoldsSecret(value) {
		return apitype.Errorf(apitype.FieldInvalid, "%s holds a secret", field)
	}
	for _, r := range value {
		if unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp) {
			return apitype.Errorf(apitype.FieldInvalid, "%s holds control characters", field)
		}
	}
	return nil
}

// HoldsSecret reports whether the text holds one of our secrets, or most of one.
func HoldsSecret(text string) bool {
	text = strings.ToLower(text)
	return strings.Contains(text, string(token.Bootstrap)+".") || strings.Contains(text, string(token.PoolSecret)+".")
}

// CheckID refuses with the given code what is no UUID in canonical form, so that nothing else ever becomes a storage key.
func CheckID(id string, code apitype.Code) error {
	u, err := uuid.Parse(id)
	if err != nil || u.String() != id {
		return apitype.Errorf(code, "the id is no UUID")
	}
	return nil
}
