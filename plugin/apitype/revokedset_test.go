package apitype_test

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/ampora/ampora/plugin/apitype"
)

func TestASetOfRevokedAgentsTravelsWhole(t *testing.T) {
	want := apitype.RevokedSet{
		{AgentID: "018f3d2c-7d4e-8b6a-9c3f-0a1b2c3d4e5f", Generation: 1<<24 - 1, NotAfter: 1 << 40},
		{AgentID: "ffffffff-ffff-8fff-bfff-ffffffffffff", Generation: 1, NotAfter: -1},
	}
	text, err := json.Marshal(want)
	if err != nil || text[0] != '"' {
		t.Fatalf("%s %v", text, err)
	}
	var got apitype.RevokedSet
	if err := json.Unmarshal(text, &got); err != nil || !slices.Equal(got, want) {
		t.Errorf("%v %v", got, err)
	}
	for _, bad := range []string{`null`, `[]`, `{}`, `1`, `"AAAA"`, `"%"`, string(text[:len(text)-3]) + `"`} {
		got = nil
		if err := json.Unmarshal([]byte(bad), &got); err == nil {
			t.Errorf("%s was taken as a set of %d", bad, len(got))
		}
	}
	if _, err := json.Marshal(apitype.RevokedSet{{AgentID: "x"}}); err == nil {
		t.Error("an id that is none was written")
	}
}
