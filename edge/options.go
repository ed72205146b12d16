package edge

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/ampora/ampora/edge/federation"
	"github.com/ampora/ampora/edge/session"
	"github.com/ampora/ampora/edge/vaultgate"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
)

// Defaults of the options; the command's flags take theirs from here.
const (
	DefaultListen         = ":4320"
	DefaultAdminListen    = "127.0.0.1:4321"
	DefaultMaxStaleness   = 6 * time.Hour
	DefaultDrainTimeout   = 20 * time.Second
	DefaultMaxMessageSize = 4 << 20
	DefaultMaxWaiting     = 16 << 10
)

// Options say how an edge runs. Zero fields mean their defaults; what cannot work is refused by New.
type Options struct {
	Listen      string // address of the TLS listener; default DefaultListen
	AdminListen string // address of /healthz, /readyz and /metrics; default DefaultAdminListen
	PKIListen   string // address of a plain HTTP listener for /pki/, which the TLS one serves too; default none
	// Advertise is the wss or https URL that agents are sent to; default the engine's config.endpoint.
	Advertise string
	Name      string // of this edge in reports; default the host's name
	Tenant    string // serve this tenant only

	// TLSCert and TLSKey are files; they are loaded again when they change. Without them the certificate comes from Vault.
	TLSCert, TLSKey string
	// TLSCA is a file with the roots that verify TLSCert, or "system". It goes with TLSCert and is sent to every agent.
	TLSCA string
	// SANs are further names or addresses for a certificate from Vault.
	SANs []string

	ProxyProtocolFrom []netip.Prefix // balancers whose PROXY protocol header is required and believed
	MaxStaleness      time.Duration  // age of the last sync up to which new sessions are let in; default DefaultMaxStaleness
	DrainTimeout      time.Duration  // for Stop; default DefaultDrainTimeout
	MaxMessageSize    int64          // bytes of one OpAMP message; default DefaultMaxMessageSize
	// MaxWaiting is how many connections may stand open on which nothing is being asked: no WebSocket counts, and no request that
	// is being answered. More of them, and the one that has waited longest is cut off. Default: half of the files that the process
	// may open, and at most DefaultMaxWaiting.
	MaxWaiting    int
	HeaderTimeout time.Duration // for a TLS handshake, and for the header of a request; default 10 s
	ReadTimeout   time.Duration // for a whole request over plain HTTP; default 30 s
	WriteTimeout  time.Duration // for a single write to a peer; default 20 s
	Timing        session.Timing
	Federation    federation.Timing

	// Vault is how Vault is reached. Tenant, Logger and Registerer are filled in.
	Vault vaultgate.Options

	Logger   hclog.Logger         // default none
	Registry *prometheus.Registry // default a new one
}

func (o Options) withDefaults() Options {
	if o.Listen == "" {
		o.Listen = DefaultListen
	}
	if o.AdminListen == "" {
		o.AdminListen = DefaultAdminListen
	}
	if o.Name == "" {
		o.Name = hostName()
	}
	if o.MaxStaleness == 0 {
		o.MaxStaleness = DefaultMaxStaleness
	}
	if o.DrainTimeout == 0 {
		o.DrainTimeout = DefaultDrainTimeout
	}
	if o.MaxWaiting == 0 {
		o.MaxWaiting = DefaultMaxWaiting
		if files := maxFiles(); files > 0 {
			o.MaxWaiting = int(min(DefaultMaxWaiting, files/2))
		}
	}
	if o.HeaderTimeout == 0 {
		o.HeaderTimeout = readHeaderTimeout
	}
	if o.ReadTimeout == 0 {
		o.ReadTimeout = readTimeout
	}
	if o.MaxMessageSize == 0 {
		o.MaxMessageSize = DefaultMaxMessageSize
	}
	if o.Logger == nil {
		o.Logger = hclog.NewNullLogger()
	}
	if o.Registry == nil {
		o.Registry = prometheus.NewRegistry()
	}
	o.Vault.Tenant, o.Vault.Logger, o.Vault.Registerer = o.Tenant, o.Logger.Named("vault"), o.Registry
	return o
}

// nameRule is that of the engine, DESIGN.md section 4.
var nameRule = regexp.MustCompile(`^[a-z0-9]([a-z0-9_-]{0,62}[a-z0-9])?$`)

// hostName is the host's name with what does not fit the rule for names replaced.
func hostName() string {
	host, err := os.Hostname()
	name := regexp.MustCompile(`[^a-z0-9_-]+`).ReplaceAllString(strings.ToLower(host), "-")
	name = strings.Trim(name[:min(len(name), 64)], "-_")
	if err != nil || name == "" {
		return "edge"
	}
	return name
}

func (o Options) validate() error {
	var errs []error
	refuse := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for flag, address := range map[string]string{"listen": o.Listen, "admin-listen": o.AdminListen, "pki-listen": o.PKIListen} {
		if _, _, err := net.SplitHostPort(address); err != nil && (flag != "pki-listen" || address != "") {
			refuse("%s: %w", flag, err)
		}
	}
	if o.Advertise != "" {
		u, err := url.Parse(o.Advertise)
		if err != nil || u.Host == "" || (u.Scheme != "wss" && u.Scheme != "https") || u.User != nil || u.RawQuery != "" {
			refuse("advertise: give a wss:// or https:// URL such as wss://edge.example.com:4320/v1/opamp")
		}
	}
	if (o.TLSCert == "") != (o.TLSKey == "") {
		refuse("tls-cert and tls-key go together")
	}
	if (o.TLSCert == "") != (o.TLSCA == "") {
		refuse("tls-ca goes with tls-cert: agents are told what to verify this edge by; give the CA's file, or 'system' for a publicly trusted one")
	}
	if o.TLSCert != "" && len(o.SANs) > 0 {
		refuse("san is for a certificate from Vault; the names of tls-cert are fixed")
	}
	for flag, d := range map[string]time.Duration{"max-staleness": o.MaxStaleness, "drain-timeout": o.DrainTimeout, "header timeout": o.HeaderTimeout, "read timeout": o.ReadTimeout} {
		if d < 0 {
			refuse("%s: must not be negative", flag)
		}
	}
	if o.MaxWaiting < 0 {
		refuse("max waiting: must not be negative")
	}
	if o.MaxMessageSize < 1<<10 {
		refuse("max message size: at least 1 KiB")
	}
	if !nameRule.MatchString(o.Name) {
		refuse("name: %s", apitype.NameInvalid.Next())
	}
	return errors.Join(errs...)
}

// names are those of a certificate from Vault: the host that agents are sent to, and the SANs.
func (o Options) names(endpoint string) []string {
	if o.Advertise != "" {
		endpoint = o.Advertise
	}
	var names []string
	if u, err := url.Parse(endpoint); err == nil && u.Hostname() != "" {
		names = append(names, u.Hostname())
	}
	for _, san := range o.SANs {
		if len(names) == 0 || san != names[0] {
			names = append(names, san)
		}
	}
	return names
}

// Version is the version of this build.
func Version() string { return apitype.Version }
