package ampora

import (
	"context"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

// Backend is one mount, as Vault sees it.
type Backend = backend

// NewBackend is Factory with a clock.
func NewBackend(ctx context.Context, config *logical.BackendConfig, now func() time.Time) (*Backend, error) {
	return newBackend(ctx, config, now)
}

// Sweep does now what upkeep does every hour.
func (b *backend) Sweep(ctx context.Context) error { return b.upkeep.sweep(ctx) }

// Idle reports whether upkeep has done all that is due.
func (b *backend) Idle() bool {
	b.trail.mu.Lock()
	defer b.trail.mu.Unlock()
	b.upkeep.mu.Lock()
	defer b.upkeep.mu.Unlock()
	return !b.lists.Loading() && !b.trail.loading && !b.trail.telling && !b.upkeep.finishing && !b.upkeep.sweeping && !b.upkeep.swept.IsZero() && len(b.upkeep.agents) == 0
}

// FailWith answers as a handler that fails with err.
func (b *backend) FailWith(ctx context.Context, req *logical.Request, err error) (*logical.Response, error) {
	return b.handle(func(context.Context, *logical.Request, *framework.FieldData) (*logical.Response, error) {
		return nil, err
	})(ctx, req, nil)
}

// InvalidateKey is Vault's word that another node wrote the key.
func (b *backend) InvalidateKey(ctx context.Context, key string) { b.invalidate(ctx, key) }
