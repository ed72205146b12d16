// Package metrics names what the edge counts. Label values come from fixed sets of ours, never from an agent.
package metrics

import (
	"errors"
	"slices"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are the edge's counters and gauges. Those that are read from elsewhere at the time of a scrape (snapshot, server
// certificate, Vault) are added with GaugeFunc by whoever knows them.
type Metrics struct {
	Sessions          *prometheus.GaugeVec   // transport: ws, http; kind: bootstrap, agent
	Admitted          *prometheus.CounterVec // transport, kind
	Refusals          *prometheus.CounterVec // code
	Ended             *prometheus.CounterVec // code
	Redemptions       *prometheus.CounterVec // key: csr, server
	Renewals          *prometheus.CounterVec // by: agent, edge; result: offered, failed, refused, put_off
	LeavesApplied     prometheus.Counter
	HandoverOffers    *prometheus.CounterVec // result: offered, failed, unknown
	RemoteConfigs     *prometheus.CounterVec // result: offered, applied, failed, put_off
	Panics            prometheus.Counter
	DuplicateSessions prometheus.Counter
	ReportQueue       prometheus.Gauge
	ReportsDropped    prometheus.Counter
	PoolRequests      *prometheus.CounterVec // code: PoolIssued, PoolWrongMethod or of the error catalogue
	PoolTokens        prometheus.Counter

	registry prometheus.Registerer
}

const namespace = "ampora_edge"

// Outcomes of a request to the pool API beside the codes of the catalogue.
const (
	PoolIssued      = "ok"
	PoolWrongMethod = "method_not_allowed"
)

// Labels of renewals.
const (
	RenewalByAgent = "agent"
	RenewalByEdge  = "edge"

	RenewalOffered = "offered"
	RenewalFailed  = "failed"
	RenewalRefused = "refused"
	RenewalPutOff  = "put_off"
)

// Results of offers of a new home.
const (
	HomeOffered = "offered"
	HomeFailed  = "failed"
	HomeUnknown = "unknown"
)

// Results of remote configs.
const (
	RemoteConfigOffered = "offered"
	RemoteConfigApplied = "applied"
	RemoteConfigFailed  = "failed"
	RemoteConfigPutOff  = "put_off"
)

// endings are why an edge ends live sessions.
var endings = []apitype.Code{
	apitype.CertificateRevoked, apitype.CertificateExpired, apitype.CertificateUntrusted, apitype.AgentUnknown, apitype.AgentMoved, apitype.HandoverPending,
	apitype.VaultUnavailable, apitype.Internal,
}

// New makes the metrics and registers them. It fails when the registry holds them already.
func New(registry prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{
		registry: registry,
		Sessions: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: namespace, Name: "sessions", Help: "OpAMP sessions open now; for plain HTTP, agents that have polled lately.",
		}, []string{"transport", "kind"}),
		Admitted: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "admissions_total", Help: "Upgrades and plain HTTP requests let in.",
		}, []string{"transport", "kind"}),
		Refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "refusals_total", Help: "Refusals by code of the error catalogue.",
		}, []string{"code"}),
		Ended: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "sessions_ended_total",
			Help: "Live sessions that this edge has ended, by code: certificate_revoked, certificate_expired, certificate_untrusted (its issuer was retired, or it is no guest any more), agent_unknown, agent_moved (with another certificate), handover_pending, vault_unavailable (away for too long).",
		}, []string{"code"}),
		Redemptions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "redemptions_total", Help: "Bootstrap tokens turned into agents, by who made the key (csr: the agent, server: Vault).",
		}, []string{"key"}),
		Renewals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "renewals_total",
			Help: "Next certificates by who wanted them (agent: by CSR, edge: in time) and result: offered, failed (the agent could not take it), refused, put_off (Vault was away).",
		}, []string{"by", "result"}),
		LeavesApplied: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: namespace, Name: "certificates_applied_total", Help: "Agents that said they had applied the certificate which they came with, after enrolling or a renewal.",
		}),
		HandoverOffers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "handover_offers_total",
			Help: "Offers of their new home to agents that have gone to a peer, by result: offered, failed (the agent could not go there), unknown (no endpoint of the peer is known).",
		}, []string{"result"}),
		RemoteConfigs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "remote_configs_total",
			Help: "Configurations by result: offered to an agent, applied or failed as it says of what it was offered, put_off (Vault could not be asked for one).",
		}, []string{"result"}),
		Panics: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: namespace, Name: "panics_total", Help: "Panics caught; each ended one session.",
		}),
		DuplicateSessions: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: namespace, Name: "duplicate_sessions_total", Help: "Sessions opened while another one of the same certificate was live.",
		}),
		ReportQueue: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: namespace, Name: "report_queue", Help: "Session reports waiting for Vault.",
		}),
		ReportsDropped: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: namespace, Name: "reports_dropped_total", Help: "Session reports given up: the queue was full or Vault refused them.",
		}),
		PoolRequests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "pool_requests_total", Help: "Requests to the pool API by outcome: ok, method_not_allowed, or a code of the error catalogue.",
		}, []string{"code"}),
		PoolTokens: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: namespace, Name: "pool_tokens_total", Help: "Bootstrap tokens issued through the pool API.",
		}),
	}
	// The codes that matter exist from the first scrape on, so that a rate can be taken of the first refusal.
	for _, code := range apitype.Codes() {
		m.Refusals.WithLabelValues(string(code))
		m.PoolRequests.WithLabelValues(string(code))
	}
	for _, code := range endings {
		m.Ended.WithLabelValues(string(code))
	}
	for _, transport := range []string{"ws", "http"} {
		for _, kind := range []string{"bootstrap", "agent"} {
			m.Sessions.WithLabelValues(transport, kind)
			m.Admitted.WithLabelValues(transport, kind)
		}
	}
	for _, key := range []string{"csr", "server"} {
		m.Redemptions.WithLabelValues(key)
	}
	for _, by := range []string{RenewalByAgent, RenewalByEdge} {
		for _, result := range []string{RenewalOffered, RenewalFailed, RenewalRefused, RenewalPutOff} {
			m.Renewals.WithLabelValues(by, result)
		}
	}
	for _, result := range []string{HomeOffered, HomeFailed, HomeUnknown} {
		m.HandoverOffers.WithLabelValues(result)
	}
	for _, result := range []string{RemoteConfigOffered, RemoteConfigApplied, RemoteConfigFailed, RemoteConfigPutOff} {
		m.RemoteConfigs.WithLabelValues(result)
	}
	var errs []error
	for _, c := range []prometheus.Collector{
		m.Sessions, m.Admitted, m.Refusals, m.Ended, m.Redemptions, m.Renewals, m.LeavesApplied, m.HandoverOffers, m.RemoteConfigs, m.Panics, m.DuplicateSessions, m.ReportQueue, m.ReportsDropped,
		m.PoolRequests, m.PoolTokens,
	} {
		errs = append(errs, registry.Register(c))
	}
	return m, errors.Join(errs...)
}

// GaugeFunc registers a gauge that is read at the time of a scrape.
func (m *Metrics) GaugeFunc(name, help string, read func() float64) error {
	return m.registry.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: namespace, Name: name, Help: help}, read))
}

// Refused counts a refusal. A code that is not in the catalogue counts as internal.
func (m *Metrics) Refused(code apitype.Code) {
	if !code.Known() {
		code = apitype.Internal
	}
	m.Refusals.WithLabelValues(string(code)).Inc()
}

// SessionEnded counts a live session that the edge has ended. A code of which that is not expected counts as internal.
func (m *Metrics) SessionEnded(code apitype.Code) {
	if !slices.Contains(endings, code) {
		code = apitype.Internal
	}
	m.Ended.WithLabelValues(string(code)).Inc()
}
