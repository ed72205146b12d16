// Package setup brings a Vault to the state that Ampora needs, and says what it changed. Running it again changes nothing.
package setup

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/ampora/ampora/cmd/ampora/internal/console"
	"github.com/ampora/ampora/cmd/ampora/internal/hint"
	"github.com/ampora/ampora/cmd/ampora/internal/vaultenv"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/client"
	vault "github.com/hashicorp/vault/api"
)

// PluginName is what the engine is called in Vault's catalog.
const PluginName = "vault-plugin-secrets-ampora"

// Options say what to set up. The zero value of a field leaves the thing alone.
type Options struct {
	Mount          string            `default:"ampora" placeholder:"PATH" help:"Where the engine is mounted."`
	Plugin         string            `placeholder:"FILE" group:"plugin" help:"The plugin's program, as it lies in Vault's plugin directory; its SHA-256 is taken from here."`
	PluginSHA256   string            `name:"plugin-sha256" placeholder:"HEX" group:"plugin" help:"The program's SHA-256, in the place of --plugin, when it does not lie on this machine."`
	PluginCommand  string            `placeholder:"NAME" group:"plugin" help:"The program's name in Vault's plugin directory. Default: that of --plugin, else vault-plugin-secrets-ampora."`
	PluginVersion  string            `placeholder:"VERSION" group:"plugin" help:"The version to register it under, as its --version says. Default: that of this program."`
	PeerID         string            `name:"peer-id" placeholder:"NAME" group:"config" help:"This installation's name among its peers; fixed once there is an issuer."`
	TrustDomain    string            `placeholder:"NAME" group:"config" help:"Trust domain of the agents' SPIFFE IDs; fixed once there is an issuer."`
	Endpoint       string            `placeholder:"URL" group:"config" help:"Where agents connect: wss://edge.example.com:4320/v1/opamp."`
	Config         map[string]string `placeholder:"KEY=VALUE" mapsep:"none" group:"config" help:"Another field of the configuration; may be repeated. '@FILE' as value reads a file."`
	NoCA           bool              `name:"no-ca" group:"ca" help:"Make no self-signed issuer: you will sign one with ca/intermediate."`
	SignWith       string            `placeholder:"PATH" group:"ca" help:"Have Vault's pki engine at this path sign Ampora's CA, in the place of a self-signed one."`
	IssuerTTL      time.Duration     `name:"issuer-ttl" default:"43800h" group:"ca" help:"How long the CA lives that it signs, cut to what is left of its own."`
	NewIssuer      bool              `group:"ca" help:"Have it sign the next CA beside the one that there is. It waits as a draft."`
	Activate       bool              `group:"ca" help:"Let the CA that waits take over."`
	Tenant         []string          `placeholder:"NAME" group:"policies" help:"Write a policy for the operator of this tenant; may be repeated."`
	Pool           []string          `placeholder:"NAME" group:"policies" help:"Write a policy for who issues from this pool, of each --tenant where there is one; may be repeated."`
	Edge           []string          `placeholder:"NAME" group:"edge" help:"Make an AppRole for the edge of this name; may be repeated."`
	AppRolePath    string            `name:"approle-path" default:"approle" placeholder:"PATH" group:"edge" help:"Where AppRole is mounted, or is to be."`
	EdgeBoundCIDRs []string          `name:"edge-bound-cidr" placeholder:"CIDR" group:"edge" help:"Where edges may log in from; may be repeated. Default: anywhere."`
	EdgeTokenTTL   time.Duration     `name:"edge-token-ttl" default:"1h" group:"edge" help:"How long an edge's Vault token lives between renewals."`
	EdgeTokenMax   time.Duration     `name:"edge-token-max-ttl" default:"24h" group:"edge" help:"When an edge must log in anew."`
	CredentialsDir string            `name:"edge-credentials-dir" placeholder:"DIR" group:"edge" help:"Write each edge's role_id and secret_id there, as NAME.role_id and NAME.secret_id."`
}

// Cmd is "ampora setup".
type Cmd struct {
	Options        `embed:""`
	VaultTokenFile string `placeholder:"FILE" help:"File with the Vault token. Default: VAULT_TOKEN, then what 'vault login' left."`
}

