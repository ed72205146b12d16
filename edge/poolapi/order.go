package poolapi

import (
	"bytes"
	"encoding/json"
	"math"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/token"
)

// order is what a body asks for.
type order struct {
	ttl   int64 // seconds, 0 for the pool's default
	label string
	count *int64 // nil: one token, not in a list
}

// maxLabel is the engine's bound, in bytes. It is held here as well because a label stands readable in Vault's audit log,
// whatever becomes of the request.
const maxLabel = 256

// maxMinutes is a hundred years: a time to live must not overflow on its way to the engine, which knows the real bounds.
const maxMinutes = 100 * 365 * 24 * 60

// parseOrder reads a body strictly: one JSON object, each field at most once and spelt as it is, nothing unknown. Where a
// mistake would otherwise be a default, the tokens would not be those that were meant. Errors never quote the body, into
// which a secret may have been pasted.
func parseOrder(body []byte) (o order, err error) {
	body = bytes.Trim(body, " \t\r\n") // what JSON takes for white space, RFC 8259 section 2
	if len(body) == 0 {
		return o, nil
	}
	if !utf8.Valid(body) || !json.Valid(body) || body[0] != '{' {
		return o, apitype.Errorf(apitype.FieldInvalid, "the body is not one JSON object")
	}
	fields, seen := json.NewDecoder(bytes.NewReader(body)), map[string]bool{}
	for _, err = fields.Token(); err == nil && fields.More(); {
		var key json.Token
		var value json.RawMessage
		if key, err = fields.Token(); err != nil {
			break
		}
		name := key.(string) // of an object
		if err = fields.Decode(&value); err != nil {
			break
		}
		if err = o.set(name, value, seen[name]); err != nil {
			return order{}, err
		}
		seen[name] = true
	}
	if err != nil { // it is valid: cannot happen
		return order{}, apitype.Errorf(apitype.FieldInvalid, "the body is not one JSON object")
	}
	return o, nil
}

func (o *order) set(name string, value json.RawMessage, again bool) error {
	switch name {
	case "ttlMinutes", "label", "count":
		if again {
			return apitype.Errorf(apitype.FieldInvalid, "%s stands there more than once", name)
		}
	default:
		return apitype.Errorf(apitype.FieldInvalid, "there is a field that is not known here; ttlMinutes, label and count are")
	}
	switch name {
	case "ttlMinutes":
		minutes, ok := whole(value)
		if !ok {
			return apitype.Errorf(apitype.FieldInvalid, "ttlMinutes must be a positive whole number, without quotes")
		}
		if minutes > maxMinutes {
			return apitype.Errorf(apitype.TTLOutOfRange, "ttlMinutes is too large")
		}
		o.ttl = minutes * 60
	case "label":
		if value[0] != '"' || json.Unmarshal(value, &o.label) != nil {
			return apitype.Errorf(apitype.FieldInvalid, "label must be a string")
		}
		return checkLabel(o.label)
	case "count":
		count, ok := whole(value)
		if !ok || count > apitype.MaxCount {
			return apitype.Errorf(apitype.FieldInvalid, "count must be a whole number from 1 to %d, without quotes", apitype.MaxCount)
		}
		o.count = &count
	}
	return nil
}

var positive = regexp.MustCompile(`^[1-9][0-9]*$`)

// whole is a positive whole number; one beyond int64 is the largest there is.
func whole(value json.RawMessage) (int64, bool) {
	if !positive.Match(value) {
		return 0, false
	}
	n, err := strconv.ParseInt(string(value), 10, 64)
	if err != nil {
		n = math.MaxInt64
	}
	return n, true
}

func checkLabel(label string) error {
	lower := strings.ToLower(label)
	for _, kind := range []token.Kind{token.Bootstrap, token.PoolSecret} {
		if strings.Contains(lower, string(kind)+".") {
			return apitype.Errorf(apitype.FieldInvalid, "label holds a secret")
		}
	}
	if len(label) > maxLabel {
		return apitype.Errorf(apitype.FieldInvalid, "label is longer than %d bytes", maxLabel)
	}
	return nil
}
