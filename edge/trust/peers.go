package trust

import (
	"crypto/x509"
	"encoding/pem"

	"github.com/ampora/ampora/plugin/apitype"
)

// Peer is another installation that we federate with.
type Peer struct {
	Name             string
	PeerID           string
	Endpoint         string // wss URL of its edges
	EndpointCABundle string // PEM that verifies them; empty: the system's roots
	FederationURL    string // empty in an air gap
	BundleSequence   uint64
	Suspended        bool
	// Issuers are its pinned certificates. One that cannot be read is left out, and vouches for nobody.
	Issuers []*x509.Certificate
}

// Trusts reports whether the certificate is one of the peer's issuers.
func (p *Peer) Trusts(issuer *x509.Certificate) bool {
	for _, i := range p.Issuers {
		if i.Equal(issuer) {
			return true
		}
	}
	return false
}

// Peer is the peer of that name, nil when there is none.
func (s *Snapshot) Peer(name string) *Peer {
	for _, p := range s.Peers {
		if p.Name == name {
			return p
		}
	}
	return nil
}

func parsePeers(in []apitype.SyncPeer) []*Peer {
	peers := make([]*Peer, len(in))
	for i, p := range in {
		peers[i] = &Peer{
			Name: p.Name, PeerID: p.PeerID, Endpoint: p.Endpoint, EndpointCABundle: p.EndpointCABundle, FederationURL: p.FederationURL,
			BundleSequence: p.BundleSequence, Suspended: p.Suspended, Issuers: readable(p.CABundle),
		}
	}
	return peers
}

// readable are the certificates of a PEM text that can be read.
func readable(text string) (all []*x509.Certificate) {
	for rest := []byte(text); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return all
		}
		if cert, err := x509.ParseCertificate(block.Bytes); err == nil {
			all = append(all, cert)
		}
	}
}
