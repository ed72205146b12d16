package enroll_test

import (
	"sync"
	"testing"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/storetest"
	"github.com/hashicorp/vault/sdk/logical"
)

// Tokens are issued into a group, by hand and from a pool, redeemed, and their agents moved away, while others delete the
// group and make it again. Nobody ever ends in a group that is not there.
func TestNobodyEndsInAGroupThatIsGone(t *testing.T) {
	deleted := 0
	for round := 0; deleted < 20; round++ {
		if round == 200 {
			t.Fatal("the group is never deleted, so nothing is tested")
		}
		deleted += deleteWhileReferring(t)
	}
}

// deleteWhileReferring answers how often the group was deleted.
func deleteWhileReferring(t *testing.T) int {
	w := newWorld(t, &storetest.Faulty{Storage: &logical.InmemStorage{}})
	prepare(w, false)
	name, none, count := "busy", "", int64(2)
	held := func(err error, code apitype.Code) bool {
		if err != nil && apitype.CodeOf(err) != code {
			t.Error(err)
		}
		return err == nil
	}
	// leads wants that whom a token refers to is there, and that it lands its agent in the group.
	leads := func(token string) {
		if _, err := w.groups.Read(t.Context(), "", name); err != nil {
			t.Errorf("a token refers to a group that is gone: %v", err)
		}
		id, err := w.Redeem(t.Context(), operator, "", apitype.RedeemRequest{Token: token, CSR: newCSR(t)})
		if !held(err, "") {
			return
		}
		if _, err := w.groups.Read(t.Context(), "", name); err != nil || id.Group != name {
			t.Errorf("an agent is in %q: %v", id.Group, err)
		}
		_, err = w.UpdateAgent(t.Context(), operator, "", id.AgentID, apitype.AgentUpdateRequest{Group: &none})
		held(err, "")
	}
	var referring, deleting sync.WaitGroup
	for range 2 {
		referring.Go(func() {
			for range 15 {
				if issued, err := w.Issue(t.Context(), operator, apitype.TokenIssueRequest{Group: name}); held(err, apitype.GroupMissing) {
					leads(issued.Token)
				} else {
					makeGroup(w, name)
				}
			}
		})
	}
	referring.Go(func() {
		for range 10 {
			if _, err := w.Pools.Write(t.Context(), operator, "", "ci", apitype.PoolRequest{Group: &name}); !held(err, apitype.GroupMissing) {
				continue
			}
			many, err := w.IssueFromPool(t.Context(), operator, "", "ci", apitype.PoolIssueRequest{Count: &count})
			held(err, "")
			_, err = w.Pools.Write(t.Context(), operator, "", "ci", apitype.PoolRequest{Group: &none})
			held(err, "")
			for _, token := range many.Tokens {
				leads(token.Token)
			}
		}
	})
	done := make(chan struct{})
	for range 2 {
		deleting.Go(func() {
			for {
				held(w.groups.Delete(t.Context(), operator, "", name), apitype.InUse)
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	referring.Wait()
	close(done)
	deleting.Wait()
	return w.events()[apitype.ActionGroupDeleted]
}
