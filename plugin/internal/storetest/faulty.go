// Package storetest holds storages that misbehave on purpose.
package storetest

import (
	"context"
	"errors"
	"sync"

	"github.com/hashicorp/vault/sdk/logical"
)

// ErrInjected is the error of a Faulty storage.
var ErrInjected = errors.New("injected storage fault")

// Fault modes of Faulty.
const (
	Refuse = iota // the operation does nothing and fails
	Apply         // the operation is carried out and fails all the same
)

// Dead is the length of a fault that does not end: the process was killed there.
const Dead = int(^uint(0) >> 1)

// Faulty is a storage that misbehaves on purpose: its n-th operation fails, applied or not, and so many after it are
// refused. It proves that transitions survive.
type Faulty struct {
	logical.Storage

	mu    sync.Mutex
	at    int
	mode  int
	until int
	seen  int
	fired bool
}

// Arm makes the n-th operation from now on fail (n counts from 1), and those after it until length operations have failed.
func (f *Faulty) Arm(n, mode, length int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.at, f.mode, f.until, f.seen, f.fired = n, mode, length-1, 0, false
}

// Disarm ends the faults and reports whether there was one.
func (f *Faulty) Disarm() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.at = 0
	return f.fired
}

// do counts an operation and runs it as far as the plan lets it.
func (f *Faulty) do(op func() error) error {
	f.mu.Lock()
	f.seen++
	hit := f.at > 0 && f.seen == f.at
	dead := f.at > 0 && f.seen > f.at && f.seen-f.at <= f.until
	f.fired = f.fired || hit
	mode := f.mode
	f.mu.Unlock()
	switch {
	case dead, hit && mode == Refuse:
		return ErrInjected
	case hit:
		if err := op(); err != nil {
			return err
		}
		return ErrInjected
	}
	return op()
}

// List counts and may fail.
func (f *Faulty) List(ctx context.Context, prefix string) (keys []string, err error) {
	err = f.do(func() (err error) { keys, err = f.Storage.List(ctx, prefix); return err })
	return keys, err
}

// Get counts and may fail.
func (f *Faulty) Get(ctx context.Context, key string) (e *logical.StorageEntry, err error) {
	err = f.do(func() (err error) { e, err = f.Storage.Get(ctx, key); return err })
	return e, err
}

// Put counts and may fail.
func (f *Faulty) Put(ctx context.Context, e *logical.StorageEntry) error {
	return f.do(func() error { return f.Storage.Put(ctx, e) })
}

// Delete counts and may fail.
func (f *Faulty) Delete(ctx context.Context, key string) error {
	return f.do(func() error { return f.Storage.Delete(ctx, key) })
}
