package setup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// credentials writes role_id and secret_id into files, unless those that lie there still work.
func (s *setup) credentials(ctx context.Context, edge string) error {
	if err := os.MkdirAll(s.o.CredentialsDir, 0o700); err != nil {
		return err
	}
	roleFile := filepath.Join(s.o.CredentialsDir, edge+".role_id")
	secretFile := filepath.Join(s.o.CredentialsDir, edge+".secret_id")
	path := s.rolePath(edge)
	answer, err := s.vault.Logical().ReadWithContext(ctx, path+"/role-id")
	if err != nil || answer == nil {
		return fmt.Errorf("reading the role_id of edge %s: %w", edge, err)
	}
	roleID, _ := answer.Data["role_id"].(string)
	if err := s.file(roleFile, roleID); err != nil {
		return err
	}
	if works, err := s.secretWorks(ctx, path, secretFile); err != nil || works {
		if works {
			s.kept("%s", secretFile)
		}
		return err
	}
	answer, err = s.vault.Logical().WriteWithContext(ctx, path+"/secret-id", map[string]any{"metadata": `{"edge":"` + edge + `"}`})
	if err != nil || answer == nil {
		return fmt.Errorf("making a secret_id for edge %s: %w", edge, err)
	}
	secretID, _ := answer.Data["secret_id"].(string)
	return s.file(secretFile, secretID)
}

// secretWorks asks Vault about the secret_id in a file.
func (s *setup) secretWorks(ctx context.Context, role, file string) (bool, error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	secret := strings.TrimSpace(string(data))
	if secret == "" {
		return false, nil
	}
	answer, err := s.vault.Logical().WriteWithContext(ctx, role+"/secret-id/lookup", map[string]any{"secret_id": secret})
	if notFound(err) {
		return false, nil
	}
	return err == nil && answer != nil && len(answer.Data) > 0, err
}

// file writes one line with mode 0600, if that is not what is there. A crash leaves the old file or the new one.
func (s *setup) file(name, line string) error {
	if line == "" {
		return fmt.Errorf("there is nothing to write to %s", name)
	}
	now, err := os.ReadFile(name)
	if err == nil && strings.TrimSpace(string(now)) == line {
		s.kept("%s", name)
		return nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	temp, err := os.CreateTemp(filepath.Dir(name), ".new-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name()) // after a failure; else there is nothing to remove
	_, err = temp.WriteString(line + "\n")
	if err = errors.Join(err, temp.Sync(), temp.Close()); err != nil {
		return err
	}
	if err := os.Rename(temp.Name(), name); err != nil {
		return err
	}
	s.did("%s", name)
	return nil
}
