package feed_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/feed"
)

// withGroups is a feed over groups and configurations that may change while they are read: during is called in between.
func withGroups(t *testing.T, during func()) *feed.Feed {
	t.Helper()
	return feed.New(t.Context(), feed.Sources{
		Revoked:  func(context.Context) ([]apitype.SyncRevoked, error) { return nil, nil },
		Places:   func(context.Context) ([]feed.Place, error) { return nil, nil },
		Issuers:  func(context.Context) ([]apitype.SyncIssuer, error) { return nil, nil },
		Settings: func(context.Context) (apitype.SyncSettings, error) { return apitype.SyncSettings{}, nil },
		Now:      time.Now,
		Groups: func(context.Context) (map[feed.Named]string, error) {
			return map[feed.Named]string{{Name: "web"}: "base", {Tenant: "acme", Name: "web"}: "own", {Tenant: "umbrella", Name: "web"}: ""}, nil
		},
		Configurations: func(context.Context) (map[feed.Named]string, error) {
			all := map[feed.Named]string{{Name: "base"}: "1", {Tenant: "acme", Name: "own"}: "2"}
			during()
			return all, nil
		},
	})
}

func configurations(t *testing.T, f *feed.Feed, tenant, since string) apitype.EdgeConfigurations {
	t.Helper()
	r, err := f.Configurations(t.Context(), tenant, since)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestATenantGetsItsGroupsAndConfigurationsAlone(t *testing.T) {
	f := withGroups(t, func() {})
	for tenant, want := range map[string]apitype.EdgeConfigurations{
		"acme": {
			Groups:         []apitype.SyncGroup{{Tenant: "acme", Name: "web", Configuration: "own"}},
			Configurations: []apitype.SyncConfiguration{{Tenant: "acme", Name: "own", Hash: "2"}},
		},
		"umbrella": {Groups: []apitype.SyncGroup{{Tenant: "umbrella", Name: "web"}}},
		"nobody":   {},
		"": {
			Groups:         []apitype.SyncGroup{{Name: "web", Configuration: "base"}, {Tenant: "acme", Name: "web", Configuration: "own"}, {Tenant: "umbrella", Name: "web"}},
			Configurations: []apitype.SyncConfiguration{{Name: "base", Hash: "1"}, {Tenant: "acme", Name: "own", Hash: "2"}},
		},
	} {
		if got := configurations(t, f, tenant, ""); !got.Full || !slices.Equal(got.Groups, want.Groups) || !slices.Equal(got.Configurations, want.Configurations) {
			t.Errorf("%q: %+v", tenant, got)
		}
	}
	at := configurations(t, f, "acme", "").Revision
	f.GroupChanged(feed.Named{Tenant: "umbrella", Name: "web"}, "secret")
	f.ConfigurationChanged(feed.Named{Name: "base"}, "3")
	if got := configurations(t, f, "acme", at); got.Full || len(got.Groups)+len(got.Configurations) != 0 || got.Revision == at {
		t.Errorf("a tenant hears of others: %+v", got)
	}
}

func TestTheFeedSaysThatConfigurationsChangedAndNotWhich(t *testing.T) {
	f := withGroups(t, func() {})
	at := poll(t, f, "").Revision
	if r := poll(t, f, at); r.Configurations || r.Reassigned != nil {
		t.Errorf("%+v", r)
	}
	f.GroupChanged(feed.Named{Name: "web"}, "other")
	f.GroupDeleted(feed.Named{Tenant: "umbrella", Name: "web"})
	f.ConfigurationDeleted(feed.Named{Name: "base"})
	f.ConfigurationChanged(feed.Named{Name: "other"}, "4")
	f.Reassigned(agentID)
	f.Reassigned(agentID)
	r := poll(t, f, at)
	if !r.Configurations || r.Full || !slices.Equal(r.Reassigned, []string{agentID}) {
		t.Errorf("%+v", r)
	}
	got := configurations(t, f, "", at)
	if got.Full || got.Revision != r.Revision ||
		!slices.Equal(got.Groups, []apitype.SyncGroup{{Name: "web", Configuration: "other"}, {Tenant: "umbrella", Name: "web", Deleted: true}}) ||
		!slices.Equal(got.Configurations, []apitype.SyncConfiguration{{Name: "base", Deleted: true}, {Name: "other", Hash: "4"}}) {
		t.Errorf("%+v", got)
	}
	whole := configurations(t, f, "", "somewhere.7")
	if !whole.Full || slices.ContainsFunc(whole.Groups, func(g apitype.SyncGroup) bool { return g.Deleted || g.Tenant == "umbrella" }) {
		t.Errorf("%+v", whole)
	}
}

const agentID = "018f3d2c-7d4e-8b6a-9c3f-0a1b2c3d4e5f"

// What changes while storage is read must be in what the load makes.
func TestAConfigurationThatChangesDuringALoadIsNotLost(t *testing.T) {
	var f *feed.Feed
	f = withGroups(t, func() {
		f.ConfigurationChanged(feed.Named{Name: "base"}, "new")
		f.GroupDeleted(feed.Named{Name: "web"})
	})
	got := configurations(t, f, "", "")
	if !slices.Contains(got.Configurations, apitype.SyncConfiguration{Name: "base", Hash: "new"}) ||
		slices.ContainsFunc(got.Groups, func(g apitype.SyncGroup) bool { return g.Tenant == "" }) {
		t.Errorf("%+v", got)
	}
}

func TestADiscardReadsConfigurationsAgain(t *testing.T) {
	f := withGroups(t, func() {})
	at := configurations(t, f, "", "").Revision
	f.ConfigurationChanged(feed.Named{Name: "base"}, "doubtful")
	f.Discard()
	got := configurations(t, f, "", at)
	epoch, _, _ := strings.Cut(at, ".")
	if !got.Full || strings.HasPrefix(got.Revision, epoch) || !slices.Contains(got.Configurations, apitype.SyncConfiguration{Name: "base", Hash: "1"}) {
		t.Errorf("%+v", got)
	}
}

func TestConfigurationsWaitForAWholeMemory(t *testing.T) {
	gate := make(chan struct{})
	f := withGroups(t, func() { <-gate })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.Configurations(ctx, "", ""); apitype.CodeOf(err) != apitype.NotReady || errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	close(gate)
	configurations(t, f, "", "")
}
