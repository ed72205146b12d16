package settings

import (
	"net"
	"net/url"
	"strings"

	"github.com/ampora/ampora/plugin/apitype"
)

// maxEdgeNames is how many names an edge's server certificate may have.
const maxEdgeNames = 32

// EdgeNames checks which names an edge may have in its server certificate: the host of the endpoint, the entries of
// edge_allowed_domains, and what lies below those. Without any asked for, it is the endpoint's host. An edge that was taken
// over can thus not pass for anything but an edge.
func EdgeNames(cfg apitype.Config, dnsNames, ips []string) ([]string, []net.IP, error) {
	if cfg.Endpoint == "" {
		return nil, nil, apitype.Errorf(apitype.NotConfigured, "endpoint is not set")
	}
	endpoint, err := url.Parse(cfg.Endpoint)
	if err != nil {
		return nil, nil, apitype.Errorf(apitype.NotConfigured, "endpoint is no URL")
	}
	host := strings.ToLower(endpoint.Hostname())
	if len(dnsNames)+len(ips) == 0 {
		if net.ParseIP(host) != nil {
			ips = []string{host}
		} else {
			dnsNames = []string{host}
		}
	}
	if len(dnsNames)+len(ips) > maxEdgeNames {
		return nil, nil, apitype.Errorf(apitype.EdgeNameNotAllowed, "more than %d names were asked for", maxEdgeNames)
	}
	var addresses []net.IP
	for _, text := range ips {
		ip := net.ParseIP(text)
		if ip == nil {
			return nil, nil, apitype.Errorf(apitype.FieldInvalid, "ip_sans holds something that is no IP address")
		}
		if !allowedIP(ip, host, cfg.EdgeAllowedDomains) {
			return nil, nil, apitype.Errorf(apitype.EdgeNameNotAllowed, "an address was asked for that is not allowed")
		}
		addresses = append(addresses, ip)
	}
	for _, n := range dnsNames {
		if len(n) > 253 || !domain.MatchString(n) || net.ParseIP(n) != nil {
			return nil, nil, apitype.Errorf(apitype.FieldInvalid, "dns_names holds something that is no host name in lower case")
		}
		if n != host && !within(n, cfg.EdgeAllowedDomains) {
			return nil, nil, apitype.Errorf(apitype.EdgeNameNotAllowed, "a name was asked for that is not allowed")
		}
	}
	return dnsNames, addresses, nil
}

func within(host string, domains []string) bool {
	for _, d := range domains {
		if host == d || strings.HasSuffix(host, "."+d) {
			return true
		}
	}
	return false
}

func allowedIP(ip net.IP, host string, allowed []string) bool {
	for _, text := range append([]string{host}, allowed...) {
		if other := net.ParseIP(text); other != nil && other.Equal(ip) {
			return true
		}
	}
	return false
}
