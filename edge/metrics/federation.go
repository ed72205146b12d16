package metrics

import (
	"errors"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/prometheus/client_golang/prometheus"
)

// Federation is what is counted between this edge and peers' edges.
type Federation struct {
	Requests *prometheus.CounterVec // about: FederationBundle and the like; outcome
	Receipts *prometheus.CounterVec // result: ReceiptAnswered and the like
}

// What requests are about, and what becomes of receipts that this edge carries.
const (
	FederationBundle   = "bundle"
	FederationCRLs     = "crls"
	FederationReceipts = "receipts"
	FederationOther    = "other"

	ReceiptAnswered      = "answered"       // and Vault has taken the answer
	ReceiptRefused       = "refused"        // by the peer
	ReceiptAnswerRefused = "answer_refused" // by our Vault
	ReceiptPutOff        = "put_off"        // the peer, or our Vault for the answer, was away
)

// PeerState is what a scrape is told of a peer. Lists are those of revoked certificates; without any, NextUpdate is zero.
type PeerState struct {
	Name       string
	Up         bool
	Latency    time.Duration
	ListsTime  time.Time // of the oldest list's making
	NextUpdate time.Time // of the list that expires first
	Revoked    int       // certificates in the lists
}

// Federation makes the metrics and registers them. The peers are those of the time of the scrape. It fails when called twice.
func (m *Metrics) Federation(read func() []PeerState) (*Federation, error) {
	f := &Federation{
		Requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "federation_requests_total",
			Help: "Requests below /federation/ by what they are about (bundle, crls, receipts, other) and outcome: ok, not_modified, method_not_allowed, not_found, or a code of the error catalogue.",
		}, []string{"about", "outcome"}),
		Receipts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "receipts_sent_total",
			Help: "Receipts of handovers carried to peers by result: answered, refused (by the peer), answer_refused (by our Vault), put_off (the peer or Vault was away).",
		}, []string{"result"}),
	}
	for about, outcomes := range map[string][]string{
		FederationBundle:   {"ok", string(apitype.NotReady), string(apitype.VaultUnavailable)},
		FederationCRLs:     {"ok", string(apitype.NotReady), string(apitype.VaultUnavailable)},
		FederationReceipts: {"ok", string(apitype.HandoverSignatureInvalid), string(apitype.PeerUnknown), string(apitype.RateLimited), string(apitype.VaultUnavailable)},
	} {
		for _, outcome := range outcomes {
			f.Requests.WithLabelValues(about, outcome)
		}
	}
	for _, result := range []string{ReceiptAnswered, ReceiptRefused, ReceiptAnswerRefused, ReceiptPutOff} {
		f.Receipts.WithLabelValues(result)
	}
	return f, errors.Join(m.registry.Register(f.Requests), m.registry.Register(f.Receipts), m.registry.Register(newPeers(read)))
}

// peers is a prometheus.Collector.
type peers struct {
	read func() []PeerState

	up, latency, age, left, revoked *prometheus.Desc
}

func newPeers(read func() []PeerState) *peers {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc(prometheus.BuildFQName(namespace, "peer", name), help, []string{"peer"}, nil)
	}
	return &peers{
		read:    read,
		up:      desc("up", "1 when this edge's last call to the peer's edges got an answer that counts. A peer without federation_url is not called."),
		latency: desc("latency_seconds", "How long the last call to the peer's edges took; 0 before the first."),
		age:     desc("crl_age_seconds", "Time since the oldest of the peer's lists of revoked certificates was made that this edge decides by; -1 without one: they are fetched while agents with certificates of the peer are here."),
		left:    desc("crl_next_update_seconds", "Time until the first of the peer's lists should have been replaced; negative from then on, 0 without one. What they say counts on."),
		revoked: desc("crl_entries", "Certificates in the peer's lists."),
	}
}

func (p *peers) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{p.up, p.latency, p.age, p.left, p.revoked} {
		to <- d
	}
}

func (p *peers) Collect(to chan<- prometheus.Metric) {
	for _, s := range p.read() {
		gauge := func(d *prometheus.Desc, v float64) {
			to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, s.Name)
		}
		up, age, left := 0.0, -1.0, 0.0
		if s.Up {
			up = 1
		}
		if !s.NextUpdate.IsZero() {
			age, left = time.Since(s.ListsTime).Seconds(), time.Until(s.NextUpdate).Seconds()
		}
		gauge(p.up, up)
		gauge(p.latency, s.Latency.Seconds())
		gauge(p.age, age)
		gauge(p.left, left)
		gauge(p.revoked, float64(s.Revoked))
	}
}
