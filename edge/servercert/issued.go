package servercert

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/hashicorp/go-hclog"
)

// Signer signs server certificates: the secrets engine.
type Signer interface {
	EdgeCertificate(context.Context, apitype.EdgeCertificateRequest) (*apitype.EdgeCertificate, error)
}

// Issued gets its certificate from the secrets engine, for a fresh key each time.
type Issued struct {
	Signer Signer
	// Names answers the host names and addresses that the certificate is for. None means that they are not known yet.
	Names func() []string
	// Trusts reports whether an issuer is still one, as far as is known here. Nil means always.
	Trusts func(issuer *x509.Certificate) bool
	Holder *Holder
	Logger hclog.Logger

	wake   chan struct{}
	names  []string          // those of the certificate in use
	issuer *x509.Certificate // of the certificate in use
}

const (
	signTimeout = 15 * time.Second
	retryMin    = 500 * time.Millisecond
	retryMax    = 30 * time.Second
)

// NewIssued makes one that has not asked yet.
func NewIssued(i Issued) *Issued {
	i.wake = make(chan struct{}, 1)
	return &i
}

// Wake makes Run look at the names and the issuer again. It never blocks.
func (i *Issued) Wake() {
	select {
	case i.wake <- struct{}{}:
	default:
	}
}

// Run keeps a valid certificate in the holder until ctx ends: renewed at about two thirds of its life, and at once when the
// names change or when its issuer was retired.
func (i *Issued) Run(ctx context.Context) {
	var renewAt time.Time
	retry := retryMin
	for {
		names := i.Names()
		wait := time.Hour
		switch {
		case len(names) == 0:
			// Wake tells when there may be some.
		case !slices.Equal(names, i.names) || !time.Now().Before(renewAt) || i.orphaned():
			at, err := i.renew(ctx, names)
			if err == nil {
				renewAt = at
				if !i.orphaned() {
					retry = retryMin
					continue
				}
				// Which issuers there are is known here a little later than in Vault. Soon it either knows this one, or Vault signs
				// with another.
			} else if ctx.Err() == nil {
				i.Logger.Warn("no server certificate from Vault, trying again", "names", names, "error", err)
			}
			wait, retry = retry/2+mathrand.N(retry), min(retry*2, retryMax)
		default:
			wait = time.Until(renewAt)
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-i.wake:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// orphaned reports whether the issuer of the certificate in use was retired: agents get it no more among their roots.
func (i *Issued) orphaned() bool {
	return i.Trusts != nil && i.issuer != nil && !i.Trusts(i.issuer)
}

// renew gets a certificate and answers when to get the next.
func (i *Issued) renew(ctx context.Context, names []string) (time.Time, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return time.Time{}, err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return time.Time{}, err
	}
	request := apitype.EdgeCertificateRequest{CSR: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr}))}
	for _, name := range names {
		if net.ParseIP(name) != nil {
			request.IPs = append(request.IPs, name)
		} else {
			request.DNSNames = append(request.DNSNames, name)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, signTimeout)
	defer cancel()
	answer, err := i.Signer.EdgeCertificate(ctx, request)
	if err != nil {
		return time.Time{}, err
	}
	certificate, roots, err := assemble(answer, key)
	if err != nil {
		return time.Time{}, err
	}
	i.Holder.set(certificate, roots)
	i.names, i.issuer = slices.Clone(names), issuerOf(answer)
	leaf := certificate.Leaf
	i.Logger.Info("server certificate from Vault", "names", names, "not_after", leaf.NotAfter, "issuer", leaf.Issuer)
	life := time.Until(leaf.NotAfter)
	return time.Now().Add(life*2/3 - mathrand.N(life/20+1)), nil
}

// issuerOf is the issuing CA of an answer that was assembled, nil if that is none.
func issuerOf(answer *apitype.EdgeCertificate) *x509.Certificate {
	block, _ := pem.Decode([]byte(answer.IssuingCA))
	if block == nil {
		return nil
	}
	issuer, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil
	}
	return issuer
}

// assemble puts the chain together: what the handshake sends (leaf and intermediates) and what agents verify it by (the
// issuer and its parents).
func assemble(answer *apitype.EdgeCertificate, key crypto.Signer) (*tls.Certificate, string, error) {
	leafBlock, _ := pem.Decode([]byte(answer.Certificate))
	if leafBlock == nil {
		return nil, "", errors.New("servercert: the engine's answer holds no certificate")
	}
	leaf, err := x509.ParseCertificate(leafBlock.Bytes)
	if err != nil {
		return nil, "", fmt.Errorf("servercert: %w", err)
	}
	c := &tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}
	var roots strings.Builder
	seen := map[string]bool{}
	for _, text := range append([]string{answer.IssuingCA}, answer.CAChain...) {
		block, _ := pem.Decode([]byte(text))
		if block == nil || seen[string(block.Bytes)] {
			continue
		}
		seen[string(block.Bytes)] = true
		parent, err := x509.ParseCertificate(block.Bytes)
		if err != nil || !parent.IsCA {
			continue
		}
		roots.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: parent.Raw}))
		if string(parent.RawSubject) != string(parent.RawIssuer) {
			c.Certificate = append(c.Certificate, parent.Raw)
		}
	}
	if roots.Len() == 0 {
		return nil, "", errors.New("servercert: the engine's answer holds no issuer")
	}
	return c, roots.String(), verifies(c, roots.String())
}
