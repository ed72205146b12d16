package enroll_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/storetest"
	"github.com/hashicorp/vault/sdk/logical"
)

// An agent whose group or own configuration has changed is told to the edges, whatever fails: they would go on with the old
// one. A new process has another epoch, and edges then report all.
func TestAReassignedAgentIsTold(t *testing.T) {
	group := "web"
	for _, mode := range []int{storetest.Refuse, storetest.Apply} {
		for _, length := range []int{1, 2, 3} {
			t.Run(fmt.Sprintf("applied %v, %d failing", mode == storetest.Apply, length), func(t *testing.T) {
				for n, fired := 1, true; fired; n++ {
					w := newWorld(t, &storetest.Faulty{Storage: &logical.InmemStorage{}})
					w.configure()
					_, err := w.groups.Write(t.Context(), operator, "", group, apitype.GroupRequest{})
					w.must(err)
					issued, err := w.Issue(t.Context(), operator, apitype.TokenIssueRequest{})
					w.must(err)
					id, err := w.Redeem(t.Context(), operator, "", apitype.RedeemRequest{Token: issued.Token, CSR: newCSR(t)})
					w.must(err)
					before, err := w.Feed.Poll(t.Context(), "", 0)
					w.must(err)
					w.storage.Arm(n, mode, length)
					_, failed := w.UpdateAgent(t.Context(), operator, "", id.AgentID, apitype.AgentUpdateRequest{Group: &group})
					fired = w.storage.Disarm()
					row, err := w.Agent(t.Context(), "", id.AgentID)
					w.must(err)
					if failed == nil && row.Group != group {
						t.Fatalf("operation %d: nothing has changed", n)
					}
					after, err := w.Feed.Poll(t.Context(), before.Revision, 0)
					w.must(err)
					if row.Group == group && !slices.Contains(after.Reassigned, id.AgentID) {
						t.Fatalf("operation %d (%v): %+v", n, failed, after)
					}
				}
			})
		}
	}
}
