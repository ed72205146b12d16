package vaultgate

import (
	"context"
	"crypto/sha256"
	"errors"

	vaultapi "github.com/hashicorp/vault/api"
)

// staticToken is a token that somebody gave us for good.
type staticToken struct{ token string }

func (*staticToken) name() string              { return AuthToken }
func (*staticToken) source() [sha256.Size]byte { return [sha256.Size]byte{} }
func (*staticToken) traits() traits            { return traits{} }

func (m *staticToken) login(ctx context.Context, v *vaultapi.Client) (lease, error) {
	return adoptToken(ctx, v, m.token)
}

// tokenFile is a token in a file that somebody else, usually Vault Agent, writes anew from time to time.
type tokenFile struct{ path string }

func (*tokenFile) name() string                { return AuthTokenFile }
func (m *tokenFile) source() [sha256.Size]byte { return digest(m.path) }
func (*tokenFile) traits() traits              { return traits{followed: true} }

func (m *tokenFile) login(ctx context.Context, v *vaultapi.Client) (lease, error) {
	token, err := readSecret(m.path)
	if err != nil {
		return lease{}, err
	}
	return adoptToken(ctx, v, token)
}

// adoptToken takes a token that we did not make. One that may not look itself up is taken as it is: what it may do is
// for its policies to say.
func adoptToken(ctx context.Context, v *vaultapi.Client, token string) (lease, error) {
	l, err := lookup(ctx, v, token)
	if errors.Is(err, errNoLookup) {
		return lease{token: token}, nil
	}
	return l, err
}
