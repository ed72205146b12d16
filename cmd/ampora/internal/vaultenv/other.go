package vaultenv

import (
	"fmt"
	"strings"

	"github.com/ampora/ampora/cmd/ampora/internal/console"
	"github.com/ampora/ampora/cmd/ampora/internal/hint"
	"github.com/ampora/ampora/plugin/client"
	vault "github.com/hashicorp/vault/api"
)

// Other says how an engine of another Vault is reached than the one that the VAULT_* variables name.
type Other struct {
	Address   string // of Vault
	TokenFile string // with a token of that Vault; ours is never shown to it
	Mount     string // "ampora" when empty
	Tenant    string
	Namespace string
	CACert    string // file that verifies it; VAULT_CACERT when empty
}

// ParseOther reads ADDRESS[,token-file=FILE][,mount=PATH][,tenant=NAME][,namespace=NAME][,ca-cert=FILE].
func ParseOther(text string) (Other, error) {
	parts := strings.Split(text, ",")
	o := Other{Address: parts[0]}
	fields := map[string]*string{
		"token-file": &o.TokenFile, "mount": &o.Mount, "tenant": &o.Tenant, "namespace": &o.Namespace, "ca-cert": &o.CACert,
	}
	for _, part := range parts[1:] {
		name, value, found := strings.Cut(part, "=")
		if fields[name] == nil || !found {
			return Other{}, hint.New("behind the address stands something that is not understood", "what may stand there: token-file=, mount=, tenant=, namespace=, ca-cert=")
		}
		*fields[name] = value
	}
	switch {
	case !strings.HasPrefix(o.Address, "https://") && !strings.HasPrefix(o.Address, "http://"):
		return Other{}, hint.New("the address of a Vault begins with https://", "for example --peer west=https://vault.west.example:8200,token-file=west.token")
	case o.TokenFile == "":
		return Other{}, hint.New("a token for that Vault is missing", "write one to a file and name it: token-file=FILE; your own VAULT_TOKEN is not shown to another Vault")
	}
	return o, nil
}

// Client makes the client of the engine.
func (o Other) Client(con *console.Console) (*client.Client, error) {
	config := vault.DefaultConfig()
	if config.Error != nil {
		return nil, hint.Wrap(fmt.Errorf("the VAULT_* variables cannot be used: %w", config.Error), "see 'vault --help' for what they mean")
	}
	config.Address, config.AgentAddress = o.Address, ""
	if o.CACert != "" {
		if err := config.ConfigureTLS(&vault.TLSConfig{CACert: o.CACert}); err != nil {
			return nil, fmt.Errorf("ca-cert: %w", err)
		}
	}
	v, err := vault.NewClient(config)
	if err != nil {
		return nil, err
	}
	token, err := con.ReadInput(o.TokenFile, maxToken)
	if err != nil {
		return nil, err
	}
	v.SetToken(strings.TrimSpace(string(token)))
	v.ClearNamespace() // that of the environment is the other Vault's
	if o.Namespace != "" {
		v.SetNamespace(o.Namespace)
	}
	engine, err := client.New(v, strings.Trim(o.Mount, "/"))
	if err != nil {
		return nil, err
	}
	return engine.ForTenant(o.Tenant), nil
}
