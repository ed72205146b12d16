package authority

import "github.com/ampora/ampora/plugin/internal/ca"

// Signers are the issuers that have a certificate, whatever their state: each answers for what it has signed.
func (s *Set) Signers() []*ca.Issuer {
	var all []*ca.Issuer
	for _, i := range s.all {
		if i.Certificate != nil {
			all = append(all, i.Issuer)
		}
	}
	return all
}
