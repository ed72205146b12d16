package store

import (
	"context"
	"errors"
	"hash/maphash"
	"strings"
	"sync"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/hashicorp/vault/sdk/logical"
)

// cacheRows is how many rows a Cache remembers. The largest, an agent's, has about 2 kB, or 64 kB more where the agent
// describes itself at length.
const cacheRows = 4096

// cacheStripes divides the keys, so that a write of one keeps few others from being remembered.
const cacheStripes = 64

// Cache is a storage that remembers the rows of tokens, agents and groups that were last read or written. Vault caches as well,
// but from a plugin each read is a call to another process, and an enrolment reads the same rows twice.
//
// It rests on this process being the only writer, which Vault sees to: only the active node runs the engine's writes, and
// Forget is told of what another node wrote. What a failed write has left behind is not remembered.
type Cache struct {
	logical.Storage
	rows    *lru.Cache[string, *logical.StorageEntry] // nil: there is no such row
	seed    maphash.Seed
	stripes [cacheStripes]stripe
}

// stripe orders what is remembered of its keys.
type stripe struct {
	mu     sync.Mutex
	writes uint64 // begun and ended ones; a read that spans any is not remembered
	// doubt holds keys whose last write failed: it may still arrive, so that no read of them is remembered before another
	// write has worked.
	doubt map[string]struct{}
}

// NewCache puts a Cache over a storage.
func NewCache(s logical.Storage) *Cache {
	rows, err := lru.New[string, *logical.StorageEntry](cacheRows)
	if err != nil {
		panic(err) // the size is wrong
	}
	c := &Cache{Storage: s, rows: rows, seed: maphash.MakeSeed()}
	for i := range c.stripes {
		c.stripes[i].doubt = map[string]struct{}{}
	}
	return c
}

func cacheable(key string) bool {
	return strings.HasPrefix(key, TokenPrefix) || strings.HasPrefix(key, AgentPrefix) || strings.HasPrefix(key, GroupPrefix)
}

func (c *Cache) stripe(key string) *stripe {
	return &c.stripes[maphash.String(c.seed, key)%cacheStripes]
}

// Get reads a row. The entry is shared: callers do not change it.
func (c *Cache) Get(ctx context.Context, key string) (*logical.StorageEntry, error) {
	if !cacheable(key) {
		return c.Storage.Get(ctx, key)
	}
	s := c.stripe(key)
	look := c.rows.Get
	if isPassing(ctx) {
		look = c.rows.Peek
	}
	s.mu.Lock()
	entry, known := look(key)
	before := s.writes
	s.mu.Unlock()
	if known {
		return entry, nil
	}
	entry, err := c.Storage.Get(ctx, key)
	if err != nil || isPassing(ctx) {
		return entry, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, doubtful := s.doubt[key]; s.writes == before && !doubtful {
		c.rows.Add(key, entry)
	}
	return entry, nil
}

// Put writes a row.
func (c *Cache) Put(ctx context.Context, entry *logical.StorageEntry) error {
	return c.write(ctx, entry.Key, entry, func() error { return c.Storage.Put(ctx, entry) })
}

// Delete removes a row.
func (c *Cache) Delete(ctx context.Context, key string) error {
	return c.write(ctx, key, nil, func() error { return c.Storage.Delete(ctx, key) })
}

// write forgets the key, writes, and remembers what was written if that is certain. Callers hold the lock that guards the
// key (see Locks and NamedLocks), so two writes of one key do not cross.
func (c *Cache) write(ctx context.Context, key string, entry *logical.StorageEntry, write func() error) error {
	if !cacheable(key) {
		return write()
	}
	c.Forget(key)
	err := errAbandoned
	defer func() { // also after a panic underneath
		s := c.stripe(key)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.writes++ // a read that began during the write may have seen either
		if err != nil {
			s.doubt[key] = struct{}{}
			return
		}
		delete(s.doubt, key)
		if !isPassing(ctx) {
			c.rows.Add(key, entry)
		}
	}()
	err = write()
	return err
}

// absent remembers that there is no row, of which nobody knows yet.
func (c *Cache) absent(key string) {
	if cacheable(key) {
		c.rows.Add(key, nil)
	}
}

var errAbandoned = errors.New("the write did not end")

// ForgetAll drops all that is remembered, because the storage underneath was exchanged.
func (c *Cache) ForgetAll() {
	for i := range c.stripes {
		s := &c.stripes[i]
		s.mu.Lock()
		defer s.mu.Unlock()
		s.writes++
	}
	c.rows.Purge()
}

// Forget drops what is remembered of the key, because somebody else wrote it.
func (c *Cache) Forget(key string) {
	s := c.stripe(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes++
	c.rows.Remove(key)
}
