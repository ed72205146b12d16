package setup

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/ampora/ampora/cmd/ampora/internal/hint"
	vault "github.com/hashicorp/vault/api"
)

// plugin registers the program in Vault's catalog, beside the versions that are there already.
func (s *setup) plugin(ctx context.Context) error {
	command, sum := s.o.PluginCommand, s.o.PluginSHA256
	if s.o.Plugin != "" {
		var err error
		if sum, err = fileSHA256(s.o.Plugin); err != nil {
			return hint.Wrap(fmt.Errorf("the plugin cannot be read: %w", err), "give the file that lies in Vault's plugin_directory, or a copy of it")
		}
		if command == "" {
			command = filepath.Base(s.o.Plugin)
		}
	}
	if command == "" {
		command = PluginName
	}
	there, err := s.catalogEntry(ctx)
	if err != nil {
		return err
	}
	what := fmt.Sprintf("plugin %s %s", PluginName, s.o.PluginVersion)
	if sum == "" {
		if there == nil {
			return hint.New(what+" is not registered in this Vault",
				"put the program into Vault's plugin_directory, on every node, and name it with --plugin FILE or --plugin-sha256 HEX")
		}
		sum = there.SHA256
	}
	s.registered = sum
	if there != nil && there.SHA256 == sum && (there.Command == command || s.o.PluginCommand == "" && s.o.Plugin == "") {
		s.kept("%s", what)
		return nil
	}
	err = s.vault.Sys().RegisterPluginWithContext(ctx, &vault.RegisterPluginInput{
		Name: PluginName, Type: vault.PluginTypeSecrets, Version: s.o.PluginVersion, SHA256: sum, Command: command,
	})
	if err != nil && strings.Contains(err.Error(), "version mismatch") {
		return hint.Wrap(fmt.Errorf("registering %s: %w", what, err), "give the version that the program's --version says with --plugin-version")
	}
	if err != nil {
		return hint.Wrap(fmt.Errorf("registering %s: %w", what, err),
			fmt.Sprintf("Vault's plugin_directory must hold %s, on every node and with these very bytes; a symbolic link will not do", command))
	}
	s.did("%s is registered", what)
	return nil
}

// catalogEntry is the catalog's entry for the wanted version, nil without one.
func (s *setup) catalogEntry(ctx context.Context) (*vault.GetPluginResponse, error) {
	entry, err := s.vault.Sys().GetPluginWithContext(ctx, &vault.GetPluginInput{
		Name: PluginName, Type: vault.PluginTypeSecrets, Version: s.o.PluginVersion,
	})
	if notFound(err) {
		return nil, nil
	}
	return entry, err
}

func notFound(err error) bool {
	var answer *vault.ResponseError
	return errors.As(err, &answer) && answer.StatusCode == http.StatusNotFound
}

func fileSHA256(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
