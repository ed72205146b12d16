package metrics

import (
	"errors"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/prometheus/client_golang/prometheus"
)

// PKI is what is counted below /pki/.
type PKI struct {
	Requests *prometheus.CounterVec // about: PKICRL and the like; outcome
	Answers  *prometheus.CounterVec // from: PKIMemory, PKIVault
}

// What requests are about, and where OCSP answers come from.
const (
	PKICRL    = "crl"
	PKIBundle = "trust_bundle"
	PKIOCSP   = "ocsp"
	PKIOther  = "other"

	PKIMemory = "memory"
	PKIVault  = "vault"
)

// PKI makes the metrics and registers them. It fails when it is called twice.
func (m *Metrics) PKI() (*PKI, error) {
	p := &PKI{
		Requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "pki_requests_total",
			Help: "Requests below /pki/ by what they are about (crl, trust_bundle, ocsp, other) and outcome: ok or not_modified; for ocsp the certificate's state or the error (good, revoked, unknown, malformed, unauthorized, try_later); else method_not_allowed, not_found, or a code of the error catalogue.",
		}, []string{"about", "outcome"}),
		Answers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "pki_ocsp_answers_total", Help: "OCSP questions answered from memory, or carried to Vault.",
		}, []string{"from"}),
	}
	for about, outcomes := range map[string][]string{
		PKICRL:  {"ok", string(apitype.NotReady), string(apitype.VaultUnavailable)},
		PKIOCSP: {"good", "revoked", "unknown", "try_later", string(apitype.RateLimited)},
	} {
		for _, outcome := range outcomes {
			p.Requests.WithLabelValues(about, outcome)
		}
	}
	for _, from := range []string{PKIMemory, PKIVault} {
		p.Answers.WithLabelValues(from)
	}
	return p, errors.Join(m.registry.Register(p.Requests), m.registry.Register(p.Answers))
}
