package named_test

import (
	"context"
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/feed"
	"github.com/ampora/ampora/plugin/internal/storetest"
	"github.com/hashicorp/vault/sdk/logical"
)

// follower is an edge that follows the feed of a world.
type follower struct {
	*feed.Feed
	at             string
	groups, hashes map[feed.Named]string
}

func (w *world) follow() *follower {
	w.Helper()
	f := &follower{Feed: feed.New(w.Context(), feed.Sources{
		Revoked: func(context.Context) ([]apitype.SyncRevoked, error) { return nil, nil },
		Places:  func(context.Context) ([]feed.Place, error) { return nil, nil },
		Groups:  w.groups.Configurations, Configurations: w.configurations.Hashes, Now: time.Now,
	})}
	w.groups.TellTo(f.Feed)
	w.configurations.TellTo(f.Feed)
	f.catchUp(w)
	return f
}

func (f *follower) catchUp(w *world) {
	w.Helper()
	r, err := f.Configurations(w.Context(), "", f.at)
	w.must(err)
	if r.Full {
		f.groups, f.hashes = map[feed.Named]string{}, map[feed.Named]string{}
	}
	f.at = r.Revision
	for _, g := range r.Groups {
		key := feed.Named{Tenant: g.Tenant, Name: g.Name}
		if f.groups[key] = g.Configuration; g.Deleted {
			delete(f.groups, key)
		}
	}
	for _, c := range r.Configurations {
		key := feed.Named{Tenant: c.Tenant, Name: c.Name}
		if f.hashes[key] = c.Hash; c.Deleted {
			delete(f.hashes, key)
		}
	}
}

// check holds what the follower knows against what is stored.
func (f *follower) check(w *world, when string) {
	w.Helper()
	f.catchUp(w)
	groups, err := w.groups.Configurations(w.Context())
	w.must(err)
	hashes, err := w.configurations.Hashes(w.Context())
	w.must(err)
	if !maps.Equal(f.groups, groups) || !maps.Equal(f.hashes, hashes) {
		w.Fatalf("%s: the edge knows %v and %v, stored are %v and %v", when, f.groups, f.hashes, groups, hashes)
	}
}

// Whatever fails and whenever, an edge that follows the feed knows what is stored.
func TestTheFeedTellsWhatIsStoredWhateverFails(t *testing.T) {
	for _, tr := range transitions() {
		for _, mode := range []int{storetest.Refuse, storetest.Apply} {
			for _, length := range []int{1, 2, 3} {
				t.Run(fmt.Sprintf("%s, applied %v, %d failing", tr.name, mode == storetest.Apply, length), func(t *testing.T) {
					for n, fired := 1, true; fired; n++ {
						w := newWorld(t, &storetest.Faulty{Storage: &logical.InmemStorage{}})
						prepare(w)
						f := w.follow()
						w.storage.Arm(n, mode, length)
						err := tr.run(w)
						fired = w.storage.Disarm()
						f.check(w, fmt.Sprintf("operation %d (%v)", n, err))
						w.must(tr.run(w))
						f.check(w, fmt.Sprintf("operation %d, asked again", n))
					}
				})
			}
		}
	}
}

func TestARowThatCannotBeReadDoesNotHoldUpTheFeed(t *testing.T) {
	w := empty(t)
	prepare(w)
	w.must(w.storage.Put(t.Context(), &logical.StorageEntry{Key: "configuration/acme/newer", Value: []byte(`{"v":99,"row":{}}`)}))
	f := w.follow()
	if f.check(w, "with a row of a newer build"); len(f.hashes) != 2 {
		t.Errorf("%v", f.hashes)
	}
	w.storage.Arm(1, storetest.Refuse, 1)
	if _, err := w.groups.Configurations(t.Context()); err == nil {
		t.Error("a fault of the storage was taken for no groups")
	}
	w.storage.Disarm()
}
