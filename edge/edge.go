// Package edge is what agents connect to: it lets them in, turns bootstrap tokens into certificates by asking Vault, and
// holds no state of its own (DESIGN.md section 7).
//
//	e, err := edge.New(options)   // wires, opens nothing
//	err = e.Start()               // listens; agents are served once Vault has answered for the first time
//	err = e.Stop(ctx)             // drains
package edge

import (
	"context"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ampora/ampora/edge/admin"
	"github.com/ampora/ampora/edge/delivery"
	"github.com/ampora/ampora/edge/federation"
	"github.com/ampora/ampora/edge/listen"
	"github.com/ampora/ampora/edge/metrics"
	"github.com/ampora/ampora/edge/opamp"
	"github.com/ampora/ampora/edge/pki"
	"github.com/ampora/ampora/edge/poolapi"
	"github.com/ampora/ampora/edge/refused"
	"github.com/ampora/ampora/edge/servercert"
	"github.com/ampora/ampora/edge/session"
	"github.com/ampora/ampora/edge/trust"
	"github.com/ampora/ampora/edge/vaultgate"
)

// Edge is one edge. Its methods are safe for concurrent use.
type Edge struct {
	options Options
	metrics *metrics.Metrics

	gate *vaultgate.Gate
	feed *trust.Feed
	desk *session.Desk

	delivery   *delivery.Delivery
	federation *federation.Handler
	peers      peersView

	opamp  *opamp.Handler
	pools  *poolapi.Handler
	pki    *pki.Handler
	holder *servercert.Holder
	certs  interface{ Run(context.Context) }

	draining  atomic.Bool
	listeners []net.Listener // closed first of all
	addr      net.Addr
	pkiAddr   net.Addr // nil without Options.PKIListen
	adminAddr net.Addr

	stop     sync.Once
	stopErr  error
	cleanups cleanups
}

// New checks the options and wires the parts together. It talks to nobody and starts nothing.
func New(o Options) (*Edge, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	e := &Edge{options: o, holder: &servercert.Holder{}}
	var err error
	if e.metrics, err = metrics.New(o.Registry); err != nil {
		return nil, err
	}
	if e.gate, err = vaultgate.New(o.Vault); err != nil {
		return nil, err
	}
	refusals := refused.New()
	e.feed = trust.NewFeed(e.gate, o.Logger.Named("sync"))
	e.delivery = delivery.New(delivery.Options{Source: e.gate, Metrics: e.metrics, Logger: o.Logger.Named("configurations")})
	e.pki, err = pki.New(pki.Options{Engine: e.gate, Trust: e.feed, Metrics: e.metrics, Logger: o.Logger.Named("pki")})
	if err != nil {
		return nil, err
	}
	if err := e.wireFederation(refusals); err != nil {
		return nil, err
	}
	e.desk = session.NewDesk(session.Options{
		Issuer: e.gate, Reporter: e.gate, Trust: e.feed, Configurations: e.delivery, ServerRoots: e.serverRoots, IssuerRoots: o.TLSCert == "",
		Advertise: o.Advertise, Tenant: o.Tenant, Name: o.Name, Version: Version(), MaxStaleness: o.MaxStaleness,
		Metrics: e.metrics, Logger: o.Logger.Named("session"), Timing: o.Timing, Refused: refusals,
		PeerRevocations: e.federation, Peers: e.federation.Report,
	})
	e.feed.OnChange(e.desk.Changed)
	e.feed.OnChange(e.delivery.Changed)
	e.delivery.OnChange(e.desk.Reconfigured)
	e.opamp, err = opamp.New(opamp.Options{
		Desk: e.desk, MaxMessageSize: o.MaxMessageSize, Metrics: e.metrics, Logger: o.Logger.Named("opamp"), Refused: refusals,
	})
	if err != nil {
		return nil, err
	}
	e.pools = poolapi.New(poolapi.Options{Issuer: e.gate, Refused: refusals, Metrics: e.metrics, Logger: o.Logger.Named("pools")})
	e.feed.OnChange(e.pki.Changed)
	e.feed.OnChange(e.federation.Changed)
	if err := e.wireCertificate(); err != nil {
		return nil, err
	}
	return e, e.registerGauges()
}

// wireCertificate chooses where the server certificate comes from.
func (e *Edge) wireCertificate() error {
	o := e.options
	logger := o.Logger.Named("certificate")
	if o.TLSCert != "" {
		files := &servercert.Files{Certificate: o.TLSCert, Key: o.TLSKey, CA: o.TLSCA, Holder: e.holder, Logger: logger}
		e.certs = files
		return files.Load()
	}
	issued := servercert.NewIssued(servercert.Issued{
		Signer: e.gate, Holder: e.holder, Logger: logger,
		Names: func() []string {
			s := e.feed.Current()
			if s == nil {
				return nil
			}
			return o.names(s.Settings.Endpoint)
		},
		Trusts: func(issuer *x509.Certificate) bool { s := e.feed.Current(); return s == nil || s.Trusts(issuer) },
	})
	e.feed.OnChange(func(trust.Change) { issued.Wake() })
	e.certs = issued
	return nil
}

