package vaultenv

import (
	"strings"

	"github.com/ampora/ampora/cmd/ampora/internal/console"
	"github.com/ampora/ampora/plugin/client"
)

// Engine is the flags that say which engine is asked, and for whom.
type Engine struct {
	Mount          string `default:"ampora" placeholder:"PATH" help:"Where the engine is mounted."`
	Tenant         string `placeholder:"NAME" help:"Ask below tenants/NAME/, for who may see that tenant alone."`
	VaultTokenFile string `placeholder:"FILE" help:"File with the Vault token. Default: VAULT_TOKEN, then what 'vault login' left."`
}

// MountPath is the mount without slashes at its ends.
func (e Engine) MountPath() string { return strings.Trim(e.Mount, "/") }

// Client makes the client of the engine.
func (e Engine) Client(con *console.Console) (*client.Client, error) {
	v, err := New(con, e.VaultTokenFile)
	if err != nil {
		return nil, err
	}
	engine, err := client.New(v, e.MountPath())
	if err != nil {
		return nil, err
	}
	return engine.ForTenant(e.Tenant), nil
}
