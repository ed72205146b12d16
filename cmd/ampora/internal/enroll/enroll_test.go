package enroll

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ampora/ampora/cmd/ampora/internal/idfiles"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/token"
)

func TestATokenTurnsIntoAnIdentityOnDisk(t *testing.T) {
	w := newWorld(t)
	for _, scheme := range []string{"wss", "https"} {
		for kind, want := range map[string]any{"ec": &ecdsa.PrivateKey{}, "p384": &ecdsa.PrivateKey{}, "ed25519": ed25519.PrivateKey{}, "rsa": &rsa.PrivateKey{}} {
			t.Run(scheme+" "+kind, func(t *testing.T) {
				dir := filepath.Join(t.TempDir(), "new", "id")
				secret, err := token.Parse(token.Bootstrap, w.token())
				if err != nil {
					t.Fatal(err)
				}
				id := w.mustEnrol(dir, "\n "+secret.Reveal()+"\r\n", func(c *Cmd) { c.Endpoint, c.KeyType = w.endpoint(scheme), kind })
				if id.Endpoint != w.endpoint(scheme) {
					t.Errorf("endpoint %s", id.Endpoint)
				}
				who, err := describe(id)
				if err != nil || who.agentID != secret.AgentID() {
					t.Errorf("agent %+v, %v", who, err)
				}
				key, err := parseKey(id.Key)
				if err != nil || kindOfKey(key) != kindOfKey(want) {
					t.Errorf("key %T, %v", key, err)
				}
				row, err := w.client.Agent(t.Context(), secret.AgentID())
				if err != nil || row.InstanceUID != id.InstanceUID || !strings.Contains(row.Description, "a-collector") || row.KeyOrigin != "csr" {
					t.Errorf("row %+v, %v", row, err)
				}
				for _, name := range []string{idfiles.Supervisor, idfiles.Extension} {
					data, err := os.ReadFile(filepath.Join(dir, name))
					if err != nil || !bytes.Contains(data, []byte(filepath.Join(dir, "key.pem"))) || bytes.Contains(data, []byte("amp-bs")) {
						t.Errorf("%s: %v\n%s", name, err, data)
					}
				}
			})
		}
	}
}

func kindOfKey(key any) string {
	switch key.(type) {
	case *ecdsa.PrivateKey:
		return "ecdsa"
	case ed25519.PrivateKey:
		return "ed25519"
	case *rsa.PrivateKey:
		return "rsa"
	}
	return "?"
}

func TestTheTokenComesFromAFileTheEnvironmentOrTheInput(t *testing.T) {
	w := newWorld(t)
	file := filepath.Join(t.TempDir(), "token")
	w.write(file, w.token()+"\n")
	w.mustEnrol(filepath.Join(t.TempDir(), "id"), "", func(c *Cmd) { c.TokenFile = file })
	w.mustEnrol(filepath.Join(t.TempDir(), "id"), w.token(), func(c *Cmd) { c.TokenFile = "-" })

	dir := filepath.Join(t.TempDir(), "id")
	w.refuses(dir, w.enrol(dir, " \n"), "empty", "--token-file")
}

func TestAnIdentityThatWorksIsNotReplaced(t *testing.T) {
	w := newWorld(t)
	dir := filepath.Join(t.TempDir(), "id")
	id := w.mustEnrol(dir, w.token())
	second := w.token()
	w.refuses("", w.enrol(dir, second, func(c *Cmd) { c.Name = "another" }), "which works and is valid until", "the token was not used", "another directory")
	if again := w.identity(dir); !bytes.Equal(again.Cert, id.Cert) || !bytes.Equal(again.Key, id.Key) {
		t.Error("the identity was changed")
	}
	w.mustEnrol(filepath.Join(t.TempDir(), "id"), second) // it is still good
	who, err := describe(id)
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(500 * time.Millisecond) // reports are put together
	if row, err := w.client.Agent(t.Context(), who.agentID); err != nil || !strings.Contains(row.Description, "a-collector") {
		t.Errorf("trying the identity changed what the agent says of itself: %+v %v", row, err)
	}
}

func TestAnIdentityIsReplacedOnceTheEdgeRefusesIt(t *testing.T) {
	w := newWorld(t)
	for name, end := range map[string]func(agentID string) error{
		"revoked": func(id string) error {
			_, err := w.client.RevokeAgent(t.Context(), id, apitype.RevokeRequest{Reason: "keyCompromise"})
			return err
		},
		"deleted": func(id string) error { return w.client.DeleteAgent(t.Context(), id) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "id")
			old := w.mustEnrol(dir, w.token())
			w.write(filepath.Join(dir, "notes.txt"), "mine")
			who, err := describe(old)
			if err != nil {
				t.Fatal(err)
			}
			if err := end(who.agentID); err != nil {
				t.Fatal(err)
			}
			w.untilRefused(old)
			fresh := w.mustEnrol(dir, w.token())
			if bytes.Equal(fresh.Cert, old.Cert) {
				t.Error("the identity was not replaced")
			}
			if data, err := os.ReadFile(filepath.Join(dir, "notes.txt")); err != nil || string(data) != "mine" {
				t.Errorf("a stranger's file: %q %v", data, err)
			}
		})
	}
}

