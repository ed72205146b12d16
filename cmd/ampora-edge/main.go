// Command ampora-edge is what agents connect to. Its flags can also be given as AMPORA_EDGE_*; how Vault is reached is said
// by the standard VAULT_* variables.
package main

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
	"github.com/ampora/ampora/edge"
	"github.com/ampora/ampora/edge/vaultgate"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// flags are the command line. Defaults that matter live in edge.Options.
type flags struct {
	Listen      string `default:"${listen}" help:"Address of the TLS listener for agents."`
	AdminListen string `default:"${admin_listen}" help:"Address of /healthz, /readyz and /metrics."`
	PKIListen   string `name:"pki-listen" placeholder:"ADDRESS" help:"Address of a plain HTTP listener for /pki/ (CRL, OCSP, trust bundle), for the URLs in certificates. Default: none; the TLS listener serves the same."`
	Advertise   string `placeholder:"URL" help:"wss URL that agents are sent to. Default: config.endpoint of the secrets engine."`
	Name        string `help:"Name of this edge in reports. Default: made from the host's name."`
	Mount       string `default:"${mount}" help:"Where the secrets engine is mounted."`
	Tenant      string `help:"Serve this tenant only."`

	TLSCert string   `name:"tls-cert" placeholder:"FILE" help:"Server certificate with its chain, loaded again when it changes. Default: one from the secrets engine, for a key that never leaves memory."`
	TLSKey  string   `name:"tls-key" placeholder:"FILE" help:"Key of --tls-cert."`
	TLSCA   string   `name:"tls-ca" placeholder:"FILE|system" help:"Roots that verify --tls-cert; every agent is sent them. 'system' for a publicly trusted certificate."`
	SAN     []string `name:"san" placeholder:"NAME" help:"Further name or address for a certificate from the secrets engine; may be repeated."`

	ProxyProtocolFrom []string `placeholder:"CIDR" help:"Balancers whose PROXY protocol header (version 1 or 2) is required and believed; may be repeated."`

	MaxStaleness time.Duration `default:"${max_staleness}" help:"How long known agents are let in without an answer from Vault. Live sessions go on for twice as long."`
	DrainTimeout time.Duration `default:"${drain_timeout}" help:"How long closing the sessions may take at the end."`

	LogLevel  string `enum:"trace,debug,info,warn,error" default:"info" help:"trace, debug, info, warn or error."`
	LogFormat string `enum:"text,json" default:"text" help:"text or json."`

	Version bool `env:"-" help:"Print the version and exit."`

	vaultgate.AuthOptions `embed:""`
}

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var f flags
	exit := -1
	parser, err := kong.New(&f, kong.Name("ampora-edge"), kong.Description("The edge of Ampora: what OpAMP agents connect to."),
		kong.DefaultEnvars("AMPORA_EDGE"), kong.Writers(stdout, stderr), kong.Exit(func(code int) { exit = code }),
		kong.Vars{
			"listen": edge.DefaultListen, "admin_listen": edge.DefaultAdminListen, "mount": apitype.DefaultMount,
			"max_staleness": edge.DefaultMaxStaleness.String(), "drain_timeout": edge.DefaultDrainTimeout.String(),
		})
	if err != nil {
		fmt.Fprintln(stderr, "ampora-edge:", err)
		return exitFailed
	}
	if _, err := parser.Parse(args); exit >= 0 { // --help has been printed
		return exit
	} else if err != nil {
		fmt.Fprintln(stderr, "ampora-edge:", err)
		return exitUsage
	}
	if f.Version {
		fmt.Fprintln(stdout, "ampora-edge", apitype.Version)
		return exitOK
	}
	options, err := f.options(stderr)
	if err != nil {
		fmt.Fprintln(stderr, "ampora-edge:", err)
		return exitUsage
	}
	e, err := edge.New(options)
	if err != nil {
		fmt.Fprintln(stderr, "ampora-edge:", strings.ReplaceAll(err.Error(), "\n", "\nampora-edge: "))
		return exitUsage
	}
	if err := e.Start(); err != nil {
		options.Logger.Error("cannot start", "error", err)
		return exitFailed
	}
	<-ctx.Done()
	if err := e.Stop(context.WithoutCancel(ctx)); err != nil {
		options.Logger.Warn("not everything ended in time", "error", err)
		return exitFailed
	}
	return exitOK
}

func (f flags) options(logs io.Writer) (edge.Options, error) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	o := edge.Options{
		Listen: f.Listen, AdminListen: f.AdminListen, PKIListen: f.PKIListen, Advertise: f.Advertise, Name: f.Name, Tenant: f.Tenant,
		TLSCert: f.TLSCert, TLSKey: f.TLSKey, TLSCA: f.TLSCA, SANs: f.SAN,
		MaxStaleness: f.MaxStaleness, DrainTimeout: f.DrainTimeout,
		Vault: vaultgate.Options{Mount: f.Mount, Auth: f.AuthOptions},
		Logger: hclog.New(&hclog.LoggerOptions{
			Name: "ampora-edge", Level: hclog.LevelFromString(f.LogLevel), Output: logs, JSONFormat: f.LogFormat == "json",
		}),
		Registry: registry,
	}
	for _, text := range f.ProxyProtocolFrom {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			return o, fmt.Errorf("--proxy-protocol-from: %q is no CIDR such as 10.0.0.0/8", text)
		}
		o.ProxyProtocolFrom = append(o.ProxyProtocolFrom, prefix)
	}
	return o, nil
}
