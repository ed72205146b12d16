package explore

import (
	"testing"
)

// TestExplore goes through every state with the real tables, and prints how many they are.
func TestExplore(t *testing.T) {
	r, err := Real().Run()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("handover protocol: %d states, %d transitions, %d ends, no rule broken", r.States, r.Transitions, r.Ends)
	if !r.Arrived || !r.Returned {
		t.Errorf("%+v: no agent ever arrives", r)
	}
}
