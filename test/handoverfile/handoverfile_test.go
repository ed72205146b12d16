package handoverfile_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/handover"
	"github.com/ampora/ampora/test/handoverfile"
	"github.com/ampora/ampora/test/vaulttest"
	"github.com/google/uuid"
)

type world struct {
	*testing.T
	*handoverfile.Pair
	file string
}

func start(t *testing.T) *world {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	pair, err := handoverfile.Start(ctx)
	if errors.Is(err, vaulttest.ErrNotBuilt) && !vaulttest.Required() {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := pair.Stop(); err != nil {
			t.Error(err)
		}
	})
	return &world{t, pair, filepath.Join(t.TempDir(), "web.handover")}
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// wants runs a command that has to end with that code and print these.
func (w *world) wants(code int, s *handoverfile.Side, args []string, prints ...string) string {
	w.Helper()
	got, err := w.Pair.Run(w.Context(), s, args...)
	w.must(err)
	all := got.Out + got.Err
	if got.Code != code {
		w.Fatalf("ampora handover %v ended with %d:\n%s", args, got.Code, all)
	}
	for _, want := range prints {
		if !strings.Contains(all, want) {
			w.Fatalf("ampora handover %v does not print %q:\n%s", args, want, all)
		}
	}
	return all
}

func TestAGroupMovesInOneFile(t *testing.T) {
	w := start(t)
	ctx, eu, west := t.Context(), w.Source, w.Target
	w.must(w.Enrol(ctx, 30, 2000))
	all, err := eu.Agents(ctx, apitype.Page{})
	w.must(err)
	_, err = eu.RevokeAgent(ctx, all.Keys[4], apitype.RevokeRequest{})
	w.must(err)
	make := []string{"make", "--peer", "west", "--group", handoverfile.Group, "--out", w.file}

	w.wants(1, eu, []string{"make", "--peer", "nobody", "--group", handoverfile.Group, "--out", w.file}, "peer_unknown")
	w.wants(3, eu, make, "29 agents of group web may move to west until", all.Keys[4]+"  agent_revoked", "1 of 30 agents are not in the file")
	info, err := os.Stat(w.file)
	w.must(err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the file has mode %v", info.Mode())
	}
	left, err := os.ReadDir(filepath.Dir(w.file))
	w.must(err)
	if len(left) != 1 {
		t.Errorf("more than the file is left: %v", left)
	}
	w.wants(1, eu, make, "is there already")
	w.wants(1, eu, append(make[:5:5], "--out", w.file+".2"), "handover_pending", "no agent of group web can be moved")
	w.wants(0, eu, []string{"progress", w.file}, "29 handovers to peer west", "handover_pending     29")
	w.wants(1, eu, []string{"inspect", w.file}, "this installation has made the file itself")

	w.wants(0, west, []string{"inspect", w.file}, "from                   eu", "can be redeemed        29")
	w.wants(3, west, []string{"inspect", "--configuration", "none-such", w.file}, "would be refused       29", "29:", "configuration_missing")
	w.wants(1, west, []string{"redeem", w.file}, "--yes")
	w.wants(1, west, []string{"redeem", "--yes", "--configuration", "none-such", "--limit", "2", w.file}, "configuration_missing", "0 redeemed, 2 refused")
	w.wants(1, west, []string{"redeem", "--yes", "--only", "none-such", w.file}, "the file has no agent and no handover none-such")
	w.wants(0, west, []string{"redeem", "--yes", "--only", all.Keys[0] + "," + all.Keys[1], w.file}, all.Keys[0], "awaiting_release", "2 redeemed, 0 refused, 0 not tried, 0 redeemed before")
	w.wants(0, west, []string{"redeem", "--yes", "--limit", "5", w.file}, "5 redeemed, 0 refused, 0 not tried, 2 redeemed before")
	w.wants(0, west, []string{"redeem", "--yes", w.file}, "22 redeemed, 0 refused, 0 not tried, 7 redeemed before")
	w.wants(0, west, []string{"redeem", "--yes", w.file}, "nothing to do: 29 agents redeemed before")
	w.wants(0, west, []string{"progress", w.file}, "29 handovers from peer eu", "awaiting_release     29")

	w.must(w.Carry(ctx))
	w.wants(0, eu, []string{"progress", w.file}, "released             29")
	handovers, err := west.Handovers(ctx, apitype.Page{})
	w.must(err)
	for _, id := range handovers.Keys {
		w.must(west.EndHandover(ctx, id)) // nobody comes here
	}
	w.must(w.Carry(ctx))
	w.wants(0, west, []string{"progress", "--watch", w.file}, "lapsed               29")
	w.wants(0, eu, []string{"progress", "--watch", w.file}, "lapsed               29")
}

