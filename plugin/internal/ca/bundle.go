package ca

import (
	"crypto/x509"
	"errors"
	"strings"
)

// ParseBundle reads one or more certificates in PEM and nothing besides.
func ParseBundle(text string) ([]*x509.Certificate, error) {
	data := []byte(strings.TrimSpace(text))
	var bundle []*x509.Certificate
	for len(data) > 0 {
		block, rest, err := nextBlock(data)
		if err != nil || block.Type != pemCertificate {
			return nil, errors.New("ca: the bundle holds something besides PEM certificates")
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, errors.New("ca: a certificate of the bundle does not parse")
		}
		bundle, data = append(bundle, c), rest
	}
	if len(bundle) == 0 {
		return nil, errors.New("ca: the bundle is empty")
	}
	return bundle, nil
}
