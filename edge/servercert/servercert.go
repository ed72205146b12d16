// Package servercert provides the edge's server certificate: from files that may change while it runs, or from the secrets
// engine for a key that never leaves memory.
package servercert

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"time"
)

// errNone is told to a TLS handshake that comes before the first certificate.
var errNone = errors.New("servercert: there is no server certificate yet")

// Holder holds the certificate in use and the roots that agents verify it by. It is safe for concurrent use.
type Holder struct{ current atomic.Pointer[held] }

type held struct {
	certificate *tls.Certificate
	roots       string // PEM
}

// GetCertificate is for tls.Config.
func (h *Holder) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if c := h.current.Load(); c != nil {
		return c.certificate, nil
	}
	return nil, errNone
}

// NotAfter is when the certificate in use ends, the zero time without one.
func (h *Holder) NotAfter() time.Time {
	if c := h.current.Load(); c != nil {
		return c.certificate.Leaf.NotAfter
	}
	return time.Time{}
}

// Roots are what verifies the certificate in use, as PEM. They are empty when the system's roots do, and before the first.
func (h *Holder) Roots() string {
	if c := h.current.Load(); c != nil {
		return c.roots
	}
	return ""
}

func (h *Holder) set(c *tls.Certificate, roots string) { h.current.Store(&held{c, roots}) }

// SystemRoots as the name of a CA file means the roots of the agents' systems.
const SystemRoots = "system"

// readRoots reads a CA file; it must hold certificates and nothing else, since it is sent to every agent.
func readRoots(path string) (string, error) {
	if path == SystemRoots {
		return "", nil
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("servercert: %w", err)
	}
	var out strings.Builder
	for rest := raw; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return "", fmt.Errorf("servercert: %s holds a %s; only certificates belong there", path, block.Type)
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return "", fmt.Errorf("servercert: %s: %w", path, err)
		}
		out.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: block.Bytes}))
	}
	if out.Len() == 0 {
		return "", fmt.Errorf("servercert: %s holds no certificate", path)
	}
	return out.String(), nil
}

// verifies reports whether agents that know the roots will accept the certificate, whatever its name.
func verifies(c *tls.Certificate, roots string) error {
	if roots == "" {
		return nil // the agents' systems decide
	}
	options := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool()}
	options.Roots.AppendCertsFromPEM([]byte(roots))
	for _, der := range c.Certificate[1:] {
		if i, err := x509.ParseCertificate(der); err == nil {
			options.Intermediates.AddCert(i)
		}
	}
	_, err := c.Leaf.Verify(options)
	return err
}
