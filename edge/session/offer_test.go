package session

import (
	"testing"

	"github.com/ampora/ampora/plugin/apitype"
)

// An agent that is offered a leaf learns its issuer as a root for edges, even when the edge has not heard of that issuer yet.
func TestAnOfferNamesTheIssuerOfItsLeafAmongTheRoots(t *testing.T) {
	for name, c := range map[string]struct {
		offer Offer
		want  string
	}{
		"an issuer that is new here":    {Offer{ServerRoots: "OLD\n", issuerRoots: true}, "OLD\nNEW\n"},
		"an issuer that is known":       {Offer{ServerRoots: "NEW\nOLD\n", issuerRoots: true}, "NEW\nOLD\n"},
		"a certificate of the user's":   {Offer{ServerRoots: "THEIRS\n"}, "THEIRS\n"},
		"the roots of agents' machines": {Offer{}, ""},
	} {
		if err := c.offer.fill(&apitype.Identity{Certificate: "LEAF", IssuingCA: "NEW\n"}, false); err != nil || c.offer.ServerRoots != c.want {
			t.Errorf("%s: %q, %v", name, c.offer.ServerRoots, err)
		}
	}
}
