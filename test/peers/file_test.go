// Package peers_test holds how two installations become peers against real Vaults, with the commands that people use.
package peers_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/client"
	"github.com/ampora/ampora/test/vaulttest"
)

// place is one installation: a Vault of its own with the engine at ampora/.
type place struct {
	*testing.T
	vault  *vaulttest.Vault
	engine *client.Client
	id     string
}

func start(t *testing.T, peerID string) *place {
	t.Helper()
	p := &place{T: t, vault: vaulttest.Start(t), id: peerID}
	_, err := p.vault.RegisterAmpora(t.Context(), "ampora")
	p.must(err)
	p.engine, err = client.New(p.vault.Client(), "ampora")
	p.must(err)
	p.must(p.engine.UpdateConfig(t.Context(), map[string]any{
		"peer_id": peerID, "trust_domain": peerID + ".example", "endpoint": "wss://" + peerID + ".example:4320/v1/opamp",
		"federation_url": "https://" + peerID + ".example:4320/federation",
	}))
	_, err = p.vault.Client().Logical().Write("ampora/ca/root", nil)
	p.must(err)
	return p
}

func (p *place) must(err error) {
	p.Helper()
	if err != nil {
		p.Fatal(err)
	}
}

// command runs the vault command with a token of that text, and answers what it prints.
func (p *place) command(token string, arguments ...string) (string, error) {
	p.Helper()
	var out, said bytes.Buffer
	c := exec.CommandContext(p.Context(), vaulttest.RequireBin(p, "vault"), arguments...)
	c.Env = append(slices.Clone(p.vault.Env()), "PATH="+os.Getenv("PATH"), "HOME="+p.TempDir())
	if token != "" {
		c.Env = append(c.Env, "VAULT_TOKEN="+token)
	}
	c.Stdout, c.Stderr = &out, &said
	err := c.Run()
	if err != nil {
		p.Logf("%s", said.String())
	}
	return out.String() + said.String(), err
}

// card writes the bundle file, without any Vault token that counts.
func (p *place) card(dir string) string {
	p.Helper()
	out, err := p.command("of nobody", "read", "-format=json", "-field=data", "ampora/federation/bundle")
	p.must(err)
	file := filepath.Join(dir, p.id+".json")
	p.must(os.WriteFile(file, []byte(out), 0o600))
	return file
}

func (p *place) peer(name string) apitype.Peer {
	p.Helper()
	peer, err := p.engine.Peer(p.Context(), name)
	p.must(err)
	return *peer
}

// rotate makes a new issuer the one that signs.
func (p *place) rotate() {
	p.Helper()
	made, err := p.vault.Client().Logical().Write("ampora/ca/root", nil)
	p.must(err)
	_, err = p.engine.SetIssuerState(p.Context(), made.Data["issuer_id"].(string), apitype.IssuerRequest{State: "active"})
	p.must(err)
}

func TestTwoVaultsBecomePeersByTwoFiles(t *testing.T) {
	eu, west := start(t, "eu"), start(t, "eu-west")
	dir := t.TempDir()
	for _, side := range []struct{ here, there *place }{{eu, west}, {west, eu}} {
		file := side.there.card(dir)
		_, err := side.here.command("", "write", "ampora/peers/"+side.there.id, "@"+file)
		side.here.must(err)
		card, err := side.there.engine.FederationBundle(t.Context())
		side.here.must(err)
		got := side.here.peer(side.there.id)
		if got.PeerID != card.PeerID || got.Endpoint != card.Endpoint || got.CABundle != card.CABundle || got.EndpointCABundle != card.CABundle ||
			got.FederationURL != card.FederationURL || got.TrustDomain != card.TrustDomain || got.BundleSequence == 0 || !slices.Equal(got.AllowedTenants, []string{"*"}) {
			t.Errorf("%+v", got)
		}
	}

	// A file of a later version has more in it, and one that was edited by hand less.
	var fields map[string]any
	raw, err := os.ReadFile(eu.card(dir))
	eu.must(err)
	eu.must(json.Unmarshal(raw, &fields))
	fields["something_new"] = map[string]any{"a": 1}
	for _, without := range []string{"", "federation_url", "bundle_jws"} {
		delete(fields, without)
		text, err := json.Marshal(fields)
		eu.must(err)
		odd := filepath.Join(dir, "odd.json")
		eu.must(os.WriteFile(odd, text, 0o600))
		_, err = west.command("", "write", "ampora/peers/eu", "@"+odd)
		west.must(err)
		if got := west.peer("eu"); got.FederationURL == "" || got.BundleSequence == 0 {
			t.Errorf("without %q: %+v", without, got)
		}
	}

	// The other side's CA changes: an edge brings the new bundle, and the file made then does the same again.
	eu.rotate()
	card, err := eu.engine.FederationBundle(t.Context())
	eu.must(err)
	followed, err := west.engine.UpdatePeerBundle(t.Context(), "eu", apitype.PeerBundleRequest{BundleJWS: card.BundleJWS})
	west.must(err)
	if strings.Count(followed.CABundle, "BEGIN") != 2 {
		t.Errorf("%+v", followed)
	}
	_, err = west.command("", "write", "ampora/peers/eu", "@"+eu.card(dir))
	west.must(err)
	if got := west.peer("eu"); got.UpdatedAt != followed.UpdatedAt {
		t.Errorf("the same again: %+v", got)
	}

	// What survives is in storage.
	west.must(west.vault.Restart(t.Context()))
	if got := west.peer("eu"); got.CABundle != card.CABundle {
		t.Errorf("%+v", got)
	}
	// Nobody makes a peer of himself, nor of a file with a private key; and nothing of that is in what is said.
	if _, err := eu.command("", "write", "ampora/peers/me", "@"+eu.card(dir)); err == nil {
		t.Error("an installation is its own peer")
	}
	fields["ca_bundle"] = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n-----END PRIVATE KEY-----\n"
	text, err := json.Marshal(fields)
	eu.must(err)
	bad := filepath.Join(dir, "bad.json")
	eu.must(os.WriteFile(bad, text, 0o600))
	out, err := west.command("", "write", "ampora/peers/eu", "@"+bad)
	if err == nil || !strings.Contains(out, "bundle_invalid") || !strings.Contains(out, "private key") || strings.Contains(out, "MC4CAQ") {
		t.Errorf("%v: %s", err, out)
	}
	audit, err := os.ReadFile(west.vault.AuditLog())
	west.must(err)
	if bytes.Contains(audit, []byte("MC4CAQ")) {
		t.Error("Vault's audit log has the key")
	}
	_, err = west.command("", "delete", "ampora/peers/eu")
	west.must(err)
	if left, err := west.engine.Peers(t.Context(), apitype.Page{}); err != nil || len(left.Keys) != 0 {
		t.Errorf("%+v, %v", left, err)
	}
}
