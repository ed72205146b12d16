package federation

import (
	"crypto/x509"
	"slices"
	"strings"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/handover"
	"github.com/ampora/ampora/plugin/internal/ca"
	"github.com/ampora/ampora/plugin/internal/name"
	"github.com/ampora/ampora/plugin/internal/settings"
)

// Bounds of a peer's row.
const (
	maxPEM     = 128 << 10 // bytes of one bundle in PEM
	maxAllowed = 256       // entries of an allow-list
)

// validate looks at every field that is set, by itself.
func validate(in apitype.PeerRequest) error {
	for field, text := range map[string]*string{
		"peer_id": in.PeerID, "trust_domain": in.TrustDomain, "endpoint": in.Endpoint, "endpoint_ca_bundle": in.EndpointCABundle,
		"federation_url": in.FederationURL, "ca_bundle": in.CABundle, "bundle_jws": in.BundleJWS,
	} {
		if text == nil {
			continue
		}
		if err := noSecret(field, *text); err != nil {
			return err
		}
	}
	if in.PeerID != nil {
		if err := name.Check("peer_id", *in.PeerID); err != nil {
			return err
		}
	}
	if err := addresses(in); err != nil {
		return err
	}
	for field, entries := range map[string]*[]string{
		"allowed_tenants": in.AllowedTenants, "allowed_groups": in.AllowedGroups, "allowed_configurations": in.AllowedConfigurations,
	} {
		if entries == nil {
			continue
		}
		if err := allowList(field, *entries); err != nil {
			return err
		}
	}
	return nil
}

// noSecret refuses what nobody may be given. The value is not quoted.
func noSecret(field, text string) error {
	switch {
	case strings.Contains(text, "PRIVATE KEY"):
		return apitype.Errorf(apitype.BundleInvalid, "%s holds a private key, which must not leave its place; it counts as stolen now, so the other side is to make a new issuer, and retire that one", field)
	case name.HoldsSecret(text):
		return apitype.Errorf(apitype.FieldInvalid, "%s holds a secret", field)
	}
	return nil
}

func addresses(in apitype.PeerRequest) error {
	invalid := func(field, rule string) error { return apitype.Errorf(apitype.FieldInvalid, "%s %s", field, rule) }
	if t := in.TrustDomain; t != nil && !settings.IsTrustDomain(*t) {
		return invalid("trust_domain", "must be 1 to 255 of a-z, 0-9, '.', '-' and '_'")
	}
	if e := in.Endpoint; e != nil && !settings.IsURL(*e, "wss") {
		return invalid("endpoint", "must be a URL like wss://host:4320/v1/opamp without user, query or fragment")
	}
	if f := in.FederationURL; f != nil && *f != "" && !settings.IsURL(*f, "https") {
		return invalid("federation_url", "must be an https URL like https://host:4320/federation without user, query or fragment, or empty")
	}
	if b := in.EndpointCABundle; b != nil && *b != "" {
		if len(*b) > maxPEM {
			return invalid("endpoint_ca_bundle", "is too long")
		}
		if _, err := ca.ParseBundle(*b); err != nil {
			return invalid("endpoint_ca_bundle", "must be PEM certificates and nothing besides, or empty")
		}
	}
	return nil
}

func allowList(field string, entries []string) error {
	if len(entries) > maxAllowed {
		return apitype.Errorf(apitype.FieldInvalid, "%s has more than %d entries", field, maxAllowed)
	}
	for _, e := range entries {
		if e != anything && e != "" && name.Check(field, e) != nil {
			return apitype.Errorf(apitype.FieldInvalid, "%s must be names, '*' for everything, or an empty entry for none", field)
		}
	}
	return nil
}

// issuers reads the certificates of a bundle: CAs whose keys are of kinds that sign documents, none of them expired or twice.
// The error is bundle_invalid.
func issuers(text string, now time.Time) ([]*x509.Certificate, error) {
	if len(text) > maxPEM {
		return nil, apitype.Errorf(apitype.BundleInvalid, "the certificates have more than %d bytes", maxPEM)
	}
	certs, err := ca.ParseBundle(text)
	if err != nil {
		return nil, apitype.Errorf(apitype.BundleInvalid, "it must be PEM certificates and nothing besides")
	}
	if len(certs) > handover.MaxBundle {
		return nil, apitype.Errorf(apitype.BundleInvalid, "it has %d certificates, and may have %d", len(certs), handover.MaxBundle)
	}
	for i, c := range certs {
		n := i + 1
		switch {
		case !c.BasicConstraintsValid || !c.IsCA || c.KeyUsage&x509.KeyUsageCertSign == 0:
			return nil, apitype.Errorf(apitype.BundleInvalid, "certificate %d is none of a CA that signs certificates", n)
		case now.After(c.NotAfter):
			return nil, apitype.Errorf(apitype.BundleInvalid, "certificate %d has expired", n)
		case c.NotBefore.After(now.Add(handover.Leeway)):
			return nil, apitype.Errorf(apitype.BundleInvalid, "certificate %d is not valid yet", n)
		case slices.ContainsFunc(certs[:i], func(other *x509.Certificate) bool { return other.Equal(c) }):
			return nil, apitype.Errorf(apitype.BundleInvalid, "certificate %d is there twice", n)
		}
		if err := ca.CheckPublicKey(c.PublicKey); err != nil {
			return nil, apitype.Errorf(apitype.BundleInvalid, "certificate %d has a key that is not allowed", n)
		}
	}
	return certs, nil
}

// same reports whether two bundles hold the same certificates, in whatever order.
func same(a, b []*x509.Certificate) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(c *x509.Certificate) bool {
		return !slices.ContainsFunc(b, c.Equal)
	})
}

// encode is the certificates as one PEM.
func encode(certs []*x509.Certificate) string { return strings.Join(ca.EncodeChain(certs), "") }
