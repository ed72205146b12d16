package federation

import (
	"context"
	"crypto/x509"
	"slices"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/audit"
	"github.com/ampora/ampora/plugin/internal/ca"
	"github.com/ampora/ampora/plugin/internal/named"
)

// Write makes a peer, or changes the fields that are set. What an operator writes of keys counts as it is, also an older bundle
// than the one that is pinned; a bundle_jws without ca_bundle counts as in UpdateBundle.
func (p *Peers) Write(ctx context.Context, origin audit.Origin, peer string, in apitype.PeerRequest) (apitype.Peer, error) {
	if err := validate(in); err != nil {
		return apitype.Peer{}, err
	}
	info, err := p.write(ctx, origin, peer, func(r *row, made bool) (named.Change, error) {
		return p.apply(ctx, r, made, in)
	})
	if err != nil || in.Suspended == nil || !*in.Suspended {
		return info, err
	}
	return info, p.gone(ctx, peer, Suspension) // also when it was suspended before: something may have been left over
}

// write is the one way to change a peer.
func (p *Peers) write(ctx context.Context, origin audit.Origin, peer string, change func(*row, bool) (named.Change, error)) (apitype.Peer, error) {
	r, err := func() (*row, error) {
		p.change.Lock()
		defer p.change.Unlock()
		defer p.memory.change()()
		return p.rows.WriteAs(ctx, origin, "", peer, change)
	}()
	p.changed()
	if err != nil {
		return apitype.Peer{}, err
	}
	return r.info(), nil
}

func (p *Peers) changed() {
	if p.Changed != nil {
		p.Changed()
	}
}

// gone calls PeerGone for a peer that there is.
func (p *Peers) gone(ctx context.Context, peer, why string) error {
	if p.PeerGone == nil {
		return nil
	}
	r, err := p.rows.Read(ctx, "", peer)
	if apitype.CodeOf(err) == apitype.PeerUnknown {
		return nil
	}
	if err != nil {
		return err
	}
	is, _ := r.peer() // also one whose row is damaged must be able to go
	return p.PeerGone(ctx, is.at(p.Now()), why)
}

// apply changes the fields that are set and answers what the event tells of it.
func (p *Peers) apply(ctx context.Context, r *row, made bool, in apitype.PeerRequest) (named.Change, error) {
	told := map[string]any{}
	if made {
		if in.PeerID == nil || in.TrustDomain == nil || in.Endpoint == nil || in.CABundle == nil {
			return named.Change{}, apitype.Errorf(apitype.FieldInvalid, "peer_id, trust_domain, endpoint and ca_bundle are needed to make a peer")
		}
		all := []string{anything}
		r.Tenants, r.Groups, r.Configurations = all, all, all
	}
	if in.PeerID != nil {
		if err := p.checkID(ctx, r, made, *in.PeerID); err != nil {
			return named.Change{}, err
		}
	}
	for field, change := range map[string]struct{ to, have *string }{
		"peer_id": {in.PeerID, &r.PeerID}, "trust_domain": {in.TrustDomain, &r.TrustDomain},
		"endpoint": {in.Endpoint, &r.Endpoint}, "federation_url": {in.FederationURL, &r.FederationURL},
	} {
		if change.to != nil && *change.to != *change.have {
			*change.have, told[field] = *change.to, *change.to
		}
	}
	for field, change := range map[string]struct{ to, have *[]string }{
		"allowed_tenants": {in.AllowedTenants, &r.Tenants}, "allowed_groups": {in.AllowedGroups, &r.Groups},
		"allowed_configurations": {in.AllowedConfigurations, &r.Configurations},
	} {
		if change.to != nil && !slices.Equal(*change.to, *change.have) {
			*change.have, told[field] = *change.to, *change.to
		}
	}
	if err := p.keys(r, in, told); err != nil {
		return named.Change{}, err
	}
	action := ""
	if in.Suspended != nil && *in.Suspended != r.Suspended {
		r.Suspended, told["suspended"] = *in.Suspended, *in.Suspended
		if r.Suspended {
			action = apitype.ActionPeerSuspended
		}
	}
	return named.Change{Details: told, Action: action}, nil
}

// checkID sees to it that a peer_id is fixed, nobody else's, and not ours.
func (p *Peers) checkID(ctx context.Context, r *row, made bool, peerID string) error {
	if !made {
		if peerID != r.PeerID {
			return apitype.Errorf(apitype.FieldInvalid, "peer_id is fixed, and this one is another; make another peer for another installation")
		}
		return nil
	}
	cfg, err := p.Settings.Get(ctx)
	if err != nil {
		return err
	}
	if peerID == cfg.PeerID {
		return apitype.Errorf(apitype.FieldInvalid, "peer_id is our own; write the bundle of the other side here, and ours there")
	}
	return p.FreeID(ctx, peerID)
}

// FreeID refuses with in_use a peer_id that a peer has.
func (p *Peers) FreeID(ctx context.Context, peerID string) error {
	has := ""
	err := p.rows.Each(ctx, "", "", func(other *row) bool {
		if other.PeerID == peerID {
			has = other.Name
		}
		return has == ""
	})
	if err == nil && has != "" {
		err = apitype.Errorf(apitype.InUse, "peer %s has this peer_id", has)
	}
	return err
}

// keys changes what is pinned, and the edges' roots.
func (p *Peers) keys(r *row, in apitype.PeerRequest, told map[string]any) error {
	signedBundle := ""
	if in.BundleJWS != nil {
		signedBundle = *in.BundleJWS
	}
	pinned := map[string]any(nil)
	var err error
	switch {
	case in.CABundle != nil:
		pinned, err = p.replace(r, *in.CABundle, signedBundle)
	case signedBundle != "":
		pinned, err = p.follow(r, signedBundle)
	}
	if err != nil {
		return err
	}
	for field, value := range pinned {
		told[field] = value
	}
	if in.EndpointCABundle == nil {
		return nil
	}
	roots := []*x509.Certificate{}
	if *in.EndpointCABundle != "" {
		if roots, err = ca.ParseBundle(*in.EndpointCABundle); err != nil {
			return apitype.Errorf(apitype.FieldInvalid, "endpoint_ca_bundle must be PEM certificates and nothing besides, or empty")
		}
	}
	if text := encode(roots); text != r.EndpointCABundle {
		r.EndpointCABundle, told["endpoint_ca_bundle"] = text, fingerprints(roots)
	}
	return nil
}

// replace pins what an operator has written, with the sequence of the signed bundle if one is given.
func (p *Peers) replace(r *row, text, signedBundle string) (map[string]any, error) {
	now := p.Now()
	certs, err := issuers(text, now)
	if err != nil {
		return nil, err
	}
	b := bundle{certs: certs}
	if signedBundle != "" {
		if b, err = signed(signedBundle, r.PeerID, r.TrustDomain, certs, now); err != nil {
			return nil, err
		}
		if !same(b.certs, certs) {
			return nil, apitype.Errorf(apitype.BundleInvalid, "bundle_jws and ca_bundle hold different certificates")
		}
	}
	if b.text() == r.CABundle && (signedBundle == "" || b.sequence == r.Pinned) {
		return nil, nil
	}
	r.Told = 0 // the peer may have gone back to an older one, and forgotten
	return p.pin(r, b), nil
}
