package setup

import (
	"context"
	"fmt"
	"slices"

	"github.com/ampora/ampora/cmd/ampora/internal/hint"
	vault "github.com/hashicorp/vault/api"
)

// mount mounts the engine, or moves it to the wanted version.
func (s *setup) mount(ctx context.Context) error {
	mounts, err := s.vault.Sys().ListMountsWithContext(ctx)
	if err != nil {
		return err
	}
	at, there := mounts[s.o.Mount+"/"]
	switch {
	case !there:
		return s.mountNew(ctx)
	case at.Type != PluginName:
		return hint.New(fmt.Sprintf("at %s/ there is an engine of type %s", s.o.Mount, at.Type), "choose another place with --mount")
	case at.PluginVersion != s.o.PluginVersion:
		if err := s.tune(ctx, map[string]any{"plugin_version": s.o.PluginVersion}); err != nil {
			return err
		}
		if err := s.reload(ctx); err != nil {
			return err
		}
		s.did("%s/ runs %s, before %s", s.o.Mount, s.o.PluginVersion, at.PluginVersion)
	case at.RunningSha256 != "" && at.RunningSha256 != s.registered:
		// The same version was registered anew with another program.
		if err := s.reload(ctx); err != nil {
			return err
		}
		s.did("%s/ runs the program that is registered now", s.o.Mount)
	default:
		s.kept("%s/ runs %s", s.o.Mount, at.PluginVersion)
	}
	return nil
}

func (s *setup) mountNew(ctx context.Context) error {
	err := s.vault.Sys().MountWithContext(ctx, s.o.Mount, &vault.MountInput{
		Type: PluginName, Description: "Ampora: bootstrap tokens and identities for OpAMP agents",
		Config: vault.MountConfigInput{PluginVersion: s.o.PluginVersion},
	})
	if err != nil {
		return hint.Wrap(fmt.Errorf("mounting at %s/: %w", s.o.Mount, err),
			"if Vault cannot start the plugin: its program must be executable, built for Vault's machine, and say this version with --version (else give --plugin-version)")
	}
	s.did("%s/ is mounted and runs %s", s.o.Mount, s.o.PluginVersion)
	return nil
}

// reload starts the plugin anew; Vault waits for requests under way.
func (s *setup) reload(ctx context.Context) error {
	_, err := s.vault.Sys().ReloadPluginWithContext(ctx, &vault.ReloadPluginInput{Mounts: []string{s.o.Mount + "/"}})
	if err != nil {
		return hint.Wrap(fmt.Errorf("reloading the plugin at %s/: %w", s.o.Mount, err),
			"the version before runs on; to go back, run setup with its --plugin-version")
	}
	return nil
}

// tune changes the named settings of the mount and leaves the others.
func (s *setup) tune(ctx context.Context, settings map[string]any) error {
	_, err := s.vault.Logical().WriteWithContext(ctx, "sys/mounts/"+s.o.Mount+"/tune", settings)
	return err
}

// auditKeys opens the facts of the engine's requests and answers in Vault's audit log; see AuditRequestKeys. Keys that somebody
// added stay.
func (s *setup) auditKeys(ctx context.Context) error {
	now, err := s.vault.Sys().MountConfigWithContext(ctx, s.o.Mount)
	if err != nil {
		return err
	}
	changes := map[string]any{}
	for _, keys := range []struct {
		name       string
		have, want []string
	}{
		{"audit_non_hmac_request_keys", now.AuditNonHMACRequestKeys, AuditRequestKeys()},
		{"audit_non_hmac_response_keys", now.AuditNonHMACResponseKeys, AuditResponseKeys()},
	} {
		union := slices.Clone(keys.have)
		for _, key := range keys.want {
			if !slices.Contains(union, key) {
				union = append(union, key)
			}
		}
		if len(union) > len(keys.have) {
			changes[keys.name] = union
		}
	}
	if len(changes) == 0 {
		s.kept("the facts of %s/ are readable in Vault's audit log", s.o.Mount)
		return nil
	}
	if err := s.tune(ctx, changes); err != nil {
		return err
	}
	s.did("the facts of %s/ are readable in Vault's audit log", s.o.Mount)
	return nil
}
