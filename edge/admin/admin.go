// Package admin serves what operators and their machines look at: /healthz, /readyz and /metrics. It says nothing secret,
// but is for the inside: the listener is on loopback unless configured otherwise.
package admin

import (
	"encoding/json"
	"net/http"

	"github.com/ampora/ampora/edge/problem"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Readiness is the body of /readyz.
type Readiness struct {
	// Ready means that known agents can be served. Bootstrap may be down at the same time.
	Ready     bool      `json:"ready"`
	Reason    string    `json:"reason,omitempty"` // why not ready
	Version   string    `json:"version"`
	Bootstrap Condition `json:"bootstrap"` // can a token be redeemed now
	Vault     Condition `json:"vault"`
	Snapshot  Snapshot  `json:"snapshot"`
	// ServerCertificateExpiry is RFC 3339, empty without a certificate.
	ServerCertificateExpiry string `json:"server_certificate_expiry,omitempty"`
	Sessions                int    `json:"sessions"`
}

// Condition is one thing that is up or not.
type Condition struct {
	Up     bool   `json:"up"`
	Reason string `json:"reason,omitempty"`
	Since  string `json:"since,omitempty"` // RFC 3339
}

// Snapshot is the age of what the edge decides by.
type Snapshot struct {
	Revision   string `json:"revision"`
	AgeSeconds int64  `json:"age_seconds"`
	Issuers    int    `json:"issuers"`
	Revoked    int    `json:"revoked"`
}

// Handler serves the three paths. readiness is called for each request of /readyz.
func Handler(gatherer prometheus.Gatherer, readiness func() Readiness) http.Handler {
	metrics := promhttp.HandlerFor(gatherer, promhttp.HandlerOpts{})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			problem.WriteStatus(w, http.StatusMethodNotAllowed, "only GET is served here")
			return
		}
		switch r.URL.Path {
		case "/healthz":
			answer(w, http.StatusOK, map[string]string{"status": "ok"})
		case "/readyz":
			state := readiness()
			status := http.StatusOK
			if !state.Ready {
				status = http.StatusServiceUnavailable
			}
			answer(w, status, state)
		case "/metrics":
			metrics.ServeHTTP(w, r)
		default:
			problem.WriteStatus(w, http.StatusNotFound, "there are /healthz, /readyz and /metrics")
		}
	})
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the peer may be gone
}
