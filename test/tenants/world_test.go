package tenants_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base32"
	"encoding/pem"
	"strings"
	"testing"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/client"
	"github.com/ampora/ampora/scripts/policies"
	"github.com/ampora/ampora/test/vaulttest"
	vault "github.com/hashicorp/vault/api"
)

// world is an engine with four owners of everything: the tenant acme, two whose names are longer and shorter than that, and
// nobody. Each has the same names, and some of its own.
type world struct {
	*testing.T
	vault    *vaulttest.Vault
	root     *client.Client
	south    *client.Client // another installation, a peer of the first, in its tenant acme
	policy   string         // Vault token with the policy of acme's operator, and no other
	csr      string
	own      *owner
	others   []*owner
	hidden   map[string]bool // what identifies the others' things, wherever it is stored
	sent     map[string]bool // what the requests have told, so that it may come back
	twins    map[string]string
	manifest string            // of a handover file of acme's
	unused   map[string]string // by kind: what 'fresh' has made
	turn     int               // whose turn it is to be asked for, where asking for everybody's things would take too long
	served   []served
	worked   map[string]bool // "method path" of what has succeeded
	calls    int
}

// owner is a tenant, or nobody.
type owner struct {
	tenant string
	values map[string]string // by kind, see kinds: what requests are filled with
	spare  map[string]string // by kind: what nothing refers to, and so may be deleted
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{T: t, sent: map[string]bool{}, twins: map[string]string{}, unused: map[string]string{}, worked: map[string]bool{}, csr: newCSR(t)}
	w.vault = vaulttest.Start(t, vaulttest.WithRawStorage())
	version, err := w.vault.RegisterAmpora(t.Context(), "ampora")
	w.must(err)
	w.root, err = client.New(w.vault.Client(), "ampora")
	w.must(err)
	w.must(w.root.UpdateConfig(t.Context(), map[string]any{
		"peer_id": "north", "trust_domain": "north.example", "endpoint": "wss://localhost:4320/v1/opamp",
	}))
	_, err = w.root.CARoot(t.Context(), apitype.CARootRequest{})
	w.must(err)
	w.befriend(version)
	w.own = w.populate("acme")
	for _, tenant := range []string{"acme-2", "acm", ""} {
		w.others = append(w.others, w.populate(tenant))
	}
	// What the engine only remembers, it must not spare others for.
	w.must(w.vault.ReloadPlugin(t.Context(), "vault-plugin-secrets-ampora"))
	listed, err := w.root.ForTenant("acme").HandoverManifest(t.Context(), apitype.HandoverManifestRequest{Peer: "south", HandoverIDs: []string{w.own.values["handover_id"]}})
	w.must(err)
	w.manifest = listed.Manifest
	w.policy = w.holder()
	w.served = w.specification()
	w.hidden = w.identifiers()
	return w
}

// befriend makes the peer south, so that agents can move. It is a mount of its own in the same Vault.
func (w *world) befriend(version string) {
	w.Helper()
	w.must(w.vault.EnableSecrets(w.Context(), "south", "vault-plugin-secrets-ampora", version))
	south, err := client.New(w.vault.Client(), "south")
	w.must(err)
	w.must(south.UpdateConfig(w.Context(), map[string]any{
		"peer_id": "south", "trust_domain": "south.example", "endpoint": "wss://localhost:4321/v1/opamp",
	}))
	_, err = south.CARoot(w.Context(), apitype.CARootRequest{})
	w.must(err)
	for _, side := range []struct {
		here, there *client.Client
		name        string
	}{{w.root, south, "south"}, {south, w.root, "north"}} {
		card, err := side.there.FederationBundle(w.Context())
		w.must(err)
		_, err = side.here.WritePeer(w.Context(), side.name, apitype.PeerRequest{
			PeerID: &card.PeerID, TrustDomain: &card.TrustDomain, Endpoint: &card.Endpoint, EndpointCABundle: &card.EndpointCABundle,
			CABundle: &card.CABundle, BundleJWS: &card.BundleJWS,
		})
		w.must(err)
	}
	w.south = south.ForTenant("acme")
}

// movable is an agent that can move to a peer.
func (w *world) movable(c *client.Client) string {
	w.Helper()
	issued, err := c.IssueToken(w.Context(), apitype.TokenIssueRequest{})
	w.must(err)
	id, err := c.Redeem(w.Context(), apitype.RedeemRequest{Token: issued.Token, CSR: w.csr, Capabilities: apitype.CapabilityAcceptsOpAMP})
	w.must(err)
	return id.AgentID
}

