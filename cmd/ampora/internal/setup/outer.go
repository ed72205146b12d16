package setup

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ampora/ampora/cmd/ampora/internal/hint"
)

// outerCA is a pki engine of Vault that signs Ampora's CA.
type outerCA struct {
	mount  string            // without a slash at its end
	signer *x509.Certificate // its default issuer, which signs
	all    []*x509.Certificate
}

// defaultIssuerTTL is how long a CA that was signed lives when nothing else is said.
const defaultIssuerTTL = 5 * 365 * 24 * time.Hour

// maxDepth bounds a chain.
const maxDepth = 10

func (p *outerCA) signPath() string { return p.mount + "/root/sign-intermediate" }

// outerCA looks at the pki engine at --sign-with. Its certificates are public, so this needs no permission there.
func (s *setup) outerCA(ctx context.Context) (*outerCA, error) {
	p := &outerCA{mount: s.o.SignWith}
	mounts, err := s.vault.Sys().ListMountsWithContext(ctx)
	if err != nil {
		return nil, err
	}
	at, there := mounts[p.mount+"/"]
	switch {
	case !there:
		return nil, hint.New(fmt.Sprintf("there is no engine at %s/ to sign Ampora's CA", p.mount),
			fmt.Sprintf("name the path of a pki engine with --sign-with, or make one: 'vault secrets enable -path=%s -max-lease-ttl=87600h pki'", p.mount), p.makeRoot())
	case at.Type != "pki":
		return nil, hint.New(fmt.Sprintf("at %s/ there is an engine of type %s, not pki", p.mount, at.Type), "name the path of a pki engine with --sign-with")
	}
	signer, err := s.certificate(ctx, p.mount+"/issuer/default/json")
	if err != nil || signer == nil {
		return nil, hint.Wrap(fmt.Errorf("the pki engine at %s/ has no default issuer: %w", p.mount, orNothing(err)), p.makeRoot(),
			fmt.Sprintf("if it has issuers, choose one: 'vault write %s/config/issuers default=ISSUER'", p.mount))
	}
	p.signer, p.all = signer, []*x509.Certificate{signer}
	list, err := s.vault.Logical().ListWithContext(ctx, p.mount+"/issuers")
	if err != nil || list == nil {
		return nil, fmt.Errorf("listing %s/issuers: %w", p.mount, orNothing(err))
	}
	ids, _ := list.Data["keys"].([]any)
	for _, id := range ids {
		c, err := s.certificate(ctx, fmt.Sprintf("%s/issuer/%v/json", p.mount, id))
		if err != nil {
			return nil, err
		}
		if c != nil {
			p.all = append(p.all, c)
		}
	}
	return p, nil
}

func (p *outerCA) makeRoot() string {
	return fmt.Sprintf("a root for it: 'vault write %s/root/generate/internal common_name=\"Our Root\" ttl=87600h'", p.mount)
}

func orNothing(err error) error {
	if err == nil {
		return errors.New("there is no answer from Vault")
	}
	return err
}

// certificate reads one of a path's answer, nil when there is none.
func (s *setup) certificate(ctx context.Context, path string) (*x509.Certificate, error) {
	answer, err := s.vault.Logical().ReadWithContext(ctx, path)
	if err != nil || answer == nil {
		return nil, err
	}
	text, _ := answer.Data["certificate"].(string)
	all := certificates(text)
	if len(all) == 0 {
		return nil, nil
	}
	return all[0], nil
}

// mayFor checks, before anything is made, that the CA can be signed, and answers for how long: as was asked, but no longer than
// the engine's own.
func (s *setup) mayFor(ctx context.Context, p *outerCA) (time.Duration, error) {
	may, err := s.vault.Sys().CapabilitiesSelfWithContext(ctx, p.signPath())
	if err != nil {
		return 0, err
	}
	if !slices.ContainsFunc(may, func(c string) bool { return c == "update" || c == "root" }) {
		return 0, hint.New(fmt.Sprintf("the Vault token may not have %s/ sign a CA", p.mount),
			fmt.Sprintf("its policy needs: path %q { capabilities = [\"update\"] }", p.signPath()),
			"or let somebody sign it who may, by hand: see 'Your own CA' in the README")
	}
	if _, err := p.upwards(p.signer, p.all); err != nil {
		return 0, err
	}
	left := time.Until(p.signer.NotAfter)
	ttl := min(s.o.IssuerTTL, left)
	if ttl < 24*time.Hour {
		return 0, hint.New(fmt.Sprintf("a CA that %s/ signs now ends within a day", p.mount),
			fmt.Sprintf("its own issuer ends at %s; renew that first, or give a longer --issuer-ttl", p.signer.NotAfter.UTC().Format(time.RFC3339)))
	}
	tuned, err := s.vault.Sys().MountConfigWithContext(ctx, p.mount)
	if err != nil {
		return 0, err
	}
	if most := time.Duration(tuned.MaxLeaseTTL) * time.Second; most < ttl {
		return 0, hint.New(fmt.Sprintf("%s/ signs for %s at most, and the CA is to live for %s", p.mount, most, ttl.Round(time.Hour)),
			fmt.Sprintf("let it: 'vault secrets tune -max-lease-ttl=%dh %s', or give a shorter --issuer-ttl", int64(ttl/time.Hour)+1, p.mount))
	}
	return ttl, nil
}

// signed reports whether one of the engine's issuers has signed the certificate, which is PEM.
func (p *outerCA) signed(certificate string) bool {
	return slices.ContainsFunc(certificates(certificate), func(c *x509.Certificate) bool { return signer(c, p.all) != nil })
}

// chain puts what the engine has signed together with its parents, up to the root: the engine's answer may leave the root out.
func (p *outerCA) chain(answer map[string]any) (string, error) {
	own, _ := answer["certificate"].(string)
	chain := certificates(own)
	if len(chain) == 0 {
		return "", fmt.Errorf("what %s/ has signed holds no certificate", p.mount)
	}
	pool := append(slices.Clone(chain[1:]), p.all...)
	parents, _ := answer["ca_chain"].([]any)
	for _, text := range parents {
		pool = append(pool, certificates(fmt.Sprint(text))...)
	}
	return p.upwards(chain[0], pool)
}

// upwards is the certificate and its parents up to the root, as PEM.
func (p *outerCA) upwards(last *x509.Certificate, pool []*x509.Certificate) (string, error) {
	text := encode(last)
	for range maxDepth {
		if bytes.Equal(last.RawSubject, last.RawIssuer) {
			return text, nil
		}
		if last = signer(last, pool); last == nil {
			break
		}
		text += encode(last)
	}
	return "", hint.New(fmt.Sprintf("the chain of %s/ does not lead to a root", p.mount),
		fmt.Sprintf("import the root's certificate there: 'vault write %s/issuers/import/cert pem_bundle=@root.pem'", p.mount))
}

// signer is who of the pool has signed the certificate, nil if nobody did.
func signer(c *x509.Certificate, pool []*x509.Certificate) *x509.Certificate {
	for _, parent := range pool {
		if bytes.Equal(c.RawIssuer, parent.RawSubject) && c.CheckSignatureFrom(parent) == nil {
			return parent
		}
	}
	return nil
}

// certificates are those of a PEM text.
func certificates(text string) []*x509.Certificate {
	var all []*x509.Certificate
	for rest := []byte(strings.TrimSpace(text)); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return all
		}
		if c, err := x509.ParseCertificate(block.Bytes); err == nil {
			all = append(all, c)
		}
	}
}

func encode(c *x509.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
}
