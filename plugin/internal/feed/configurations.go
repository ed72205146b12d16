package feed

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
)

// Groups and configurations are not in what Poll answers: every edge hears that, and their names are their tenant's alone. It
// says that some have changed, and an edge then asks for those that it may know (Configurations). Both are numbered together.

// Named is a thing that a tenant, or none, has under a name.
type Named struct{ Tenant, Name string }

func (n Named) compare(o Named) int {
	return cmp.Or(cmp.Compare(n.Tenant, o.Tenant), cmp.Compare(n.Name, o.Name))
}

// GroupChanged tells which configuration a group gives from now on, "" for none. Call it after the Put.
func (f *Feed) GroupChanged(group Named, configuration string) {
	f.named(groups, group, func(all map[Named]string) { all[group] = configuration })
}

// ConfigurationChanged tells the hash that a configuration has from now on. Call it after the Put.
func (f *Feed) ConfigurationChanged(configuration Named, hash string) {
	f.named(configurations, configuration, func(all map[Named]string) { all[configuration] = hash })
}

// GroupDeleted tells that a group is no more. Call it after the Put of its tombstone.
func (f *Feed) GroupDeleted(group Named) {
	f.named(groups, group, func(all map[Named]string) { delete(all, group) })
}

// ConfigurationDeleted tells that a configuration is no more. Call it after the Put of its tombstone.
func (f *Feed) ConfigurationDeleted(configuration Named) {
	f.named(configurations, configuration, func(all map[Named]string) { delete(all, configuration) })
}

func (f *Feed) named(k kind, thing Named, apply func(map[Named]string)) {
	f.enter(func(m *memory) {
		apply(m.things[k])
		m.add(change{kind: k, named: thing})
	})
}

// Configurations answers the groups and configurations of a tenant, of all without one, that have changed since the revision.
// It is not_ready while the memory is not whole.
func (f *Feed) Configurations(ctx context.Context, tenant, since string) (apitype.EdgeConfigurations, error) {
	patience := time.NewTimer(MaxWait)
	defer patience.Stop()
	for {
		if _, _, err := f.whole(ctx, patience.C); err != nil {
			return apitype.EdgeConfigurations{}, err
		}
		if r := f.assignments(tenant, since); r != nil {
			return *r, nil
		} // the memory was dropped meanwhile
	}
}

// assignments answers nil when there is no memory.
func (f *Feed) assignments(tenant, since string) *apitype.EdgeConfigurations {
	f.mu.Lock()
	defer f.mu.Unlock()
	m := f.memory
	if m == nil {
		return nil
	}
	changes, ok := m.delta(since)
	r := &apitype.EdgeConfigurations{
		Revision: m.revision(), Full: !ok, Groups: []apitype.SyncGroup{}, Configurations: []apitype.SyncConfiguration{},
	}
	for _, thing := range m.named(groups, changes, ok, tenant) {
		configuration, there := m.things[groups][thing]
		r.Groups = append(r.Groups, apitype.SyncGroup{Tenant: thing.Tenant, Name: thing.Name, Configuration: configuration, Deleted: !there})
	}
	for _, thing := range m.named(configurations, changes, ok, tenant) {
		hash, there := m.things[configurations][thing]
		r.Configurations = append(r.Configurations, apitype.SyncConfiguration{Tenant: thing.Tenant, Name: thing.Name, Hash: hash, Deleted: !there})
	}
	return r
}

// named are the things of a kind that the changes name, or all of them, within reach of the tenant and in order.
func (m *memory) named(k kind, changes []change, delta bool, tenant string) []Named {
	var all []Named
	if delta {
		for _, c := range changes {
			if c.kind == k {
				all = append(all, c.named)
			}
		}
	} else {
		for thing := range m.things[k] {
			all = append(all, thing)
		}
	}
	all = slices.DeleteFunc(all, func(n Named) bool { return tenant != "" && n.Tenant != tenant })
	slices.SortFunc(all, Named.compare)
	return slices.Compact(all)
}
