package setup_test

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"github.com/ampora/ampora/cmd/ampora/internal/console"
	"github.com/ampora/ampora/cmd/ampora/internal/hint"
	"github.com/ampora/ampora/cmd/ampora/internal/setup"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/client"
	"github.com/ampora/ampora/test/vaulttest"
	vault "github.com/hashicorp/vault/api"
)

func TestVaultsOwnPKISignsTheCAAndTheNextOne(t *testing.T) {
	v := vaulttest.Start(t)
	root := pki(t, v, "pki", "87600h", map[string]any{"ttl": "87600h"})
	o := options(t, v)
	o.SignWith = "pki/"

	if out := run(t, v.Client(), o); !contains(out, "changed", "ampora/ has a CA, signed by pki/ until") {
		t.Errorf("the first run:\n%s", out)
	}
	first := issuers(t, v)[0]
	own := x509Of(t, first.Certificate)
	if first.State != "active" || len(first.CAChain) != 2 || !x509Of(t, first.CAChain[1]).Equal(root) || own.CheckSignatureFrom(root) != nil {
		t.Errorf("%+v", first)
	}
	if own.Subject.SerialNumber == "" || !own.MaxPathLenZero || time.Until(own.NotAfter) < 5*364*24*time.Hour || time.Until(own.NotAfter) > 5*366*24*time.Hour {
		t.Errorf("subject %s, path length %d, until %s", own.Subject, own.MaxPathLen, own.NotAfter)
	}
	states := func(want ...string) {
		t.Helper()
		var have []string
		for _, i := range issuers(t, v) {
			have = append(have, i.State)
		}
		if strings.Join(have, " ") != strings.Join(want, " ") {
			t.Fatalf("the issuers are %v, not %v", have, want)
		}
	}
	again := func(what string) {
		t.Helper()
		if out := run(t, v.Client(), o); changed(out) != 0 {
			t.Errorf("%s changed something:\n%s", what, out)
		}
	}
	again("the second run")
	o.Activate = true
	again("activating what is active")
	o.Activate, o.NewIssuer = false, true
	if out := run(t, v.Client(), o); changed(out) != 1 || !contains(out, "--activate") {
		t.Errorf("the next one:\n%s", out)
	}
	states("active", "draft")
	again("the next one, which waits already,")
	states("active", "draft")
	o.Activate, o.NewIssuer = true, false
	if out := run(t, v.Client(), o); changed(out) != 1 || !contains(out, "changed", "ampora/ signs with "+issuers(t, v)[1].IssuerID) {
		t.Errorf("activating:\n%s", out)
	}
	states("trusted", "active")
	again("activating it again")
	o.NewIssuer = true
	if out := run(t, v.Client(), o); changed(out) != 2 {
		t.Errorf("both at once:\n%s", out)
	}
	states("trusted", "trusted", "active")
}

func TestACAIsSignedByAnIntermediateAndNoLongerThanThatLives(t *testing.T) {
	v := vaulttest.Start(t)
	root := pki(t, v, "pki", "87600h", map[string]any{"ttl": "87600h"})
	must(t, v.Client().Sys().MountWithContext(t.Context(), "between", &vault.MountInput{Type: "pki", Config: vault.MountConfigInput{MaxLeaseTTL: "87600h"}}))
	csr := write(t, v, "between/intermediate/generate/internal", map[string]any{"common_name": "Between"})["csr"]
	between := write(t, v, "pki/root/sign-intermediate", map[string]any{"csr": csr, "ttl": "720h"})["certificate"].(string)
	write(t, v, "between/intermediate/set-signed", map[string]any{"certificate": between})

	o := options(t, v)
	o.SignWith = "between"
	fails(t, v.Client(), o, "does not lead to a root", "between/issuers/import/cert")
	if got := issuers(t, v); len(got) != 0 {
		t.Errorf("the failure left %+v", got)
	}
	write(t, v, "between/issuers/import/cert", map[string]any{"pem_bundle": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Raw}))})
	run(t, v.Client(), o)
	got := issuers(t, v)[0]
	if len(got.CAChain) != 3 || !x509Of(t, got.CAChain[2]).Equal(root) || !x509Of(t, got.CAChain[1]).Equal(x509Of(t, between)) {
		t.Errorf("%+v", got)
	}
	if end := x509Of(t, between).NotAfter; x509Of(t, got.Certificate).NotAfter.After(end) {
		t.Errorf("it lives until %d, and its parent until %s", got.Expiration, end)
	}
}

