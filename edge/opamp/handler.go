// Package opamp speaks OpAMP with agents, over WebSocket and plain HTTP on one path. Protobuf stops here: edge/session sees
// plain Go values and decides.
//
// The protocol work is opamp-go's; what it leaves to its user is done here. Every request is judged before opamp-go sees it,
// so that a refusal carries a problem document. Every callback recovers, since a panic on a WebSocket's goroutine would end
// the process. Deadlines, close frames and the tracking of open WebSockets are in conn.go.
package opamp

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"mime"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/ampora/ampora/edge/listen"
	"github.com/ampora/ampora/edge/metrics"
	"github.com/ampora/ampora/edge/problem"
	"github.com/ampora/ampora/edge/refused"
	"github.com/ampora/ampora/edge/session"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/gorilla/websocket"
	"github.com/hashicorp/go-hclog"
	opampserver "github.com/open-telemetry/opamp-go/server"
	opamptypes "github.com/open-telemetry/opamp-go/server/types"
)

// Path is where OpAMP is served.
const Path = session.DefaultPath

const protobufType = "application/x-protobuf"

// Desk judges callers. A refusal is a *session.Refusal.
type Desk interface {
	Admit(context.Context, session.Caller) (session.Session, error)
}

// Options are what a handler needs; all must be set.
type Options struct {
	Desk           Desk
	MaxMessageSize int64          // bytes of one message, after decompression
	Refused        *refused.Table // counts what is refused here, for the audit trail; may be nil
	Metrics        *metrics.Metrics
	Logger         hclog.Logger
}

// Handler serves OpAMP.
type Handler struct {
	Options
	serve   opampserver.HTTPHandlerFunc
	connCtx opampserver.ConnContext

	mu       sync.Mutex
	conns    map[*wsConn]struct{}
	draining bool
}

// New makes a handler. The http.Server that it runs in must have its ConnContext.
func New(o Options) (*Handler, error) {
	h := &Handler{Options: o, conns: make(map[*wsConn]struct{})}
	var err error
	h.serve, h.connCtx, err = opampserver.New(quietLogger{o.Logger}).Attach(opampserver.Settings{
		MaxMessageSize: o.MaxMessageSize,
		// The library cannot bound what a compressed WebSocket frame unpacks to.
		EnableCompression: false,
		Callbacks:         opamptypes.Callbacks{OnConnecting: h.onConnecting},
	})
	if err != nil {
		return nil, fmt.Errorf("opamp: %w", err)
	}
	return h, nil
}

// ConnContext belongs into the http.Server of the same name.
func (h *Handler) ConnContext(ctx context.Context, c net.Conn) context.Context {
	return h.connCtx(ctx, c)
}

// ServeHTTP judges the request and hands it on.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	transport, err := transportOf(r)
	if err != nil {
		h.Refused.Add(listen.Remote(r), err)
		h.refuse(w, r, &session.Refusal{Err: err})
		return
	}
	admitted, admitErr := h.Desk.Admit(r.Context(), session.Caller{
		Transport: transport, Source: listen.Remote(r), Certificate: certificate(r.TLS), Authorization: r.Header.Values("Authorization"),
	})
	if admitErr != nil {
		h.refuse(w, r, admitErr.(*session.Refusal))
		return
	}
	h.Logger.Trace("let in", append(admitted.LogFields(), "took", time.Since(start))...)
	r = r.WithContext(context.WithValue(r.Context(), sessionKey{}, admitted))
	if transport == session.HTTP {
		h.servePoll(w, r, admitted)
		return
	}
	up := &upgrade{ResponseWriter: w}
	h.serve(up, r)
	if !up.hijacked { // refused by the WebSocket library: no callback will ever come
		admitted.Closed()
	}
}

// servePoll serves one message over plain HTTP.
func (h *Handler) servePoll(w http.ResponseWriter, r *http.Request, admitted session.Session) {
	defer admitted.Closed()
	defer h.recovered(admitted, func() { problem.Write(w, apitype.Errorf(apitype.Internal, ""), 0) })
	// opamp-go bounds what a body unpacks to; this bounds what it is packed as, which an endless row of empty gzip members
	// would not meet.
	r.Body = http.MaxBytesReader(w, r.Body, h.MaxMessageSize)
	h.serve(&explaining{ResponseWriter: w, refused: func(e *apitype.Error) {
		h.Metrics.Refused(e.Code)
		h.Logger.Info("message refused", append(admitted.LogFields(), "code", e.Code)...)
	}}, r)
}

type sessionKey struct{}

func (h *Handler) onConnecting(r *http.Request) opamptypes.ConnectionResponse {
	admitted := r.Context().Value(sessionKey{}).(session.Session)
	c := &conversation{handler: h, session: admitted}
	return opamptypes.ConnectionResponse{Accept: true, ConnectionCallbacks: c.callbacks(r.Header.Get("Content-Type") != protobufType)}
}

// refuse answers a request that was not let in.
func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, why *session.Refusal) {
	level := hclog.Info
	if why.Passing() {
		level = hclog.Debug // many at once, and they come back
	}
	h.Logger.Log(level, "refused", append([]any{"remote", listen.Remote(r), "code", why.Err.Code, "detail", why.Err.Detail}, why.About...)...)
	problem.Write(w, why.Err, why.RetryAfter)
}

// transportOf tells the transports apart and makes the content type the one spelling that opamp-go goes by.
func transportOf(r *http.Request) (session.Transport, *apitype.Error) {
	if websocket.IsWebSocketUpgrade(r) {
		if r.Method != http.MethodGet {
			return "", apitype.Errorf(apitype.MessageInvalid, "a WebSocket is opened with GET")
		}
		r.Header.Del("Content-Type") // it would make opamp-go take this for plain HTTP
		return session.WebSocket, nil
	}
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if r.Method != http.MethodPost || err != nil || media != protobufType {
		return "", apitype.Errorf(apitype.MessageInvalid, "this is neither a WebSocket upgrade nor a POST of %s", protobufType)
	}
	switch encoding := strings.ToLower(r.Header.Get("Content-Encoding")); encoding {
	case "", "gzip":
		if encoding != "" {
			r.Header.Set("Content-Encoding", encoding)
		}
	default:
		return "", apitype.Errorf(apitype.MessageInvalid, "the only Content-Encoding understood is gzip")
	}
	r.Header.Set("Content-Type", protobufType)
	return session.HTTP, nil
}

func certificate(state *tls.ConnectionState) (first *x509.Certificate) {
	if state == nil || len(state.PeerCertificates) == 0 {
		return nil
	}
	return state.PeerCertificates[0]
}
