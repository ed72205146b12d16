// Package authority keeps the issuers: their keys and certificates, and which of them signs.
//
// An issuer's own row (key and certificate) never changes its meaning; the one row ca/state says which issuers exist and in
// which state each is, so that every change of state is one Put.
package authority

import (
	"fmt"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/audit"
	"github.com/ampora/ampora/plugin/internal/ca"
)

// Issuer states (DESIGN.md section 6), in the order of an issuer's life. A draft has no certificate yet, or waits to be
// activated. One that is retired is trusted nowhere any more, but its key stays, since its CRL may still be asked for.
const (
	Draft   = "draft"
	Active  = "active"
	Trusted = "trusted"
	Retired = "retired"
)

// stateRow is ca/state.
type stateRow struct {
	Issuers []issuerState `json:"issuers"` // in the order of their making
	// Sequence goes up with every change of the trust anchors: bundles that peers are given are told apart by it. It is zero in
	// rows that are older than this field.
	Sequence uint64        `json:"sequence,omitempty"`
	Record   *audit.Record `json:"record,omitempty"`
}

type issuerState struct {
	ID    string `json:"id"`
	State string `json:"state"`
	// Since is when the issuer became a trust anchor. It is zero before, and in rows that are older than this field.
	Since time.Time `json:"since,omitzero"`
	// Sequence is the state's Sequence with which it became one. It is zero likewise.
	Sequence uint64 `json:"sequence,omitempty"`
}

func (*stateRow) SchemaName() string { return "issuer state" }
func (*stateRow) SchemaVersion() int { return 1 }

// issuerRow is ca/issuer/<id>, seal-wrapped.
type issuerRow struct {
	Key         string `json:"key"` // PKCS #8 PEM
	CommonName  string `json:"common_name"`
	Certificate string `json:"certificate,omitempty"` // PEM; empty until the CSR was signed
	Chain       string `json:"chain,omitempty"`       // PEM, parents up to the root
}

func (*issuerRow) SchemaName() string { return "issuer" }
func (*issuerRow) SchemaVersion() int { return 1 }

func newIssuerRow(i *ca.Issuer) (*issuerRow, error) {
	key, err := ca.MarshalKey(i.Key)
	if err != nil {
		return nil, err
	}
	row := &issuerRow{Key: key, CommonName: i.Certificate.Subject.CommonName, Certificate: ca.EncodeCertificate(i.Certificate.Raw)}
	for _, c := range i.Chain {
		row.Chain += ca.EncodeCertificate(c.Raw)
	}
	return row, nil
}

func (r *issuerRow) issuer(id string) (*ca.Issuer, error) {
	key, err := ca.ParseKey(r.Key)
	if err != nil {
		return nil, fmt.Errorf("issuer %s: %w", id, err)
	}
	i := &ca.Issuer{ID: id, Key: key}
	if r.Certificate == "" {
		return i, nil
	}
	if i.Certificate, err = ca.ParseCertificate(r.Certificate); err != nil {
		return nil, fmt.Errorf("issuer %s: %w", id, err)
	}
	if r.Chain != "" {
		if i.Chain, err = ca.ParseBundle(r.Chain); err != nil {
			return nil, fmt.Errorf("issuer %s: %w", id, err)
		}
	}
	return i, nil
}

// Issuer is one issuer with its state. Certificate is nil while the CSR is unsigned.
type Issuer struct {
	*ca.Issuer
	State      string
	CommonName string
	since      time.Time // as in issuerState
	sequence   uint64    // as in issuerState
}

// describe is the issuer without its key.
func (i Issuer) describe() apitype.CAIssuer {
	d := apitype.CAIssuer{IssuerID: i.ID, State: i.State, CommonName: i.CommonName, CAChain: []string{}}
	if i.Certificate != nil {
		d.Certificate = ca.EncodeCertificate(i.Certificate.Raw)
		d.CAChain = append([]string{d.Certificate}, ca.EncodeChain(i.Chain)...)
		d.SerialNumber = colonHex(i.Certificate.SerialNumber.Bytes())
		d.Expiration = i.Certificate.NotAfter.Unix()
	}
	return d
}

func colonHex(b []byte) string {
	text := ""
	for n, x := range b {
		if n > 0 {
			text += ":"
		}
		text += fmt.Sprintf("%02x", x)
	}
	return text
}
