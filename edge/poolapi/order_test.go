package poolapi

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/token"
)

func TestAnOrderIsReadAsItIsWritten(t *testing.T) {
	three := int64(3)
	for body, want := range map[string]order{
		"":                     {},
		" \r\n":                {},
		"{}":                   {},
		`{"ttlMinutes":15}`:    {ttl: 900},
		`{"label":"web 17 ü"}`: {label: "web 17 ü"},
		` { "count" : 3 , "ttlMinutes" : 1 , "label" : "" } `: {ttl: 60, count: &three},
		`{"ttlMinutes":52560000}`:                             {ttl: 52560000 * 60},
	} {
		got, err := parseOrder([]byte(body))
		if err != nil || got.ttl != want.ttl || got.label != want.label || (got.count == nil) != (want.count == nil) || got.count != nil && *got.count != *want.count {
			t.Errorf("%q: %+v, %v", body, got, err)
		}
	}
}

func TestAnOrderWithAMistakeIsRefusedByName(t *testing.T) {
	secret := token.New(token.PoolSecret).Reveal()
	for body, want := range map[string]string{
		`ttlMinutes=15`:                               "not one JSON object",
		`"ttlMinutes"`:                                "not one JSON object",
		`[]`:                                          "not one JSON object",
		`null`:                                        "not one JSON object",
		`{"ttlMinutes":15`:                            "not one JSON object",
		`{"ttlMinutes":15,}`:                          "not one JSON object",
		`{"ttlMinutes":15}{"ttlMinutes":15}`:          "not one JSON object",
		`{"ttlMinutes":15} x`:                         "not one JSON object",
		"{\"label\":\"\xff\"}":                        "not one JSON object",
		"\xef\xbb\xbf{}":                              "not one JSON object",
		strings.Repeat("[", 60000):                    "not one JSON object",
		`{"ttlMinutes":15,"ttlMinutes":16}`:           "ttlMinutes stands there more than once",
		`{"ttlMinutes":15,"ttl\u004dinutes":16}`:      "ttlMinutes stands there more than once",
		`{"TTLMinutes":15}`:                           "a field that is not known",
		`{"ttl":"15m"}`:                               "a field that is not known",
		`{"tenant":"umbrella"}`:                       "a field that is not known",
		`{"":1}`:                                      "a field that is not known",
		`{"` + secret + `":1}`:                        "a field that is not known",
		`{"ttlMinutes":"15"}`:                         "ttlMinutes must be a positive whole number",
		`{"ttlMinutes":"15m"}`:                        "ttlMinutes must be a positive whole number",
		`{"ttlMinutes":0}`:                            "ttlMinutes must be a positive whole number",
		`{"ttlMinutes":-1}`:                           "ttlMinutes must be a positive whole number",
		`{"ttlMinutes":1.5}`:                          "ttlMinutes must be a positive whole number",
		`{"ttlMinutes":1e3}`:                          "ttlMinutes must be a positive whole number",
		`{"ttlMinutes":null}`:                         "ttlMinutes must be a positive whole number",
		`{"ttlMinutes":true}`:                         "ttlMinutes must be a positive whole number",
		`{"ttlMinutes":[15]}`:                         "ttlMinutes must be a positive whole number",
		`{"ttlMinutes":52560001}`:                     "ttlMinutes is too large",
		`{"ttlMinutes":99999999999999999999999999}`:   "ttlMinutes is too large",
		`{"count":0}`:                                 "count must be a whole number from 1 to 1000",
		`{"count":-1}`:                                "count must be a whole number from 1 to 1000",
		`{"count":1001}`:                              "count must be a whole number from 1 to 1000",
		`{"count":1000000000}`:                        "count must be a whole number from 1 to 1000",
		`{"count":"2"}`:                               "count must be a whole number from 1 to 1000",
		`{"label":15}`:                                "label must be a string",
		`{"label":null}`:                              "label must be a string",
		`{"label":{}}`:                                "label must be a string",
		`{"label":"` + secret + `"}`:                  "label holds a secret",
		`{"label":"` + strings.ToUpper(secret) + `"}`: "label holds a secret",
		`{"label":"` + strings.Repeat("x", maxLabel+1) + `"}`:  "label is longer than 256 bytes",
		`{"label":"\u0061mp-bs.` + secret[7:] + `","count":1}`: "label holds a secret",
	} {
		got, err := parseOrder([]byte(body))
		code := apitype.CodeOf(err)
		if err == nil || !strings.Contains(err.Error(), want) || code != apitype.FieldInvalid && code != apitype.TTLOutOfRange {
			t.Errorf("%.60q: %+v, %v", body, got, err)
		}
		if err != nil && strings.Contains(strings.ToLower(err.Error()), secret[10:30]) {
			t.Errorf("the error quotes a secret: %v", err)
		}
	}
}

// FuzzOrder: what is taken means the same to encoding/json, and what is refused is refused by a code.
func FuzzOrder(f *testing.F) {
	for _, seed := range []string{"", "{}", `{"ttlMinutes":15,"label":"x","count":2}`, `{"ttlMinutes":15,"ttlMinutes":16}`, `{"a":1}`, `[`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		o, err := parseOrder(body)
		if err != nil {
			if code := apitype.CodeOf(err); code != apitype.FieldInvalid && code != apitype.TTLOutOfRange {
				t.Fatalf("%v", err)
			}
			return
		}
		if o.count != nil && (*o.count < 1 || *o.count > apitype.MaxCount) || o.ttl < 0 || len(o.label) > maxLabel {
			t.Fatalf("%+v", o)
		}
		var loose struct {
			TTLMinutes int64   `json:"ttlMinutes"`
			Label      *string `json:"label"`
			Count      *int64  `json:"count"`
		}
		if len(strings.TrimSpace(string(body))) == 0 {
			return
		}
		if err := json.Unmarshal(body, &loose); err != nil {
			t.Fatalf("taken, but encoding/json says %v", err)
		}
		if loose.TTLMinutes*60 != o.ttl || loose.Label != nil && *loose.Label != o.label || fmt.Sprint(loose.Count == nil) != fmt.Sprint(o.count == nil) {
			t.Fatalf("%+v, but encoding/json reads %+v", o, loose)
		}
	})
}
