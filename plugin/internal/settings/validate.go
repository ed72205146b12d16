package settings

import (
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/ca"
	"github.com/ampora/ampora/plugin/internal/name"
)

// trustDomain is what SPIFFE-ID section 2.1 allows.
var trustDomain = regexp.MustCompile(`^[a-z0-9._-]{1,255}$`)

// IsTrustDomain reports whether the text can be a SPIFFE trust domain.
func IsTrustDomain(text string) bool { return trustDomain.MatchString(text) }

var domain = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$`)

func validate(c *apitype.Config) error {
	invalid := func(field, rule string) error { return apitype.Errorf(apitype.FieldInvalid, "%s %s", field, rule) }
	if c.PeerID != "" {
		if err := name.Check("peer_id", c.PeerID); err != nil {
			return err
		}
	}
	if c.TrustDomain != "" && !IsTrustDomain(c.TrustDomain) {
		return invalid("trust_domain", "must be 1 to 255 of a-z, 0-9, '.', '-' and '_'")
	}
	if c.Endpoint != "" && !IsURL(c.Endpoint, "wss") {
		return invalid("endpoint", "must be a URL like wss://host:4320/v1/opamp without user, query or fragment")
	}
	if c.FederationURL != "" && !IsURL(c.FederationURL, "https") {
		return invalid("federation_url", "must be an https URL without user, query or fragment")
	}
	if c.EndpointCABundle != "" {
		if _, err := ca.ParseBundle(c.EndpointCABundle); err != nil {
			return invalid("endpoint_ca_bundle", "must be PEM certificates")
		}
	}
	for _, u := range append(append([]string{}, c.CRLDistributionPoints...), c.OCSPServers...) {
		if !IsURL(u, "http") && !IsURL(u, "https") {
			return invalid("crl_distribution_points and ocsp_servers", "must be http or https URLs")
		}
	}
	for _, d := range c.EdgeAllowedDomains {
		if len(d) > 253 || !domain.MatchString(d) {
			return invalid("edge_allowed_domains", "must be domain names in lower case")
		}
	}
	for field, texts := range map[string][]string{
		"trust_domain": {c.TrustDomain}, "endpoint": {c.Endpoint}, "federation_url": {c.FederationURL},
		"crl_distribution_points": c.CRLDistributionPoints, "ocsp_servers": c.OCSPServers, "edge_allowed_domains": c.EdgeAllowedDomains,
	} {
		if slices.ContainsFunc(texts, name.HoldsSecret) {
			return invalid(field, "holds a secret")
		}
	}
	switch c.Tenancy {
	case TenancyOff, TenancyHard:
	default:
		return invalid("tenancy", "must be off or hard")
	}
	switch c.KeyOrigin {
	case KeyOriginAny, KeyOriginCSR, KeyOriginServer:
	default:
		return invalid("key_origin", "must be any, csr or server")
	}
	switch c.RenewProof {
	case RenewProofKey, RenewProofEdge:
	default:
		return invalid("renew_proof", "must be key or edge")
	}
	const day = 86400
	for _, r := range []struct {
		field         string
		value, lo, hi int64
		rule          string
	}{
		{"token_min_ttl", c.TokenMinTTL, 1, c.TokenMaxTTL, "must be at least one second and at most token_max_ttl"},
		{"token_max_ttl", c.TokenMaxTTL, c.TokenMinTTL, 366 * day, "must be at most 366 days"},
		{"token_ttl", c.TokenTTL, c.TokenMinTTL, c.TokenMaxTTL, "must lie between token_min_ttl and token_max_ttl"},
		{"leaf_max_ttl", c.LeafMaxTTL, c.LeafTTL, 3660 * day, "must be at least leaf_ttl and at most 3660 days"},
		{"leaf_ttl", c.LeafTTL, 60, c.LeafMaxTTL, "must be at least a minute and at most leaf_max_ttl"},
		{"handover_max_ttl", c.HandoverMaxTTL, c.HandoverTTL, 30 * day, "must be at least handover_ttl and at most 30 days"},
		{"handover_ttl", c.HandoverTTL, 60, c.HandoverMaxTTL, "must be at least a minute and at most handover_max_ttl"},
		{"crl_expiry", c.CRLExpiry, 60, 30 * day, "must lie between a minute and 30 days"},
		{"heartbeat_interval", c.HeartbeatInterval, 1, 3600, "must lie between a second and an hour, for 0 would end an agent's heartbeats for good"},
		{"retry_window", c.RetryWindow, 0, day, "must be at most a day"},
		{"audit_retention", c.AuditRetention, day, 3660 * day, "must be at least a day and at most 3660 days"},
		{"agent_retention", c.AgentRetention, 0, 3660 * day, "must be at most 3660 days"},
	} {
		if r.value < r.lo || r.value > r.hi {
			return invalid(r.field, r.rule)
		}
	}
	return nil
}

// IsURL reports whether the text is a URL of that scheme with a host, and without user, query and fragment.
func IsURL(text, scheme string) bool {
	u, err := url.Parse(text)
	return err == nil && u.Scheme == scheme && u.Hostname() != "" && u.User == nil && u.RawQuery == "" && u.Fragment == "" &&
		len(text) <= 2048 && !strings.ContainsAny(text, " \t\r\n\"<>\\")
}
