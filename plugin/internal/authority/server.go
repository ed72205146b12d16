package authority

import (
	"slices"
	"time"

	"github.com/ampora/ampora/plugin/internal/ca"
)

// serverLife is how long an issuer must still live to sign a server certificate, which never outlives it.
const serverLife = time.Hour

// Server is the issuer that signs the edges' server certificates: not the active one, but the one that has been a trust anchor
// for longest, as long as it has an hour of life left.
//
// Every offer gives the agent all anchors of that moment as the roots for its edge. Agents keep them until their next offer,
// which may be most of a certificate's life away, so a new anchor is known to nobody at first. The oldest one is known to every
// agent that has a certificate which counts: whoever had its last offer before that anchor was one has its certificate from an
// issuer that is no anchor any more. When the oldest is retired or runs out, the next takes its place, and by then every agent
// that is left has had an offer with that one in it: it has a certificate of the next, or of a later one.
//
// Without such an anchor the active issuer must do, or issuer_missing.
func (s *Set) Server(now time.Time) (*ca.Issuer, error) {
	for _, i := range s.byAge() {
		if i.Certificate.NotAfter.Sub(now) >= serverLife {
			return i.Issuer, nil
		}
	}
	return s.Active()
}

// byAge is the trust anchors, beginning with the one that has been one for longest.
func (s *Set) byAge() []Issuer {
	anchors := slices.DeleteFunc(slices.Clone(s.all), func(i Issuer) bool { return i.State != Active && i.State != Trusted })
	slices.SortStableFunc(anchors, func(a, b Issuer) int { return a.since.Compare(b.since) })
	return anchors
}
