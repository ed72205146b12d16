package enroll

import (
	"context"
	"net/netip"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/token"
)

// Check says whether a token would be taken right now. It consumes nothing.
func (e *Enroller) Check(ctx context.Context, tenant string, in apitype.RedeemCheckRequest) (apitype.RedeemCheckResponse, error) {
	var none apitype.RedeemCheckResponse
	secret, err := token.Parse(token.Bootstrap, in.Token)
	if err != nil {
		return none, err
	}
	source, err := parseSource(in.SourceIP)
	if err != nil {
		return none, err
	}
	set, err := e.Authority.Set(ctx)
	if err != nil {
		return none, err
	}
	if _, err := set.Active(); err != nil {
		return none, err
	}
	cfg, err := e.Settings.Get(ctx)
	if err != nil {
		return none, err
	}
	release, err := e.lockToken(ctx, secret)
	if err != nil {
		return none, err
	}
	defer release()
	m, err := e.meet(ctx, secret.AgentID(), secret.ID())
	if err != nil {
		return none, err
	}
	if m.retryable(tenant, secret, cfg, e.Now()) {
		return apitype.RedeemCheckResponse{
			TokenID: m.agent.TokenID, Tenant: m.agent.Tenant, Group: m.agent.Group,
			ExpiresAt: formatTime(m.agent.EnrolledAt.Add(retryWindow(cfg))),
		}, nil
	}
	row, err := m.redeemable(tenant, secret, source, e.Now())
	if err != nil {
		return none, err
	}
	return apitype.RedeemCheckResponse{TokenID: row.TokenID, Tenant: row.Tenant, Group: row.Group, ExpiresAt: formatTime(row.ExpiresAt)}, nil
}

// retryable reports whether a spent token may still ask again for the certificate of its agent's CSR key. Which key that is
// shows only when it redeems.
func (m met) retryable(tenant string, secret token.Secret, cfg apitype.Config, now time.Time) bool {
	hash := secret.Hash()
	return m.agent != nil && !m.ended() && len(m.agent.CSRKeyHash) > 0 && hash.Equal(m.agent.TokenHash) && inTenant(tenant, m.agent.Tenant) &&
		now.Sub(m.agent.EnrolledAt) < retryWindow(cfg)
}

func retryWindow(cfg apitype.Config) time.Duration {
	return time.Duration(cfg.RetryWindow) * time.Second
}

// redeemable answers the token's row if it can be redeemed, else the refusal.
func (m met) redeemable(tenant string, secret token.Secret, source netip.Addr, now time.Time) (*tokenRow, error) {
	hash := secret.Hash()
	switch t := m.token; {
	case m.agent != nil && hash.Equal(m.agent.TokenHash) && !inTenant(tenant, m.agent.Tenant),
		m.gone() && !inTenant(tenant, m.revoked.Tenant):
		return nil, apitype.Errorf(apitype.TenantMismatch, "the token belongs elsewhere")
	case m.agent != nil && hash.Equal(m.agent.TokenHash), m.gone():
		return nil, apitype.Errorf(apitype.TokenRedeemed, "the token has made its agent")
	case t == nil, !hash.Equal(t.Hash):
		return nil, unknownToken()
	case !inTenant(tenant, t.Tenant):
		return nil, apitype.Errorf(apitype.TenantMismatch, "the token belongs elsewhere")
	case t.Revoked:
		return nil, apitype.Errorf(apitype.TokenRevoked, "the token was revoked")
	case t.ended != nil:
		return nil, t.ended
	case !now.Before(t.ExpiresAt):
		return nil, apitype.Errorf(apitype.TokenExpired, "the token expired at %s", formatTime(t.ExpiresAt))
	case !inCIDRs(t.BoundCIDRs, source) || !inCIDRs(t.cidrs, source):
		return nil, apitype.Errorf(apitype.CIDRMismatch, "the source address is outside the bound_cidrs of the token or its pool")
	default:
		return t, nil
	}
}

func inCIDRs(cidrs []string, source netip.Addr) bool {
	for _, text := range cidrs {
		if p, err := netip.ParsePrefix(text); err == nil && source.IsValid() && p.Contains(source) {
			return true
		}
	}
	return len(cidrs) == 0
}

func parseSource(text string) (netip.Addr, error) {
	if text == "" {
		return netip.Addr{}, nil
	}
	a, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Addr{}, apitype.Errorf(apitype.FieldInvalid, "source_ip is no IP address")
	}
	return a.Unmap().WithZone(""), nil
}

// formatSource is the address in its one spelling, or nothing when there is none.
func formatSource(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}
