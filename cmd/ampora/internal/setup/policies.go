package setup

import (
	"context"
	"fmt"
	"strings"

	"github.com/ampora/ampora/scripts/policies"
)

// policies writes those whose text differs.
func (s *setup) policies(ctx context.Context) error {
	all, err := s.wantedPolicies()
	if err != nil {
		return err
	}
	for _, p := range all {
		now, err := s.vault.Sys().GetPolicyWithContext(ctx, p.Name)
		if err != nil {
			return fmt.Errorf("reading policy %s: %w", p.Name, err)
		}
		if strings.TrimSpace(now) == strings.TrimSpace(p.Text) {
			s.kept("policy %s", p.Name)
			continue
		}
		if err := s.vault.Sys().PutPolicyWithContext(ctx, p.Name, p.Text); err != nil {
			return fmt.Errorf("writing policy %s: %w", p.Name, err)
		}
		s.did("policy %s", p.Name)
	}
	return nil
}

// wantedPolicies are those that every mount has, and one for the operator of each tenant and the issuer of each pool that
// were named. With tenants, each of them has the pools.
func (s *setup) wantedPolicies() ([]policies.Policy, error) {
	all, err := policies.All(s.o.Mount)
	if err != nil {
		return nil, err
	}
	for _, tenant := range s.o.Tenant {
		p, err := policies.ForTenant(s.o.Mount, tenant)
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	tenants := s.o.Tenant
	if len(tenants) == 0 {
		tenants = []string{""}
	}
	for _, tenant := range tenants {
		for _, pool := range s.o.Pool {
			p, err := policies.ForPool(s.o.Mount, tenant, pool)
			if err != nil {
				return nil, err
			}
			all = append(all, p)
		}
	}
	return all, nil
}
