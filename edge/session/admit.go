package session

import (
	"context"
	"crypto/x509"
	"strings"
	"time"

	"github.com/ampora/ampora/edge/limits"
	"github.com/ampora/ampora/edge/trust"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/identity"
	"github.com/ampora/ampora/plugin/token"
)

// deadTokenTTL is how long a final refusal of a token is kept. No refusal that is kept can turn into a yes.
const deadTokenTTL = 5 * time.Minute

// Admit judges one upgrade, or one plain HTTP request. A certificate that passes wins and leaves the token untouched; one
// that does not yields to the token. The error is a *Refusal.
func (d *Desk) Admit(ctx context.Context, c Caller) (Session, error) {
	s, err := d.admit(ctx, c)
	if err != nil {
		r := refuse(err)
		d.Metrics.Refused(r.Err.Code)
		d.Refused.Add(c.Source, r)
		return nil, r
	}
	d.Metrics.Admitted.WithLabelValues(string(c.Transport), string(s.Kind())).Inc()
	return s, nil
}

func (d *Desk) admit(ctx context.Context, c Caller) (Session, error) {
	if d.draining.Load() {
		return nil, refusef(apitype.Draining, "")
	}
	snapshot := d.Trust.Current()
	if snapshot == nil {
		return nil, refusef(apitype.NotReady, "this edge has not heard from Vault yet")
	}
	secret, tokenErr := bearer(c.Authorization)
	if c.Certificate != nil {
		leaf, err := d.judge(ctx, c, snapshot)
		switch {
		case err == nil:
			if !d.agents.Allow(agentKey(leaf.Serial)) {
				return nil, refusef(apitype.RateLimited, "this agent connects too often")
			}
			return d.openMember(c, leaf), nil
		case apitype.CodeOf(tokenErr) == apitype.TokenMissing:
			return nil, d.countBad(c, err)
		case refuse(err).Passing():
			return nil, err // a known agent must not spend a token because this edge is behind
		}
		d.Logger.Debug("certificate does not pass, trying the token", "remote", c.Source, "code", apitype.CodeOf(err))
	}
	if tokenErr != nil {
		return nil, d.countBad(c, tokenErr)
	}
	return d.openBootstrap(ctx, c, secret, snapshot)
}

// outOfTime says on which side of its life a certificate is. Before it, some clock is wrong, and most likely this edge's: the
// engine dates certificates back by some minutes.
func outOfTime(c *x509.Certificate, now time.Time) *Refusal {
	if now.Before(c.NotBefore) {
		return refusef(apitype.CertificateExpired, "the certificate is valid from %s on, and this edge's clock says %s",
			c.NotBefore.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	return refusef(apitype.CertificateExpired, "the certificate expired at %s", c.NotAfter.UTC().Format(time.RFC3339))
}

// judgeStanding decides about a leaf that was issued here, or that is a guest's.
func (d *Desk) judgeStanding(leaf *identity.Leaf, s *trust.Snapshot, now time.Time) error {
	switch {
	case d.Tenant != "" && leaf.Tenant != d.Tenant:
		return refusef(apitype.TenantMismatch, "this edge serves another tenant")
	case s.Revoked(leaf.Serial):
		return refusef(apitype.CertificateRevoked, "the agent's certificate was revoked")
	}
	if e, found := d.outLeaves.Get(leaf.Serial); found {
		return refuse(e)
	}
	if age := s.Age(now); age > d.MaxStaleness {
		return refusef(apitype.VaultUnavailable, "what this edge knows is %s old", age.Round(time.Second))
	}
	return nil
}

// bearer reads the token out of the Authorization header. Garbage costs no call to Vault.
func bearer(values []string) (token.Secret, error) {
	if len(values) == 0 {
		return token.Secret{}, apitype.Errorf(apitype.TokenMissing, "there is neither a client certificate nor an Authorization header")
	}
	if len(values) > 1 {
		return token.Secret{}, apitype.Errorf(apitype.TokenMalformed, "there is more than one Authorization header")
	}
	scheme, text, found := strings.Cut(strings.TrimSpace(values[0]), " ")
	if !found || !strings.EqualFold(scheme, "Bearer") {
		return token.Secret{}, apitype.Errorf(apitype.TokenMissing, "the Authorization header does not begin with 'Bearer '")
	}
	return token.Parse(token.Bootstrap, text)
}

// countBad takes a wrong credential from its source's bucket; once that is empty, the source hears 429 instead of why.
func (d *Desk) countBad(c Caller, err error) error {
	if r := refuse(err); r.Passing() {
		return r // nobody's fault
	}
	if !d.bad.Allow(limits.SourceOf(c.Source)) {
		return refusef(apitype.RateLimited, "too many wrong credentials from this address")
	}
	return err
}

// checkToken asks Vault whether the token is good now. A source with too many wrong ones is paced, and a token known to be
// dead costs no call, so that what one address can make Vault do is bounded without refusing a good token from there.
func (d *Desk) checkToken(ctx context.Context, c Caller, secret token.Secret) (*apitype.RedeemCheckResponse, error) {
	id := secret.ID()
	if e, found := d.deadTokens.Get(id); found {
		return nil, d.countBad(c, e)
	}
	source := limits.SourceOf(c.Source)
	if d.bad.Spent(source) {
		wait, cancel := context.WithTimeout(ctx, slowWait)
		defer cancel()
		if d.slow.Wait(wait, source) != nil {
			return nil, refusef(apitype.RateLimited, "too many wrong credentials from this address")
		}
	}
	ctx, cancel := context.WithTimeout(ctx, d.Timing.Check)
	defer cancel()
	answer, err := d.Issuer.RedeemCheck(ctx, apitype.RedeemCheckRequest{Token: secret.Reveal(), SourceIP: text(c.Source)})
	if err == nil {
		return answer, nil
	}
	switch code := apitype.CodeOf(err); code {
	case apitype.TokenUnknown, apitype.TokenExpired, apitype.TokenRevoked, apitype.TokenRedeemed:
		d.deadTokens.Put(id, &apitype.Error{Code: code}, deadTokenTTL)
	}
	return nil, d.countBad(c, err)
}
