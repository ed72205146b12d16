package delivery

import (
	"sync"

	"github.com/ampora/ampora/plugin/apitype"
)

// thing is what a tenant, or none, has under a name.
type thing struct{ tenant, name string }

// table is which configuration each group gives, and the hash of each configuration. The zero value is ready.
type table struct {
	mu       sync.RWMutex
	revision string
	groups   map[thing]string
	hashes   map[thing]Hash
}

func (t *table) at() string {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.revision
}

func (t *table) target(a Assignment) (Target, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	name := a.Own
	if name == "" && a.Group != "" {
		name = t.groups[thing{a.Tenant, a.Group}]
	}
	hash, known := t.hashes[thing{a.Tenant, name}]
	return Target{Tenant: a.Tenant, Name: name, Hash: hash}, known
}

// apply takes in an answer, all of it or nothing.
func (t *table) apply(in *apitype.EdgeConfigurations) error {
	hashes := make([]Hash, len(in.Configurations))
	for n, c := range in.Configurations {
		if c.Deleted {
			continue
		}
		var err error
		if hashes[n], err = ParseHash(c.Hash); err != nil {
			return err
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if in.Full || t.groups == nil {
		t.groups, t.hashes = map[thing]string{}, map[thing]Hash{}
	}
	t.revision = in.Revision
	for _, g := range in.Groups {
		key := thing{g.Tenant, g.Name}
		if t.groups[key] = g.Configuration; g.Deleted {
			delete(t.groups, key)
		}
	}
	for n, c := range in.Configurations {
		key := thing{c.Tenant, c.Name}
		if t.hashes[key] = hashes[n]; c.Deleted {
			delete(t.hashes, key)
		}
	}
	return nil
}
