package vaultgate

import (
	"github.com/hashicorp/go-hclog"
	vaultapi "github.com/hashicorp/vault/api"
	"github.com/prometheus/client_golang/prometheus"
)

// Options is what a Gate is made of. Everything may be left out but a way to log in.
type Options struct {
	Mount  string // of the secrets engine; default "ampora"
	Tenant string // the calls that know tenants go below tenants/<tenant>/; empty without one
	Auth   AuthOptions

	Logger     hclog.Logger          // default none
	Registerer prometheus.Registerer // default none

	// Vault is how Vault is reached. Nil means the standard VAULT_* variables, all of them. The Gate takes it over, switches
	// its retries off and puts its own HTTP transport in, with the TLS configuration, proxy and dialer of the given one.
	Vault *vaultapi.Config

	// BootstrapSlots is how many bootstrap calls are with Vault at a time (default 64), and BootstrapQueue how many more
	// may wait (default 512).
	BootstrapSlots int
	BootstrapQueue int
}

// Ways to log in, as --auth takes them.
const (
	AuthToken      = "token"
	AuthTokenFile  = "token-file"
	AuthAppRole    = "approle"
	AuthKubernetes = "kubernetes"
)

// AuthOptions says how to log in to Vault. The tags are for github.com/alecthomas/kong: a program embeds the struct.
// Secrets come from files or the environment, never from a flag, whose value every user of the machine can see.
type AuthOptions struct {
	Auth      string `enum:",token,token-file,approle,kubernetes" default:"" env:"AMPORA_EDGE_AUTH" help:"How to log in to Vault: token (VAULT_TOKEN), token-file, approle or kubernetes. Without it: the one that a flag below was given for, else token."`
	AuthMount string `env:"AMPORA_EDGE_AUTH_MOUNT" placeholder:"PATH" help:"Path of the auth method in Vault, default approle or kubernetes."`

	TokenFile string `env:"AMPORA_EDGE_TOKEN_FILE" placeholder:"FILE" help:"File that holds a Vault token, such as a sink of Vault Agent. A new content is taken up at once."`

	AppRoleRoleID          string `name:"approle-role-id" env:"AMPORA_EDGE_APPROLE_ROLE_ID" placeholder:"ID" help:"Role ID of the AppRole."`
	AppRoleRoleIDFile      string `name:"approle-role-id-file" env:"AMPORA_EDGE_APPROLE_ROLE_ID_FILE" placeholder:"FILE" help:"File that holds the role ID."`
	AppRoleSecretIDFile    string `name:"approle-secret-id-file" env:"AMPORA_EDGE_APPROLE_SECRET_ID_FILE" placeholder:"FILE" help:"File that holds the secret ID, read at every login. Leave it out for a role with bind_secret_id=false."`
	AppRoleSecretIDWrapped bool   `name:"approle-secret-id-wrapped" env:"AMPORA_EDGE_APPROLE_SECRET_ID_WRAPPED" help:"The secret ID's file holds a response-wrapping token. It is unwrapped once and the secret ID kept in memory: after a restart the edge needs a new one."`

	KubernetesRole      string `env:"AMPORA_EDGE_KUBERNETES_ROLE" placeholder:"ROLE" help:"Role of Vault's Kubernetes auth method."`
	KubernetesTokenFile string `env:"AMPORA_EDGE_KUBERNETES_TOKEN_FILE" placeholder:"FILE" default:"/var/run/secrets/kubernetes.io/serviceaccount/token" help:"Service account token, read at every login."`

	// Token is for programs that have no environment of their own; default VAULT_TOKEN.
	Token string `kong:"-"`
}
