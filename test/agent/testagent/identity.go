package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/uuid"
	"github.com/open-telemetry/opamp-go/protobufs"
)

// identity is all that an agent keeps, in one file so that it is there as a whole or not at all.
type identity struct {
	InstanceUID uuid.UUID `json:"instance_uid"`
	// The rest is empty until an offer has been verified.
	Endpoint    string `json:"endpoint,omitempty"`
	CA          string `json:"ca,omitempty"` // PEM; empty for the system's roots
	Certificate string `json:"certificate,omitempty"`
	Key         string `json:"key,omitempty"`
	Heartbeat   uint64 `json:"heartbeat,omitempty"` // seconds
}

func identityFile(dir string) string { return filepath.Join(dir, "identity.json") }

// loadIdentity reads what an earlier run kept, or begins a new identity without a certificate.
func loadIdentity(dir string) (identity, error) {
	raw, err := os.ReadFile(identityFile(dir))
	if errors.Is(err, fs.ErrNotExist) {
		uid, err := uuid.NewV7()
		return identity{InstanceUID: uid}, err
	}
	if err != nil {
		return identity{}, err
	}
	var id identity
	if err := json.Unmarshal(raw, &id); err != nil {
		return identity{}, fmt.Errorf("%s: %w", identityFile(dir), err)
	}
	return id, nil
}

// save replaces what is kept.
func (id identity) save(dir string) error {
	raw, err := json.MarshalIndent(id, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".identity-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // after a failure; else there is nothing to remove
	_, err = f.Write(raw)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), identityFile(dir))
}

// by is how it connects.
func (id identity) by() string {
	if id.Certificate == "" {
		return "token"
	}
	return "certificate"
}

// tls is the TLS configuration of an identity with a certificate.
func (id identity) tls() (*tls.Config, *x509.Certificate, error) {
	pair, err := tls.X509KeyPair([]byte(id.Certificate), []byte(id.Key))
	if err != nil {
		return nil, nil, err
	}
	config := &tls.Config{Certificates: []tls.Certificate{pair}}
	if id.CA != "" {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM([]byte(id.CA)) {
			return nil, nil, errors.New("the CA holds no certificate")
		}
	}
	return config, pair.Leaf, nil
}

// take makes an identity out of an offer; keys are our own, for an offer that brings none: the first that fits.
func (id identity) take(o *protobufs.OpAMPConnectionSettings, keys ...string) (identity, error) {
	c := o.GetCertificate()
	switch {
	case o.GetDestinationEndpoint() == "":
		return identity{}, errors.New("the offer names no endpoint")
	case len(c.GetCert()) == 0:
		return identity{}, errors.New("the offer holds no certificate")
	case o.GetHeartbeatIntervalSeconds() == 0:
		return identity{}, errors.New("the offer would switch heartbeats off")
	}
	id.Endpoint, id.CA, id.Certificate, id.Key = o.GetDestinationEndpoint(), string(c.GetCaCert()), string(c.GetCert()), keys[0]
	id.Heartbeat = o.GetHeartbeatIntervalSeconds()
	for _, key := range keys {
		if _, err := tls.X509KeyPair(c.GetCert(), []byte(key)); err == nil {
			id.Key = key
			break
		}
	}
	if len(c.GetPrivateKey()) > 0 {
		id.Key = string(c.GetPrivateKey())
	}
	if tlsCA := o.GetTls().GetCaPemContents(); tlsCA != "" && strings.TrimSpace(tlsCA) != strings.TrimSpace(id.CA) {
		return identity{}, errors.New("the two places for a CA in the offer disagree")
	}
	_, _, err := id.tls()
	return id, err
}

// newKey makes a key of our own and a CSR for it, both PEM. OpAMP wants the instance uid in the CSR.
func newKey(uid uuid.UUID) (key string, csr []byte, err error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return "", nil, err
	}
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: uid.String()}}, k)
	if err != nil {
		return "", nil, err
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: request}), nil
}

// proofFor shows that whoever holds the identity's key asks with that CSR: one PEM block that goes behind the CSR's. What is
// signed is a prefix, the SHA-256 of the certificate, and the new public key.
func proofFor(id identity, csr []byte) ([]byte, error) {
	pair, err := tls.X509KeyPair([]byte(id.Certificate), []byte(id.Key))
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(csr)
	request, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, err
	}
	fingerprint := sha256.Sum256(pair.Leaf.Raw)
	message := append([]byte("ampora renewal proof v1\x00"), fingerprint[:]...)
	sum := sha256.Sum256(append(message, request.RawSubjectPublicKeyInfo...))
	signer, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return nil, errors.New("only keys of its own kind can prove themselves")
	}
	signature, err := ecdsa.SignASN1(rand.Reader, signer, sum[:])
	return pem.EncodeToMemory(&pem.Block{Type: "AMPORA RENEWAL PROOF", Bytes: signature}), err
}

// serial is a serial number as our API writes it.
func serial(c *x509.Certificate) string {
	raw := c.SerialNumber.FillBytes(make([]byte, max(20, (c.SerialNumber.BitLen()+7)/8)))
	parts := make([]string, len(raw))
	for i, b := range raw {
		parts[i] = fmt.Sprintf("%02x", b)
	}
	return strings.Join(parts, ":")
}
