package opamp

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/gorilla/websocket"
)

// track remembers an open WebSocket. An upgrade that a drain has overtaken is answered like the others.
func (h *Handler) track(c *wsConn) {
	h.mu.Lock()
	h.conns[c] = struct{}{}
	late := h.draining
	h.mu.Unlock()
	if late {
		c.Close(websocket.CloseGoingAway, string(apitype.Draining))
	}
}

func (h *Handler) untrack(c *wsConn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.conns, c)
}

// Open is how many WebSockets are open.
func (h *Handler) Open() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.conns)
}

// closesPerSecond is how fast a drain sends agents to the other edges, as long as the time suffices.
const closesPerSecond = 200

// Drain closes every WebSocket with a close frame: spread out, because agents reconnect within milliseconds, and not before
// an answer that is being made has been sent. It returns when all are gone or ctx ends, and then cuts the rest.
func (h *Handler) Drain(ctx context.Context, within time.Duration) {
	h.mu.Lock()
	h.draining = true
	conns := make([]*wsConn, 0, len(h.conns))
	for c := range h.conns {
		conns = append(conns, c)
	}
	h.mu.Unlock()
	span := min(within, time.Duration(len(conns))*time.Second/closesPerSecond)
	for _, c := range conns {
		time.AfterFunc(rand.N(span+1), func() {
			c.busy.Lock()
			defer c.busy.Unlock()
			c.Close(websocket.CloseGoingAway, string(apitype.Draining))
		})
	}
	for h.Open() > 0 {
		select {
		case <-ctx.Done():
			h.abortAll()
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (h *Handler) abortAll() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range h.conns {
		go c.abort() // never wait for a peer here
	}
}
