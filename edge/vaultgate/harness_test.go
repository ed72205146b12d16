package vaultgate

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/client"
	"github.com/ampora/ampora/scripts/policies"
	"github.com/ampora/ampora/test/vaulttest"
	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"
	vaultapi "github.com/hashicorp/vault/api"
	"github.com/prometheus/client_golang/prometheus"
)

const edgePolicy = "ampora-edge"

// world is a real Vault with our engine in it, configured and with the edge's policy.
type world struct {
	*vaulttest.Vault
	root  *vaultapi.Client
	admin *client.Client
}

func newWorld(t *testing.T, opts ...vaulttest.Option) *world {
	t.Helper()
	ctx := t.Context()
	w := &world{Vault: vaulttest.Start(t, opts...)}
	vaulttest.RequireBin(t, "vault-plugin-secrets-ampora")
	if _, err := w.RegisterAmpora(ctx, "ampora"); err != nil {
		t.Fatal(err)
	}
	w.root = w.Client()
	var err error
	if w.admin, err = client.New(w.root, ""); err != nil {
		t.Fatal(err)
	}
	must(t, w.admin.UpdateConfig(ctx, map[string]any{
		"peer_id": "home", "trust_domain": "ampora.example", "endpoint": "wss://opamp.ampora.example/v1/opamp",
	}))
	if _, err := w.admin.CARoot(ctx, apitype.CARootRequest{}); err != nil {
		t.Fatal(err)
	}
	all, err := policies.All("ampora")
	must(t, err)
	for _, p := range all {
		must(t, w.root.Sys().PutPolicyWithContext(ctx, p.Name, p.Text))
	}
	return w
}

// config reaches this Vault and no other, whatever the environment says.
func (w *world) config() *vaultapi.Config {
	c := vaultapi.DefaultConfig()
	c.Address = w.Addr
	return c
}

// gate starts a Gate that logs what it does into the test's log, if the test fails.
func (w *world) gate(t *testing.T, auth AuthOptions) *Gate {
	t.Helper()
	return startGate(t, Options{Vault: w.config(), Auth: auth})
}

func startGate(t *testing.T, o Options) *Gate {
	t.Helper()
	log := &safeBuffer{}
	o.Logger = hclog.New(&hclog.LoggerOptions{Level: hclog.Trace, Output: log})
	o.Registerer = prometheus.NewRegistry()
	g, err := New(o)
	must(t, err)
	must(t, g.Start(t.Context()))
	t.Cleanup(func() {
		g.Stop()
		if t.Failed() {
			t.Logf("the gate's log:\n%s", log.String())
		}
	})
	return g
}

// token makes a token for an edge.
func (w *world) token(t *testing.T, request vaultapi.TokenCreateRequest) string {
	t.Helper()
	if request.Policies == nil {
		request.Policies = []string{edgePolicy}
	}
	secret, err := w.root.Auth().Token().CreateOrphanWithContext(t.Context(), &request)
	must(t, err)
	return secret.Auth.ClientToken
}

func (w *world) revoke(t *testing.T, token string) {
	t.Helper()
	must(t, w.root.Auth().Token().RevokeTreeWithContext(t.Context(), token))
}

func (w *world) write(t *testing.T, path string, data map[string]any) *vaultapi.Secret {
	t.Helper()
	secret, err := w.root.Logical().WriteWithContext(t.Context(), path, data)
	must(t, err)
	return secret
}

// redemption issues a bootstrap token and makes the request that redeems it.
func (w *world) redemption(t *testing.T) apitype.RedeemRequest {
	t.Helper()
	issued, err := w.admin.IssueToken(t.Context(), apitype.TokenIssueRequest{})
	must(t, err)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	must(t, err)
	return apitype.RedeemRequest{
		Token: issued.Token, CSR: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})),
		Capabilities: apitype.CapabilityAcceptsOpAMP, InstanceUID: uuid.NewString(), IdempotencyKey: uuid.NewString(),
	}
}

// inUse is the token that the gate holds.
func (g *Gate) inUse() string {
	g.keeper.mu.Lock()
	defer g.keeper.mu.Unlock()
	return g.keeper.held.token
}

// logins is how many tokens the gate has had.
func (g *Gate) logins() uint64 {
	g.keeper.mu.Lock()
	defer g.keeper.mu.Unlock()
	return g.keeper.number
}

func (g *Gate) try(ctx context.Context) error {
	_, err := g.Sync(ctx, apitype.SyncRequest{})
	return err
}

// works has one sync done, without patience.
func works(t *testing.T, g *Gate) {
	t.Helper()
	if err := g.try(t.Context()); err != nil {
		t.Fatalf("%v: %s", err, Cause(err))
	}
}

// fails has one sync fail for want of Vault.
func fails(t *testing.T, g *Gate) error {
	t.Helper()
	err := g.try(t.Context())
	if apitype.CodeOf(err) != apitype.VaultUnavailable {
		t.Fatalf("want vault_unavailable, got %v", err)
	}
	return err
}

// heals waits until a sync works again.
func heals(t *testing.T, g *Gate, within time.Duration) {
	t.Helper()
	eventually(t, within, "Vault answers again", func() bool { return g.try(t.Context()) == nil })
	if s := g.Status(); !s.Up || s.Reason != "" {
		t.Errorf("status %+v", s)
	}
}

func eventually(t *testing.T, within time.Duration, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(within); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %s: %s", within, what)
		}
	}
}

// writeFile replaces a file in one step, as whoever hands out credentials does.
func writeFile(t *testing.T, path, content string) {
	t.Helper()
	part := fmt.Sprintf("%s.%s", path, uuid.NewString())
	must(t, os.WriteFile(part, []byte(content), 0o600))
	must(t, os.Rename(part, path))
}

func secretFile(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	writeFile(t, path, content)
	return path
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