// untilRefused waits until the edge has heard of the end of an identity.
func (w *world) untilRefused(id *idfiles.Identity) {
	w.Helper()
	for begin := time.Now(); time.Since(begin) < 10*time.Second; time.Sleep(50 * time.Millisecond) {
		err := knockWith(w.Context(), id)
		if r, refused := isRefusal(err); refused && r.Identity() {
			return
		}
	}
	w.Fatal("the edge does not refuse the identity")
}

func TestAnExpiredIdentityIsReplacedWithoutAsking(t *testing.T) {
	w := newWorld(t)
	dir := filepath.Join(t.TempDir(), "id")
	w.mustEnrol(dir, w.token())
	expired(t, dir)
	w.mustEnrol(dir, w.token())
}

func TestWithoutAnEdgeNothingIsReplaced(t *testing.T) {
	w := newWorld(t)
	dir := filepath.Join(t.TempDir(), "id")
	w.mustEnrol(dir, w.token())
	w.write(filepath.Join(dir, idfiles.Endpoint), "wss://"+freeAddr(t)+"/v1/opamp\n")
	w.refuses("", w.enrol(dir, w.token()), "cannot be told", "the token was not used")
}

func TestFilesOfOthersAreNotReplaced(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	w.write(filepath.Join(dir, "key.pem"), "somebody's")
	w.refuses("", w.enrol(dir, w.token()), "no identity of ours", "another directory")
	if data, err := os.ReadFile(filepath.Join(dir, "key.pem")); err != nil || string(data) != "somebody's" {
		t.Errorf("%q %v", data, err)
	}
}

func TestARefusedTokenLeavesNothingAndNamesItsReason(t *testing.T) {
	w := newWorld(t)
	dir := filepath.Join(t.TempDir(), "not", "made")
	spent := w.token()
	w.mustEnrol(filepath.Join(t.TempDir(), "id"), spent)
	revoked, err := w.client.IssueToken(t.Context(), apitype.TokenIssueRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.client.RevokeToken(t.Context(), revoked.TokenID, apitype.RevokeRequest{}); err != nil {
		t.Fatal(err)
	}
	bound, err := w.client.IssueToken(t.Context(), apitype.TokenIssueRequest{BoundCIDRs: []string{"192.0.2.0/24"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, token string
		code        apitype.Code
	}{
		{"never issued", token.New(token.Bootstrap).Reveal(), apitype.TokenUnknown},
		{"spent", spent, apitype.TokenRedeemed},
		{"revoked", revoked.Token, apitype.TokenRevoked},
		{"bound elsewhere", bound.Token, apitype.CIDRMismatch},
		{"truncated", spent[:50], apitype.TokenMalformed},
		{"upper-cased", strings.ToUpper(spent), apitype.TokenMalformed},
		{"mistyped", spent[:20] + flip(spent[20]) + spent[21:], apitype.TokenChecksum},
		{"a pool's secret", token.New(token.PoolSecret).Reveal(), apitype.TokenMalformed},
	} {
		for _, scheme := range []string{"wss", "https"} {
			t.Run(c.name+" "+scheme, func(t *testing.T) {
				r := w.enrol(dir, c.token, func(cmd *Cmd) { cmd.Endpoint = w.endpoint(scheme) })
				w.refuses(filepath.Dir(dir), r, string(c.code), strings.TrimSpace(c.code.Next()))
			})
		}
	}
}

func flip(c byte) string {
	if c == 'a' {
		return "b"
	}
	return "a"
}

func TestAnEdgeThatCannotBeReachedOrVerifiedCostsNothing(t *testing.T) {
	w := newWorld(t)
	dir := filepath.Join(t.TempDir(), "id")
	secret := w.token()
	for _, c := range []struct {
		name   string
		change func(*Cmd)
		says   []string
	}{
		{"nobody listens", func(c *Cmd) { c.Endpoint = "wss://" + freeAddr(t) + "/v1/opamp" }, []string{"cannot be reached", "the token was not used"}},
		{"the CA is not known", func(c *Cmd) { c.CAFile = "" }, []string{"--ca-file", "the token was not used"}},
		{"the name is another", func(c *Cmd) { c.Endpoint = strings.Replace(c.Endpoint, "127.0.0.1", "localhost", 1) }, []string{"--san", "the token was not used"}},
		{"no TLS there", func(c *Cmd) { c.Endpoint = "wss://" + strings.TrimPrefix(w.engine.URL, "http://") + "/v1/opamp" }, []string{"without TLS"}},
		{"another path", func(c *Cmd) { c.Endpoint = "wss://" + w.addr + "/opamp" }, []string{"404", ""}},
		{"no TLS wanted", func(c *Cmd) { c.Endpoint = "ws://" + w.addr + "/v1/opamp" }, []string{"no wss:// or https:// URL"}},
		{"no CA in the file", func(c *Cmd) { w.write(dir+".txt", "x"); c.CAFile = dir + ".txt" }, []string{"no certificate in the CA file"}},
		{"no uid", func(c *Cmd) { c.InstanceUID = "x" }, []string{"no UUID"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.refuses(dir, w.enrol(dir, secret, c.change), c.says...)
		})
	}
	w.mustEnrol(dir, secret) // after all that
}
