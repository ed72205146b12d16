package opamp

import (
	"context"
	"encoding/binary"
	"io"
	"sync"
	"time"

	"github.com/ampora/ampora/edge/session"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/gorilla/websocket"
	opamptypes "github.com/open-telemetry/opamp-go/server/types"
)

// wsConn is an open WebSocket with what opamp-go's Connection lacks: close frames, and one lock over all that we send.
// Writes cannot block for ever, because the listener's connections bound each of them (edge/listen).
type wsConn struct {
	conn opamptypes.Connection
	busy sync.Mutex // held while an answer is being made and sent

	sending sync.Mutex

	mu       sync.Mutex
	instance [16]byte
	closing  bool
}

// lingers is how long a peer may take to answer a close frame.
const lingers = 3 * time.Second

func newWSConn(c opamptypes.Connection) *wsConn { return &wsConn{conn: c} }

func (c *wsConn) setInstance(uid []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	copy(c.instance[:], uid)
}

// Send sends a reply or a push.
func (c *wsConn) Send(r session.Reply) error {
	c.mu.Lock()
	instance := c.instance
	c.mu.Unlock()
	c.sending.Lock()
	defer c.sending.Unlock()
	return c.conn.Send(context.Background(), encode(r, instance[:]))
}

// expectWithin is the deadline for the next message.
func (c *wsConn) expectWithin(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closing {
		_ = c.conn.Connection().SetReadDeadline(time.Now().Add(d)) // fails only on a closed connection
	}
}

// refuse answers with an error and closes.
func (c *wsConn) refuse(e *apitype.Error, code int) {
	_ = c.Send(session.Reply{Refusal: &session.Refusal{Err: e}}) // the close frame follows either way
	c.Close(code, string(e.Code))
}

// Close sends a close frame and gives the agent a moment to answer it. After that, or when an earlier write is stuck, the
// connection is cut. opamp-go's Disconnect sends no frame, and agents without one come back at once.
func (c *wsConn) Close(code int, reason string) {
	c.mu.Lock()
	already := c.closing
	c.closing = true
	c.mu.Unlock()
	if already {
		return
	}
	if !c.sending.TryLock() {
		// Somebody is sending: nearly always that takes microseconds.
		time.Sleep(20 * time.Millisecond)
		if !c.sending.TryLock() {
			c.abort()
			return
		}
	}
	defer c.sending.Unlock()
	if _, err := c.conn.Connection().Write(closeFrame(code, reason)); err != nil {
		c.abort()
		return
	}
	_ = c.conn.Connection().SetReadDeadline(time.Now().Add(lingers))
}

func (c *wsConn) isClosing() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closing
}

// fail ends a session in which we have failed.
func (c *wsConn) fail() { c.Close(websocket.CloseInternalServerErr, string(apitype.Internal)) }

// abort cuts the connection, which also frees whoever is stuck writing to it.
func (c *wsConn) abort() { _ = c.conn.Disconnect() }

// drainInput reads what a peer is still sending, for a moment, so that closing does not reset the connection.
func (c *wsConn) drainInput() {
	const most = 64 << 20
	conn := c.conn.Connection()
	_ = conn.SetReadDeadline(time.Now().Add(time.Second))
	_, _ = io.CopyN(io.Discard, conn, most)
}

// closeFrame is one close frame from server to client (RFC 6455 section 5.5.1): not masked, in a single write, so that it
// cannot come between the parts of another frame while the sending lock is held. A control frame carries 125 bytes at most.
func closeFrame(code int, reason string) []byte {
	const mostReason = 123
	reason = reason[:min(len(reason), mostReason)]
	frame := []byte{0x80 | byte(websocket.CloseMessage), byte(2 + len(reason))}
	frame = binary.BigEndian.AppendUint16(frame, uint16(code))
	return append(frame, reason...)
}
