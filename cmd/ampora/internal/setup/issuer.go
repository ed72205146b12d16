package setup

import (
	"context"
	"fmt"

	"github.com/ampora/ampora/cmd/ampora/internal/hint"
	"github.com/ampora/ampora/plugin/apitype"
)

// issuer makes an issuer when there is none: self-signed, or signed by the pki engine at --sign-with.
func (s *setup) issuer(ctx context.Context) error {
	switch {
	case s.o.NoCA:
		return nil
	case s.o.SignWith != "":
		return s.signed(ctx)
	}
	bundle, err := s.engine.CABundle(ctx)
	if err != nil && apitype.CodeOf(err) != apitype.IssuerMissing && !notFound(err) {
		return fmt.Errorf("reading %s/ca/bundle: %w", s.o.Mount, err)
	}
	if err == nil && len(bundle.Certificates) > 0 {
		s.kept("%s/ has an issuer", s.o.Mount)
		return nil
	}
	issuer, err := s.engine.CARoot(ctx, apitype.CARootRequest{})
	if apitype.CodeOf(err) == apitype.NotConfigured {
		return needsTrustDomain(err)
	}
	if err != nil {
		return fmt.Errorf("making an issuer: %w", err)
	}
	s.did("%s/ has a self-signed issuer: %s (for one under your own CA: --sign-with)", s.o.Mount, issuer.CommonName)
	return nil
}

func needsTrustDomain(err error) error {
	return hint.Wrap(fmt.Errorf("making an issuer: %w", err), "give --peer-id and --trust-domain, which are fixed from then on, or --no-ca to go without an issuer for now")
}
