package vaultgate

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/cenkalti/backoff/v4"
	"golang.org/x/time/rate"
)

// operation is one kind of call and how patient the Gate is with it.
type operation struct {
	name    string
	slots   *slots
	timeout time.Duration // of one try
	total   time.Duration // of the call, with waiting for a slot and all tries
	tries   int           // at most
	// changes: a call whose answer got lost may have changed something that the caller must know of.
	changes bool
	// decides: failures say something about Vault as a whole, and not about one policy or one input.
	decides bool
	warn    *rate.Sometimes
}

const (
	answerTime   = 10 * time.Second // that Vault has for one try
	crlTime      = 30 * time.Second // a list of 100,000 certificates has megabytes
	ocspTime     = 5 * time.Second
	redeemTotal  = 30 * time.Second
	maxTries     = 100 // of a redemption; redeemTotal ends it long before
	faultTries   = 3   // of a call that the engine itself calls a fault of its own
	firstRepeat  = 100 * time.Millisecond
	slowestPause = 2 * time.Second
)

type operations struct {
	check, redeem, pool, sync, report, certificate, crl, ocsp, renew, configurations, configuration operation
	federationOperations
}

func newOperations(kinds map[string]*slots) operations {
	bootstrap, renewals, control := kinds["bootstrap"], kinds["renewals"], kinds["control"]
	once := func(name string, timeout time.Duration) operation {
		return operation{
			name: name, slots: control, timeout: timeout, total: timeout + slotPatience, tries: 1,
			warn: &rate.Sometimes{Interval: time.Minute},
		}
	}
	ops := operations{
		check: once("redeem_check", answerTime), redeem: once("redeem", answerTime), sync: once("sync", answerTime),
		report: once("report", answerTime), certificate: once("certificate", answerTime),
		pool: once("pool_issue", answerTime), // once: a repeat after a lost answer would issue what nobody ever sees
		crl:  once("crl", crlTime), ocsp: once("ocsp", ocspTime), renew: once("renew", answerTime),
		configurations: once("configurations", answerTime), configuration: once("configuration", answerTime),
		federationOperations: newFederationOperations(kinds["receipts"], kinds["federation"], once),
	}
	ops.configuration.slots = kinds["configurations"]
	ops.pool.slots, ops.ocsp.slots = kinds["pools"], kinds["questions"]
	// A check changes nothing, so a connection that broke in an idle moment need not become an agent's problem.
	ops.check.slots, ops.check.tries = bootstrap, 2
	ops.redeem.slots, ops.redeem.tries, ops.redeem.total, ops.redeem.changes = bootstrap, maxTries, redeemTotal, true
	ops.renew.slots, ops.renew.tries, ops.renew.total, ops.renew.changes = renewals, maxTries, redeemTotal, true
	ops.sync.decides = true
	return ops
}

// RedeemCheck asks whether a token is good right now and consumes nothing.
func (g *Gate) RedeemCheck(ctx context.Context, in apitype.RedeemCheckRequest) (*apitype.RedeemCheckResponse, error) {
	return perform(ctx, g, g.ops.check, func(ctx context.Context) (*apitype.RedeemCheckResponse, error) {
		return g.client.RedeemCheck(ctx, in)
	})
}

// Redeem turns a token into an agent. It needs an IdempotencyKey, and repeats the call with it for up to 30 seconds while
// it is open what became of the last try. If that stays open the error is outcome_unknown: asking again with the same key
// within 10 minutes gives the same answer.
func (g *Gate) Redeem(ctx context.Context, in apitype.RedeemRequest) (*apitype.Identity, error) {
	if in.IdempotencyKey == "" {
		return nil, apitype.Errorf(apitype.Internal, "a redemption without an idempotency key")
	}
	return perform(ctx, g, g.ops.redeem, func(ctx context.Context) (*apitype.Identity, error) {
		return g.client.Redeem(ctx, in)
	})
}

// Renew gives an agent its next leaf. Like Redeem it needs an IdempotencyKey and repeats the call with it. An outcome that
// stays open strands nobody: the leaf that the agent has goes on, and asking again is safe at any time.
func (g *Gate) Renew(ctx context.Context, agentID string, in apitype.RenewRequest) (*apitype.Identity, error) {
	if in.IdempotencyKey == "" {
		return nil, apitype.Errorf(apitype.Internal, "a renewal without an idempotency key")
	}
	return perform(ctx, g, g.ops.renew, func(ctx context.Context) (*apitype.Identity, error) {
		return g.client.Renew(ctx, agentID, in)
	})
}

// IssueWithSecret issues tokens for a holder of a pool's admin secret. It asks once: when the answer got lost, what was
// issued stays unused until it expires.
func (g *Gate) IssueWithSecret(ctx context.Context, pool string, in apitype.PoolAdminIssueRequest) (*apitype.PoolIssueResponse, error) {
	return perform(ctx, g, g.ops.pool, func(ctx context.Context) (*apitype.PoolIssueResponse, error) {
		return g.client.IssueWithSecret(ctx, pool, in)
	})
}