// Run sets up the Vault that the VAULT_* variables name.
func (c *Cmd) Run(ctx context.Context, con *console.Console) error {
	v, err := vaultenv.New(con, c.VaultTokenFile)
	if err != nil {
		return err
	}
	con.Sayf("Setting up the Vault at %s.", v.Address())
	return Run(ctx, con, v, c.Options)
}

// Run sets up the given Vault.
func Run(ctx context.Context, con *console.Console, v *vault.Client, o Options) error {
	if err := o.check(); err != nil {
		return err
	}
	engine, err := client.New(v, o.Mount)
	if err != nil {
		return err
	}
	// Every request below may be sent twice without harm, but the library's own repeats hide a Vault that is down for long.
	v = engine.Vault()
	s := &setup{con: con, vault: v, engine: engine, o: o}
	for _, step := range []func(context.Context) error{
		s.plugin, s.mount, s.auditKeys, s.config, s.issuer, s.policies, s.edges,
	} {
		if err := step(ctx); err != nil {
			return vaultenv.Explain(v, err)
		}
	}
	if s.changes == 0 {
		con.Printf("Nothing had to be changed.\n")
	}
	return nil
}

// setup is one run.
type setup struct {
	con     *console.Console
	vault   *vault.Client
	engine  *client.Client
	o       Options
	changes int
	// registered is the catalog's SHA-256 of the version that is wanted, hex.
	registered string
}

// did tells of a change.
func (s *setup) did(format string, args ...any) {
	s.changes++
	s.con.Printf("changed    "+format+"\n", args...)
}

// kept tells of something that was as it should be.
func (s *setup) kept(format string, args ...any) {
	s.con.Printf("unchanged  "+format+"\n", args...)
}

func (o *Options) check() error {
	o.Mount = strings.Trim(o.Mount, "/")
	if o.Mount == "" {
		o.Mount = apitype.DefaultMount
	}
	if o.PluginVersion == "" {
		o.PluginVersion = apitype.Version
	}
	if o.Plugin != "" && o.PluginSHA256 != "" {
		return hint.New("--plugin and --plugin-sha256 exclude each other", "give the file when it lies here, and its SHA-256 when it does not")
	}
	if o.PluginSHA256 != "" && !regexp.MustCompile(`^[0-9a-f]{64}$`).MatchString(o.PluginSHA256) {
		return hint.New("--plugin-sha256 is no SHA-256", "it is 64 of 0-9 and a-f: 'sha256sum vault-plugin-secrets-ampora'")
	}
	// The rule for every name of ours. An edge's becomes part of a role and of a file, a tenant's and a pool's of a policy.
	rule := regexp.MustCompile(`^[a-z0-9]([a-z0-9_-]{0,62}[a-z0-9])?$`)
	for _, name := range o.Edge {
		if !rule.MatchString(name) {
			return hint.New(fmt.Sprintf("%q is no name for an edge", name), apitype.NameInvalid.Next())
		}
	}
	for _, name := range o.Tenant {
		if !rule.MatchString(name) {
			return hint.New(fmt.Sprintf("%q is no name for a tenant", name), apitype.NameInvalid.Next())
		}
	}
	for _, name := range o.Pool {
		if !rule.MatchString(name) {
			return hint.New(fmt.Sprintf("%q is no name for a pool", name), apitype.NameInvalid.Next())
		}
	}
	o.SignWith = strings.Trim(o.SignWith, "/")
	if o.IssuerTTL == 0 {
		o.IssuerTTL = defaultIssuerTTL
	}
	switch {
	case o.NoCA && o.SignWith != "":
		return hint.New("--no-ca and --sign-with exclude each other", "leave --no-ca out to have a CA signed")
	case o.SignWith == "" && (o.NewIssuer || o.Activate):
		return hint.New("--new-issuer and --activate are for a CA that a pki engine signs", "name its path with --sign-with")
	}
	if o.CredentialsDir != "" && len(o.Edge) == 0 {
		return hint.New("--edge-credentials-dir needs an edge to write credentials for", "name it with --edge NAME")
	}
	return nil
}
