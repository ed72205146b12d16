package enroll_test

import (
	"github.com/ampora/ampora/plugin/apitype"
)

const batchSize = 3

// pooledFixture is a pool with one token of its own and a batch.
func pooledFixture(w *world, f *fixture) {
	var err error
	f.pool, err = w.Pools.Write(w.t.Context(), operator, "", "ci", apitype.PoolRequest{})
	w.must(err)
	one, err := w.IssueFromPool(w.t.Context(), operator, "", "ci", apitype.PoolIssueRequest{})
	w.must(err)
	count := int64(batchSize)
	many, err := w.IssueFromPool(w.t.Context(), operator, "", "ci", apitype.PoolIssueRequest{Count: &count})
	w.must(err)
	f.pooled = append(many.Tokens, apitype.IssuedToken{Token: one.Token, TokenID: one.TokenID})
	f.redeem.Token = f.pooled[0].Token
}

// verdicts are the codes with which the fixture's tokens, the pool's first, are refused; "" for one that is good. All
// tokens of the pool have the same verdict, or something is half-done.
func verdicts(w *world, f *fixture) (pooled, other apitype.Code) {
	w.t.Helper()
	for i, t := range f.pooled {
		_, err := w.Check(w.t.Context(), "", apitype.RedeemCheckRequest{Token: t.Token})
		if code := apitype.CodeOf(err); i == 0 {
			pooled = code
		} else if code != pooled {
			w.t.Fatalf("one token of the pool is %q and another %q", pooled, code)
		}
	}
	_, err := w.Check(w.t.Context(), "", apitype.RedeemCheckRequest{Token: f.issued.Token})
	return pooled, apitype.CodeOf(err)
}

// secretIsGood reports whether the secret that the fixture's pool was made with still issues.
func secretIsGood(w *world, f *fixture) bool {
	_, err := w.Pools.Authenticate(w.t.Context(), "", f.pool.PoolID, f.pool.AdminSecret)
	if err != nil && apitype.CodeOf(err) != apitype.PoolSecretInvalid {
		w.t.Fatal(err)
	}
	return err == nil
}