// Sync polls the change feed; it answers at once on a change, else after in.Wait.
func (g *Gate) Sync(ctx context.Context, in apitype.SyncRequest) (*apitype.SyncResponse, error) {
	op := g.ops.sync
	wait := time.Duration(in.Wait) * time.Second
	op.timeout += wait
	op.total += wait
	return perform(ctx, g, op, func(ctx context.Context) (*apitype.SyncResponse, error) {
		return g.client.Sync(ctx, in)
	})
}

// Report tells the engine of this edge and its sessions.
func (g *Gate) Report(ctx context.Context, in apitype.ReportRequest) (*apitype.ReportResponse, error) {
	return perform(ctx, g, g.ops.report, func(ctx context.Context) (*apitype.ReportResponse, error) {
		return g.client.Report(ctx, in)
	})
}

// EdgeConfigurations asks which configuration each group gives, and for the configurations' hashes.
func (g *Gate) EdgeConfigurations(ctx context.Context, in apitype.EdgeConfigurationsRequest) (*apitype.EdgeConfigurations, error) {
	return perform(ctx, g, g.ops.configurations, func(ctx context.Context) (*apitype.EdgeConfigurations, error) {
		return g.client.EdgeConfigurations(ctx, in)
	})
}

// EdgeConfiguration reads a configuration to give to agents.
func (g *Gate) EdgeConfiguration(ctx context.Context, tenant, name string) (*apitype.EdgeConfiguration, error) {
	return perform(ctx, g, g.ops.configuration, func(ctx context.Context) (*apitype.EdgeConfiguration, error) {
		return g.client.EdgeConfiguration(ctx, tenant, name)
	})
}

// EdgeCertificate has a server certificate signed for this edge.
func (g *Gate) EdgeCertificate(ctx context.Context, in apitype.EdgeCertificateRequest) (*apitype.EdgeCertificate, error) {
	return perform(ctx, g, g.ops.certificate, func(ctx context.Context) (*apitype.EdgeCertificate, error) {
		return g.client.EdgeCertificate(ctx, in)
	})
}

// CRL fetches an issuer's list of revoked certificates.
func (g *Gate) CRL(ctx context.Context, in apitype.CRLRequest) (*apitype.CRL, error) {
	return perform(ctx, g, g.ops.crl, func(ctx context.Context) (*apitype.CRL, error) {
		return g.client.CRL(ctx, in)
	})
}

// OCSP passes on a client's question about a certificate's standing.
func (g *Gate) OCSP(ctx context.Context, in apitype.OCSPRequest) (*apitype.OCSPResponse, error) {
	return perform(ctx, g, g.ops.ocsp, func(ctx context.Context) (*apitype.OCSPResponse, error) {
		return g.client.OCSP(ctx, in)
	})
}

// perform carries one call through: slot, tries, translation, numbers.
func perform[T any](caller context.Context, g *Gate, op operation, call func(context.Context) (*T, error)) (*T, error) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(caller, op.total)
	defer cancel()
	out, err := repeat(ctx, g, op, call)
	if _, lost := errors.AsType[*Unavailable](err); lost && caller.Err() != nil {
		err = givenUp(err)
	}
	g.metrics.call(op.name, time.Since(began), err)
	g.note(op, err)
	if err != nil {
		return nil, err
	}
	return out, nil
}

func repeat[T any](ctx context.Context, g *Gate, op operation, call func(context.Context) (*T, error)) (*T, error) {
	giveBack, err := op.slots.take(ctx)
	if err != nil {
		return nil, unavailable(err, "this edge has too many calls waiting for Vault")
	}
	defer giveBack()
	pause := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(firstRepeat), backoff.WithMaxInterval(slowestPause), backoff.WithMaxElapsedTime(0))
	open := false // some try may have taken effect without our knowing
	for try := 1; ; try++ {
		out, err := once(ctx, g, op, call)
		if err == nil {
			return out, nil
		}
		open = open || mayHaveHappened(err)
		if try == op.tries || !passing(err) || (apitype.CodeOf(err) == apitype.Internal && try >= faultTries) ||
			!sleep(ctx, pause.NextBackOff()) {
			return nil, settled(err, open && op.changes)
		}
		g.metrics.repeats.WithLabelValues(op.name).Inc()
		g.log.Debug("asking Vault again", "op", op.name, "try", try, "error", Cause(err))
	}
}

// once is one try; a second one with another token when the first token was dead.
func once[T any](ctx context.Context, g *Gate, op operation, call func(context.Context) (*T, error)) (*T, error) {
	for replaced := false; ; replaced = true {
		number, err := g.keeper.current(ctx)
		if err != nil {
			return nil, unavailable(err, "this edge is not logged in to Vault")
		}
		try, cancel := context.WithTimeout(ctx, op.timeout)
		out, err := call(try)
		cancel()
		if statusOf(err) != http.StatusForbidden || apitype.CodeOf(err) != "" {
			return out, translate(err)
		}
		if why := g.keeper.refused(ctx, number, err); why != nil || replaced {
			return nil, unavailable(errors.Join(why, err), "Vault refused this edge")
		}
	}
}

// settled is the last word on a failed call. A refusal is one whatever happened before: with the same idempotency key the
// engine would have repeated a success.
func settled(err error, open bool) error {
	if open && apitype.CodeOf(err) == apitype.VaultUnavailable {
		return &Unavailable{Public: apitype.Errorf(apitype.OutcomeUnknown, "Vault's answer got lost"), Cause: err}
	}
	return err
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
