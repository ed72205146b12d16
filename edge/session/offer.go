package session

import (
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"net/url"
	"strings"
	"time"

	"github.com/ampora/ampora/edge/trust"
	"github.com/ampora/ampora/plugin/apitype"
)

// DefaultPath is where OpAMP is served when the configured endpoint names no path.
const DefaultPath = "/v1/opamp"

// defaultHeartbeat stands in when the engine names no interval. An offer must never say 0: agents then stop their heartbeats
// altogether.
const defaultHeartbeat = 30 * time.Second

func heartbeat(s *trust.Snapshot) time.Duration {
	if s == nil || s.Settings.HeartbeatInterval <= 0 {
		return defaultHeartbeat
	}
	return time.Duration(s.Settings.HeartbeatInterval) * time.Second
}

// blankOffer is an offer without its certificate. It is made before Vault is asked, so that nothing is used up for an offer
// that cannot be made.
func (d *Desk) blankOffer(s *trust.Snapshot, t Transport) (*Offer, error) {
	address, refusal := endpoint(d.Advertise, s, t)
	if refusal != nil {
		return nil, refusal
	}
	roots, err := d.ServerRoots()
	if err != nil {
		return nil, err
	}
	return &Offer{Endpoint: address, ServerRoots: roots, Heartbeat: heartbeat(s), issuerRoots: d.IssuerRoots}, nil
}

// fill puts the certificate in, and the key when the engine was asked to make it.
func (o *Offer) fill(id *apitype.Identity, serverKey bool) error {
	if serverKey && id.PrivateKey == "" {
		return errors.New("the engine made a key and did not send it")
	}
	o.Certificate, o.PrivateKey = id.Certificate, id.PrivateKey
	// The engine may have signed with an issuer that has not reached this edge's snapshot yet. Edges will have their own
	// certificates from it one day, and this may be the last offer until then.
	if o.issuerRoots && o.ServerRoots != "" && !strings.Contains(o.ServerRoots, id.IssuingCA) {
		o.ServerRoots += id.IssuingCA
	}
	der := []byte(id.Certificate)
	if block, _ := pem.Decode(der); block != nil {
		der = block.Bytes
	}
	o.Leaf = sha256.Sum256(der)
	return nil
}

// endpoint is the address of this installation that agents are told.
func endpoint(advertise string, s *trust.Snapshot, transport Transport) (string, *Refusal) {
	if advertise == "" && s != nil {
		advertise = s.Settings.Endpoint
	}
	address, found := reachedBy(advertise, transport)
	if !found {
		return "", refusef(apitype.NotConfigured, "agents need an address to be sent to: config.endpoint, or --advertise on this edge")
	}
	return address, nil
}

// reachedBy is an address in the scheme of the transport that an agent came by, with the path of OpAMP.
func reachedBy(address string, transport Transport) (string, bool) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return "", false
	}
	u.Scheme = "wss"
	if transport == HTTP {
		u.Scheme = "https"
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = DefaultPath
	}
	return u.String(), true
}
