package setup

import (
	"context"
	"fmt"
	"strings"

	"github.com/ampora/ampora/scripts/policies"
)

// policies writes those whose text differs, with one for the operator of each tenant that was named.
func (s *setup) policies(ctx context.Context) error {
	all, err := policies.All(s.o.Mount)
	if err != nil {
		return err
	}
	for _, tenant := range s.o.Tenant {
		p, err := policies.ForTenant(s.o.Mount, tenant)
		if err != nil {
			return err
		}
		all = append(all, p)
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
