package main

import (
	"encoding/pem"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/plugintest"
	"github.com/ampora/ampora/plugin/token"
	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"ampora": main})
}

// TestScripts runs testdata/*.txtar: one file per feature, each told as commands and what they print.
func TestScripts(t *testing.T) {
	files := material(t)
	maps.Copy(files, peerMaterial(t))
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			for name, text := range files {
				if err := os.WriteFile(filepath.Join(env.WorkDir, name), []byte(text), 0o600); err != nil {
					return err
				}
			}
			env.Setenv("TOKEN_ID", files["token.id"])
			env.Setenv("AGENT_ID", files["token.agent"])
			env.Setenv("HANDOVER_ID", files["handover.id"])
			env.Setenv("MOVING_ID", files["handover.agent"])
			env.Setenv("RECEIPT", files["receipt"])
			env.Setenv("HOME", env.WorkDir)
			return nil
		},
		RequireExplicitExec: true,
	})
}

// material is what the scripts look at: real tokens and certificates of the engine, and what becomes of them on their way.
func material(t *testing.T) map[string]string {
	t.Helper()
	engine := plugintest.Start(t)
	engine.Configure(t, "wss://localhost:4320/v1/opamp")
	c := engine.Client(t)
	issued, err := c.IssueToken(t.Context(), apitype.TokenIssueRequest{})
	if err != nil {
		t.Fatal(err)
	}
	secret, err := token.Parse(token.Bootstrap, issued.Token)
	if err != nil {
		t.Fatal(err)
	}
	id, err := c.Redeem(t.Context(), apitype.RedeemRequest{Token: issued.Token, GenerateKey: true, Capabilities: apitype.CapabilityAcceptsOpAMP})
	if err != nil {
		t.Fatal(err)
	}
	cut := id.Certificate[:len(id.Certificate)/2]
	block, _ := pem.Decode([]byte(id.PrivateKey))
	broken := pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes[:len(block.Bytes)-5]})
	text := secret.Reveal()
	return map[string]string{
		"token": text + "\n", "token.id": secret.ID(), "token.agent": secret.AgentID(), "pool": token.New(token.PoolSecret).Reveal(),
		"upper": strings.ToUpper(text), "short": text[:30], "quoted": `"` + text + `"`, "split": text[:30] + "\n" + text[30:],
		"mistyped": text[:20] + string(rune('a'+(text[20]-'a'+1)%26)) + text[21:],
		"cert.pem": id.Certificate, "key.pem": id.PrivateKey, "ca.pem": id.IssuingCA, "cut.pem": cut, "broken-key.pem": string(broken),
		"vault.json": `{"data":{"token":"` + text + `"}}`, "nothing": "", "other": "hello\n",
	}
}
