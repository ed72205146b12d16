package handover

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"strings"

	"github.com/ampora/ampora/plugin/apitype"
)

// parseLeaf reads the one certificate of agent.certificate.
func parseLeaf(text string) (*x509.Certificate, error) {
	certs, err := parseCertificates(text, 1)
	if err != nil {
		return nil, apitype.Errorf(apitype.HandoverMalformed, "the claim agent.certificate %s", err.Error())
	}
	return certs[0], nil
}

// Issuers reads the certificates of a bundle: PEM, and nothing besides. The error is bundle_invalid.
func Issuers(text string) ([]*x509.Certificate, error) {
	certs, err := parseCertificates(text, MaxBundle)
	if err != nil {
		return nil, apitype.Errorf(apitype.BundleInvalid, "it %s", err.Error())
	}
	return certs, nil
}

// pemError says of a PEM text what is wrong with it.
type pemError string

func (e pemError) Error() string { return string(e) }

const (
	errNotPEM     = pemError("holds something besides PEM certificates")
	errPrivateKey = pemError("holds a private key, which nobody may be given; make a new one")
	errManyCerts  = pemError("holds too many certificates")
	errBrokenCert = pemError("holds a certificate that does not parse")
	errNoCert     = pemError("is empty")
)

// parseCertificates reads one to most certificates in PEM, and nothing besides.
func parseCertificates(text string, most int) ([]*x509.Certificate, error) {
	if strings.Contains(text, privateKey) {
		return nil, errPrivateKey
	}
	var certs []*x509.Certificate
	for data := []byte(strings.TrimSpace(text)); len(data) > 0; {
		block, rest := pem.Decode(data)
		// pem.Decode skips over what it cannot read; here everything is looked at.
		if block == nil || block.Type != "CERTIFICATE" || len(block.Headers) > 0 || !bytes.HasPrefix(data, []byte("-----BEGIN ")) ||
			bytes.Count(data[:len(data)-len(rest)], []byte("-----BEGIN ")) != 1 {
			return nil, errNotPEM
		}
		if len(certs) == most {
			return nil, errManyCerts
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, errBrokenCert
		}
		certs, data = append(certs, cert), bytes.TrimSpace(rest)
	}
	if len(certs) == 0 {
		return nil, errNoCert
	}
	return certs, nil
}
