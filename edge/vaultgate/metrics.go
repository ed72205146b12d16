package vaultgate

import (
	"errors"
	"math"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the Gate's numbers. Labels come from fixed sets (operation, code, method), never from an agent.
type metrics struct {
	calls    *prometheus.CounterVec
	repeats  *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	logins   *prometheus.CounterVec
	renewals *prometheus.CounterVec

	all []prometheus.Collector
}

const namespace, subsystem = "ampora_edge", "vault"

func newMetrics() *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help}, labels)
	}
	m := &metrics{
		calls:   counter("calls_total", "Calls to the secrets engine by operation and outcome: ok, or the error code that the call ended with.", "op", "code"),
		repeats: counter("call_repeats_total", "Repetitions of a call after an answer that decided nothing.", "op"),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "call_seconds",
			Help:    "Duration of calls to the secrets engine, with waiting for a slot and repetitions.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"op"}),
		logins:   counter("logins_total", "Logins to Vault by auth method and result.", "auth", "result"),
		renewals: counter("renewals_total", "Renewals of the Vault token by result.", "result"),
	}
	for _, result := range []string{"ok", "failed"} {
		m.renewals.WithLabelValues(result)
	}
	m.all = []prometheus.Collector{m.calls, m.repeats, m.seconds, m.logins, m.renewals}
	return m
}

// watch adds the numbers that are read when somebody asks.
func (m *metrics) watch(k *keeper, s *status, kinds map[string]*slots) {
	gauge := func(name, help string, labels prometheus.Labels, read func() float64) {
		m.all = append(m.all, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Namespace: namespace, Subsystem: subsystem, Name: name, Help: help, ConstLabels: labels,
		}, read))
	}
	gauge("up", "1 while Vault answers this edge.", nil, func() float64 {
		if s.get().Up {
			return 1
		}
		return 0
	})
	gauge("token_ttl_seconds", "How long the Vault token still lives: 0 without one, +Inf for one that never ends.", nil, func() float64 {
		ttl := k.ttl()
		if ttl < 0 {
			return math.Inf(1)
		}
		return ttl.Seconds()
	})
	for name, kind := range kinds {
		labels := prometheus.Labels{"slots": name}
		gauge("calls_in_flight", "Calls that are with Vault.", labels, func() float64 { return float64(len(kind.taken)) })
		gauge("calls_waiting", "Calls that wait for a slot.", labels, func() float64 { return float64(kind.waiting.Load()) })
	}
}

func (m *metrics) register(r prometheus.Registerer) error {
	for i, c := range m.all {
		if err := r.Register(c); err != nil {
			for _, done := range m.all[:i] {
				r.Unregister(done)
			}
			return err
		}
	}
	return nil
}

func (m *metrics) unregister(r prometheus.Registerer) {
	for _, c := range m.all {
		r.Unregister(c)
	}
}

func (m *metrics) call(op string, took time.Duration, err error) {
	m.calls.WithLabelValues(op, outcome(err)).Inc()
	m.repeats.WithLabelValues(op) // it exists from the first call on, so that a rate can be taken of the first repetition
	m.seconds.WithLabelValues(op).Observe(took.Seconds())
}

// outcome is "ok", a code of the catalogue, or "canceled" when the caller gave up.
func outcome(err error) string {
	switch code := apitype.CodeOf(err); {
	case err == nil:
		return "ok"
	case errors.Is(err, errGivenUp):
		return "canceled"
	case code.Known():
		return string(code)
	}
	return "other"
}

func (m *metrics) login(auth string, err error) { m.logins.WithLabelValues(auth, result(err)).Inc() }
func (m *metrics) renewal(err error)            { m.renewals.WithLabelValues(result(err)).Inc() }

func result(err error) string {
	if err != nil {
		return "failed"
	}
	return "ok"
}
