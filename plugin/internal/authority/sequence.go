package authority

import (
	"crypto/x509"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/ca"
)

// firstSequence is that of anchors which have not changed since before they were numbered.
const firstSequence = 1

// number gives the row its Sequence: the next one if the anchors are others than before. Milliseconds since 1970 make it go up
// also over a change that a restore has undone.
func (r *stateRow) number(old stateRow, now time.Time) {
	before, changed := map[string]string{}, false
	for _, i := range old.Issuers {
		before[i.ID] = i.State
	}
	for _, i := range r.Issuers {
		was := before[i.ID]
		changed = changed || i.State != was && (anchors(i.State) || anchors(was))
	}
	if !changed {
		return
	}
	r.Sequence = max(old.sequence()+1, uint64(max(now.UnixMilli(), 0)))
	for n, i := range r.Issuers {
		if anchors(i.State) && !anchors(before[i.ID]) {
			r.Issuers[n].Sequence = r.Sequence
		}
	}
}

func anchors(state string) bool { return state == Active || state == Trusted }

func (r *stateRow) sequence() uint64 { return max(r.Sequence, firstSequence) }

// Sequence numbers the trust anchors as they stand: it goes up with every change of them.
func (s *Set) Sequence() uint64 { return s.row.sequence() }

// Shown is the certificates of the trust anchors that are good for longer than life: the active issuer's first.
func (s *Set) Shown(now time.Time, life time.Duration) []*x509.Certificate {
	var certs []*x509.Certificate
	for _, c := range s.AnchorCertificates() {
		if c.NotAfter.Sub(now) > life {
			certs = append(certs, c)
		}
	}
	return certs
}

// Signer is the issuer that signs for somebody who knows the anchors as they stood at that sequence: the newest one that was
// among them. When none of those is good for longer than life, or the sequence is 0 because it is unknown, the oldest anchor signs: who has ever taken anchors of
// ours since that one became an anchor knows it. Without any it is issuer_missing.
func (s *Set) Signer(now time.Time, life time.Duration, known uint64) (*ca.Issuer, error) {
	var oldest, newest *ca.Issuer
	for _, i := range s.byAge() {
		if i.Certificate.NotAfter.Sub(now) <= life {
			continue
		}
		if oldest == nil {
			oldest = i.Issuer
		}
		if i.sequence <= known && known > 0 {
			newest = i.Issuer
		}
	}
	switch {
	case newest != nil:
		return newest, nil
	case oldest != nil:
		return oldest, nil
	}
	return nil, apitype.Errorf(apitype.IssuerMissing, "no issuer can sign")
}
