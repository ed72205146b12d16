// Package trust keeps what an edge decides by: an immutable snapshot of issuers, revocations and settings, brought up to
// date from the secrets engine's change feed (DESIGN.md section 8).
package trust

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/identity"
	"github.com/google/uuid"
)

// Snapshot is one state of the feed. It never changes; readers may keep it as long as they like.
type Snapshot struct {
	Revision  string // "<epoch>.<n>"
	FetchedAt time.Time
	Settings  apitype.SyncSettings
	// Issuers are the trust anchors, the active one first.
	Issuers []*x509.Certificate
	// IssuerIDs are the engine's ids of the same.
	IssuerIDs []string
	// IssuersPEM are the same, one PEM after the other.
	IssuersPEM string
	// Peers are the installations that agents move to and come from.
	Peers []*Peer

	revoked    revokedSet
	travellers travellers
}

// Age is how long ago the feed last answered.
func (s *Snapshot) Age(now time.Time) time.Duration { return now.Sub(s.FetchedAt) }

// Revoked reports whether the leaf of that serial has been revoked.
func (s *Snapshot) Revoked(serial identity.Serial) bool {
	return s.revoked.covers(agentKey(serial), serial.Generation())
}

// RevokedCount is how many agents have revoked leaves.
func (s *Snapshot) RevokedCount() int { return s.revoked.len() }

// Trusts reports whether the certificate is one of the issuers.
func (s *Snapshot) Trusts(issuer *x509.Certificate) bool {
	for _, i := range s.Issuers {
		if i.Equal(issuer) {
			return true
		}
	}
	return false
}

// apply makes the snapshot that follows from an answer of the feed. prev is nil before the first.
func apply(prev *Snapshot, in *apitype.SyncResponse, now time.Time) (*Snapshot, error) {
	if !in.Full && prev == nil {
		return nil, errors.New("trust: the feed answered with a change before any whole snapshot")
	}
	next := &Snapshot{Revision: in.Revision, FetchedAt: now}
	if !in.Full {
		next.Settings, next.revoked, next.Peers, next.travellers = prev.Settings, prev.revoked, prev.Peers, prev.travellers
		next.Issuers, next.IssuerIDs, next.IssuersPEM = prev.Issuers, prev.IssuerIDs, prev.IssuersPEM
	}
	if in.Settings != nil {
		next.Settings = *in.Settings
	}
	if in.Full || in.Issuers != nil {
		var err error
		if next.Issuers, next.IssuersPEM, err = parseIssuers(in.Issuers); err != nil {
			return nil, err
		}
		next.IssuerIDs = make([]string, len(in.Issuers))
		for i, issuer := range in.Issuers {
			next.IssuerIDs[i] = issuer.IssuerID
		}
	}
	if len(in.Revoked) > 0 {
		added := make(map[agentID]ending, len(in.Revoked))
		for _, r := range in.Revoked {
			id, err := uuid.Parse(r.AgentID)
			if err != nil {
				return nil, fmt.Errorf("trust: the feed names an agent whose id is no UUID")
			}
			e := ending{generation: r.Generation, notAfter: r.NotAfter}
			if old, found := added[agentID(id)]; !found || old.generation < e.generation {
				added[agentID(id)] = e
			}
		}
		next.revoked = next.revoked.with(added, now)
	}
	if in.Peers != nil {
		next.Peers = parsePeers(in.Peers)
	}
	var err error
	next.travellers, err = next.travellers.with(in.Moves, in.Guests)
	return next, err
}

func parseIssuers(in []apitype.SyncIssuer) ([]*x509.Certificate, string, error) {
	issuers := make([]*x509.Certificate, 0, len(in))
	var all strings.Builder
	for _, i := range in {
		block, _ := pem.Decode([]byte(i.Certificate))
		if block == nil {
			return nil, "", fmt.Errorf("trust: issuer %s is no PEM", i.IssuerID)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, "", fmt.Errorf("trust: issuer %s: %w", i.IssuerID, err)
		}
		issuers = append(issuers, cert)
		all.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}))
	}
	return issuers, all.String(), nil
}
