package federation

import (
	"context"
	"crypto/x509"
	"slices"
	"strings"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/handover"
	"github.com/ampora/ampora/plugin/identity"
	"github.com/ampora/ampora/plugin/internal/audit"
	"github.com/ampora/ampora/plugin/internal/named"
)

// Bounds of a bundle's claims.
const (
	// BundleLife is how long a bundle can be taken over.
	BundleLife = 30 * 24 * time.Hour
	// maxSequence is what every reader of JSON can keep exactly (RFC 8259 section 6).
	maxSequence = 1<<53 - 1
)

// bundle is a bundle whose signature and claims have been checked.
type bundle struct {
	sequence uint64
	certs    []*x509.Certificate
}

// text is the bundle's certificates as they are pinned.
func (b bundle) text() string { return encode(b.certs) }

// signed reads a peer's signed bundle. keys are those that may have signed it; one that did must stand in the bundle itself, so
// that no bundle drops everything that is known of the peer at once. Errors: bundle_invalid, handover_signature_invalid.
func signed(compact, peerID, trustDomain string, keys []*x509.Certificate, now time.Time) (bundle, error) {
	compact = strings.TrimSpace(compact)
	var claims handover.Bundle
	switch err := handover.Verify(compact, handover.TypeBundle, keys, &claims); apitype.CodeOf(err) {
	case "":
	case apitype.HandoverSignatureInvalid:
		return bundle{}, apitype.Errorf(apitype.HandoverSignatureInvalid, "no key that is pinned for the peer has signed the bundle; if it has changed all its keys, write its new bundle file to peers/<name>")
	default:
		return bundle{}, apitype.Errorf(apitype.BundleInvalid, "bundle_jws is no signed bundle of a peer")
	}
	invalid := func(format string, args ...any) (bundle, error) {
		return bundle{}, apitype.Errorf(apitype.BundleInvalid, format, args...)
	}
	issued, expires := time.Unix(claims.IssuedAt, 0), time.Unix(claims.Expires, 0)
	switch {
	case claims.Issuer != peerID:
		return invalid("the signed bundle is that of another peer_id")
	case claims.TrustDomain != trustDomain:
		return invalid("the signed bundle has another trust_domain")
	case claims.Sequence == 0 || claims.Sequence > maxSequence:
		return invalid("its seq is no number from 1 to 2^53-1")
	case issued.After(now.Add(handover.Leeway)):
		return invalid("it was signed in the future, or a clock is wrong")
	case now.After(expires.Add(handover.Leeway)):
		return invalid("it has expired")
	case expires.Sub(issued) > BundleLife || claims.IssuedAt <= 0:
		return invalid("it is good for longer than 30 days, which none is")
	}
	text := strings.Join(claims.Certificates, "\n")
	if strings.Contains(text, "PRIVATE KEY") {
		return invalid("it holds a private key")
	}
	certs, err := issuers(text, now)
	if err != nil {
		return bundle{}, err
	}
	kept := slices.DeleteFunc(slices.Clone(keys), func(key *x509.Certificate) bool { return !holds(certs, key) })
	if handover.Verify(compact, handover.TypeBundle, kept, &claims) != nil {
		return invalid("it leaves out the key that has signed it, so nobody knows whether it is the peer's")
	}
	return bundle{sequence: claims.Sequence, certs: certs}, nil
}

// holds reports whether one of the certificates has the key of that one.
func holds(certs []*x509.Certificate, key *x509.Certificate) bool {
	return slices.ContainsFunc(certs, func(c *x509.Certificate) bool {
		return string(c.RawSubjectPublicKeyInfo) == string(key.RawSubjectPublicKeyInfo)
	})
}

// UpdateBundle takes over a newer bundle of a peer, which a key that is pinned must have signed. It changes keys and sequence
// only. The same one again changes nothing. Errors: peer_unknown, peer_suspended, bundle_invalid, bundle_outdated,
// handover_signature_invalid.
func (p *Peers) UpdateBundle(ctx context.Context, origin audit.Origin, peer string, in apitype.PeerBundleRequest) (apitype.Peer, error) {
	if err := noSecret("bundle_jws", in.BundleJWS); err != nil {
		return apitype.Peer{}, err
	}
	return p.write(ctx, origin, peer, func(r *row, made bool) (named.Change, error) {
		switch {
		case made:
			return named.Change{}, apitype.Errorf(apitype.PeerUnknown, "no peer has this name")
		case r.Suspended:
			return named.Change{}, apitype.Errorf(apitype.PeerSuspended, "peer %s is suspended", peer)
		}
		details, err := p.follow(r, in.BundleJWS)
		return named.Change{Details: details, OriginPeerID: r.PeerID}, err
	})
}

// follow pins a newer bundle that a pinned key has signed, and answers what the event tells.
func (p *Peers) follow(r *row, compact string) (map[string]any, error) {
	now := p.Now()
	is, err := r.peer()
	if err != nil {
		return nil, err
	}
	pinned := good(is.Pinned, now)
	b, err := signed(compact, r.PeerID, r.TrustDomain, pinned, now)
	switch {
	case err != nil:
		return nil, err
	case b.sequence < r.Pinned:
		return nil, apitype.Errorf(apitype.BundleOutdated, "its seq is %d, and %d is pinned", b.sequence, r.Pinned)
	case b.sequence == r.Pinned && same(b.certs, pinned):
		return nil, nil
	case b.sequence == r.Pinned: // somebody has two bundles of one seq: a copy of its storage, or of its key
		return nil, apitype.Errorf(apitype.BundleInvalid, "it differs from the one of the same seq that is pinned")
	}
	return p.pin(r, b), nil
}

// pin puts a bundle into the row, and answers what the event tells. The edges' roots follow where they were the same.
func (p *Peers) pin(r *row, b bundle) map[string]any {
	text := b.text()
	if r.CABundle != "" && r.EndpointCABundle == r.CABundle {
		r.EndpointCABundle = text
	}
	r.CABundle, r.Pinned, r.PinnedAt = text, b.sequence, p.Now().UTC()
	return map[string]any{"bundle_sequence": b.sequence, "ca_bundle": fingerprints(b.certs)}
}

// fingerprints stand for certificates in events.
func fingerprints(certs []*x509.Certificate) []string {
	all := []string{}
	for _, c := range certs {
		all = append(all, identity.Fingerprint(c.Raw))
	}
	return all
}
