package ca

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/identity"
)

const (
	maxChainBytes = 64 << 10
	maxChainCerts = 10
	// clockSkew is how far the outer CA's clock may run ahead of ours.
	clockSkew = 5 * time.Minute
)

// NewIntermediateCSR makes a key and the CSR for it, for any outer CA to sign. The id becomes part of the subject, see
// NewRoot for the common name.
func NewIntermediateCSR(id, commonName string, spec KeySpec) (key crypto.Signer, csrPEM string, err error) {
	subject, err := issuerSubject(id, commonName)
	if err != nil {
		return nil, "", err
	}
	key, err = NewKey(spec)
	if err != nil {
		return nil, "", err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: subject}, key)
	if err != nil {
		return nil, "", fmt.Errorf("ca: making the CSR: %w", err)
	}
	return key, string(pem.EncodeToMemory(&pem.Block{Type: pemRequest, Bytes: der})), nil
}

// AcceptSigned brings the certificate that an outer CA made for the key of NewIntermediateCSR together with that key.
// The PEM holds it first, then its parents up to the self-signed root, each signed by the next. Everything is checked
// here, since later only the first certificate counts, as a trust anchor. The error is issuer_invalid and says what is
// wrong.
func AcceptSigned(id string, key crypto.Signer, pemChain string, now time.Time) (*Issuer, error) {
	chain, err := parseChain(pemChain)
	if err != nil {
		return nil, err
	}
	if at := slices.IndexFunc(chain, func(c *x509.Certificate) bool { return isFor(c, key.Public()) }); at > 0 {
		return nil, apitype.Errorf(apitype.IssuerInvalid, "the chain is out of order: certificate %d is the issuer's own, which comes first", at+1)
	}
	if err := checkIssuer(chain[0], key); err != nil {
		return nil, err
	}
	if err := checkPath(chain, now); err != nil {
		return nil, err
	}
	return &Issuer{ID: id, Certificate: chain[0], Key: key, Chain: chain[1:]}, nil
}

// HoldsKey reports whether a chain that parses has a certificate for the key, wherever it stands.
func HoldsKey(pemChain string, key crypto.PublicKey) bool {
	chain, err := parseChain(pemChain)
	return err == nil && slices.ContainsFunc(chain, func(c *x509.Certificate) bool { return isFor(c, key) })
}

func isFor(c *x509.Certificate, key crypto.PublicKey) bool {
	public, ok := c.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	return ok && public.Equal(key)
}

func parseChain(text string) ([]*x509.Certificate, error) {
	if len(text) > maxChainBytes {
		return nil, apitype.Errorf(apitype.IssuerInvalid, "the chain is over %d KiB", maxChainBytes>>10)
	}
	data := []byte(strings.TrimSpace(text))
	var chain []*x509.Certificate
	for len(data) > 0 {
		if len(chain) == maxChainCerts {
			return nil, apitype.Errorf(apitype.IssuerInvalid, "the chain has over %d certificates", maxChainCerts)
		}
		block, rest, err := nextBlock(data)
		if err != nil {
			return nil, apitype.Errorf(apitype.IssuerInvalid, "the chain holds something besides PEM blocks")
		}
		if block.Type != pemCertificate {
			return nil, apitype.Errorf(apitype.IssuerInvalid, "the chain holds a PEM block that is no CERTIFICATE")
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, apitype.Errorf(apitype.IssuerInvalid, "certificate %d of the chain does not parse", len(chain)+1)
		}
		chain, data = append(chain, c), rest
	}
	if len(chain) == 0 {
		return nil, apitype.Errorf(apitype.IssuerInvalid, "there is no certificate in it")
	}
	return chain, nil
}

// checkIssuer looks at the first certificate alone: is it ours, and fit to sign what we sign.
func checkIssuer(c *x509.Certificate, key crypto.Signer) error {
	clientAuth, serverAuth, anyUsage := usage(c, x509.ExtKeyUsageClientAuth), usage(c, x509.ExtKeyUsageServerAuth), usage(c, x509.ExtKeyUsageAny)
	unrestricted := len(c.ExtKeyUsage)+len(c.UnknownExtKeyUsage) == 0
	switch {
	case !isFor(c, key.Public()):
		return apitype.Errorf(apitype.IssuerInvalid, "the first certificate is not for the key of this issuer's CSR")
	case !c.BasicConstraintsValid || !c.IsCA:
		return apitype.Errorf(apitype.IssuerInvalid, "the first certificate is not a CA")
	case c.KeyUsage&x509.KeyUsageCertSign == 0:
		return apitype.Errorf(apitype.IssuerInvalid, "the first certificate lacks the key usage keyCertSign")
	case c.KeyUsage&x509.KeyUsageCRLSign == 0:
		return apitype.Errorf(apitype.IssuerInvalid, "the first certificate lacks the key usage cRLSign")
	case !unrestricted && !anyUsage && (!clientAuth || !serverAuth):
		return apitype.Errorf(apitype.IssuerInvalid, "the first certificate's extended key usage leaves out clientAuth or serverAuth")
	case len(c.Subject.Names) == 0:
		return apitype.Errorf(apitype.IssuerInvalid, "the first certificate has no subject")
	}
	return nil
}

// checkPath looks at how the certificates hang together.
func checkPath(chain []*x509.Certificate, now time.Time) error {
	for n, c := range chain {
		position := n + 1
		last := n == len(chain)-1
		selfIssued := bytes.Equal(c.RawSubject, c.RawIssuer)
		switch {
		case c.SerialNumber.Sign() <= 0 || c.SerialNumber.BitLen() > identity.SerialBytes*8:
			return apitype.Errorf(apitype.IssuerInvalid, "certificate %d has no valid serial number", position)
		case len(c.UnhandledCriticalExtensions) > 0:
			return apitype.Errorf(apitype.IssuerInvalid, "certificate %d has a critical extension that is not understood", position)
		case c.NotAfter.Sub(now) < minIssuerLife:
			return apitype.Errorf(apitype.IssuerInvalid, "certificate %d has expired", position)
		case c.NotBefore.Sub(now) > clockSkew:
			return apitype.Errorf(apitype.IssuerInvalid, "certificate %d is not valid yet", position)
		case c.MaxPathLen >= 0 && c.BasicConstraintsValid && c.MaxPathLen < n:
			return apitype.Errorf(apitype.IssuerInvalid, "certificate %d does not allow that many CAs below it (path length)", position)
		case selfIssued && !last:
			return apitype.Errorf(apitype.IssuerInvalid, "certificate %d is self-signed, but more certificates follow", position)
		case last && !selfIssued:
			return apitype.Errorf(apitype.IssuerInvalid, "the chain does not end in a self-signed root")
		}
		next := min(n+1, len(chain)-1)
		if signedBy(c, chain[next]) {
			continue
		}
		if at := slices.IndexFunc(chain, func(parent *x509.Certificate) bool { return signedBy(c, parent) }); at >= 0 {
			return apitype.Errorf(apitype.IssuerInvalid, "the chain is out of order: certificate %d is signed by certificate %d", position, at+1)
		}
		return apitype.Errorf(apitype.IssuerInvalid, "certificate %d is not signed by the one after it", position)
	}
	return nil
}

// signedBy also wants the parent to be a CA that may sign, and refuses SHA-1.
func signedBy(c, parent *x509.Certificate) bool {
	return bytes.Equal(c.RawIssuer, parent.RawSubject) && c.CheckSignatureFrom(parent) == nil
}

func usage(c *x509.Certificate, wanted x509.ExtKeyUsage) bool {
	return slices.Contains(c.ExtKeyUsage, wanted)
}
