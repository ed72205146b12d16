package pki

import (
	"errors"
	"strconv"
	"time"
)

// registerGauges adds the gauges about the active issuer's list.
func (h *Handler) registerGauges() error {
	gauge := func(name, help string, without float64, read func(*list) float64) error {
		return h.Metrics.GaugeFunc(name, help, func() float64 {
			if l := h.lists.active(); l != nil {
				return read(l)
			}
			return without
		})
	}
	return errors.Join(
		gauge("crl_age_seconds", "Time since Vault last said that the active issuer's list of revoked certificates is the newest; -1 before the first.", -1,
			func(l *list) float64 { return time.Since(l.confirmed).Seconds() }),
		gauge("crl_next_update_seconds", "Time until the active issuer's list expires; negative from then on, 0 without a list.", 0,
			func(l *list) float64 { return time.Until(l.expires).Seconds() }),
		gauge("crl_number", "Number of the active issuer's list; 0 without a list.", 0,
			func(l *list) float64 { n, _ := strconv.ParseFloat(l.number, 64); return n }),
		gauge("crl_entries", "Certificates in the active issuer's list.", 0,
			func(l *list) float64 { return float64(l.entries) }),
	)
}

// active is the active issuer's list, expired or not, nil without one.
func (l *lists) active() *list {
	s := l.Trust.Current()
	if s == nil || len(s.IssuerIDs) == 0 {
		return nil
	}
	return (*l.held.Load())[s.IssuerIDs[0]]
}
