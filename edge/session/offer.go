package session

import (
	"net/url"
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

// endpoint is the address that agents are told, in the scheme of the transport they came by.
func endpoint(advertise string, s *trust.Snapshot, transport Transport) (string, *Refusal) {
	if advertise == "" && s != nil {
		advertise = s.Settings.Endpoint
	}
	u, err := url.Parse(advertise)
	if err != nil || u.Host == "" {
		return "", refusef(apitype.NotConfigured, "agents need an address to be sent to: config.endpoint, or --advertise on this edge")
	}
	u.Scheme = "wss"
	if transport == HTTP {
		u.Scheme = "https"
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = DefaultPath
	}
	return u.String(), nil
}
