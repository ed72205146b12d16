package pki

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strings"

	"github.com/ampora/ampora/plugin/identity"
	"golang.org/x/crypto/ocsp"
)

// maxQuestion is how long an OCSP request may be, in bytes; one about a single certificate has 80 to 200.
const maxQuestion = 4 << 10

// question is what an OCSP request asks, without what else it holds: which certificate, of which issuer.
type question struct {
	der    []byte            // a request of nothing but that
	key    [sha256.Size]byte // digest of der
	serial identity.Serial   // of the certificate; zero when it is none of our making
}

// parseQuestion reads a request. The engine looks at the first certificate alone and answers no nonce, as RFC 5019 allows, so
// clients that differ in nothing else ask the same, and can share an answer.
func parseQuestion(der []byte) (question, error) {
	if len(der) > maxQuestion {
		return question{}, errors.New("pki: the OCSP request is too long")
	}
	request, err := ocsp.ParseRequest(der)
	if err != nil {
		return question{}, err
	}
	if der, err = request.Marshal(); err != nil {
		return question{}, err
	}
	serial, _ := identity.ParseSerial(request.SerialNumber)
	return question{der: der, key: sha256.Sum256(der), serial: serial}, nil
}

// fromPath decodes what stands behind /pki/ocsp/ in the unescaped path: base64, in which '/' is a character like others
// (RFC 6960 appendix A.1). Forgiven are slashes before it, which come from joining it to an address that ends in one,
// missing padding, and a '+' that somebody unescaped to a space.
func fromPath(text string) ([]byte, error) {
	text = strings.TrimLeft(text, "/")
	text = strings.TrimRight(strings.ReplaceAll(text, " ", "+"), "=")
	if len(text) > base64.StdEncoding.EncodedLen(maxQuestion) {
		return nil, errors.New("pki: the OCSP request is too long")
	}
	return base64.RawStdEncoding.Strict().DecodeString(text)
}
