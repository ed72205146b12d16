package edge

import (
	"errors"
	"fmt"
	"time"

	"github.com/ampora/ampora/edge/admin"
	"github.com/ampora/ampora/edge/metrics"
)

// readiness is what /readyz tells.
func (e *Edge) readiness() admin.Readiness {
	now := time.Now()
	vault := e.gate.Status()
	r := admin.Readiness{
		Version: Version(), Sessions: e.desk.Live(),
		Vault: admin.Condition{Up: vault.Up, Reason: vault.Reason, Since: rfc3339(vault.Since)},
	}
	snapshot := e.feed.Current()
	if snapshot != nil {
		r.Snapshot = admin.Snapshot{
			Revision: snapshot.Revision, AgeSeconds: int64(snapshot.Age(now) / time.Second),
			Issuers: len(snapshot.Issuers), Revoked: snapshot.RevokedCount(),
		}
	}
	r.ServerCertificateExpiry = rfc3339(e.holder.NotAfter())
	switch {
	case e.draining.Load():
		r.Reason = "this edge is going down"
	case snapshot == nil:
		r.Reason = "nothing heard from Vault yet: " + e.feed.LastError()
	case snapshot.Age(now) > e.options.MaxStaleness:
		r.Reason = fmt.Sprintf("the last sync is %s old: %s", snapshot.Age(now).Round(time.Second), e.feed.LastError())
	case e.holder.NotAfter().IsZero():
		r.Reason = "no server certificate yet: set config.endpoint, --advertise or --san, and look in the log"
	case now.After(e.holder.NotAfter()):
		r.Reason = "the server certificate has expired"
	default:
		r.Ready = true
	}
	switch {
	case !r.Ready:
		r.Bootstrap.Reason = r.Reason
	case !vault.Up:
		r.Bootstrap.Reason = "Vault is away: " + vault.Reason
	case len(snapshot.Issuers) == 0:
		r.Bootstrap.Reason = "there is no issuer yet"
	case e.options.Advertise == "" && snapshot.Settings.Endpoint == "":
		r.Bootstrap.Reason = "agents have no address to be sent to: set config.endpoint or --advertise"
	default:
		r.Bootstrap.Up = true
	}
	return r
}

func rfc3339(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// registerGauges adds the metrics that are read from the parts.
func (e *Edge) registerGauges() error {
	var errs []error
	add := func(name, help string, read func() float64) {
		errs = append(errs, e.metrics.GaugeFunc(name, help, read))
	}
	add("snapshot_age_seconds", "Age of the last answer of the change feed; -1 before the first.", func() float64 {
		if s := e.feed.Current(); s != nil {
			return s.Age(time.Now()).Seconds()
		}
		return -1
	})
	add("snapshot_revision", "Number of the change that the snapshot holds last.", func() float64 {
		if s := e.feed.Current(); s != nil {
			return s.RevisionNumber()
		}
		return 0
	})
	add("snapshot_revoked", "Agents with revoked certificates in the snapshot.", func() float64 {
		if s := e.feed.Current(); s != nil {
			return float64(s.RevokedCount())
		}
		return 0
	})
	add("server_certificate_expiry_seconds", "Time until the server certificate expires; 0 without one.", func() float64 {
		if t := e.holder.NotAfter(); !t.IsZero() {
			return time.Until(t).Seconds()
		}
		return 0
	})
	yes := func(is bool) float64 {
		if is {
			return 1
		}
		return 0
	}
	add("ready", "1 while known agents can be served, as /readyz says.", func() float64 { return yes(e.readiness().Ready) })
	add("bootstrap_ready", "1 while bootstrap tokens can be redeemed, as /readyz says.", func() float64 { return yes(e.readiness().Bootstrap.Up) })
	errs = append(errs, e.metrics.Issuers(e.trusted))
	return errors.Join(errs...)
}

// trusted is the issuers of the snapshot. The active one is the first.
func (e *Edge) trusted() []metrics.Issuer {
	s := e.feed.Current()
	if s == nil {
		return nil
	}
	all := make([]metrics.Issuer, len(s.Issuers))
	for n, issuer := range s.Issuers {
		all[n] = metrics.Issuer{ID: s.IssuerIDs[n], State: "trusted", NotAfter: issuer.NotAfter}
	}
	if len(all) > 0 {
		all[0].State = "active"
	}
	return all
}