// holder is a token of the operator of acme.
func (w *world) holder() string {
	w.Helper()
	p, err := policies.ForTenant("ampora", "acme")
	w.must(err)
	w.must(w.vault.Client().Sys().PutPolicyWithContext(w.Context(), p.Name, p.Text))
	secret, err := w.vault.Client().Auth().Token().CreateWithContext(w.Context(), &vault.TokenCreateRequest{Policies: []string{p.Name}, NoDefaultPolicy: true})
	w.must(err)
	return secret.Auth.ClientToken
}

// populate gives an owner some of everything: under names that all owners have, under names of its own that requests will
// use, and under names that nobody will ever tell.
func (w *world) populate(tenant string) *owner {
	w.Helper()
	o := &owner{tenant: tenant, spare: map[string]string{}}
	w.thing(tenant, "same")
	w.thing(tenant, word())
	o.values = w.thing(tenant, word())
	ctx, c := w.Context(), w.root.ForTenant(tenant)
	o.spare["group"], o.spare["configuration"] = word(), word()
	_, err := c.WriteConfiguration(ctx, o.spare["configuration"], apitype.ConfigurationRequest{Body: text()})
	w.must(err)
	_, err = c.WriteGroup(ctx, o.spare["group"], apitype.GroupRequest{Description: text()})
	w.must(err)
	return o
}

// thing makes one of everything, with the name where things have names.
func (w *world) thing(tenant, name string) map[string]string {
	w.Helper()
	ctx, c := w.Context(), w.root.ForTenant(tenant)
	values := map[string]string{"configuration": name, "group": name, "pool": name, "edge": name}
	_, err := c.WriteConfiguration(ctx, name, apitype.ConfigurationRequest{Body: text(), Description: text()})
	w.must(err)
	_, err = c.WriteGroup(ctx, name, apitype.GroupRequest{Configuration: &name, Description: text()})
	w.must(err)
	pool, err := c.WritePool(ctx, name, apitype.PoolRequest{Group: &name})
	w.must(err)
	values["pool_id"], values["admin_secret"] = pool.PoolID, pool.AdminSecret
	count := int64(3)
	batch, err := c.IssueFromPool(ctx, name, apitype.PoolIssueRequest{Label: word(), Count: &count})
	w.must(err)
	values["batch_id"] = batch.BatchID
	_, err = c.IssueFromPool(ctx, name, apitype.PoolIssueRequest{Label: word()})
	w.must(err)

	token := func() *apitype.IssuedToken {
		issued, err := c.IssueToken(ctx, apitype.TokenIssueRequest{Label: word(), Group: name})
		w.must(err)
		return issued
	}
	outstanding, revoked := token(), token()
	values["token"], values["token_id"] = outstanding.Token, outstanding.TokenID
	_, err = c.RevokeToken(ctx, revoked.TokenID, apitype.RevokeRequest{Reason: word()})
	w.must(err)

	agent := func(token string) *apitype.Identity {
		id, err := c.Redeem(ctx, apitype.RedeemRequest{Token: token, CSR: w.csr, DisplayName: word(), Description: *text()})
		w.must(err)
		return id
	}
	active, ended, deleted := agent(batch.Tokens[0].Token), agent(token().Token), agent(token().Token)
	values["agent_id"], values["serial_number"], values["fingerprint"] = active.AgentID, active.SerialNumber, active.Fingerprint
	_, err = c.RevokeAgent(ctx, ended.AgentID, apitype.RevokeRequest{Reason: "keyCompromise"})
	w.must(err)
	w.must(c.DeleteAgent(ctx, deleted.AgentID))
	_, err = c.Report(ctx, apitype.ReportRequest{Name: name, Version: word(), Sessions: []apitype.SessionReport{{AgentID: active.AgentID, SerialNumber: active.SerialNumber}}})
	w.must(err)
	moving, err := c.Handover(ctx, w.movable(c), apitype.HandoverRequest{Peer: "south"})
	w.must(err)
	values["handover_id"] = moving.HandoverID
	page, err := c.Events(ctx, apitype.EventsRequest{Limit: 1})
	w.must(err)
	values["event"], values["cursor"] = page.Events[0].ID, page.NextCursor
	return values
}

// word is a name, and a text, that occurs nowhere else.
func word() string {
	raw := make([]byte, 10)
	_, _ = rand.Read(raw) // it ends the program instead of failing
	return "zz" + strings.ToLower(base32.StdEncoding.EncodeToString(raw))
}

func text() *string {
	text := `{"about": "` + word() + `"}`
	return &text
}

func newCSR(t testing.TB) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}