func TestWhyACACannotBeSignedIsSaid(t *testing.T) {
	v := vaulttest.Start(t)
	good := options(t, v)
	good.NoCA, good.Edge = true, nil
	run(t, v.Client(), good)
	good.NoCA = false
	pki(t, v, "pki", "87600h", map[string]any{"ttl": "87600h"})
	pki(t, v, "short", "768h", map[string]any{"ttl": "768h"})
	most := "100h"
	must(t, v.Client().Sys().TuneMountAllowNilWithContext(t.Context(), "short", vault.TuneMountConfigInput{MaxLeaseTTL: &most}))
	pki(t, v, "narrow", "87600h", map[string]any{"ttl": "87600h", "max_path_length": 0})
	must(t, v.Client().Sys().MountWithContext(t.Context(), "empty", &vault.MountInput{Type: "pki"}))
	must(t, v.Client().Sys().PutPolicyWithContext(t.Context(), "almost", `
		path "*" { capabilities = ["create", "read", "update", "delete", "list", "sudo"] }
		path "pki/root/sign-intermediate" { capabilities = ["deny"] }`))
	token, err := v.Client().Auth().Token().CreateWithContext(t.Context(), &vault.TokenCreateRequest{Policies: []string{"almost"}})
	must(t, err)
	for _, c := range []struct {
		name   string
		change func(*setup.Options)
		client *vault.Client
		says   []string
	}{
		{"no engine there", func(o *setup.Options) { o.SignWith = "nothing" }, nil, []string{"no engine at nothing/", "vault secrets enable -path=nothing"}},
		{"another engine", func(o *setup.Options) { o.SignWith = "cubbyhole" }, nil, []string{"of type cubbyhole, not pki"}},
		{"our own engine", func(o *setup.Options) { o.SignWith = "ampora" }, nil, []string{"not pki"}},
		{"no root there", func(o *setup.Options) { o.SignWith = "empty" }, nil, []string{"empty/ has no default issuer", "empty/root/generate/internal"}},
		{"not allowed", func(*setup.Options) {}, v.ClientWithToken(token.Auth.ClientToken), []string{"may not", `path "pki/root/sign-intermediate" { capabilities = ["update"] }`}},
		{"the mount's limit", func(o *setup.Options) { o.SignWith = "short" }, nil, []string{"short/ signs for 100h0m0s at most", "vault secrets tune -max-lease-ttl=7"}},
		{"an hour's CA", func(o *setup.Options) { o.IssuerTTL = time.Hour }, nil, []string{"ends within a day"}},
		{"a root that allows no CA below it", func(o *setup.Options) { o.SignWith = "narrow" }, nil, []string{"having narrow/ sign"}},
		{"both", func(o *setup.Options) { o.NoCA = true }, nil, []string{"--no-ca and --sign-with exclude each other"}},
		{"nobody signs", func(o *setup.Options) { o.SignWith, o.NewIssuer = "", true }, nil, []string{"--sign-with"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := good
			o.SignWith = "pki"
			c.change(&o)
			if c.client == nil {
				c.client = v.Client()
			}
			fails(t, c.client, o, c.says...)
			for _, i := range issuers(t, v) {
				if i.State != "retired" {
					t.Errorf("it left %+v", i)
				}
			}
		})
	}
	run(t, v.Client(), good) // self-signed
	good.SignWith = "pki"
	fails(t, v.Client(), good, "which pki/ has not signed", "--new-issuer")
	good.NewIssuer, good.Activate = true, true
	if out := run(t, v.Client(), good); changed(out) != 2 {
		t.Errorf("from self-signed to signed:\n%s", out)
	}
}

// pki is a pki engine with a root of its own.
func pki(t *testing.T, v *vaulttest.Vault, path, maxTTL string, fields map[string]any) *x509.Certificate {
	t.Helper()
	must(t, v.Client().Sys().MountWithContext(t.Context(), path, &vault.MountInput{Type: "pki", Config: vault.MountConfigInput{MaxLeaseTTL: maxTTL}}))
	fields["common_name"], fields["key_type"], fields["key_bits"] = "Root of "+path, "ec", 256
	return x509Of(t, write(t, v, path+"/root/generate/internal", fields)["certificate"].(string))
}

func write(t *testing.T, v *vaulttest.Vault, path string, fields map[string]any) map[string]any {
	t.Helper()
	answer, err := v.Client().Logical().WriteWithContext(t.Context(), path, fields)
	if err != nil || answer == nil {
		t.Fatalf("%s: %v", path, err)
	}
	return answer.Data
}

func issuers(t *testing.T, v *vaulttest.Vault) []apitype.CAIssuer {
	t.Helper()
	engine, err := client.New(v.Client(), "ampora")
	must(t, err)
	all, err := engine.Issuers(t.Context())
	must(t, err)
	return all
}

func x509Of(t *testing.T, text string) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		t.Fatalf("no certificate: %q", text)
	}
	c, err := x509.ParseCertificate(block.Bytes)
	must(t, err)
	return c
}

// fails runs the setup, which must fail and say all that.
func fails(t *testing.T, c *vault.Client, o setup.Options, says ...string) {
	t.Helper()
	var out, text bytes.Buffer
	err := setup.Run(t.Context(), &console.Console{Out: &out, Err: &out}, c, o)
	if err == nil {
		t.Fatalf("no error:\n%s", out.String())
	}
	hint.Print(&text, err)
	for _, want := range append(says, "hint: ") {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the error does not say %q:\n%s", want, text.String())
		}
	}
}
