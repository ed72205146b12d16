package opampconn

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/gorilla/websocket"
	"github.com/open-telemetry/opamp-go/protobufs"
	"google.golang.org/protobuf/proto"
)

// wsConn frames messages as OpAMP does on WebSocket: a varint header, always 0, then the protobuf message.
type wsConn struct {
	endpoint string
	ws       *websocket.Conn
}

func dialWS(ctx context.Context, endpoint string, tlsConfig *tls.Config, header http.Header) (Conn, error) {
	dialer := websocket.Dialer{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: tlsConfig, HandshakeTimeout: dialTimeout,
	}
	ws, resp, err := dialer.DialContext(ctx, endpoint, header)
	if resp != nil {
		defer resp.Body.Close()
	}
	if errors.Is(err, websocket.ErrBadHandshake) && resp != nil {
		return nil, fromResponse(resp)
	}
	if err != nil {
		return nil, &Unreachable{Endpoint: endpoint, Err: err}
	}
	ws.SetReadLimit(MaxMessage)
	return &wsConn{endpoint: endpoint, ws: ws}, nil
}

func (c *wsConn) Send(ctx context.Context, msg *protobufs.AgentToServer) error {
	data, err := proto.Marshal(msg)
	if err != nil {
		return fmt.Errorf("encoding the message: %w", err)
	}
	frame := append(binary.AppendUvarint(nil, 0), data...)
	if err := c.ws.SetWriteDeadline(deadline(ctx)); err != nil {
		return &Unreachable{Endpoint: c.endpoint, Err: err}
	}
	if err := c.ws.WriteMessage(websocket.BinaryMessage, frame); err != nil {
		return &Unreachable{Endpoint: c.endpoint, Err: err}
	}
	return nil
}

func (c *wsConn) Receive(ctx context.Context) (*protobufs.ServerToAgent, error) {
	// gorilla's reads know no context; closing the connection ends them.
	stop := context.AfterFunc(ctx, func() { c.ws.NetConn().Close() })
	defer stop()
	if err := c.ws.SetReadDeadline(deadline(ctx)); err != nil {
		return nil, &Unreachable{Endpoint: c.endpoint, Err: err}
	}
	kind, data, err := c.ws.ReadMessage()
	if err != nil {
		return nil, c.readError(ctx, err)
	}
	header, n := binary.Uvarint(data)
	if kind != websocket.BinaryMessage || n <= 0 || header != 0 {
		return nil, &Refusal{Text: "its message is not framed as OpAMP: this is no OpAMP server"}
	}
	msg := &protobufs.ServerToAgent{}
	if err := proto.Unmarshal(data[n:], msg); err != nil {
		return nil, &Refusal{Text: "its message is no OpAMP message"}
	}
	if e := msg.GetErrorResponse(); e != nil {
		return nil, fromServerError(e)
	}
	return msg, nil
}

func (c *wsConn) readError(ctx context.Context, err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("the edge at %s gave no answer in time: %w", c.endpoint, context.DeadlineExceeded)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var closed *websocket.CloseError
	if errors.As(err, &closed) && apitype.Code(closed.Text).Known() {
		return &Refusal{Err: &apitype.Error{Code: apitype.Code(closed.Text)}}
	}
	if errors.As(err, &closed) && closed.Text != "" {
		return fmt.Errorf("%w: %s", ErrClosed, plain(closed.Text))
	}
	if errors.As(err, &closed) {
		return fmt.Errorf("%w (code %d)", ErrClosed, closed.Code)
	}
	return &Unreachable{Endpoint: c.endpoint, Err: err}
}

// Close says goodbye, so that the edge does not count a broken connection.
func (c *wsConn) Close() error {
	bye := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
	_ = c.ws.WriteControl(websocket.CloseMessage, bye, time.Now().Add(time.Second)) // politeness; the next line ends it
	return c.ws.Close()
}

// deadline is the context's, or one that ends an exchange which nobody bounded.
func deadline(ctx context.Context) time.Time {
	if d, ok := ctx.Deadline(); ok {
		return d
	}
	return time.Now().Add(time.Minute)
}
