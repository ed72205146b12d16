package setup

import (
	"context"
	"fmt"

	"github.com/ampora/ampora/cmd/ampora/internal/hint"
	"github.com/ampora/ampora/plugin/apitype"
)

// issuer makes a self-signed issuer when there is none.
func (s *setup) issuer(ctx context.Context) error {
	if s.o.NoCA {
		return nil
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
		return hint.Wrap(fmt.Errorf("making an issuer: %w", err), "give --peer-id and --trust-domain, which are fixed from then on, or --no-ca to go without an issuer for now")
	}
	if err != nil {
		return fmt.Errorf("making an issuer: %w", err)
	}
	s.did("%s/ has a self-signed issuer: %s (for one under your own CA, see ca/intermediate)", s.o.Mount, issuer.CommonName)
	return nil
}
