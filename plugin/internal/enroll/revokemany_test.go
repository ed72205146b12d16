package enroll_test

import (
	"fmt"
	"testing"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/storetest"
	"github.com/hashicorp/vault/sdk/logical"
)

// fleet makes agents: by tenant, group and pool, in the order of their making.
func fleet(t *testing.T) (*world, map[string][]string) {
	w := newWorld(t, &storetest.Faulty{Storage: &logical.InmemStorage{}})
	w.configure()
	agents := map[string][]string{}
	for _, tenant := range []string{"", "acme"} {
		_, err := w.groups.Write(t.Context(), operator, tenant, "web", apitype.GroupRequest{})
		w.must(err)
		_, err = w.Pools.Write(t.Context(), operator, tenant, "ci", apitype.PoolRequest{})
		w.must(err)
		for kind, n := range map[string]int{"web": 3, "none": 2, "pool": 2} {
			for range n {
				var token string
				if kind == "pool" {
					issued, err := w.IssueFromPool(t.Context(), operator, tenant, "ci", apitype.PoolIssueRequest{})
					w.must(err)
					token = issued.Token
				} else {
					group := kind
					if kind == "none" {
						group = ""
					}
					issued, err := w.Issue(t.Context(), operator, apitype.TokenIssueRequest{Tenant: tenant, Group: group})
					w.must(err)
					token = issued.Token
				}
				id, err := w.Redeem(t.Context(), operator, tenant, apitype.RedeemRequest{Token: token, CSR: newCSR(t)})
				w.must(err)
				agents[tenant+"/"+kind] = append(agents[tenant+"/"+kind], id.AgentID)
			}
		}
	}
	return w, agents
}

func TestRevokingManyRevokesThoseAndNoOthers(t *testing.T) {
	for name, c := range map[string]struct {
		tenant string
		in     func(agents map[string][]string) apitype.RevokeAgentsRequest
		want   []string // of fleet's kinds
	}{
		"a group": {"", func(map[string][]string) apitype.RevokeAgentsRequest {
			return apitype.RevokeAgentsRequest{Group: "web"}
		}, []string{"/web"}},
		"a tenant's group": {"acme", func(map[string][]string) apitype.RevokeAgentsRequest {
			return apitype.RevokeAgentsRequest{Group: "web"}
		}, []string{"acme/web"}},
		"a pool":   {"acme", func(map[string][]string) apitype.RevokeAgentsRequest { return apitype.RevokeAgentsRequest{Pool: "ci"} }, []string{"acme/pool"}},
		"a tenant": {"acme", func(map[string][]string) apitype.RevokeAgentsRequest { return apitype.RevokeAgentsRequest{All: true} }, []string{"acme/web", "acme/none", "acme/pool"}},
		"a list, some twice": {"", func(a map[string][]string) apitype.RevokeAgentsRequest {
			return apitype.RevokeAgentsRequest{AgentIDs: append(a["/none"], a["/none"]...)}
		}, []string{"/none"}},
	} {
		t.Run(name, func(t *testing.T) {
			w, agents := fleet(t)
			wanted, count := map[string]bool{}, 0
			for _, kind := range c.want {
				for _, id := range agents[kind] {
					wanted[id] = true
					count++
				}
			}
			before := w.events()[apitype.ActionCertificateRevoked]
			for round, revoked := range []int{count, 0} { // a second time there is nobody left
				out, err := w.RevokeAgents(t.Context(), operator, c.tenant, c.in(agents))
				w.must(err)
				if out.Revoked != revoked || out.Reason != "unspecified" {
					t.Errorf("round %d: %+v", round+1, out)
				}
			}
			for kind, ids := range agents {
				for _, id := range ids {
					a, err := w.Agent(t.Context(), "", id)
					w.must(err)
					if (a.State == apitype.AgentStateRevoked) != wanted[id] {
						t.Errorf("an agent of %s is %s", kind, a.State)
					}
				}
			}
			if n := w.events()[apitype.ActionCertificateRevoked] - before; n != 1 {
				t.Errorf("%d events tell it", n)
			}
			if feed, err := w.Revoked(t.Context()); err != nil || len(feed) != count {
				t.Errorf("edges hear of %d: %v", len(feed), err)
			}
		})
	}
}

func TestRevokingManyRefusesBadInput(t *testing.T) {
	w, agents := fleet(t)
	foreign := agents["acme/web"][0]
	for name, c := range map[string]struct {
		tenant string
		in     apitype.RevokeAgentsRequest
		code   apitype.Code
	}{
		"nothing selected":    {"", apitype.RevokeAgentsRequest{}, apitype.FieldInvalid},
		"two ways":            {"", apitype.RevokeAgentsRequest{Group: "web", Pool: "ci"}, apitype.FieldInvalid},
		"all of no tenant":    {"", apitype.RevokeAgentsRequest{All: true}, apitype.FieldInvalid},
		"an unknown reason":   {"", apitype.RevokeAgentsRequest{Group: "web", Reason: "boredom"}, apitype.FieldInvalid},
		"a bad name":          {"", apitype.RevokeAgentsRequest{Group: "Web!"}, apitype.NameInvalid},
		"another tenant's":    {"other", apitype.RevokeAgentsRequest{AgentIDs: []string{foreign}}, apitype.AgentUnknown},
		"one that is unknown": {"", apitype.RevokeAgentsRequest{AgentIDs: append(agents["/web"], "00000000-0000-8000-8000-000000000000")}, apitype.AgentUnknown},
		"no id":               {"", apitype.RevokeAgentsRequest{AgentIDs: []string{"x"}}, apitype.AgentUnknown},
	} {
		if _, err := w.RevokeAgents(t.Context(), operator, c.tenant, c.in); apitype.CodeOf(err) != c.code {
			t.Errorf("%s: %v", name, err)
		}
	}
	if feed, err := w.Revoked(t.Context()); err != nil || len(feed) != 0 {
		t.Errorf("bad input revoked %d: %v", len(feed), err)
	}
}

// A fault anywhere while several are revoked: they all are, or none is, when recovery has been at work; and one event says so.
func TestRevokingManyIsOneAct(t *testing.T) {
	for _, mode := range []int{storetest.Refuse, storetest.Apply} {
		for n, fired := 1, true; fired; n++ {
			w, agents := fleet(t)
			before := w.events()[apitype.ActionCertificateRevoked]
			w.storage.Arm(n, mode, storetest.Dead)
			_, err := w.RevokeAgents(t.Context(), operator, "", apitype.RevokeAgentsRequest{Group: "web", Reason: "keyCompromise"})
			fired = w.storage.Disarm()
			w = w.restart()
			feed, feedErr := w.Revoked(t.Context())
			w.must(feedErr)
			told := w.events()[apitype.ActionCertificateRevoked] - before
			if all := len(agents["/web"]); (len(feed) != all || told != 1) && (len(feed) != 0 || told != 0 || err == nil) {
				t.Fatalf("%s: %d of %d revoked, %d events", fmt.Sprintf("operation %d, applied %v", n, mode == storetest.Apply), len(feed), all, told)
			}
		}
	}
}
