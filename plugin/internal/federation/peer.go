package federation

import (
	"crypto/x509"
	"slices"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/ca"
	"github.com/ampora/ampora/plugin/internal/named"
)

// anything is the entry of an allow-list that allows everything.
const anything = "*"

// row is peer/-/<name>.
type row struct {
	named.Head
	PeerID           string   `json:"peer_id"`
	TrustDomain      string   `json:"trust_domain"`
	Endpoint         string   `json:"endpoint"`
	EndpointCABundle string   `json:"endpoint_ca_bundle,omitempty"`
	FederationURL    string   `json:"federation_url,omitempty"`
	CABundle         string   `json:"ca_bundle"`
	Tenants          []string `json:"allowed_tenants"`
	Groups           []string `json:"allowed_groups"`
	Configurations   []string `json:"allowed_configurations"`
	Suspended        bool     `json:"suspended,omitempty"`
	// Pinned is the sequence of its bundle that CABundle is from, 0 when it was written without one, and PinnedAt when that was.
	Pinned   uint64    `json:"pinned,omitempty"`
	PinnedAt time.Time `json:"pinned_at"`
	Told     uint64    `json:"told,omitempty"`         // as Pinned, of which the peer knows that we have it
	Known    uint64    `json:"acknowledged,omitempty"` // the sequence of ours of which we know that the peer has it
}

func (*row) SchemaName() string { return "peer" }
func (*row) SchemaVersion() int { return 1 }

// info is the row for people, without reachability.
func (r *row) info() apitype.Peer {
	return apitype.Peer{
		Name: r.Name, PeerID: r.PeerID, TrustDomain: r.TrustDomain, Endpoint: r.Endpoint, EndpointCABundle: r.EndpointCABundle,
		FederationURL: r.FederationURL, CABundle: r.CABundle,
		AllowedTenants: list(r.Tenants), AllowedGroups: list(r.Groups), AllowedConfigurations: list(r.Configurations),
		Suspended: r.Suspended, BundleSequence: r.Pinned, BundleTime: r.PinnedAt.Format(time.RFC3339), AcknowledgedSequence: r.Known,
		CreatedAt: r.CreatedAt.Format(time.RFC3339), UpdatedAt: r.UpdatedAt.Format(time.RFC3339), Reachability: []apitype.PeerReach{},
	}
}

// list is never nil, so that it is shown as a list.
func list(entries []string) []string { return append([]string{}, entries...) }

// Peer is another installation as its row says. It is not to be changed.
type Peer struct {
	Name             string // ours for it
	PeerID           string // its own
	TrustDomain      string
	Endpoint         string // wss URL, for agents
	EndpointCABundle string // PEM; empty: the system's roots
	FederationURL    string // https URL; empty in an air gap
	CABundle         string // PEM of what is pinned
	// Pinned is what its documents are checked with: the certificates of CABundle that have not expired.
	Pinned    []*x509.Certificate
	Suspended bool
	// BundleSequence is that of its bundle which is pinned, AcknowledgedSequence that of ours which it has; 0: not known.
	BundleSequence       uint64
	AcknowledgedSequence uint64

	told                            uint64
	pinnedAt                        time.Time
	tenants, groups, configurations []string
}

// peer is the row with its certificates. Where they cannot be read it is what there is, with the error.
func (r *row) peer() (*Peer, error) {
	certs, err := ca.ParseBundle(r.CABundle)
	return &Peer{
		Name: r.Name, PeerID: r.PeerID, TrustDomain: r.TrustDomain, Endpoint: r.Endpoint, EndpointCABundle: r.EndpointCABundle,
		FederationURL: r.FederationURL, CABundle: r.CABundle, Pinned: certs, Suspended: r.Suspended,
		BundleSequence: r.Pinned, AcknowledgedSequence: r.Known, told: r.Told, pinnedAt: r.PinnedAt,
		tenants: r.Tenants, groups: r.Groups, configurations: r.Configurations,
	}, err
}

// at is the peer as it is at that time: without certificates that have expired.
func (p *Peer) at(now time.Time) *Peer {
	is := *p
	is.Pinned = good(p.Pinned, now)
	return &is
}

// good leaves out what has expired.
func good(certs []*x509.Certificate, now time.Time) []*x509.Certificate {
	return slices.DeleteFunc(slices.Clone(certs), func(c *x509.Certificate) bool { return now.After(c.NotAfter) })
}

// AllowsTenant reports whether agents may come from the peer into the tenant; "" is none.
func (p *Peer) AllowsTenant(tenant string) bool { return allows(p.tenants, tenant) }

// AllowsGroup reports whether agents that come from the peer may land in the group; "" is none.
func (p *Peer) AllowsGroup(group string) bool { return allows(p.groups, group) }

// AllowsConfiguration reports whether the configuration that the peer claims for an agent counts; "" is none.
func (p *Peer) AllowsConfiguration(configuration string) bool {
	return allows(p.configurations, configuration)
}

func allows(list []string, name string) bool {
	return slices.Contains(list, anything) || slices.Contains(list, name)
}
