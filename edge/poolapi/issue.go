package poolapi

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/ampora/ampora/edge/limits"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/token"
)

// Issuer issues tokens for a holder of a pool's admin secret, once. Refusals are *apitype.Error in the chain; whatever means
// that Vault could not answer has the code vault_unavailable. It must be safe for concurrent use.
type Issuer interface {
	IssueWithSecret(ctx context.Context, pool string, in apitype.PoolAdminIssueRequest) (*apitype.PoolIssueResponse, error)
}

// Bounds of what is remembered and let through.
const (
	rememberedSources  = 1 << 16
	rememberedVerdicts = 1 << 14
	wrongPerSecond     = 5 // wrong secrets of one source before it hears nothing but 429
	wrongBurst         = 50
	unprovenPerSecond  = 20 // well-formed secrets of one source that Vault is asked about and was not just before
	unprovenBurst      = 50
	unprovenWait       = 10 * time.Second
	unprovenAtOnce     = 8 // of all sources; the edge asks Vault about twice as many, so the others always find a place
	verdictTTL         = 5 * time.Minute
)

// claim is a secret as it was shown for a pool.
type claim struct {
	pool   string
	secret token.Hash
}

// issue asks Vault, with what can be judged here judged. A secret that Vault has lately found right is not held up by
// anything; one that it has found wrong can never become right, since pools get fresh ones, and costs no call. The others
// are paced per source, and few at a time: nobody can have Vault guess faster, or stand in a holder's way.
func (h *Handler) issue(ctx context.Context, a asked) (*apitype.PoolIssueResponse, error) {
	source, key := limits.SourceOf(a.from), claim{a.pool, a.secret.Hash()}
	verdict, known := h.verdicts.Get(key)
	switch {
	case known && verdict != nil:
		return nil, h.count(source, verdict)
	case !known:
		leave, err := h.queue(ctx, source)
		if err != nil {
			return nil, err
		}
		defer leave()
	}
	out, err := h.Issuer.IssueWithSecret(ctx, a.pool, apitype.PoolAdminIssueRequest{
		AdminSecret: a.secret.Reveal(), TTL: a.ttl, HolderLabel: a.label, Count: a.count, SourceIP: text(a.from),
	})
	if err == nil {
		h.verdicts.Put(key, nil, verdictTTL)
		return out, nil
	}
	if refusal, found := errors.AsType[*apitype.Error](err); found && refusal.Code == apitype.PoolSecretInvalid {
		h.verdicts.Put(key, refusal, verdictTTL)
		return nil, h.count(source, err)
	}
	return nil, err
}

// queue waits until Vault may be asked about a secret that this edge does not know. The caller leaves when it has been.
func (h *Handler) queue(ctx context.Context, source limits.Source) (leave func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, unprovenWait)
	defer cancel()
	if h.unproven.Wait(ctx, source) != nil {
		return nil, apitype.Errorf(apitype.RateLimited, "too many different secrets from this address")
	}
	select {
	case h.judged <- struct{}{}:
		return func() { <-h.judged }, nil
	case <-ctx.Done():
		return nil, apitype.Errorf(apitype.VaultUnavailable, "too many secrets wait to be checked")
	}
}

// count takes a wrong secret from its source's bucket; once that is empty, the source hears 429 instead of why.
func (h *Handler) count(source limits.Source, err error) error {
	if !h.wrong.Allow(source) {
		return apitype.Errorf(apitype.RateLimited, "too many wrong secrets from this address")
	}
	return err
}

func text(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}
