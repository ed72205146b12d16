package authority

import (
	"context"
	"fmt"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/audit"
)

// LiveLeaves counts the agents' certificates that an issuer has signed and that are still good, and answers when the last of
// them expires. It is asked about an issuer that signs no more, and counts also what was being signed when it was asked.
type LiveLeaves func(ctx context.Context, issuerID string) (count int, last time.Time, err error)

// Retire ends an issuer for good: nothing trusts it from then on, and its agents' sessions close. A trusted one that has
// certificates which are still good is in_use, unless force says that they are to die; the active one is in_use always.
// Retiring again changes nothing.
//
// No certificate escapes the count. Only the active issuer signs for agents, and the one that is retired here is not active:
// the change that moved it on was committed, and change is held so that it does not become active again. A redemption that
// chose its issuer before that is waited for by live.
func (a *Authority) Retire(ctx context.Context, origin audit.Origin, id string, force bool, live LiveLeaves) (apitype.CAIssuer, error) {
	var none apitype.CAIssuer
	a.change.Lock()
	defer a.change.Unlock()
	set, err := a.settled(ctx)
	if err != nil {
		return none, err
	}
	issuer, place, err := set.find(id)
	switch {
	case err != nil:
		return none, err
	case issuer.State == Retired:
		return issuer.describe(), nil
	case issuer.State == Active:
		return none, apitype.Errorf(apitype.InUse, "this issuer is the one that signs; activate another one before you retire it")
	}
	count, last, known := 0, time.Time{}, error(nil)
	if issuer.State == Trusted { // a draft has never signed
		count, last, known = live(ctx, id)
	}
	switch {
	case force: // also when a row cannot be read: a CA whose key was stolen must go
	case known != nil:
		return none, known
	case count > 0:
		what := "1 certificate of this issuer is"
		if count > 1 {
			what = fmt.Sprintf("%d certificates of this issuer are", count)
		}
		return none, apitype.Errorf(apitype.InUse, "%s still good, the last until %s; wait until its agents have renewed, or write force=true, which locks those agents out",
			what, last.UTC().Format(time.RFC3339))
	}
	retired := event(apitype.ActionIssuerRetired, id)
	retired.Details = map[string]any{"force": force}
	if known == nil {
		retired.Details["leaves"] = count
	}
	next := set.row.copy()
	next.Issuers[place].State = Retired
	if err := a.commit(ctx, origin, set, next, retired); err != nil {
		return none, err
	}
	issuer.State = Retired
	return issuer.describe(), nil
}
