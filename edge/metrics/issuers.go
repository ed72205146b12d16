package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Issuer is one that the edge trusts, as a scrape is told of it.
type Issuer struct {
	ID       string
	State    string // active or trusted
	NotAfter time.Time
}

// Issuers registers a gauge of how long each issuer lasts. The issuers are those of the time of the scrape.
func (m *Metrics) Issuers(read func() []Issuer) error {
	return m.registry.Register(&issuers{read: read, left: prometheus.NewDesc(
		prometheus.BuildFQName(namespace, "", "issuer_expiry_seconds"),
		"Time until an issuer expires that this edge trusts, by its id and state (active, trusted); negative from then on.",
		[]string{"issuer", "state"}, nil,
	)})
}

// issuers is a prometheus.Collector.
type issuers struct {
	read func() []Issuer
	left *prometheus.Desc
}

func (i *issuers) Describe(to chan<- *prometheus.Desc) { to <- i.left }

func (i *issuers) Collect(to chan<- prometheus.Metric) {
	for _, issuer := range i.read() {
		to <- prometheus.MustNewConstMetric(i.left, prometheus.GaugeValue, time.Until(issuer.NotAfter).Seconds(), issuer.ID, issuer.State)
	}
}
