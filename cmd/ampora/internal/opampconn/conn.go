// Package opampconn is the small part of an OpAMP client that enrolment needs: one connection, one message out, one in.
// The OpAMP client library reconnects by itself and hides why a server refused; here the refusal is the result.
package opampconn

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/open-telemetry/opamp-go/protobufs"
)

// MaxMessage bounds what is read from a server, in bytes. An offer with a long chain has some 20 kB.
const MaxMessage = 1 << 20

// Conn is one connection to an OpAMP server. It is not safe for concurrent use.
type Conn interface {
	// Send sends one message. On plain HTTP this is the whole exchange, and a refusal comes back here.
	Send(ctx context.Context, msg *protobufs.AgentToServer) error
	// Receive waits for the next message. It answers ErrClosed when the server ended the connection, and on plain HTTP when
	// no answer is left.
	Receive(ctx context.Context) (*protobufs.ServerToAgent, error)
	// Close ends the connection.
	Close() error
}

// ErrClosed means that the server ended the connection.
var ErrClosed = errors.New("the edge closed the connection")

// Options say how to connect.
type Options struct {
	Endpoint string      // wss://, https://, or ws:// and http:// for servers without TLS
	TLS      *tls.Config // nil for the system's roots and no client certificate
	Token    string      // sent as a bearer token when set
}

// ErrEndpoint is an endpoint that is no URL of OpAMP.
var ErrEndpoint = errors.New("the endpoint is no wss:// or https:// URL")

// ParseEndpoint reads an endpoint.
func ParseEndpoint(endpoint string) (*url.URL, error) {
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" || u.User != nil {
		return nil, ErrEndpoint
	}
	switch u.Scheme {
	case "wss", "https":
		return u, nil
	}
	return nil, ErrEndpoint
}

// Dial connects. On WebSocket a refusal comes back here as a *Refusal; on plain HTTP nothing is sent yet.
func Dial(ctx context.Context, opts Options) (Conn, error) {
	u, err := ParseEndpoint(opts.Endpoint)
	if err != nil {
		return nil, err
	}
	header := http.Header{}
	if opts.Token != "" {
		header.Set("Authorization", "Bearer "+opts.Token)
	}
	if u.Scheme == "https" {
		return dialHTTP(u.String(), opts.TLS, header), nil
	}
	return dialWS(ctx, u.String(), opts.TLS, header)
}

// Unreachable means that no server answered: a name that does not resolve, a refused connection, a certificate that does not
// verify, or a connection that broke.
type Unreachable struct {
	Endpoint string
	Err      error
}

func (u *Unreachable) Error() string {
	return fmt.Sprintf("the edge at %s cannot be reached: %v", u.Endpoint, u.Err)
}

// Unwrap is the cause.
func (u *Unreachable) Unwrap() error { return u.Err }

// dialTimeout bounds the opening of one connection, TLS included.
const dialTimeout = 20 * time.Second
