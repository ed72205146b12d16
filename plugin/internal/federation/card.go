package federation

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/handover"
	"github.com/ampora/ampora/plugin/internal/authority"
	"github.com/ampora/ampora/plugin/internal/ca"
)

// cardLife is how long a signed card is answered before it is signed again.
const cardLife = 24 * time.Hour

// card is our own card as it was last signed: anybody may ask for it, and signing takes longer than answering.
type card struct {
	mu       sync.Mutex
	unsigned apitype.FederationBundle
	sequence uint64
	signed   string
	until    time.Time
}

// Card is what the other side writes to its peers/<name>. While peer_id, trust_domain or endpoint is missing it is
// not_configured, and without an issuer issuer_missing.
//
// It is signed by the oldest of our trust anchors: that one is known to whoever has pinned any bundle since it became one, so
// that a peer which has missed some changes can still follow. One that has missed so many that it knows none of the anchors
// needs an operator, since it could not tell us from a thief of the old ones.
func (p *Peers) Card(ctx context.Context) (apitype.FederationBundle, error) {
	cfg, err := p.Settings.Get(ctx)
	if err != nil {
		return apitype.FederationBundle{}, err
	}
	if what := missing(cfg); what != "" {
		return apitype.FederationBundle{}, apitype.Errorf(apitype.NotConfigured, "%s not set", what)
	}
	set, err := p.authority.Set(ctx)
	if err != nil {
		return apitype.FederationBundle{}, err
	}
	now := p.Now()
	certs := set.Shown(now, handover.Leeway)
	if len(certs) > handover.MaxBundle {
		return apitype.FederationBundle{}, apitype.Errorf(apitype.InUse, "%d issuers are trusted, and peers take %d; retire those whose certificates have ended", len(certs), handover.MaxBundle)
	}
	out := apitype.FederationBundle{
		PeerID: cfg.PeerID, TrustDomain: cfg.TrustDomain, Endpoint: cfg.Endpoint, EndpointCABundle: cfg.EndpointCABundle,
		FederationURL: cfg.FederationURL, CABundle: encode(certs),
	}
	if out.EndpointCABundle == "" { // the edges' certificates are from here
		out.EndpointCABundle = out.CABundle
	}
	p.card.mu.Lock()
	defer p.card.mu.Unlock()
	if c := &p.card; c.unsigned != out || c.sequence != set.Sequence() || !now.Before(c.until) {
		signed, err := p.signCard(set, out, now, ca.EncodeChain(certs))
		if err != nil {
			return apitype.FederationBundle{}, err
		}
		c.unsigned, c.sequence, c.signed, c.until = out, set.Sequence(), signed, now.Add(cardLife)
	}
	out.BundleJWS = p.card.signed
	return out, nil
}

func (p *Peers) signCard(set *authority.Set, unsigned apitype.FederationBundle, now time.Time, certs []string) (string, error) {
	issuer, err := set.Signer(now, handover.Leeway, 0)
	if err != nil {
		return "", err
	}
	signed, err := handover.Sign(issuer.Key, handover.TypeBundle, handover.Bundle{
		Issuer: unsigned.PeerID, Sequence: set.Sequence(), IssuedAt: now.Unix(), Expires: now.Add(BundleLife).Unix(),
		TrustDomain: unsigned.TrustDomain, Certificates: certs,
	})
	if err == nil && len(signed) > handover.MaxDocument {
		err = apitype.Errorf(apitype.InUse, "the certificates of the issuers that are trusted are larger than peers take; retire those whose certificates have ended")
	}
	return signed, err
}

// missing names the settings that a card needs and that are not set.
func missing(cfg apitype.Config) string {
	var names []string
	for _, field := range []struct{ name, value string }{
		{"peer_id", cfg.PeerID}, {"trust_domain", cfg.TrustDomain}, {"endpoint", cfg.Endpoint},
	} {
		if field.value == "" {
			names = append(names, field.name)
		}
	}
	switch len(names) {
	case 0:
		return ""
	case 1:
		return names[0] + " is"
	}
	return strings.Join(names, " and ") + " are"
}
