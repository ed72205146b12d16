package edge

import (
	"crypto/tls"
	"log"
	"net/http"
	"strings"
	"time"

	"github.com/ampora/ampora/edge/federation"
	"github.com/ampora/ampora/edge/listen"
	"github.com/ampora/ampora/edge/opamp"
	"github.com/ampora/ampora/edge/pki"
	"github.com/ampora/ampora/edge/poolapi"
	"github.com/ampora/ampora/edge/problem"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/hashicorp/go-hclog"
	"golang.org/x/time/rate"
)

// Bounds of the listeners; the first two are defaults of Options. The one on writes is in edge/listen, those of an OpAMP session
// in edge/session.
const (
	readHeaderTimeout = 10 * time.Second
	readTimeout       = 30 * time.Second // a whole plain HTTP request
	idleTimeout       = 3 * time.Minute  // more than a poll's interval: a new handshake costs more than an idle connection
	maxHeaderBytes    = 16 << 10
	maxStreams        = 16 // of one HTTP/2 connection
)

// agentServer is the http.Server that agents reach.
func agentServer(o Options, h *opamp.Handler, pools *poolapi.Handler, known *pki.Handler, peers *federation.Handler, getCertificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)) *http.Server {
	logger := o.Logger.Named("http")
	return &http.Server{
		Handler:     routes(h, pools, known, peers, logger),
		ConnContext: h.ConnContext,
		TLSConfig: &tls.Config{
			MinVersion:     tls.VersionTLS12,
			GetCertificate: getCertificate,
			// Take any client certificate and judge it with every request: a refusal is then an answer with a reason
			// instead of a TLS alert, and a resumed TLS session is judged like a fresh one.
			ClientAuth: tls.RequestClientCert,
		},
		ReadHeaderTimeout: o.HeaderTimeout,
		ReadTimeout:       o.ReadTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
		ErrorLog:          debugLog(logger),
		ConnState:         waiting(o, logger).Track,
	}
}

// waiting bounds the connections on which nothing is asked.
func waiting(o Options, logger hclog.Logger) *listen.Waiting {
	warn := rate.Sometimes{Interval: time.Minute}
	return listen.NewWaiting(o.MaxWaiting, func() {
		warn.Do(func() {
			logger.Warn("too many connections on which nothing is asked: those that have waited longest are cut off", "most", o.MaxWaiting)
		})
	})
}

// pkiServer is the http.Server for the URLs in certificates, which are plain HTTP: whoever checks a certificate cannot be
// asked to check another one first.
func pkiServer(o Options, known *pki.Handler) *http.Server {
	logger := o.Logger.Named("http")
	return &http.Server{
		Handler: guarded(logger, func(w http.ResponseWriter, r *http.Request) {
			if !pki.Serves(r.URL.Path) {
				problem.WriteStatus(w, http.StatusNotFound, "only "+pki.Prefix+" is served in plain HTTP")
				return
			}
			known.ServeHTTP(w, r)
		}),
		ReadHeaderTimeout: o.HeaderTimeout, ReadTimeout: o.ReadTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes,
		ErrorLog: debugLog(logger), ConnState: waiting(o, logger).Track,
	}
}

// routes are exact paths. http.ServeMux would answer unclean ones with a redirect, which agents follow, and remember.
func routes(h *opamp.Handler, pools *poolapi.Handler, known *pki.Handler, peers *federation.Handler, logger hclog.Logger) http.Handler {
	return guarded(logger, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == opamp.Path:
			h.ServeHTTP(w, r)
		case poolapi.Serves(r.URL.Path):
			pools.ServeHTTP(w, r)
		case pki.Serves(r.URL.Path):
			known.ServeHTTP(w, r)
		case federation.Serves(r.URL.Path):
			peers.ServeHTTP(w, r)
		default:
			problem.WriteStatus(w, http.StatusNotFound, "OpAMP is served at "+opamp.Path+", tokens are issued at "+poolapi.Path+", lists of revoked certificates lie below "+pki.Prefix+", and peers ask below "+federation.Prefix)
		}
	})
}

// guarded refuses a secret in an address before anything else looks at it.
func guarded(logger hclog.Logger, next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if holdsSecret(r) {
			logger.Warn("a secret stood in a request's address", "remote", listen.Remote(r))
			problem.Write(w, apitype.Errorf(apitype.FieldInvalid,
				"a secret does not belong into an address, where logs keep it: treat it as lost and revoke it"), 0)
			return
		}
		next(w, r)
	})
}

// holdsSecret reports whether a segment of the path, or a value of the query, begins like a secret of ours.
func holdsSecret(r *http.Request) bool {
	for _, part := range strings.FieldsFunc(r.URL.Path+"/"+r.URL.RawQuery, func(c rune) bool { return strings.ContainsRune("/&=;", c) }) {
		if strings.HasPrefix(strings.ToLower(part), "amp-") {
			return true
		}
	}
	return false
}

// debugLog is for http.Server, which calls a scanner's broken handshake an error.
func debugLog(logger hclog.Logger) *log.Logger {
	return log.New(logger.StandardWriter(&hclog.StandardLoggerOptions{ForceLevel: hclog.Debug}), "", 0)
}
