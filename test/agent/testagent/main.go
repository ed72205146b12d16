// Command testagent is an OpAMP agent as others would write one: on the client library of opamp-go, without any of our code.
// It enters with a bootstrap token, has its own key certified (or takes a key that the server made), tries what it was
// offered by connecting with it, keeps that in its state directory, and from then on, restarts included, uses nothing else
// but what the server offers it later, or what it has asked for itself with --renew-every.
//
// What happens it writes to the standard output, one JSON object a line; see event. It ends on SIGTERM, or with
// --exit-enrolled once it is connected by certificate.
package main

import (
	"context"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "testagent:", err)
		os.Exit(1) // nothing is left to be undone
	}
}

func run(ctx context.Context, args []string) error {
	var o options
	flags := flag.NewFlagSet("testagent", flag.ContinueOnError)
	flags.StringVar(&o.endpoint, "endpoint", "", "where to connect with the token; wss:// or https://")
	transport := flags.String("transport", "", "ws or http; default by the endpoint's scheme")
	flags.StringVar(&o.state, "state", "", "directory for the identity")
	tokenFile := flags.String("token-file", "", "file with the bootstrap token; default $AMPORA_TOKEN")
	caFile := flags.String("ca-file", "", "PEM file that verifies the server at first; default the system's roots")
	flags.StringVar(&o.name, "name", "testagent", "service.name to report")
	flags.BoolVar(&o.serverKey, "server-key", false, "send no CSR and take a key that the server made")
	flags.BoolVar(&o.noSettings, "no-settings", false, "do not say that connection settings are accepted")
	flags.BoolVar(&o.remoteConfig, "remote-config", false, "take configurations, and say of each that it is applied; one that begins with 'bad' fails")
	flags.DurationVar(&o.renewEvery, "renew-every", 0, "ask for a certificate for a new key every so often")
	flags.BoolVar(&o.noProof, "no-proof", false, "do not prove the current key when asking for another")
	flags.BoolVar(&o.exitEnrolled, "exit-enrolled", false, "end once connected by certificate")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if o.endpoint == "" || o.state == "" {
		return errors.New("--endpoint and --state are needed")
	}
	switch *transport {
	case "":
	case "ws", "http":
		o.transport = *transport
	default:
		return fmt.Errorf("--transport: want ws or http, not %q", *transport)
	}
	o.token = os.Getenv("AMPORA_TOKEN")
	if *tokenFile != "" {
		raw, err := os.ReadFile(*tokenFile)
		if err != nil {
			return err
		}
		o.token = strings.TrimSpace(string(raw))
	}
	if *caFile != "" {
		raw, err := os.ReadFile(*caFile)
		if err != nil {
			return err
		}
		o.roots = x509.NewCertPool()
		if !o.roots.AppendCertsFromPEM(raw) {
			return fmt.Errorf("%s holds no certificate", *caFile)
		}
	}
	return newAgent(o, os.Stdout).run(ctx)
}
