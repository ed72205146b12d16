package authority

import (
	"context"
	"crypto/x509"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/audit"
	"github.com/ampora/ampora/plugin/internal/ca"
	"github.com/ampora/ampora/plugin/internal/store"
)

// Authority is the mount's issuers. Reading is from memory and safe for concurrent use.
type Authority struct {
	store *store.Store
	log   *audit.Log
	now   func() time.Time

	change sync.Mutex // held by whoever changes an issuer
	mu     sync.RWMutex
	cached *Set
}

// Set is the issuers as they stood at one moment. It never changes.
type Set struct {
	all []Issuer
	row stateRow
}

// New makes an Authority that reads its rows at first use.
func New(s *store.Store, log *audit.Log, now func() time.Time) *Authority {
	return &Authority{store: s, log: log, now: now}
}

// Set is the issuers as they stand.
func (a *Authority) Set(ctx context.Context) (*Set, error) {
	a.mu.RLock()
	set := a.cached
	a.mu.RUnlock()
	if set != nil {
		return set, nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.cached != nil {
		return a.cached, nil
	}
	set = &Set{}
	if _, err := a.store.Get(ctx, store.CAStateKey, &set.row); err != nil {
		return nil, err
	}
	for _, s := range set.row.Issuers {
		var row issuerRow
		found, err := a.store.Get(ctx, store.IssuerPrefix+s.ID, &row)
		if err != nil {
			return nil, err
		}
		if !found {
			return nil, apitype.Errorf(apitype.Internal, "the row of issuer %s is missing", s.ID)
		}
		i, err := row.issuer(s.ID)
		if err != nil {
			return nil, err
		}
		set.all = append(set.all, Issuer{Issuer: i, State: s.State, CommonName: row.CommonName, since: s.Since, sequence: s.Sequence})
	}
	a.cached = set
	return set, nil
}

// Forget drops the memory of the issuers, so that they are read again.
func (a *Authority) Forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.cached = nil
}

// Active is the issuer that signs, or issuer_missing.
func (s *Set) Active() (*ca.Issuer, error) {
	for _, i := range s.all {
		if i.State == Active {
			return i.Issuer, nil
		}
	}
	return nil, apitype.Errorf(apitype.IssuerMissing, "no issuer is active")
}

// Anchors is what edges and agents trust: the active issuer first, then the trusted ones.
func (s *Set) Anchors() []Issuer {
	var anchors []Issuer
	for _, state := range []string{Active, Trusted} {
		for _, i := range s.all {
			if i.State == state {
				anchors = append(anchors, i)
			}
		}
	}
	return anchors
}

// Trusts reports whether certificates of that issuer still count.
func (s *Set) Trusts(id string) bool {
	return slices.ContainsFunc(s.Anchors(), func(i Issuer) bool { return i.ID == id })
}

// AnchorCertificates is the certificates of Anchors.
func (s *Set) AnchorCertificates() []*x509.Certificate {
	var certs []*x509.Certificate
	for _, i := range s.Anchors() {
		certs = append(certs, i.Certificate)
	}
	return certs
}

// Empty reports whether there has never been an issuer.
func (s *Set) Empty() bool { return len(s.all) == 0 }

// Describe is every issuer without its key, in the order of their making.
func (s *Set) Describe() []apitype.CAIssuer {
	all := []apitype.CAIssuer{}
	for _, i := range s.all {
		all = append(all, i.describe())
	}
	return all
}

// Bundle is what agents and edges must trust.
func (s *Set) Bundle() apitype.CABundle {
	b := apitype.CABundle{Certificates: []string{}}
	for _, c := range s.AnchorCertificates() {
		b.Certificates = append(b.Certificates, ca.EncodeCertificate(c.Raw))
	}
	b.Bundle = strings.Join(b.Certificates, "")
	return b
}

// find answers the issuer and its place, or issuer_unknown.
func (s *Set) find(id string) (Issuer, int, error) {
	for n, i := range s.all {
		if i.ID == id {
			return i, n, nil
		}
	}
	return Issuer{}, 0, apitype.Errorf(apitype.IssuerUnknown, "no issuer has this id")
}

// Get is one issuer without its key.
func (s *Set) Get(id string) (apitype.CAIssuer, error) {
	i, _, err := s.find(id)
	if err != nil {
		return apitype.CAIssuer{}, err
	}
	return i.describe(), nil
}

// Issuer is one issuer with its key, or issuer_unknown.
func (s *Set) Issuer(id string) (*ca.Issuer, error) {
	i, _, err := s.find(id)
	return i.Issuer, err
}
