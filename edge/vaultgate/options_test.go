package vaultgate

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	vaultapi "github.com/hashicorp/vault/api"
)

// parseFlags reads the options as a program that embeds them does.
func parseFlags(t *testing.T, args ...string) (AuthOptions, error) {
	t.Helper()
	var program struct {
		AuthOptions `embed:""`
	}
	parser, err := kong.New(&program, kong.Name("ampora-edge"), kong.Exit(func(int) { t.Fatal("kong exits") }))
	if err != nil {
		t.Fatal(err)
	}
	_, err = parser.Parse(args)
	return program.AuthOptions, err
}

func TestFlagsChooseTheMethod(t *testing.T) {
	for name, c := range map[string]struct {
		token string // VAULT_TOKEN
		env   map[string]string
		args  []string
		want  string // method, or part of the error
	}{
		"VAULT_TOKEN alone":                {token: "t", want: "token"},
		"nothing":                          {want: "set VAULT_TOKEN"},
		"--auth=token without one":         {args: []string{"--auth=token"}, want: "set VAULT_TOKEN"},
		"a token file":                     {args: []string{"--token-file=/f"}, want: "token-file"},
		"a flag wins over VAULT_TOKEN":     {token: "t", args: []string{"--token-file=/f"}, want: "token-file"},
		"--auth wins over flags":           {token: "t", args: []string{"--auth=token", "--token-file=/f"}, want: "token"},
		"a role ID":                        {args: []string{"--approle-role-id=r", "--approle-secret-id-file=/s"}, want: "approle"},
		"a role ID by environment":         {env: map[string]string{"AMPORA_EDGE_APPROLE_ROLE_ID": "r"}, want: "approle"},
		"a Kubernetes role":                {args: []string{"--kubernetes-role=r"}, want: "kubernetes"},
		"--auth by environment":            {env: map[string]string{"AMPORA_EDGE_AUTH": "kubernetes", "AMPORA_EDGE_KUBERNETES_ROLE": "r"}, want: "kubernetes"},
		"two methods":                      {args: []string{"--token-file=/f", "--kubernetes-role=r"}, want: "choose one with --auth"},
		"token-file without a file":        {args: []string{"--auth=token-file"}, want: "needs --token-file"},
		"AppRole without a role":           {args: []string{"--auth=approle"}, want: "--approle-role-id"},
		"AppRole with two":                 {args: []string{"--approle-role-id=r", "--approle-role-id-file=/r"}, want: "either"},
		"wrapped nothing":                  {args: []string{"--approle-role-id=r", "--approle-secret-id-wrapped"}, want: "needs --approle-secret-id-file"},
		"Kubernetes without a role":        {args: []string{"--auth=kubernetes"}, want: "needs --kubernetes-role"},
		"an unknown method":                {args: []string{"--auth=ldap"}, want: "must be one of"},
		"a secret ID as a flag is unknown": {args: []string{"--approle-secret-id=s"}, want: "unknown flag"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(vaultapi.EnvVaultToken, c.token)
			for k, v := range c.env {
				t.Setenv(k, v)
			}
			var got string
			options, err := parseFlags(t, c.args...)
			if err == nil {
				var m method
				if m, err = options.choose(); err == nil {
					got = m.name()
				}
			}
			if err != nil {
				got = err.Error()
			}
			if !strings.Contains(got, c.want) || (err == nil && got != c.want) {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

func TestAuthMountIsAPathBelowAuth(t *testing.T) {
	for given, want := range map[string]string{"": "approle", "edges": "edges", "auth/edges/": "edges", "/eu/edges": "eu/edges"} {
		if got := mountOr(given, AuthAppRole); got != want {
			t.Errorf("%q becomes %q, want %q", given, got, want)
		}
	}
}

func TestSecretFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	for name, c := range map[string]struct{ content, want, err string }{
		"plain":          {"hvs.abc", "hvs.abc", ""},
		"with a newline": {"hvs.abc\r\n", "hvs.abc", ""},
		"empty":          {"\n", "", "empty"},
		"wrapped sink":   {`{"token":"hvs.abc"}`, "", "neither wrapped nor encrypted"},
		"two words":      {"hvs.abc hvs.def", "", "more than one word"},
		"two lines":      {"hvs.abc\nhvs.def", "", "more than one word"},
		"binary":         {"hvs.\x00abc", "", "do not print"},
		"huge":           {strings.Repeat("x", maxSecretFile+1), "", "no credential"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(path, []byte(c.content), 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := readSecret(path)
			if got != c.want || (err == nil) != (c.err == "") {
				t.Fatalf("%q, %v", got, err)
			}
			if err != nil && (!strings.Contains(err.Error(), c.err) || strings.Contains(err.Error(), "hvs")) {
				t.Errorf("%v", err)
			}
		})
	}
	before := digest(path)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := readSecret(path); !os.IsNotExist(err) {
		t.Errorf("a missing file: %v", err)
	}
	if digest(path) == before {
		t.Error("removing the file is no change")
	}
}