func TestAFileThatWasCutOrChangedIsRefusedByLine(t *testing.T) {
	w := start(t)
	ctx, eu, west := t.Context(), w.Source, w.Target
	w.must(w.Enrol(ctx, 3, 100))
	w.wants(0, eu, []string{"make", "--peer", "west", "--group", handoverfile.Group, "--out", w.file, "--ttl", "2h"})
	good, err := os.ReadFile(w.file)
	w.must(err)
	lines := strings.SplitAfter(string(good), "\n")
	for text, want := range map[string]string{
		string(good[:len(good)-10]):                    "line 4 does not end",
		lines[0] + lines[2] + lines[1] + lines[3]:      "line 2 belongs in line 3",
		lines[0] + lines[1] + lines[1]:                 "line 3 is line 2 again",
		strings.Join(lines[1:], ""):                    "a handover token, where the manifest of a handover file belongs",
		forged(lines[0]) + strings.Join(lines[1:], ""): "handover_signature_invalid",
	} {
		w.must(os.WriteFile(w.file, []byte(text), 0o600))
		for _, args := range [][]string{{"inspect"}, {"redeem", "--yes"}, {"progress"}} {
			w.wants(1, west, append(args, w.file), want)
		}
	}
	if h, err := west.Handovers(ctx, apitype.Page{}); err != nil || len(h.Keys) != 0 {
		t.Errorf("something was redeemed: %v %v", h, err)
	}
	if _, err := handover.ParseFile(good); err != nil {
		t.Error(err)
	}
}

// forged is the manifest with another signature.
func forged(line string) string {
	dot := strings.LastIndexByte(line, '.')
	return line[:dot+1] + strings.Repeat("A", len(line)-dot-2) + "\n"
}

// Vault takes the longest manifest, and the list that it is made of.
func TestTheLargestFileGoesThroughVault(t *testing.T) {
	w := start(t)
	m := handover.Manifest{Issuer: "eu", Audience: "west", ID: uuid.NewString(), IssuedAt: time.Now().Unix(), Expires: time.Now().Unix() + 3600}
	var ids []string
	for range handover.MaxFileTokens {
		id := uuid.NewString()
		ids = append(ids, id)
		m.Entries = append(m.Entries, handover.ManifestEntry{HandoverID: id, TokenHash: handover.Hash(id)})
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	w.must(err)
	signed, err := handover.Sign(key, handover.TypeManifest, m)
	w.must(err)
	_, err = w.Target.HandoverProgress(t.Context(), apitype.HandoverProgressRequest{Manifest: signed})
	if apitype.CodeOf(err) != apitype.HandoverSignatureInvalid {
		t.Errorf("%d bytes: %v", len(signed), err)
	}
	_, err = w.Source.HandoverManifest(t.Context(), apitype.HandoverManifestRequest{Peer: "west", HandoverIDs: ids})
	if apitype.CodeOf(err) != apitype.HandoverUnknown {
		t.Errorf("%d ids: %v", len(ids), err)
	}
}

// When a file cannot be finished, the tokens that were made for it are taken back.
func TestAFileThatCannotBeFinishedLeavesNothingPending(t *testing.T) {
	w := start(t)
	ctx, eu := t.Context(), w.Source
	w.must(w.Enrol(ctx, 3, 100))
	deny(w, eu, "ampora/handover/manifest")
	w.wants(1, &handoverfile.Side{Name: eu.Name, Vault: limited(w, eu), Client: eu.Client},
		[]string{"make", "--peer", "west", "--group", handoverfile.Group, "--out", w.file}, "403", "no file was made")
	if _, err := os.Stat(w.file); err == nil {
		t.Error("there is a file")
	}
	h, err := eu.Handovers(ctx, apitype.Page{State: string(handover.Cancelled)})
	w.must(err)
	if len(h.Keys) != 3 {
		t.Errorf("%d are cancelled", len(h.Keys))
	}
}

// deny writes a policy that allows everything but one path.
func deny(w *world, s *handoverfile.Side, path string) {
	w.Helper()
	text := `path "ampora/*" { capabilities = ["create", "read", "update", "delete", "list"] }` + "\n" + `path "` + path + `" { capabilities = ["deny"] }`
	w.must(s.Vault.Client().Sys().PutPolicyWithContext(w.Context(), "all-but", text))
}

// limited is the same Vault with a token of that policy.
func limited(w *world, s *handoverfile.Side) *vaulttest.Vault {
	w.Helper()
	secret, err := s.Vault.Client().Logical().WriteWithContext(w.Context(), "auth/token/create", map[string]any{"policies": []string{"all-but"}})
	w.must(err)
	return &vaulttest.Vault{Addr: s.Vault.Addr, RootToken: secret.Auth.ClientToken, CAFile: s.Vault.CAFile}
}
