package ampora

import (
	"context"
	"fmt"
	"strings"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/enroll"
	"github.com/ampora/ampora/plugin/internal/settings"
)

// harden refuses with in_use while something belongs to no tenant. Otherwise nothing does, and nothing can be made that
// does, until end is called; by then the configuration says so.
func (b *backend) harden(ctx context.Context) (end func(), err error) {
	cfg, err := b.settings.Get(ctx)
	if err != nil || cfg.Tenancy == settings.TenancyHard {
		return func() {}, err
	}
	soften := b.settings.Harden()
	defer func() {
		if end == nil { // also after a panic underneath
			soften()
		}
	}()
	b.locks.Mount()() // whoever asked before has stored it by now
	var left []string
	for _, kind := range []struct {
		noun  string
		count func(context.Context) (int, error)
	}{
		{"token", b.enroll.TenantlessTokens}, // before agents, which they become
		{"agent", b.enroll.TenantlessAgents},
		{"pool", b.pools.Tenantless},
		{"group", b.groups.Tenantless},
		{"configuration", b.configurations.Tenantless},
	} {
		n, err := kind.count(ctx)
		if err != nil {
			return nil, err
		}
		if n > 0 {
			left = append(left, quantity(n, kind.noun))
		}
	}
	if len(left) > 0 {
		return nil, apitype.Errorf(apitype.InUse, "some things belong to no tenant: %s", strings.Join(left, ", "))
	}
	return soften, nil
}

// quantity is "1 agent", "2 agents" or "more than 1000 agents".
func quantity(n int, noun string) string {
	switch {
	case n == 1:
		return "1 " + noun
	case n > enroll.MaxTenantless:
		return fmt.Sprintf("more than %d %ss", enroll.MaxTenantless, noun)
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
