// Package listen opens the edge's listener: PROXY protocol from trusted balancers, and connections on which no write can
// block for ever.
package listen

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/pires/go-proxyproto"
)

// Options of a listener. The zero value knows no balancer and uses the default write timeout.
type Options struct {
	// ProxyFrom are the networks whose connections must begin with a PROXY protocol header, version 1 or 2. From anywhere
	// else such a header is not understood.
	ProxyFrom []netip.Prefix
	// WriteTimeout bounds every single write; default 20 s.
	WriteTimeout time.Duration
}

const (
	defaultWriteTimeout = 20 * time.Second
	proxyHeaderTimeout  = 5 * time.Second
)

// Listen opens a TCP listener on address.
func Listen(address string, o Options) (net.Listener, error) {
	inner, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	if o.WriteTimeout <= 0 {
		o.WriteTimeout = defaultWriteTimeout
	}
	bounded := &boundedListener{Listener: inner, timeout: o.WriteTimeout}
	if len(o.ProxyFrom) == 0 {
		return bounded, nil
	}
	ranges := make([]string, len(o.ProxyFrom))
	for i, p := range o.ProxyFrom {
		ranges[i] = p.String()
	}
	policy, err := proxyproto.PolicyFromRanges(ranges, proxyproto.REQUIRE, proxyproto.SKIP)
	if err != nil {
		_ = inner.Close()
		return nil, fmt.Errorf("listen: %w", err)
	}
	return &proxyproto.Listener{Listener: bounded, ConnPolicy: policy, ReadHeaderTimeout: proxyHeaderTimeout}, nil
}

// boundedListener hands out boundedConns.
type boundedListener struct {
	net.Listener
	timeout time.Duration
}

func (l *boundedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &boundedConn{Conn: c, timeout: l.timeout}, nil
}

// boundedConn sets a deadline in each Write. Setting one from outside does not do: the WebSocket library sets the deadline
// back to none with every frame. A nearer deadline from outside still counts.
type boundedConn struct {
	net.Conn
	timeout time.Duration

	mu      sync.Mutex
	outside time.Time
}

func (c *boundedConn) Write(p []byte) (int, error) {
	deadline := time.Now().Add(c.timeout)
	c.mu.Lock()
	if !c.outside.IsZero() && c.outside.Before(deadline) {
		deadline = c.outside
	}
	err := c.Conn.SetWriteDeadline(deadline)
	c.mu.Unlock()
	if err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

func (c *boundedConn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.outside = t
	if t.IsZero() {
		return nil // a write under way keeps the deadline it has
	}
	return c.Conn.SetWriteDeadline(t)
}

func (c *boundedConn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

// Remote is the address that a request came from: the peer's, or what a balancer's PROXY protocol header says. The zero
// value stands for an unknown one.
func Remote(r *http.Request) netip.Addr {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap().WithZone("")
}
