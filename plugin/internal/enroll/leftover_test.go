package enroll_test

import (
	"testing"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/storetest"
	"github.com/hashicorp/vault/sdk/logical"
)

// A redemption that was cut short leaves its token's row; when then the agent is deleted, and that is cut short as well,
// the token stays dead all the same, and nothing is told twice. Whoever comes next may come before recovery does.
func TestATokenLeftOverStaysDeadWhenItsAgentIsDeleted(t *testing.T) {
	behind := behindTheCommit(t)
	for _, mode := range []int{storetest.Refuse, storetest.Apply} {
		for _, length := range []int{1, 2, storetest.Dead} {
			left := 0
			for n, fired := 1, true; fired; n++ {
				w := newWorld(t, &storetest.Faulty{Storage: &logical.InmemStorage{}})
				f := prepare(w, false)
				w.storage.Arm(behind, storetest.Refuse, storetest.Dead)
				identity, err := w.Redeem(t.Context(), operator, "", f.redeem)
				w.storage.Disarm()
				w.must(err)
				row, err := w.storage.Get(t.Context(), "token/"+f.issued.TokenID[:2]+"/"+f.issued.TokenID)
				if err == nil && row != nil {
					left++
				}

				w = newWorld(t, w.storage)
				w.storage.Arm(n, mode, length)
				_ = w.DeleteAgent(t.Context(), operator, "", identity.AgentID)
				fired = w.storage.Disarm()

				w = newWorld(t, w.storage)
				_, err = w.Check(t.Context(), "", apitype.RedeemCheckRequest{Token: f.issued.Token})
				if apitype.CodeOf(err) != apitype.TokenRedeemed {
					t.Fatalf("mode %d, length %d, operation %d of the deletion: the token is %v", mode, length, n, err)
				}
				w.must(w.DeleteAgent(t.Context(), operator, "", identity.AgentID))
				w.recover()
				if _, err = w.Check(t.Context(), "", apitype.RedeemCheckRequest{Token: f.issued.Token}); apitype.CodeOf(err) != apitype.TokenRedeemed {
					t.Fatalf("operation %d: after recovery the token is %v", n, err)
				}
				for action, count := range w.events() {
					if count != 1 && action != apitype.ActionConfigUpdated && action != apitype.ActionIssuerCreated && action != apitype.ActionIssuerActivated {
						t.Fatalf("operation %d: %s was told %d times", n, action, count)
					}
				}
			}
			if left == 0 {
				t.Fatal("no redemption left its token's row, so nothing was tested")
			}
		}
	}
}

// behindTheCommit is the first operation of a redemption that can fail without undoing it.
func behindTheCommit(t *testing.T) int {
	for n := 1; ; n++ {
		w := newWorld(t, &storetest.Faulty{Storage: &logical.InmemStorage{}})
		f := prepare(w, false)
		w.storage.Arm(n, storetest.Refuse, storetest.Dead)
		if _, err := w.Redeem(t.Context(), operator, "", f.redeem); err == nil {
			return n
		}
	}
}