func poolTransitions() []transition {
	ended := func(want apitype.Code, secretDies bool) func(w *world, f *fixture) bool {
		return func(w *world, f *fixture) bool {
			pooled, other := verdicts(w, f)
			happened := pooled == want
			if !happened && pooled != "" || other != "" || secretIsGood(w, f) == (happened && secretDies) {
				w.t.Fatalf("the pool's tokens are %q, the other one is %q, the secret is good: %v", pooled, other, secretIsGood(w, f))
			}
			return happened
		}
	}
	count := int64(batchSize)
	return []transition{
		{
			name: "make a pool",
			run: func(w *world, _ *fixture) error {
				_, err := w.Pools.Write(w.t.Context(), operator, "", "new", apitype.PoolRequest{})
				return err
			},
			happened: func(w *world, _ *fixture) bool {
				exists, err := w.Pools.Exists(w.t.Context(), "", "new")
				w.must(err)
				return exists
			},
			events: map[string]int{apitype.ActionPoolCreated: 1},
		},
		{
			name: "change a pool", pooled: true,
			run: func(w *world, _ *fixture) error {
				most := int64(100)
				_, err := w.Pools.Write(w.t.Context(), operator, "", "ci", apitype.PoolRequest{MaxOutstanding: &most})
				return err
			},
			happened: func(w *world, _ *fixture) bool {
				p, err := w.Pools.Read(w.t.Context(), "", "ci")
				w.must(err)
				return p.MaxOutstanding == 100
			},
			events: map[string]int{apitype.ActionPoolUpdated: 1},
		},
		{
			name: "rotate a pool's secret", pooled: true,
			run: func(w *world, _ *fixture) error {
				_, err := w.Pools.Rotate(w.t.Context(), operator, "", "ci", "yearly")
				return err
			},
			happened: ended(apitype.PoolRevoked, true), events: map[string]int{apitype.ActionPoolSecretRotated: 1},
		},
		{
			name: "revoke a pool", pooled: true,
			run: func(w *world, _ *fixture) error {
				_, err := w.Pools.Revoke(w.t.Context(), operator, "", "ci", "leaked")
				return err
			},
			happened: ended(apitype.PoolRevoked, true), events: map[string]int{apitype.ActionPoolRevoked: 1},
		},
		{
			name: "delete a pool", pooled: true,
			run:      func(w *world, _ *fixture) error { return w.Pools.Delete(w.t.Context(), operator, "", "ci") },
			happened: ended(apitype.PoolRevoked, true), events: map[string]int{apitype.ActionPoolDeleted: 1},
		},
		{
			name: "make a deleted pool again", pooled: true,
			before: func(w *world, f *fixture) { w.must(w.Pools.Delete(w.t.Context(), operator, "", "ci")) },
			run: func(w *world, _ *fixture) error {
				_, err := w.Pools.Write(w.t.Context(), operator, "", "ci", apitype.PoolRequest{})
				return err
			},
			happened: func(w *world, f *fixture) bool {
				if pooled, _ := verdicts(w, f); pooled != apitype.PoolRevoked || secretIsGood(w, f) {
					w.t.Fatal("what the pool before has issued lives again")
				}
				exists, err := w.Pools.Exists(w.t.Context(), "", "ci")
				w.must(err)
				return exists
			},
			events: map[string]int{apitype.ActionPoolCreated: 1},
		},
		{
			name: "end all tokens", pooled: true,
			run: func(w *world, _ *fixture) error {
				_, err := w.Epoch.RevokeAll(w.t.Context(), operator, "", "leak of unknown size")
				return err
			},
			happened: func(w *world, f *fixture) bool {
				pooled, other := verdicts(w, f)
				if pooled != other || !secretIsGood(w, f) {
					w.t.Fatalf("%q, %q", pooled, other)
				}
				return pooled == apitype.TokenRevoked
			},
			events: map[string]int{apitype.ActionTokenAllRevoked: 1},
		},
		{
			name: "after a restore", pooled: true,
			run: func(w *world, _ *fixture) error {
				_, err := w.Epoch.AfterRestore(w.t.Context(), operator, "")
				return err
			},
			happened: func(w *world, f *fixture) bool {
				pooled, other := verdicts(w, f)
				if pooled != other || secretIsGood(w, f) == (pooled != "") {
					w.t.Fatalf("%q, %q", pooled, other)
				}
				return pooled == apitype.TokenRevoked
			},
			events: map[string]int{apitype.ActionConfigRestored: 1},
		},
		{
			name: "issue a batch", pooled: true,
			run: func(w *world, _ *fixture) error {
				_, err := w.IssueFromPool(w.t.Context(), operator, "", "ci", apitype.PoolIssueRequest{Count: &count})
				return err
			},
			happened: func(w *world, f *fixture) bool {
				l, err := w.Tokens(w.t.Context(), "", apitype.Page{Pool: "ci"})
				w.must(err)
				if n := len(l.Keys) - len(f.pooled); n != 0 && n != batchSize {
					w.t.Fatalf("%d of %d tokens were issued", n, batchSize)
				}
				return len(l.Keys) > len(f.pooled)
			},
			events: map[string]int{apitype.ActionTokenIssued: 1},
		},
		{
			name: "revoke one token of a batch", pooled: true,
			run: func(w *world, f *fixture) error {
				_, err := w.RevokeToken(w.t.Context(), operator, "", f.pooled[0].TokenID, "leaked")
				return err
			},
			happened: func(w *world, f *fixture) bool {
				_, err := w.Check(w.t.Context(), "", apitype.RedeemCheckRequest{Token: f.pooled[0].Token})
				_, next := w.Check(w.t.Context(), "", apitype.RedeemCheckRequest{Token: f.pooled[1].Token})
				w.must(next)
				return apitype.CodeOf(err) == apitype.TokenRevoked
			},
			events: map[string]int{apitype.ActionTokenRevoked: 1},
		},
		{
			name: "delete the agent of a batch's token", pooled: true,
			before: func(w *world, f *fixture) {
				var err error
				f.identity, err = w.Redeem(w.t.Context(), operator, "", f.redeem)
				w.must(err)
			},
			run: func(w *world, f *fixture) error {
				return w.DeleteAgent(w.t.Context(), operator, "", f.identity.AgentID)
			},
			happened: func(w *world, f *fixture) bool {
				if _, err := w.Check(w.t.Context(), "", apitype.RedeemCheckRequest{Token: f.redeem.Token}); apitype.CodeOf(err) != apitype.TokenRedeemed {
					w.t.Fatalf("the token of an agent lives: %v", err)
				}
				_, err := w.Agent(w.t.Context(), "", f.identity.AgentID)
				return apitype.CodeOf(err) == apitype.AgentUnknown
			},
			events: map[string]int{apitype.ActionAgentDeleted: 1, apitype.ActionCertificateRevoked: 1},
		},
		{
			name: "redeem one token of a batch", pooled: true,
			run: func(w *world, f *fixture) error {
				_, err := w.Redeem(w.t.Context(), operator, "", f.redeem)
				return err
			},
			happened: func(w *world, f *fixture) bool {
				_, err := w.Check(w.t.Context(), "", apitype.RedeemCheckRequest{Token: f.pooled[0].Token})
				_, next := w.Check(w.t.Context(), "", apitype.RedeemCheckRequest{Token: f.pooled[1].Token})
				w.must(next)
				agents, listErr := w.Agents(w.t.Context(), "", apitype.Page{Pool: "ci"})
				w.must(listErr)
				tokens, listErr := w.Tokens(w.t.Context(), "", apitype.Page{Pool: "ci"})
				w.must(listErr)
				happened := apitype.CodeOf(err) == apitype.TokenRedeemed
				if happened != (len(agents.Keys) == 1) || happened != (len(tokens.Keys) == len(f.pooled)-1) {
					w.t.Fatalf("%v with %d agents and %d tokens", err, len(agents.Keys), len(tokens.Keys))
				}
				return happened
			},
			events: map[string]int{apitype.ActionTokenRedeemed: 1, apitype.ActionCertificateIssued: 1},
		},
	}
}
