package idfiles

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Identity is what an enrolment ends with.
type Identity struct {
	Cert        []byte // PEM
	Key         []byte // PEM
	CA          []byte // PEM; empty for the system's roots
	Endpoint    string
	InstanceUID string
	Offer       []byte // hash of the offer that it came with; only of one that is not in place yet, and may be empty
}

// ErrNone means that there is no identity.
var ErrNone = errors.New("there is no identity")

// Pair is the certificate with its key.
func (id *Identity) Pair() (tls.Certificate, error) {
	pair, err := tls.X509KeyPair(id.Cert, id.Key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("certificate and key do not fit: %w", err)
	}
	return pair, nil
}

// Roots are what verifies the edge; nil for the system's.
func (id *Identity) Roots() (*x509.CertPool, error) {
	if len(id.CA) == 0 {
		return nil, nil
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(id.CA) {
		return nil, errors.New("there is no certificate in the CA file")
	}
	return pool, nil
}

// Current reads the identity in place. It answers ErrNone when none of its files is there; any other error means that there
// are files under our names which do not make an identity, and which may be somebody's.
func (d *Dir) Current() (*Identity, error) { return d.read(d.path) }

func (d *Dir) read(dir string) (*Identity, error) {
	content := map[string][]byte{}
	for _, name := range names() {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		content[name] = data
	}
	if len(content) == 0 {
		return nil, ErrNone
	}
	for _, name := range []string{Cert, Key, Endpoint} {
		if content[name] == nil {
			return nil, fmt.Errorf("%s is missing beside other files of an identity", filepath.Join(dir, name))
		}
	}
	id := &Identity{
		Cert: content[Cert], Key: content[Key], CA: content[CA],
		Endpoint: strings.TrimSpace(string(content[Endpoint])), InstanceUID: strings.TrimSpace(string(content[InstanceUID])),
	}
	if _, err := id.Pair(); err != nil {
		return nil, err
	}
	return id, nil
}
