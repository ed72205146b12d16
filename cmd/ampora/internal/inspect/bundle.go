package inspect

import (
	"fmt"
	"strings"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/handover"
)

// cardItem looks at an installation's card, as federation/bundle answers it: the peer's fields, and the same signed.
func cardItem(card apitype.FederationBundle, l look) Item {
	item := Item{Kind: KindBundle, Intact: true}
	f := &item.Fields
	f.add("peer_id", card.PeerID)
	f.add("trust_domain", card.TrustDomain)
	f.add("endpoint", card.Endpoint)
	f.add("federation_url", card.FederationURL)
	for name, text := range map[string]string{"ca_bundle": card.CABundle, "endpoint_ca_bundle": card.EndpointCABundle} {
		if strings.Contains(text, "PRIVATE KEY") {
			item.Intact, item.Problem = false, name+" holds a private key, which nobody may be given: that key is to be replaced"
			return item
		}
	}
	keys, err := keysOf(card)
	if err != nil {
		item.Intact, item.Problem = false, problemOf(err)
		return item
	}
	if card.BundleJWS == "" {
		issuerFields(f, keys)
		f.add("signature", "none: it can be written to peers/<name>, and its seq is not known")
		return item
	}
	var claims handover.Bundle
	if err := handover.Unverified(card.BundleJWS, handover.TypeBundle, &claims); err != nil {
		item.Intact, item.Problem = false, "bundle_jws: "+problemOf(err)
		return item
	}
	signed := bundleItem(card.BundleJWS, claims, look{now: l.now, peer: keys})
	switch {
	case !signed.Intact:
		item.Intact, item.Problem = false, "bundle_jws: "+signed.Problem
	case claims.TrustDomain != card.TrustDomain:
		item.Intact, item.Problem = false, "bundle_jws has another trust_domain than the fields beside it"
	}
	bundleFields(f, claims)
	issuerFields(f, keys)
	if item.Intact && l.peer == nil {
		f.add("signature", "good: by a key of its own; compare the fingerprints with the other side's operators")
	} else if item.Intact {
		signature(&item, claims.Issuer, l, func(p *handover.PeerKeys) error {
			return handover.Verify(card.BundleJWS, handover.TypeBundle, p.Pinned, &handover.Bundle{})
		})
	}
	return item
}

// bundleItem looks at a signed bundle alone.
func bundleItem(text string, claims handover.Bundle, l look) Item {
	item := Item{Kind: KindBundle, Intact: true}
	f := &item.Fields
	f.add("peer_id", claims.Issuer)
	f.add("trust_domain", claims.TrustDomain)
	bundleFields(f, claims)
	certs, err := handover.Issuers(strings.Join(claims.Certificates, "\n"))
	switch {
	case err != nil:
		item.Intact, item.Problem = false, problemOf(err)
		return item
	case l.now.After(time.Unix(claims.Expires, 0).Add(handover.Leeway)):
		item.Intact, item.Problem = false, "it has expired: ask the other side for a newer one"
		return item
	}
	issuerFields(f, &handover.PeerKeys{Pinned: certs})
	signature(&item, claims.Issuer, l, func(p *handover.PeerKeys) error {
		return handover.Verify(text, handover.TypeBundle, p.Pinned, &handover.Bundle{})
	})
	return item
}

func bundleFields(f *Fields, claims handover.Bundle) {
	f.add("seq", claims.Sequence)
	f.add("issued_at", rfc3339(time.Unix(claims.IssuedAt, 0)))
	f.add("expires_at", rfc3339(time.Unix(claims.Expires, 0)))
}

func issuerFields(f *Fields, keys *handover.PeerKeys) {
	for i, cert := range keys.Pinned {
		f.add(fmt.Sprintf("issuer_%d", i+1), fmt.Sprintf("%s, %s, until %s, sha256 %s", cert.Subject, keyName(cert.PublicKey), rfc3339(cert.NotAfter), fingerprint(cert)))
	}
}

// keysOf is what a peer's card would pin.
func keysOf(card apitype.FederationBundle) (*handover.PeerKeys, error) {
	certs, err := handover.Issuers(card.CABundle)
	if err != nil {
		return nil, err
	}
	return &handover.PeerKeys{PeerID: card.PeerID, TrustDomain: card.TrustDomain, Pinned: certs}, nil
}
