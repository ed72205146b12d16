package settings

import "github.com/ampora/ampora/plugin/apitype"

// NeedTenant refuses with tenant_required what would belong to no tenant, where everything must belong to one. Whoever
// makes such a row asks while it holds what store.Locks.Issuing takes, and so does the configuration that it asks with
// come from: see Harden.
func NeedTenant(c apitype.Config, tenant string) error {
	if c.Tenancy == TenancyHard && tenant == "" {
		return apitype.Errorf(apitype.TenantRequired, "tenancy is hard, so everything belongs to a tenant")
	}
	return nil
}

// Harden makes Get say at once that tenancy is hard, before Update makes it so or end takes it back. In between, the
// caller waits for those who asked before (with store.Locks.Mount), and then nothing without a tenant is being made any
// more: what it counts is all there is, however long the counting takes, and nobody else has to wait for it.
func (s *Settings) Harden() (end func()) {
	s.setHardening(true)
	return func() { s.setHardening(false) }
}

func (s *Settings) setHardening(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hardening = on
}
