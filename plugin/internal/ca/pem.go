package ca

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"strings"
)

const pemCertificate = "CERTIFICATE"

// EncodeCertificate is a certificate's DER as one PEM block, ending in a newline.
func EncodeCertificate(der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: der}))
}

// EncodeChain is every certificate in PEM, in the same order.
func EncodeChain(chain []*x509.Certificate) []string {
	blocks := make([]string, 0, len(chain))
	for _, c := range chain {
		blocks = append(blocks, EncodeCertificate(c.Raw))
	}
	return blocks
}

// ParseCertificate reads exactly one certificate in PEM, as EncodeCertificate writes it.
func ParseCertificate(text string) (*x509.Certificate, error) {
	block, rest, err := nextBlock([]byte(strings.TrimSpace(text)))
	if err != nil || block.Type != pemCertificate || len(rest) > 0 {
		return nil, errors.New("ca: not one PEM certificate")
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, errors.New("ca: certificate does not parse")
	}
	return c, nil
}

var errNoBlock = errors.New("no PEM block")

// nextBlock takes the PEM block at the very beginning of data, and answers what follows it without white space.
// pem.Decode skips over text and over blocks that it cannot read; here both are faults, and so are headers, so that
// nothing is in the input that nobody has looked at.
func nextBlock(data []byte) (*pem.Block, []byte, error) {
	begin := []byte("-----BEGIN ")
	if !bytes.HasPrefix(data, begin) {
		return nil, nil, errNoBlock
	}
	block, rest := pem.Decode(data)
	if block == nil || len(block.Headers) > 0 {
		return nil, nil, errNoBlock
	}
	if taken := data[:len(data)-len(rest)]; bytes.Count(taken, begin) != 1 {
		return nil, nil, errNoBlock
	}
	return block, bytes.TrimSpace(rest), nil
}
