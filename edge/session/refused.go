package session

import (
	"context"
	"errors"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
)

// lastRefusals is how long the end of the edge waits for what it has still to tell.
const lastRefusals = 2 * time.Second

// tellRefusals tells the engine now and then what was refused here and which leaves were not the expected ones, and once more at the end. It is a report of its own, so
// that neither waits for the other.
func (d *Desk) tellRefusals(ctx context.Context) {
	tick := time.NewTicker(d.Timing.Refused)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastRefusals)
			defer cancel()
			d.guard("refusals", func() { d.reportRefusals(last) })
			return
		case <-tick.C:
			d.guard("refusals", func() { d.reportRefusals(ctx) })
		}
	}
}

func (d *Desk) reportRefusals(ctx context.Context) {
	all, mismatches := d.Refused.Take(), d.mismatches.take()
	if len(all)+len(mismatches) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	request := apitype.ReportRequest{Name: d.Name, Version: d.Version, Live: d.Live(), Refusals: all, Mismatches: mismatches}
	if s := d.Trust.Current(); s != nil {
		request.Revision = s.Revision
	}
	_, err := d.Reporter.Report(ctx, request)
	if _, refused := errors.AsType[*apitype.Error](err); err == nil || refused && apitype.CodeOf(err).EdgeStatus() < 500 {
		return // told, or an engine that will never take it
	}
	d.Refused.GiveBack(all)
	d.mismatches.giveBack(mismatches)
	d.Logger.Debug("the report of refusals was put off", "error", err)
}
