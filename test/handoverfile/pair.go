// Package handoverfile moves groups of agents between two real Vaults by handover files, with the ampora command as it is built.
package handoverfile

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/client"
	"github.com/ampora/ampora/test/vaulttest"
	"golang.org/x/sync/errgroup"
)

// Side is one installation.
type Side struct {
	Name  string
	Vault *vaulttest.Vault
	*client.Client
}

// Pair is two installations that are peers of each other, under their names.
type Pair struct {
	Source, Target *Side
	command        string
}

// Group is the agents that move.
const Group = "web"

// inFlight is how many requests are under way while agents are enrolled.
const inFlight = 16

// Start starts both. They run until Stop.
func Start(ctx context.Context) (*Pair, error) {
	command, err := vaulttest.Bin("ampora")
	if err != nil {
		return nil, err
	}
	p := &Pair{Source: &Side{Name: "eu"}, Target: &Side{Name: "west"}, command: command}
	for _, s := range []*Side{p.Source, p.Target} {
		if err := s.start(ctx); err != nil {
			return nil, errors.Join(err, p.Stop())
		}
	}
	return p, p.Meet(ctx)
}

// Meet makes each the other's peer, or tells each what has become of the other's addresses.
func (p *Pair) Meet(ctx context.Context) error {
	return errors.Join(p.Source.befriend(ctx, p.Target), p.Target.befriend(ctx, p.Source))
}

// Stop ends both.
func (p *Pair) Stop() error {
	var all []error
	for _, s := range []*Side{p.Source, p.Target} {
		if s.Vault != nil {
			all = append(all, s.Vault.Stop())
		}
	}
	return errors.Join(all...)
}

func (s *Side) start(ctx context.Context) (err error) {
	if s.Vault, err = vaulttest.Run(ctx, vaulttest.Options{}); err != nil {
		return err
	}
	if _, err = s.Vault.RegisterAmpora(ctx, apitype.DefaultMount); err != nil {
		return err
	}
	if s.Client, err = client.New(s.Vault.Client(), apitype.DefaultMount); err != nil {
		return err
	}
	err = s.UpdateConfig(ctx, map[string]any{
		"peer_id": s.Name, "trust_domain": s.Name + ".example", "endpoint": "wss://edge." + s.Name + ".example:4320/v1/opamp",
	})
	if err != nil {
		return err
	}
	if _, err = s.CARoot(ctx, apitype.CARootRequest{}); err != nil {
		return err
	}
	_, err = s.WriteGroup(ctx, Group, apitype.GroupRequest{})
	return err
}

// befriend makes the other one a peer of s.
func (s *Side) befriend(ctx context.Context, other *Side) error {
	b, err := other.FederationBundle(ctx)
	if err != nil {
		return err
	}
	_, err = s.WritePeer(ctx, other.Name, apitype.PeerRequest{
		PeerID: &b.PeerID, TrustDomain: &b.TrustDomain, Endpoint: &b.Endpoint, EndpointCABundle: &b.EndpointCABundle, FederationURL: &b.FederationURL, CABundle: &b.CABundle, BundleJWS: &b.BundleJWS,
	})
	return err
}

// Enrol makes n agents of the group at the source that can be moved, with descriptions of about that many bytes.
func (p *Pair) Enrol(ctx context.Context, n, description int) error {
	csr, err := newCSR()
	if err != nil {
		return err
	}
	work, ctx := errgroup.WithContext(ctx)
	work.SetLimit(inFlight)
	for i := range n {
		work.Go(func() error {
			t, err := p.Source.IssueToken(ctx, apitype.TokenIssueRequest{Group: Group})
			if err != nil {
				return err
			}
			_, err = p.Source.Redeem(ctx, apitype.RedeemRequest{
				Token: t.Token, CSR: csr, Capabilities: apitype.CapabilityAcceptsOpAMP, DisplayName: fmt.Sprintf("web-%04d", i), Description: describe(description),
			})
			return err
		})
	}
	return work.Wait()
}

// describe is an OpAMP AgentDescription in JSON of about so many bytes.
func describe(size int) string {
	var all []string
	for n := 0; n < size; n += 60 {
		all = append(all, fmt.Sprintf(`{"key":"label.%04d","value":{"stringValue":"%020d"}}`, n, n))
	}
	return `{"identifyingAttributes":[` + strings.Join(all, ",") + `]}`
}

func newCSR() (string, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})), err
}

// Result is what came of a command.
type Result struct {
	Out, Err string
	Code     int
}

// Run runs 'ampora handover' as an operator of that side.
func (p *Pair) Run(ctx context.Context, s *Side, args ...string) (Result, error) {
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, p.command, append([]string{"handover"}, args...)...)
	cmd.Env = append(os.Environ(), "VAULT_ADDR="+s.Vault.Addr, "VAULT_TOKEN="+s.Vault.RootToken, "VAULT_CACERT="+s.Vault.CAFile, "VAULT_NAMESPACE=")
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var ended *exec.ExitError
	if errors.As(err, &ended) && ended.ExitCode() > 0 {
		err = nil
	}
	return Result{out.String(), errs.String(), cmd.ProcessState.ExitCode()}, err
}

// Carry takes the receipts of the target to the source and the answers back, as edges do, until none is left.
func (p *Pair) Carry(ctx context.Context) error {
	for {
		var box struct {
			Data apitype.Outbox `json:"data"`
		}
		if err := p.Target.ask(ctx, apitype.PathHandoverOutbox, &box); err != nil || len(box.Data.Messages) == 0 {
			return err
		}
		for _, message := range box.Data.Messages {
			answer, err := p.Source.Vault.Client().Logical().WriteWithContext(ctx, "ampora/"+apitype.PathHandoverReceipt, map[string]any{"receipt": message.Receipt})
			if err != nil {
				return err
			}
			text, _ := answer.Data["receipt"].(string)
			if text == "" {
				continue
			}
			if _, err := p.Target.Vault.Client().Logical().WriteWithContext(ctx, "ampora/"+apitype.PathHandoverReceipt, map[string]any{"receipt": text}); err != nil {
				return err
			}
		}
	}
}

func (s *Side) ask(ctx context.Context, path string, out any) error {
	v := s.Vault.Client()
	//lint:ignore SA1019 the answer is decoded as it is
	resp, err := v.RawRequestWithContext(ctx, v.NewRequest("GET", "/v1/ampora/"+path))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return resp.DecodeJSON(out)
}
