package vaulttest

import (
	"context"
	"errors"
	"testing"
	"time"
)

// Start runs a Vault for the length of a test. Where Vault has not been built it
// skips the test, or under make test fails it. When the test has failed, the end of
// Vault's own log is printed.
func Start(t testing.TB, opts ...Option) *Vault {
	t.Helper()
	o := Options{Logf: t.Logf}
	for _, opt := range opts {
		opt(&o)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	v, err := Run(ctx, o)
	if errors.Is(err, ErrNotBuilt) && !Required() {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the end of Vault's log:\n%s", v.logTail(60))
		}
		if err := v.Stop(); err != nil {
			t.Errorf("stopping Vault: %v", err)
		}
	})
	return v
}

// StartCluster runs a cluster of three for the length of a test, as Start runs a Vault.
func StartCluster(t testing.TB, opts ...Option) *Cluster {
	t.Helper()
	o := Options{Logf: t.Logf}
	for _, opt := range opts {
		opt(&o)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	c, err := RunCluster(ctx, 3, o)
	if errors.Is(err, ErrNotBuilt) && !Required() {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			for _, v := range c.Nodes {
				t.Logf("the end of the log of %s:\n%s", v.node.id, v.logTail(60))
			}
		}
		if err := c.Stop(); err != nil {
			t.Errorf("stopping the cluster: %v", err)
		}
	})
	return c
}

// RequireBin returns the path of a built program, or skips the test (under make
// test: fails it) with a sentence that names the make target.
func RequireBin(t testing.TB, name string) string {
	t.Helper()
	path, err := Bin(name)
	if errors.Is(err, ErrNotBuilt) && !Required() {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// Option changes the Options that Start begins with.
type Option func(*Options)

// WithTLS makes Vault serve https with a certificate of its own, see Vault.CAFile.
func WithTLS() Option { return func(o *Options) { o.TLS = true } }

// WithoutAudit leaves the file audit device out.
func WithoutAudit() Option { return func(o *Options) { o.NoAudit = true } }

// WithLogLevel sets the level of Vault's server log.
func WithLogLevel(level string) Option { return func(o *Options) { o.LogLevel = level } }

// WithRawStorage opens sys/raw, where a test can read what is really stored.
func WithRawStorage() Option { return func(o *Options) { o.RawStorage = true } }

// WithEnv adds environment variables, as "NAME=value", that Vault and its plugins see.
func WithEnv(env ...string) Option { return func(o *Options) { o.Env = append(o.Env, env...) } }
