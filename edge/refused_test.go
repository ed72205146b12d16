package edge_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/ampora/ampora/edge"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/token"
	"github.com/hashicorp/vault/sdk/logical"
)

// minute is Vault's periodic call of the engine.
func (w *world) minute() {
	w.t.Helper()
	if _, err := w.engine.Backend.HandleRequest(w.t.Context(), &logical.Request{Operation: logical.RollbackOperation, Storage: w.engine.Storage}); err != nil {
		w.t.Fatal(err)
	}
}

// refused are the sums of refusals by code, over all events.
func (w *world) refused() map[string]int {
	w.t.Helper()
	page, err := w.vault.Events(w.t.Context(), apitype.EventsRequest{Action: apitype.ActionAccessRefused, Limit: 1000})
	if err != nil {
		w.t.Fatal(err)
	}
	sums := map[string]int{}
	for _, e := range page.Events {
		if e.EntityID != "127.0.0.1" || e.SourceIP != "127.0.0.1" {
			w.t.Errorf("a refusal of %q, %q", e.EntityID, e.SourceIP)
		}
		for code, n := range e.Details["codes"].(map[string]any) {
			sums[code] += int(n.(float64))
		}
	}
	return sums
}

// Every refusal is in the audit trail once: those of the engine, and those that the edge made without asking.
func TestEveryRefusalIsInTheAuditTrailOnce(t *testing.T) {
	w := newWorld(t, func(o *edge.Options) { o.Timing.Refused = 100 * time.Millisecond })
	unknown := token.New(token.Bootstrap).Reveal()
	for header, code := range map[string]apitype.Code{"": apitype.TokenMissing, "Bearer hello": apitype.TokenMalformed, "Bearer " + unknown: apitype.TokenUnknown} {
		for range 3 { // of the unknown token the engine hears once: the edge remembers it
			w.newAgent(header).mustRefuse(401, code)
		}
	}
	want := fmt.Sprint(map[string]int{"token_missing": 3, "token_malformed": 3, "token_unknown": 3})
	w.eventually("the refusals are told", 20*time.Second, func() bool { w.minute(); return fmt.Sprint(w.refused()) == want })

	// The end of an edge tells what is left, and while Vault is away nothing is lost.
	w.engine.SetAway(true)
	w.newAgent("").mustRefuse(401, apitype.TokenMissing)
	time.Sleep(300 * time.Millisecond) // some reports fail
	w.engine.SetAway(false)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := w.edge.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	want = fmt.Sprint(map[string]int{"token_missing": 4, "token_malformed": 3, "token_unknown": 3})
	w.eventually("the last refusal is told", 20*time.Second, func() bool { w.minute(); return fmt.Sprint(w.refused()) == want })
}
