package plugintest

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/hashicorp/vault/sdk/logical"
)

// Counting is a storage that counts what reaches the one underneath, for asserting write budgets. It may also be told to
// interfere with single operations. It is safe for concurrent use.
type Counting struct {
	logical.Storage

	mu     sync.Mutex
	ops    []Op
	before func(ctx context.Context, op Op) error
}

// Op is one operation on a storage.
type Op struct {
	Kind string // "get", "put", "delete" or "list"
	Key  string
}

// String is the operation as a failed test shows it.
func (o Op) String() string { return fmt.Sprintf("%s %s", o.Kind, o.Key) }

// NewCounting puts a Counting over s.
func NewCounting(s logical.Storage) *Counting { return &Counting{Storage: s} }

// Before has f called before every operation from now on; nil ends that. An error that f answers is the operation's, which
// then does not reach the storage underneath. f may also block or panic.
func (c *Counting) Before(f func(ctx context.Context, op Op) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.before = f
}

// Reset forgets what was counted.
func (c *Counting) Reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ops = nil
}

// Writes is the puts and deletes since the last Reset, in their order.
func (c *Counting) Writes() []Op { return c.kinds("put", "delete") }

// Reads is the gets and lists since the last Reset, in their order.
func (c *Counting) Reads() []Op { return c.kinds("get", "list") }

func (c *Counting) kinds(kinds ...string) []Op {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []Op
	for _, op := range c.ops {
		if slices.Contains(kinds, op.Kind) {
			all = append(all, op)
		}
	}
	return all
}

func (c *Counting) count(ctx context.Context, kind, key string) error {
	op := Op{Kind: kind, Key: key}
	c.mu.Lock()
	c.ops = append(c.ops, op)
	before := c.before
	c.mu.Unlock()
	if before != nil {
		return before(ctx, op)
	}
	return nil
}

// Get counts a get.
func (c *Counting) Get(ctx context.Context, key string) (*logical.StorageEntry, error) {
	if err := c.count(ctx, "get", key); err != nil {
		return nil, err
	}
	return c.Storage.Get(ctx, key)
}

// Put counts a put.
func (c *Counting) Put(ctx context.Context, entry *logical.StorageEntry) error {
	if err := c.count(ctx, "put", entry.Key); err != nil {
		return err
	}
	return c.Storage.Put(ctx, entry)
}

// Delete counts a delete.
func (c *Counting) Delete(ctx context.Context, key string) error {
	if err := c.count(ctx, "delete", key); err != nil {
		return err
	}
	return c.Storage.Delete(ctx, key)
}

// List counts a list.
func (c *Counting) List(ctx context.Context, prefix string) ([]string, error) {
	if err := c.count(ctx, "list", prefix); err != nil {
		return nil, err
	}
	return c.Storage.List(ctx, prefix)
}