// serverRoots are the roots that an offer carries. For a certificate from Vault that is every issuer we trust, so that an
// agent finds its way back after the active issuer has changed.
func (e *Edge) serverRoots() (string, error) {
	roots := e.holder.Roots()
	if e.options.TLSCert != "" {
		return roots, nil
	}
	if roots == "" {
		return "", errors.New("no server certificate yet, and yet an agent is connected")
	}
	if s := e.feed.Current(); s != nil {
		for _, block := range strings.SplitAfter(s.IssuersPEM, "-----END CERTIFICATE-----\n") {
			if block != "" && !strings.Contains(roots, block) {
				roots += block
			}
		}
	}
	return roots, nil
}

// Start opens the listeners and begins to follow Vault. That Vault is away is no error: the edge waits for it.
func (e *Edge) Start() error {
	if err := e.start(); err != nil {
		ctx, cancel := context.WithTimeout(context.Background(), e.options.DrainTimeout)
		defer cancel()
		return errors.Join(err, e.cleanups.unwind(ctx))
	}
	up := []any{"version", Version(), "name", e.options.Name, "listen", e.addr, "admin", e.adminAddr, "tenant", e.options.Tenant}
	if e.pkiAddr != nil {
		up = append(up, "pki", e.pkiAddr)
	}
	e.options.Logger.Info("edge is up", up...)
	return nil
}

func (e *Edge) start() error {
	o := e.options
	adminListener, err := net.Listen("tcp", o.AdminListen)
	if err != nil {
		return err
	}
	e.adminAddr = adminListener.Addr()
	e.serve("admin", adminListener, &http.Server{
		Handler: admin.Handler(o.Registry, e.readiness), ErrorLog: debugLog(o.Logger.Named("admin")),
		ReadHeaderTimeout: readHeaderTimeout, ReadTimeout: readTimeout, WriteTimeout: readTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes,
	}, false)

	listener, err := e.listen(o.Listen)
	if err != nil {
		return err
	}
	e.addr = listener.Addr()
	var plain net.Listener
	if o.PKIListen != "" {
		if plain, err = e.listen(o.PKIListen); err != nil {
			return err
		}
		e.pkiAddr = plain.Addr()
	}

	if err := e.gate.Start(context.Background()); err != nil {
		return err
	}
	e.cleanups.add("vault", func(context.Context) error { e.gate.Stop(); return nil })
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	e.cleanups.add("background", func(context.Context) error { cancel(); running.Wait(); return nil })
	for _, run := range []func(context.Context){e.feed.Run, e.delivery.Run, e.desk.Run, e.certs.Run, e.pki.Run, e.federation.Run} {
		running.Go(func() { run(ctx) })
	}
	e.serve("agents", listener, agentServer(o, e.opamp, e.pools, e.pki, e.federation, e.holder.GetCertificate), true)
	if plain != nil {
		e.serve("pki", plain, pkiServer(o, e.pki), false)
	}
	e.cleanups.add("sessions", e.drain)
	return nil
}

// listen opens a listener for the outside.
func (e *Edge) listen(address string) (net.Listener, error) {
	l, err := listen.Listen(address, listen.Options{ProxyFrom: e.options.ProxyProtocolFrom, WriteTimeout: e.options.WriteTimeout})
	if err != nil {
		return nil, err
	}
	e.cleanups.add("listener", func(context.Context) error { _ = l.Close(); return nil })
	e.listeners = append(e.listeners, l)
	return l, nil
}

// serve runs an HTTP server on the listener until it is cleaned up.
func (e *Edge) serve(name string, l net.Listener, s *http.Server, withTLS bool) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		var err error
		if withTLS {
			err = s.ServeTLS(l, "", "")
		} else {
			err = s.Serve(l)
		}
		if !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			e.options.Logger.Error("listener failed", "listener", name, "error", err)
		}
	}()
	e.cleanups.add(name, func(ctx context.Context) error {
		err := s.Shutdown(ctx)
		if errors.Is(err, net.ErrClosed) { // the drain has closed the listener already
			err = nil
		}
		if err != nil {
			_ = s.Close() // the error above says it all
		}
		<-done
		return err
	})
}

// drain refuses newcomers and closes what is open. It leaves a quarter of the time to those that answer late.
func (e *Edge) drain(ctx context.Context) error {
	e.draining.Store(true)
	e.desk.Drain()
	e.pools.Drain()
	e.pki.Drain()
	e.federation.Drain()
	for _, l := range e.listeners {
		_ = l.Close() // a balancer now turns to another edge
	}
	within := e.options.DrainTimeout
	if deadline, ok := ctx.Deadline(); ok {
		within = time.Until(deadline)
	}
	ctx, cancel := context.WithTimeout(ctx, within*9/10)
	defer cancel()
	e.options.Logger.Info("draining", "sessions", e.opamp.Open(), "within", within)
	e.opamp.Drain(ctx, within*3/4)
	return nil
}

// Stop drains and ends the edge within ctx and Options.DrainTimeout. Calling it again answers the same.
func (e *Edge) Stop(ctx context.Context) error {
	e.stop.Do(func() {
		ctx, cancel := context.WithTimeout(ctx, e.options.DrainTimeout)
		defer cancel()
		e.stopErr = e.cleanups.unwind(ctx)
		e.options.Logger.Info("edge is down")
	})
	return e.stopErr
}

// Addr is where agents connect, known after Start.
func (e *Edge) Addr() net.Addr { return e.addr }

// PKIAddr is where /pki/ is served in plain HTTP, known after Start; nil when it is not.
func (e *Edge) PKIAddr() net.Addr { return e.pkiAddr }

// AdminAddr is where the admin listener is, known after Start.
func (e *Edge) AdminAddr() net.Addr { return e.adminAddr }
