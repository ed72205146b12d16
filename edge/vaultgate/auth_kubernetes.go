package vaultgate

import (
	"context"
	"crypto/sha256"

	vaultapi "github.com/hashicorp/vault/api"
)

// kubernetes logs in to Vault's Kubernetes method with the pod's service account token, which the kubelet replaces
// about every hour.
type kubernetes struct {
	mount     string
	role      string
	tokenFile string
}

func (*kubernetes) name() string                { return AuthKubernetes }
func (m *kubernetes) source() [sha256.Size]byte { return digest(m.tokenFile) }
func (*kubernetes) traits() traits              { return traits{minted: true} }

func (m *kubernetes) login(ctx context.Context, v *vaultapi.Client) (lease, error) {
	jwt, err := readSecret(m.tokenFile)
	if err != nil {
		return lease{}, err
	}
	return loginWith(ctx, v, m.mount, map[string]any{"role": m.role, "jwt": jwt})
}
