package vaultgate

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
)

var renewing = apitype.RenewRequest{Fingerprint: "f", IdempotencyKey: "0123456789abcdef"}

func TestRenewAsksAgainWithTheSameKeyUntilItKnows(t *testing.T) {
	g, s := newScripted(t, Options{}, hangUp, sealed, refuse(apitype.OutcomeUnknown), redeemed)
	got, err := g.Renew(t.Context(), "a", renewing)
	if err != nil || got.AgentID != "a" {
		t.Fatalf("%+v, %v: %s", got, err, Cause(err))
	}
	asked := s.asked()
	if len(asked) != 4 {
		t.Fatalf("asked %d times", len(asked))
	}
	for _, body := range asked {
		if body["idempotency_key"] != renewing.IdempotencyKey || body["fingerprint"] != renewing.Fingerprint {
			t.Errorf("asked with %v", body)
		}
	}
	if _, err := g.Renew(t.Context(), "a", apitype.RenewRequest{}); apitype.CodeOf(err) != apitype.Internal || len(s.asked()) != 4 {
		t.Errorf("without a key: %v", err)
	}
}

func TestRenewTakesARefusalForAnAnswer(t *testing.T) {
	g, s := newScripted(t, Options{}, crashed, refuse(apitype.RenewalProofMissing))
	_, err := g.Renew(t.Context(), "a", renewing)
	if apitype.CodeOf(err) != apitype.RenewalProofMissing || len(s.asked()) != 2 {
		t.Fatalf("%v after %d calls", err, len(s.asked()))
	}
}

func TestRenewalsHaveSlotsOfTheirOwn(t *testing.T) {
	held := make(chan struct{})
	var begun sync.WaitGroup
	begun.Add(1)
	first := sync.OnceFunc(begun.Done)
	g, _ := newScripted(t, Options{BootstrapSlots: 1, BootstrapQueue: 1}, func(w http.ResponseWriter, r *http.Request) {
		first()
		select {
		case <-held:
		case <-r.Context().Done():
		}
	}, redeemed)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	done := make(chan struct{})
	go func() { defer close(done); _, _ = g.Redeem(ctx, redemption) }() // what becomes of it does not matter here
	begun.Wait()
	if _, err := g.Renew(ctx, "a", renewing); err != nil {
		t.Errorf("with every bootstrap slot taken: %v", err)
	}
	close(held)
	<-done
}
