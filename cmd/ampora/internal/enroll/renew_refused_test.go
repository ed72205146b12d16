package enroll

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ampora/ampora/cmd/ampora/internal/idfiles"
	"github.com/ampora/ampora/edge"
	"github.com/ampora/ampora/plugin/apitype"
)

// unchanged holds that a run has failed with these words and left the identity alone.
func (w *world) unchanged(dir string, before *idfiles.Identity, r result, says ...string) {
	w.Helper()
	w.refuses("", r, says...)
	d, err := idfiles.Open(dir)
	if err != nil {
		w.Fatal(err)
	}
	defer d.Close()
	after, err := d.Current()
	if err != nil || !bytes.Equal(after.Cert, before.Cert) || !bytes.Equal(after.Key, before.Key) {
		w.Errorf("the identity was changed: %v", err)
	}
}

func TestARefusedRenewalLeavesTheIdentityAndSaysWhatNext(t *testing.T) {
	w := newWorld(t)
	for name, c := range map[string]struct {
		end  func(dir string, id *idfiles.Identity) error
		code apitype.Code
		says []string
	}{
		"revoked": {func(_ string, id *idfiles.Identity) error {
			_, err := w.client.RevokeAgent(t.Context(), w.agentOf(id).agentID, apitype.RevokeRequest{Reason: "keyCompromise"})
			return err
		}, apitype.CertificateRevoked, []string{"vault read ampora/agents/", "ampora enroll --out"}},
		"replaced elsewhere": {func(dir string, _ *idfiles.Identity) error {
			other := filepath.Join(t.TempDir(), "copy")
			if err := os.CopyFS(other, os.DirFS(dir)); err != nil {
				return err
			}
			r := w.renew(other)
			return r.err
		}, apitype.CertificateRevoked, []string{"the key was copied", "ampora enroll --out"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "id")
			id := w.mustEnrol(dir, w.token())
			if err := c.end(dir, id); err != nil {
				t.Fatal(err)
			}
			w.untilRefused(id)
			w.unchanged(dir, id, w.renew(dir), append(c.says, string(c.code))...)
			w.unchanged(dir, id, w.renew(dir, func(c *RenewCmd) { c.NewKey = true }), string(c.code))
			if _, err := os.Stat(filepath.Join(dir, ".enroll")); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("a key for nothing was left: %v", err)
			}
			w.mustEnrol(dir, w.token()) // as the hint says
		})
	}
}

func TestARenewalThatCannotBe(t *testing.T) {
	w := newWorld(t, func(o *edge.Options) { o.Timing.Renew = 3 * time.Second })
	dir := filepath.Join(t.TempDir(), "id")
	id := w.mustEnrol(dir, w.token())
	foreign := filepath.Join(t.TempDir(), "ca.pem")
	_, _, ca := publicCertificate(t)
	pem, err := os.ReadFile(ca)
	if err != nil {
		t.Fatal(err)
	}
	w.write(foreign, string(pem))
	for _, c := range []struct {
		name   string
		change func(*RenewCmd)
		says   []string
	}{
		{"nobody listens", func(c *RenewCmd) { c.Endpoint = "wss://" + freeAddr(t) + "/v1/opamp"; c.Timeout = 2 * time.Second }, []string{"cannot be reached", "is as it was", "check the address"}},
		{"the CA is another", func(c *RenewCmd) { c.CAFile = foreign }, []string{"--ca-file", "is as it was"}},
		{"no edge there", func(c *RenewCmd) { c.Endpoint = "wss://" + w.addr + "/opamp" }, []string{"404", "is this the address of an edge"}},
		{"no TLS wanted", func(c *RenewCmd) { c.Endpoint = "ws://" + w.addr + "/v1/opamp" }, []string{"no wss:// or https:// URL"}},
		{"no CA in the file", func(c *RenewCmd) { c.CAFile = filepath.Join(dir, idfiles.Endpoint) }, []string{"no certificate in the CA file"}},
	} {
		t.Run(c.name, func(t *testing.T) { w.unchanged(dir, id, w.renew(dir, c.change), c.says...) })
	}
	t.Run("keys are made on the server", func(t *testing.T) {
		if err := w.client.UpdateConfig(t.Context(), map[string]any{"key_origin": "server"}); err != nil {
			t.Fatal(err)
		}
		w.unchanged(dir, id, w.renew(dir, func(c *RenewCmd) { c.NewKey = true }), string(apitype.KeyNotAllowed), "is as it was")
		if err := w.client.UpdateConfig(t.Context(), map[string]any{"key_origin": "any"}); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("Vault is away", func(t *testing.T) {
		w.engine.SetAway(true)
		w.unchanged(dir, id, w.renew(dir, func(c *RenewCmd) { c.Timeout = 12 * time.Second }), string(apitype.VaultUnavailable), "is as it was")
		w.engine.SetAway(false)
		w.mustRenew(dir, func(c *RenewCmd) { c.Timeout = 40 * time.Second })
	})
	t.Run("it has expired", func(t *testing.T) {
		expired(t, dir)
		w.refuses("", w.renew(dir), "has expired", "ampora enroll --out")
	})
}

func TestWithoutAnIdentityThereIsNothingToRenew(t *testing.T) {
	w := newWorld(t)
	dir := filepath.Join(t.TempDir(), "id")
	w.refuses(dir, w.renew(dir), "no identity", "ampora enroll --out")

	w.refuses("", w.enrol(dir, w.token(), w.swallow(requests), func(c *Cmd) { c.Timeout = 4 * time.Second }), "not known")
	w.refuses("", w.renew(dir), "is not finished", "ampora enroll --out")

	mine := t.TempDir()
	w.write(filepath.Join(mine, idfiles.Key), "somebody's")
	w.refuses("", w.renew(mine), "no identity of ours")

	busy := filepath.Join(t.TempDir(), "id")
	w.mustEnrol(busy, w.token())
	d, err := idfiles.Open(busy)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	w.refuses("", w.renew(busy), "another run")
}
