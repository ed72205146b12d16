package vaultgate

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	vaultapi "github.com/hashicorp/vault/api"
)

// method is one way to come by a Vault token. Its methods are called by one goroutine at a time.
type method interface {
	// name is the value of --auth.
	name() string
	// login gets a token. The client holds none itself.
	login(ctx context.Context, v *vaultapi.Client) (lease, error)
	// source changes when there may be new credentials to log in with.
	source() [sha256.Size]byte
	// traits say how to treat the tokens.
	traits() traits
}

// traits of the tokens that a method yields.
type traits struct {
	// minted: every login makes a new token for us. So a login before the old one ends loses nothing, and at the end it is
	// ours to revoke.
	minted bool
	// followed: when the source changes, the token is another one.
	followed bool
}

// lease is a token with what Vault says of its life.
type lease struct {
	token     string
	ttl       time.Duration // 0 = it never expires, or nobody may know
	renewable bool
}

// choose picks the way to log in and refuses options that cannot work.
func (o AuthOptions) choose() (method, error) {
	given := map[string]bool{
		AuthTokenFile:  o.TokenFile != "",
		AuthAppRole:    o.AppRoleRoleID != "" || o.AppRoleRoleIDFile != "" || o.AppRoleSecretIDFile != "",
		AuthKubernetes: o.KubernetesRole != "",
	}
	auth := o.Auth
	if auth == "" {
		auth = AuthToken
		for _, name := range []string{AuthTokenFile, AuthAppRole, AuthKubernetes} {
			if given[name] && auth != AuthToken {
				return nil, fmt.Errorf("vaultgate: flags for both %s and %s are given; choose one with --auth", auth, name)
			}
			if given[name] {
				auth = name
			}
		}
	}
	switch auth {
	case AuthToken:
		token := o.Token
		if token == "" {
			token = os.Getenv(vaultapi.EnvVaultToken)
		}
		if token == "" {
			return nil, errors.New("vaultgate: no way to log in to Vault: set VAULT_TOKEN, or choose one with --auth")
		}
		return &staticToken{token: token}, nil
	case AuthTokenFile:
		if o.TokenFile == "" {
			return nil, errors.New("vaultgate: --auth=token-file needs --token-file")
		}
		return &tokenFile{path: o.TokenFile}, nil
	case AuthAppRole:
		if (o.AppRoleRoleID == "") == (o.AppRoleRoleIDFile == "") {
			return nil, errors.New("vaultgate: --auth=approle needs either --approle-role-id or --approle-role-id-file")
		}
		if o.AppRoleSecretIDWrapped && o.AppRoleSecretIDFile == "" {
			return nil, errors.New("vaultgate: --approle-secret-id-wrapped needs --approle-secret-id-file")
		}
		return &appRole{
			mount: mountOr(o.AuthMount, AuthAppRole), roleID: o.AppRoleRoleID, roleIDFile: o.AppRoleRoleIDFile,
			secretIDFile: o.AppRoleSecretIDFile, wrapped: o.AppRoleSecretIDWrapped,
		}, nil
	case AuthKubernetes:
		if o.KubernetesRole == "" {
			return nil, errors.New("vaultgate: --auth=kubernetes needs --kubernetes-role")
		}
		path := o.KubernetesTokenFile
		if path == "" {
			path = "/var/run/secrets/kubernetes.io/serviceaccount/token"
		}
		return &kubernetes{mount: mountOr(o.AuthMount, AuthKubernetes), role: o.KubernetesRole, tokenFile: path}, nil
	}
	return nil, fmt.Errorf("vaultgate: --auth takes token, token-file, approle or kubernetes")
}

func mountOr(mount, standard string) string {
	mount = strings.TrimPrefix(strings.Trim(mount, "/"), "auth/")
	if mount == "" {
		return standard
	}
	return mount
}

// loginWith writes to an auth method's login path.
func loginWith(ctx context.Context, v *vaultapi.Client, mount string, data map[string]any) (lease, error) {
	secret, err := v.Logical().WriteWithContext(ctx, "auth/"+mount+"/login", data)
	if err != nil {
		return lease{}, err
	}
	return leaseOf(secret)
}

// leaseOf reads the token out of the answer to a login or a renewal.
func leaseOf(secret *vaultapi.Secret) (lease, error) {
	if secret == nil || secret.Auth == nil || secret.Auth.ClientToken == "" {
		return lease{}, errors.New("the answer holds no token (if it asks for a second factor, this auth method is of no use here)")
	}
	return lease{
		token: secret.Auth.ClientToken, ttl: time.Duration(secret.Auth.LeaseDuration) * time.Second, renewable: secret.Auth.Renewable,
	}, nil
}

// lookup asks Vault about the token itself. A token without the right to do so answers errNoLookup.
func lookup(ctx context.Context, v *vaultapi.Client, token string) (lease, error) {
	secret, err := ask(ctx, v, http.MethodGet, "auth/token/lookup-self", token)
	switch {
	case deadToken(err):
		return lease{}, fmt.Errorf("%w: %w", errTokenDead, err)
	case statusOf(err) == http.StatusForbidden:
		return lease{}, fmt.Errorf("%w: %w", errNoLookup, err)
	case err != nil:
		return lease{}, err
	case secret == nil:
		return lease{}, errors.New("looking up the token gave an empty answer")
	}
	ttl, err := secret.TokenTTL()
	if err != nil {
		return lease{}, err
	}
	renewable, err := secret.TokenIsRenewable()
	if err != nil {
		return lease{}, err
	}
	return lease{token: token, ttl: ttl, renewable: renewable}, nil
}

var (
	errTokenDead = errors.New("the token is unknown to Vault, or no longer known")
	errNoLookup  = errors.New("the token's policies do not let it look itself up")
)

// ask sends one request with a token of its own. The client holds none, so that a question about one token can never go
// out with another.
func ask(ctx context.Context, v *vaultapi.Client, method, path, token string) (*vaultapi.Secret, error) {
	r := v.NewRequest(method, "/v1/"+path)
	r.ClientToken = token
	if method != http.MethodGet {
		if err := r.SetJSONBody(map[string]any{}); err != nil {
			return nil, err
		}
	}
	//lint:ignore SA1019 the only call of the library that takes a token with the request instead of changing the client's
	resp, err := v.RawRequestWithContext(ctx, r)
	if resp != nil {
		defer resp.Body.Close()
	}
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusNoContent {
		return nil, nil
	}
	return vaultapi.ParseSecret(resp.Body)
}
