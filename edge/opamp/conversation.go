package opamp

import (
	"context"
	"errors"
	"io"
	"net"
	"runtime/debug"

	"github.com/ampora/ampora/edge/session"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/gorilla/websocket"
	"github.com/open-telemetry/opamp-go/protobufs"
	opamptypes "github.com/open-telemetry/opamp-go/server/types"
)

// conversation joins one connection of opamp-go with one session. It must not hold on to the http.Request: there is one of
// these for every idle agent.
type conversation struct {
	handler *Handler
	session session.Session
	conn    *wsConn // nil on plain HTTP
}

func (c *conversation) callbacks(ws bool) opamptypes.ConnectionCallbacks {
	if !ws {
		return opamptypes.ConnectionCallbacks{OnMessage: c.onPoll}
	}
	return opamptypes.ConnectionCallbacks{
		OnConnected:            c.onConnected,
		OnMessage:              c.onMessage,
		OnConnectionClose:      c.onClose,
		OnReadMessageError:     c.onReadError,
		OnMessageResponseError: nil, // replies are sent by onMessage itself
	}
}

// onConnected must not use its context: opamp-go hands over that of the upgrade, which is over.
func (c *conversation) onConnected(_ context.Context, conn opamptypes.Connection) {
	c.conn = newWSConn(conn)
	defer c.handler.recovered(c.session, c.conn.fail)
	c.handler.track(c.conn)
	c.conn.expectWithin(c.session.Silence())
	c.session.Connected(c.conn)
}

// onMessage sends the reply itself, under the same lock as everything else that is sent, and leaves opamp-go nothing to send.
func (c *conversation) onMessage(ctx context.Context, _ opamptypes.Connection, in *protobufs.AgentToServer) *protobufs.ServerToAgent {
	defer c.handler.recovered(c.session, c.conn.fail)
	c.conn.busy.Lock() // a drain waits until an answer that is being made has been sent
	defer c.conn.busy.Unlock()
	reply, refusal := c.take(ctx, in)
	c.conn.expectWithin(c.session.Silence())
	switch {
	case refusal != nil:
		c.handler.Metrics.Refused(refusal.Code)
		c.conn.refuse(refusal, websocket.ClosePolicyViolation)
	case reply != nil:
		if err := c.conn.Send(*reply); err != nil {
			c.handler.Logger.Debug("reply not sent", append(c.session.LogFields(), "error", err)...)
			c.conn.abort()
		}
	}
	return nil
}

// onPoll answers a message over plain HTTP. The panic of a session becomes a 500 in servePoll.
func (c *conversation) onPoll(ctx context.Context, _ opamptypes.Connection, in *protobufs.AgentToServer) *protobufs.ServerToAgent {
	reply, refusal := c.take(ctx, in)
	if refusal != nil {
		c.handler.Metrics.Refused(refusal.Code)
		reply = &session.Reply{Kind: c.session.Kind(), Refusal: &session.Refusal{Err: refusal}}
	}
	if reply == nil {
		return nil
	}
	return encode(*reply, in.InstanceUid)
}

func (c *conversation) take(ctx context.Context, in *protobufs.AgentToServer) (*session.Reply, *apitype.Error) {
	message, err := decode(in)
	if err != nil {
		return nil, err
	}
	if c.conn != nil {
		c.conn.setInstance(in.InstanceUid)
	}
	return c.session.Message(ctx, message), nil
}

func (c *conversation) onClose(opamptypes.Connection) {
	defer c.handler.recovered(c.session, func() {})
	c.handler.untrack(c.conn)
	c.session.Closed()
}

// onReadError is called when no message could be read. opamp-go goes on reading after one that it could not decode, and ends
// the connection after everything else.
func (c *conversation) onReadError(_ opamptypes.Connection, messageType int, _ []byte, err error) {
	defer c.handler.recovered(c.session, c.conn.fail)
	log := c.handler.Logger.With(c.session.LogFields()...)
	var closed *websocket.CloseError
	var timeout net.Error
	switch {
	case errors.As(err, &timeout) && timeout.Timeout():
		if !c.conn.isClosing() {
			c.handler.Metrics.Refused(apitype.MessageTimeout)
			log.Info("session ended", "code", apitype.MessageTimeout)
		}
		c.conn.Close(websocket.ClosePolicyViolation, string(apitype.MessageTimeout))
	case errors.Is(err, websocket.ErrReadLimit):
		c.handler.Metrics.Refused(apitype.BodyTooLarge)
		log.Info("session ended", "code", apitype.BodyTooLarge)
		c.conn.drainInput() // gorilla has sent the close frame; without this a reset would overtake it
	case errors.As(err, &closed), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		log.Debug("agent is gone", "error", err)
	case messageType == websocket.TextMessage:
		c.undecodable(log, "a text message where a binary one belongs", websocket.CloseUnsupportedData)
	case messageType == websocket.BinaryMessage:
		c.undecodable(log, "the message is no AgentToServer", websocket.CloseInvalidFramePayloadData)
	default:
		log.Debug("connection ended", "error", err)
	}
}

func (c *conversation) undecodable(log interface{ Info(string, ...any) }, detail string, code int) {
	c.handler.Metrics.Refused(apitype.MessageInvalid)
	log.Info("session ended", "code", apitype.MessageInvalid, "detail", detail)
	c.conn.refuse(apitype.Errorf(apitype.MessageInvalid, "%s", detail), code)
}

// recovered keeps a panic inside one session. It is to be deferred.
func (h *Handler) recovered(s session.Session, end func()) {
	r := recover()
	if r == nil {
		return
	}
	h.Metrics.Panics.Inc()
	h.Logger.Error("panic in a session", append(s.LogFields(), "panic", r, "stack", string(debug.Stack()))...)
	end()
}
