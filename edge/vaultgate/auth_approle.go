package vaultgate

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"strings"

	vaultapi "github.com/hashicorp/vault/api"
)

// appRole logs in to Vault's AppRole method. Its files are read at every login, so that a rotated secret ID heals the edge
// without a restart.
type appRole struct {
	mount        string
	roleID       string
	roleIDFile   string
	secretIDFile string // empty for a role that binds none
	wrapped      bool

	// What the wrapping token in the file held. A wrapping token opens once, a secret ID serves many logins.
	unwrappedFrom string
	secretID      string
}

func (*appRole) name() string   { return AuthAppRole }
func (*appRole) traits() traits { return traits{minted: true} }

func (m *appRole) source() [sha256.Size]byte {
	var paths []string
	for _, path := range []string{m.roleIDFile, m.secretIDFile} {
		if path != "" {
			paths = append(paths, path)
		}
	}
	return digest(paths...)
}

func (m *appRole) login(ctx context.Context, v *vaultapi.Client) (lease, error) {
	roleID := m.roleID
	if m.roleIDFile != "" {
		var err error
		if roleID, err = readSecret(m.roleIDFile); err != nil {
			return lease{}, err
		}
	}
	data := map[string]any{"role_id": roleID}
	if m.secretIDFile != "" {
		secretID, err := readSecret(m.secretIDFile)
		if err != nil {
			return lease{}, err
		}
		if m.wrapped {
			if secretID, err = m.unwrap(ctx, v, secretID); err != nil {
				return lease{}, err
			}
		}
		data["secret_id"] = secretID
	}
	return loginWith(ctx, v, m.mount, data)
}

// unwrap opens the wrapping token, unless it is the one that was opened last. It looks first where the token comes from:
// whoever intercepts one can open it and hand on another of his own making, but cannot make one that says it was created
// by the role's secret-id path.
func (m *appRole) unwrap(ctx context.Context, v *vaultapi.Client, wrapping string) (string, error) {
	if wrapping == m.unwrappedFrom {
		return m.secretID, nil
	}
	info, err := v.Logical().WriteWithContext(ctx, "sys/wrapping/lookup", map[string]any{"token": wrapping})
	if err != nil {
		return "", fmt.Errorf("%s: the wrapping token has expired or was opened already; if nobody of yours did, the secret ID was stolen: %w", m.secretIDFile, err)
	}
	from, _ := info.Data["creation_path"].(string)
	if !strings.HasPrefix(from, "auth/"+m.mount+"/role/") || !strings.HasSuffix(from, "/secret-id") {
		return "", fmt.Errorf("%s: the wrapping token was not made by auth/%s/role/<role>/secret-id", m.secretIDFile, m.mount)
	}
	secret, err := ask(ctx, v, http.MethodPut, "sys/wrapping/unwrap", wrapping)
	if err != nil {
		return "", fmt.Errorf("%s: opening the wrapping token: %w", m.secretIDFile, err)
	}
	var secretID string
	if secret != nil {
		secretID, _ = secret.Data["secret_id"].(string)
	}
	if secretID == "" {
		return "", errors.New(m.secretIDFile + ": the wrapping token holds no secret ID")
	}
	m.unwrappedFrom, m.secretID = wrapping, secretID
	return secretID, nil
}
