package authority_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/authority"
)

func TestOnlyAnIssuerThatNobodyNeedsIsRetiredWithoutForce(t *testing.T) {
	w := newWorld(t)
	first := w.root(time.Hour)
	w.no(apitype.InUse, w.retire(first, false))
	w.no(apitype.InUse, w.retire(first, true))
	w.no(apitype.IssuerUnknown, w.retire("none", true))
	second := w.root(time.Hour)
	w.activate(second)
	w.leaves = 3
	err := w.retire(first, false)
	w.no(apitype.InUse, err)
	for _, want := range []string{"3 certificates", "the last until " + time.Now().Add(time.Hour).UTC().Format("2006-01-02T"), "force=true"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the refusal does not say %q: %v", want, err)
		}
	}
	if w.state(first) != authority.Trusted || w.told(apitype.ActionIssuerRetired) != 0 {
		t.Error("a refusal changed something")
	}
	w.leaves = 0
	w.must(w.retire(first, false))
	w.must(w.retire(first, false)) // again
	if w.state(first) != authority.Retired || w.told(apitype.ActionIssuerRetired) != 1 || len(w.set().Anchors()) != 1 {
		t.Error("the issuer was not retired once")
	}
	if _, err := w.Activate(t.Context(), operator, first); apitype.CodeOf(err) != apitype.IssuerInvalid {
		t.Errorf("a retired issuer comes back: %v", err)
	}
	if issuer, err := w.restart().set().Issuer(first); err != nil || issuer.Key == nil {
		t.Errorf("the key that signs its CRL is gone: %v", err)
	}
}

func TestADraftIsRetiredWithoutALookAtTheAgents(t *testing.T) {
	w := newWorld(t)
	w.root(time.Hour)
	asked, err := w.NewIntermediate(t.Context(), operator, apitype.CARootRequest{})
	w.must(err)
	w.leaves = 1
	w.must(w.retire(asked.IssuerID, false))
	if w.state(asked.IssuerID) != authority.Retired {
		t.Error("it is not retired")
	}
	if _, err := w.Activate(t.Context(), operator, asked.IssuerID); err == nil || !strings.Contains(err.Error(), "retired") {
		t.Errorf("activating it: %v", err)
	}
}

func TestForceTellsHowManyCertificatesItEnded(t *testing.T) {
	w := newWorld(t)
	first := w.root(time.Hour)
	w.activate(w.root(time.Hour))
	w.leaves = 5
	w.must(w.retire(first, true))
	e := w.events()[0]
	if e.Action != apitype.ActionIssuerRetired || e.EntityID != first || e.Details["force"] != true || e.Details["leaves"] != float64(5) {
		t.Errorf("%+v", e)
	}
}

// An issuer whose key was stolen can be retired although storage holds a row that cannot be read.
func TestForceDoesNotNeedTheCount(t *testing.T) {
	w := newWorld(t)
	first := w.root(time.Hour)
	w.activate(w.root(time.Hour))
	damaged := errors.New("a row is damaged")
	live := func(context.Context, string) (int, time.Time, error) { return 0, time.Time{}, damaged }
	if _, err := w.Retire(t.Context(), operator, first, false, live); !errors.Is(err, damaged) || w.state(first) != authority.Trusted {
		t.Errorf("without force: %v, %s", err, w.state(first))
	}
	_, err := w.Retire(t.Context(), operator, first, true, live)
	w.must(err)
	if _, known := w.events()[0].Details["leaves"]; known || w.state(first) != authority.Retired {
		t.Errorf("%s, %+v", w.state(first), w.events()[0])
	}
}

func TestAnExpiredIssuerIsNotActivated(t *testing.T) {
	w := newWorld(t)
	w.root(10 * time.Hour)
	second := w.root(time.Hour)
	*w.clock = time.Hour
	if _, err := w.Activate(t.Context(), operator, second); apitype.CodeOf(err) != apitype.IssuerInvalid || !strings.Contains(err.Error(), "expired") {
		t.Errorf("%v", err)
	}
}

func TestServerCertificatesAreSignedByTheOldestAnchor(t *testing.T) {
	w := newWorld(t)
	server := func() string {
		t.Helper()
		issuer, err := w.set().Server(time.Now().Add(*w.clock))
		w.must(err)
		return issuer.ID
	}
	if _, err := w.set().Server(time.Now()); apitype.CodeOf(err) != apitype.IssuerMissing {
		t.Errorf("without any issuer: %v", err)
	}
	short, second, third := w.root(3*time.Hour), w.root(100*time.Hour), w.root(100*time.Hour)
	w.activate(third)
	*w.clock = time.Minute
	w.activate(second)
	if got := server(); got != short {
		t.Errorf("the first one is an anchor, and %s signs", got)
	}
	w = w.restart()
	*w.clock = 2*time.Hour + time.Minute // less than an hour of it is left
	if got := server(); got != third {
		t.Errorf("of the two others, %s signs", got)
	}
	w.activate(third) // it signs for agents again; nothing changes here
	if got := server(); got != third {
		t.Errorf("after third was activated again, %s signs", got)
	}
	w.must(w.retire(short, false))
	w.activate(second)
	w.must(w.retire(third, false))
	if got := server(); got != second {
		t.Errorf("the last anchor is %s, and %s signs", second, got)
	}
	*w.clock = 99*time.Hour + 30*time.Minute
	if got := server(); got != second {
		t.Errorf("nobody has an hour of life left, and %s signs", got)
	}
}

// A draft that was made first and activated last is the youngest anchor.
func TestTheAgeOfAnAnchorCountsFromItsActivation(t *testing.T) {
	w := newWorld(t)
	first, second, third := w.root(time.Hour*9), w.root(time.Hour*9), w.root(time.Hour*9)
	*w.clock = time.Second
	w.activate(third)
	*w.clock = 2 * time.Second
	w.activate(second)
	w.must(w.retire(first, false))
	issuer, err := w.restart().set().Server(time.Now())
	w.must(err)
	if issuer.ID != third {
		t.Errorf("%s signs, not %s, which was activated before it", issuer.ID, third)
	}
}
