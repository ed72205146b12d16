// Package vaultenv makes a client of Vault as Vault's own command line would: from VAULT_ADDR, VAULT_CACERT and the other
// VAULT_* variables, with the token of VAULT_TOKEN or of the file that 'vault login' leaves.
package vaultenv

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/ampora/ampora/cmd/ampora/internal/console"
	"github.com/ampora/ampora/cmd/ampora/internal/hint"
	vault "github.com/hashicorp/vault/api"
)

// maxToken bounds the file of a Vault token, in bytes.
const maxToken = 64 << 10

// New makes the client. A token file, when named, goes before the environment.
func New(con *console.Console, tokenFile string) (*vault.Client, error) {
	config := vault.DefaultConfig()
	if config.Error != nil {
		return nil, hint.Wrap(fmt.Errorf("the VAULT_* variables cannot be used: %w", config.Error), "see 'vault --help' for what they mean")
	}
	client, err := vault.NewClient(config)
	if err != nil {
		return nil, err
	}
	switch {
	case tokenFile != "":
		data, err := con.ReadInput(tokenFile, maxToken)
		if err != nil {
			return nil, err
		}
		client.SetToken(strings.TrimSpace(string(data)))
	case client.Token() == "" && isSet("VAULT_TOKEN"):
		// Most likely $(cat file) of a file that is gone. Falling back to another token here would change another Vault.
		return nil, hint.New("VAULT_TOKEN is set, but empty", "set it to a token, or unset it to use what 'vault login' left")
	case client.Token() == "":
		if home, err := os.UserHomeDir(); err == nil {
			if data, err := os.ReadFile(filepath.Join(home, ".vault-token")); err == nil {
				client.SetToken(strings.TrimSpace(string(data)))
			}
		}
	}
	if client.Token() == "" {
		return nil, hint.New("there is no Vault token", "log in with 'vault login', set VAULT_TOKEN, or name a file with --vault-token-file")
	}
	return client, nil
}

func isSet(variable string) bool {
	_, set := os.LookupEnv(variable)
	return set
}

// Explain adds advice to an error of Vault.
func Explain(client *vault.Client, err error) error {
	var answer *vault.ResponseError
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &answer):
		if strings.Contains(err.Error(), "dial tcp") || strings.Contains(err.Error(), "tls:") || strings.Contains(err.Error(), "HTTPS client") {
			return hint.Wrap(err, "VAULT_ADDR says "+client.Address()+": is that right, does Vault run, and does VAULT_CACERT verify it?")
		}
		return err
	case answer.StatusCode == http.StatusForbidden:
		return hint.Wrap(err, "the Vault token does not allow this: "+answer.URL+"; use one that does, such as an administrator's")
	case answer.StatusCode == http.StatusServiceUnavailable && strings.Contains(err.Error(), "sealed"):
		return hint.Wrap(err, "unseal Vault first: 'vault operator unseal'")
	}
	return err
}
