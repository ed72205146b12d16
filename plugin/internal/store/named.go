package store

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
)

// The layout of what people name: below each prefix <tenant or ->/<name>, see NamedKey.
const (
	GroupPrefix         = "group/"
	ConfigurationPrefix = "configuration/"
	PeerPrefix          = "peer/" // of no tenant
)

// NoTenant stands for a missing tenant in a key. No tenant has this name.
const NoTenant = "-"

// NamedFolder is where the rows of a tenant lie below prefix. "" is what belongs to no tenant.
func NamedFolder(prefix, tenant string) string {
	if tenant == "" {
		tenant = NoTenant
	}
	return prefix + tenant + "/"
}

// NamedKey is the key of the row that a tenant has under a name.
func NamedKey(prefix, tenant, name string) string { return NamedFolder(prefix, tenant) + name }

// namedStripes divides the names of one kind. Few are in use at a time, and a hold is short.
const namedStripes = 256

// NamedLocks orders, for the things of one kind that are known by tenant and name, those who refer to a thing and those who
// change or delete it. Who makes a reference holds the thing shared until the reference is stored, so that the thing cannot
// go in between. Whoever changes or deletes the thing holds it alone.
//
// Each kind has locks of its own. They are taken after what is needed of Locks, a configuration before a group. Nobody holds
// two things of one kind: they may share a stripe. Who holds a thing alone takes nothing more.
type NamedLocks struct {
	seed    maphash.Seed
	stripes [namedStripes]namedStripe
}

type namedStripe struct {
	sync.RWMutex
	shares atomic.Uint64
}

// NewNamedLocks makes the locks of one kind.
func NewNamedLocks() *NamedLocks { return &NamedLocks{seed: maphash.MakeSeed()} }

func (l *NamedLocks) stripe(tenant, name string) *namedStripe {
	return &l.stripes[maphash.String(l.seed, NamedKey("", tenant, name))%namedStripes]
}

// Share holds the thing for somebody who is about to refer to it. The answer releases it.
func (l *NamedLocks) Share(tenant, name string) (release func()) {
	s := l.stripe(tenant, name)
	s.RLock()
	s.shares.Add(1)
	return s.RUnlock
}

// Lock holds the thing alone: nobody is making a reference to it, or changing it. The answer releases it.
func (l *NamedLocks) Lock(tenant, name string) (release func()) {
	s := l.stripe(tenant, name)
	s.Lock()
	return s.Unlock
}

// Shares counts how often the thing, or one that shares its stripe, was held shared. If the count is the same while the
// caller holds the thing alone at two times, nobody has begun to refer to it in between.
func (l *NamedLocks) Shares(tenant, name string) uint64 {
	return l.stripe(tenant, name).shares.Load()
}
