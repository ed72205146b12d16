package handover

import (
	"crypto/x509"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
)

// Ancestor is an earlier token of a lineage.
type Ancestor struct {
	Token   Token
	Compact string
	Hash    string
}

// ancestors reads the lineage, newest first, and checks that it hangs together: each token names the next one by its hash,
// and was made by the installation that the next one was for. The hashes are signed from the newest token down, so nobody
// but the source can have put it together; who signed the earlier tokens is for Home and Hops to find out. The error is
// handover_malformed.
func (o *Opened) ancestors() ([]Ancestor, error) {
	all := make([]Ancestor, 0, len(o.Lineage))
	later := o.Token
	for _, compact := range o.Lineage {
		a := Ancestor{Compact: compact, Hash: Hash(compact)}
		if err := Unverified(compact, TypeHandover, &a.Token); err != nil {
			return nil, err
		}
		if err := a.Token.check(); err != nil {
			return nil, err
		}
		if later.Previous != a.Hash || later.Issuer != a.Token.Audience {
			return nil, apitype.Errorf(apitype.HandoverMalformed, "its lineage does not hang together")
		}
		all, later = append(all, a), a.Token
	}
	return all, nil
}

// Home answers the newest token in the lineage that self has made, when the way from it to this token has no gap: every token
// in between is signed by a key that the one before it vouches for (its target.ca_bundle), or that is pinned for its issuer.
// It answers nil when there is none. The signature of our own token is not checked: it counts when its jti and hash are
// those of the last handover of the row that the caller has stored, and never else. Errors are those of peers, save
// peer_unknown and peer_suspended.
func (o *Opened) Home(self string, peers Peers) (*Ancestor, error) {
	all, err := o.ancestors()
	if err != nil {
		return nil, err
	}
	for i := range all {
		if all[i].Token.Issuer != self {
			continue
		}
		for between := i - 1; between >= 0; between-- {
			signed, err := vouched(&all[between], &all[between+1], peers)
			if err != nil || !signed {
				return nil, err
			}
		}
		return &all[i], nil
	}
	return nil, nil
}

// Hops is the way the agent came before this handover, the oldest first, as far as we can tell: earlier handovers that a
// pinned key has signed, and those that these vouch for. Errors are as with Home.
func (o *Opened) Hops(peers Peers) ([]apitype.Hop, error) {
	all, err := o.ancestors()
	if err != nil {
		return nil, err
	}
	hops := make([]apitype.Hop, 0, len(all))
	var before *Ancestor // the next older one, when it counts
	for i := len(all) - 1; i >= 0; i-- {
		signed, err := vouched(&all[i], before, peers)
		if err != nil {
			return nil, err
		}
		if before = nil; signed {
			before = &all[i]
			hops = append(hops, before.hop())
		}
	}
	return hops, nil
}

// ClaimedHops is the way as the token tells it, the oldest first, whoever signed it.
func (o *Opened) ClaimedHops() []apitype.Hop {
	all, _ := o.ancestors() // it was read before, or there would be no Opened
	hops := make([]apitype.Hop, 0, len(all))
	for i := len(all) - 1; i >= 0; i-- {
		hops = append(hops, all[i].hop())
	}
	return hops
}

func (a *Ancestor) hop() apitype.Hop {
	return apitype.Hop{
		HandoverID: a.Token.ID, From: a.Token.Issuer, To: a.Token.Audience,
		Time: time.Unix(a.Token.IssuedAt, 0).UTC().Format(time.RFC3339), Event: a.Token.Audit,
	}
}

// vouched reports whether a key that is pinned for the token's issuer has signed it, or one that the token before it names.
func vouched(a, before *Ancestor, peers Peers) (bool, error) {
	var keys []*x509.Certificate
	peer, err := peers.ByID(a.Token.Issuer)
	switch apitype.CodeOf(err) {
	case "":
		if err != nil {
			return false, err
		}
		keys = append(keys, peer.Pinned...)
	case apitype.PeerUnknown, apitype.PeerSuspended: // then only the token before can vouch
	default:
		return false, err
	}
	if before != nil {
		if named, err := parseCertificates(before.Token.Target.CABundle, MaxBundle); err == nil {
			keys = append(keys, named...)
		}
	}
	var again Token
	return Verify(a.Compact, TypeHandover, keys, &again) == nil, nil
}
