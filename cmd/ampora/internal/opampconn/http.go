package opampconn

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"

	"github.com/open-telemetry/opamp-go/protobufs"
	"google.golang.org/protobuf/proto"
)

// httpConn is OpAMP's plain HTTP transport: every message is a POST, its answer the server's message.
type httpConn struct {
	endpoint string
	client   *http.Client
	header   http.Header
	answer   *protobufs.ServerToAgent
}

func dialHTTP(endpoint string, tlsConfig *tls.Config, header http.Header) Conn {
	header.Set("Content-Type", "application/x-protobuf")
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: tlsConfig, ForceAttemptHTTP2: true,
		TLSHandshakeTimeout: dialTimeout, MaxResponseHeaderBytes: 64 << 10,
	}
	client := &http.Client{
		Transport: transport,
		// A bearer token goes to the host that was named, and to no other.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return &httpConn{endpoint: endpoint, client: client, header: header}
}

func (c *httpConn) Send(ctx context.Context, msg *protobufs.AgentToServer) error {
	data, err := proto.Marshal(msg)
	if err != nil {
		return fmt.Errorf("encoding the message: %w", err)
	}
	ctx, cancel := context.WithDeadline(ctx, deadline(ctx))
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.endpoint, bytes.NewReader(data))
	if err != nil {
		return ErrEndpoint
	}
	req.Header = c.header.Clone()
	resp, err := c.client.Do(req)
	if err != nil {
		return &Unreachable{Endpoint: c.endpoint, Err: err}
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fromResponse(resp)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, MaxMessage+1))
	if err != nil {
		return &Unreachable{Endpoint: c.endpoint, Err: err}
	}
	answer := &protobufs.ServerToAgent{}
	if len(body) > MaxMessage || proto.Unmarshal(body, answer) != nil {
		return &Refusal{Text: "its answer is no OpAMP message"}
	}
	if e := answer.GetErrorResponse(); e != nil {
		return fromServerError(e)
	}
	c.answer = answer
	return nil
}

func (c *httpConn) Receive(context.Context) (*protobufs.ServerToAgent, error) {
	if c.answer == nil {
		return nil, ErrClosed
	}
	answer := c.answer
	c.answer = nil
	return answer, nil
}

func (c *httpConn) Close() error {
	c.client.CloseIdleConnections()
	return nil
}
