package setup

import (
	"context"
	"fmt"
	"time"

	"github.com/ampora/ampora/cmd/ampora/internal/hint"
	"github.com/ampora/ampora/plugin/apitype"
)

// States of an issuer, as the engine tells them.
const (
	draft   = "draft"
	active  = "active"
	retired = "retired"
)

// signed has the pki engine at --sign-with sign Ampora's CA. A CA that it has signed is left alone; the next one is made when
// --new-issuer asks for it and none waits already, and takes over with --activate.
func (s *setup) signed(ctx context.Context) error {
	issuers, err := s.engine.Issuers(ctx)
	if err != nil {
		return fmt.Errorf("listing the issuers of %s/: %w", s.o.Mount, err)
	}
	p, err := s.outerCA(ctx)
	if err != nil {
		return err
	}
	var signs, waits *apitype.CAIssuer
	for _, i := range issuers {
		switch {
		case i.State == active:
			signs = &i
		case i.State == draft && i.Expiration > time.Now().Unix() && p.signed(i.Certificate):
			waits = &i
		}
	}
	switch {
	case waits != nil:
		s.kept("%s/ has a CA that waits, signed by %s/: %s", s.o.Mount, p.mount, waits.IssuerID)
	case signs == nil || s.o.NewIssuer:
		if waits, err = s.sign(ctx, p); err != nil {
			return err
		}
		s.did("%s/ has a CA, signed by %s/ until %s: %s", s.o.Mount, p.mount, day(waits.Expiration), waits.IssuerID)
	case !p.signed(signs.Certificate):
		return hint.New(fmt.Sprintf("%s/ has a CA already, which %s/ has not signed: %s", s.o.Mount, p.mount, signs.CommonName),
			"to change to one that it signs, give --new-issuer, and read 'Changing the CA' in the README of scripts/ first")
	default:
		s.kept("%s/ has a CA, signed by %s/ until %s", s.o.Mount, p.mount, day(signs.Expiration))
		return nil
	}
	if waits.State == active { // the first one is at once
		return nil
	}
	if !s.o.Activate && signs != nil {
		s.con.Sayf("It signs nothing yet. Run this again with --activate to let it take over.")
		return nil
	}
	if _, err := s.engine.SetIssuerState(ctx, waits.IssuerID, apitype.IssuerRequest{State: active}); err != nil {
		return fmt.Errorf("activating issuer %s: %w", waits.IssuerID, err)
	}
	s.did("%s/ signs with %s", s.o.Mount, waits.IssuerID)
	return nil
}

// sign makes an issuer and brings it to its certificate. When that fails nothing is left of it but a retired draft.
func (s *setup) sign(ctx context.Context, p *outerCA) (*apitype.CAIssuer, error) {
	ttl, err := s.mayFor(ctx, p)
	if err != nil {
		return nil, err
	}
	asked, err := s.engine.CAIntermediate(ctx, apitype.CARootRequest{})
	if apitype.CodeOf(err) == apitype.NotConfigured {
		return nil, needsTrustDomain(err)
	}
	if err != nil {
		return nil, fmt.Errorf("making an issuer: %w", err)
	}
	issuer, err := s.bring(ctx, p, asked.CSR, ttl)
	if err != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		if _, left := s.engine.SetIssuerState(ctx, asked.IssuerID, apitype.IssuerRequest{State: retired}); left != nil {
			return nil, hint.Wrap(err, fmt.Sprintf("a draft is left over; retire it with 'vault write %s/ca/issuers/%s state=retired'", s.o.Mount, asked.IssuerID))
		}
		return nil, err
	}
	return issuer, nil
}

// bring carries the CSR to the pki engine and its answer back.
func (s *setup) bring(ctx context.Context, p *outerCA, csr string, ttl time.Duration) (*apitype.CAIssuer, error) {
	answer, err := s.vault.Logical().WriteWithContext(ctx, p.signPath(), map[string]any{
		"csr": csr, "format": "pem_bundle", "ttl": fmt.Sprintf("%ds", int64(ttl/time.Second)),
		// Ampora names its issuers so that no two share a name, by which verifiers find them.
		"use_csr_values":  true,
		"max_path_length": 0, // it signs leaves and no further CA
	})
	if err != nil || answer == nil {
		return nil, hint.Wrap(fmt.Errorf("having %s/ sign: %w", p.mount, orNothing(err)),
			"the pki engine's own issuer and settings decide that; 'Your own CA' in the README shows how to sign by hand")
	}
	chain, err := p.chain(answer.Data)
	if err != nil {
		return nil, err
	}
	issuer, err := s.engine.CASetSigned(ctx, apitype.CASetSignedRequest{Certificate: chain})
	if err != nil {
		return nil, fmt.Errorf("bringing what %s/ has signed to %s/ca/intermediate/set-signed: %w", p.mount, s.o.Mount, err)
	}
	return issuer, nil
}

func day(unix int64) string { return time.Unix(unix, 0).UTC().Format(time.DateOnly) }
