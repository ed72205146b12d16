package apitype_test

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/ampora/ampora/plugin/apitype"
)

func TestIDsOfAgentsTravelAsOneString(t *testing.T) {
	want := apitype.AgentIDs{"018f3d2c-7d4e-8b6a-9c3f-0a1b2c3d4e5f", "ffffffff-ffff-8fff-bfff-ffffffffffff"}
	text, err := json.Marshal(want)
	if err != nil || text[0] != '"' {
		t.Fatalf("%s %v", text, err)
	}
	var got apitype.AgentIDs
	if err := json.Unmarshal(text, &got); err != nil || !slices.Equal(got, want) {
		t.Errorf("%v %v", got, err)
	}
	for _, bad := range []string{`[]`, `{}`, `1`, `"AAAA"`, `"%"`, string(text[:len(text)-3]) + `"`} {
		if err := json.Unmarshal([]byte(bad), &got); err == nil {
			t.Errorf("%s was taken as %v", bad, got)
		}
	}
	for _, bad := range []string{"x", "018f3d2c7d4e8b6a9c3f0a1b2c3d4e5f", ""} {
		if _, err := json.Marshal(apitype.AgentIDs{bad}); err == nil {
			t.Errorf("%q was written", bad)
		}
	}
}
