package fleet

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ampora/ampora/edge/vaultgate"
	"github.com/ampora/ampora/test/vaulttest"
)

// Setup runs 'ampora setup' as an operator would, for a plugin of that version whose file lies in pluginDir, and for edges
// of those names. vaultEnv says where Vault is. It returns the directory with the edges' credentials.
func Setup(t testing.TB, vaultEnv []string, pluginDir, version string, edges ...string) (credentials string) {
	t.Helper()
	const plugin = "vault-plugin-secrets-ampora"
	credentials = filepath.Join(t.TempDir(), "edges")
	arguments := []string{
		"setup", "--plugin", filepath.Join(pluginDir, plugin+"_"+version), "--plugin-version", version,
		"--peer-id", "north", "--trust-domain", "north.example", "--endpoint", "wss://127.0.0.1:4320/v1/opamp",
		"--edge-credentials-dir", credentials,
	}
	for _, name := range edges {
		arguments = append(arguments, "--edge", name)
	}
	cmd := exec.CommandContext(t.Context(), vaulttest.RequireBin(t, "ampora"), arguments...)
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(kv string) bool { return strings.HasPrefix(kv, "VAULT_") }), vaultEnv...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("ampora setup: %v\n%s", err, out)
	}
	return credentials
}

// AppRole is the way for an edge of Setup to log in.
func AppRole(credentials, edge string) vaultgate.AuthOptions {
	return vaultgate.AuthOptions{
		Auth:                vaultgate.AuthAppRole,
		AppRoleRoleIDFile:   filepath.Join(credentials, edge+".role_id"),
		AppRoleSecretIDFile: filepath.Join(credentials, edge+".secret_id"),
	}
}
