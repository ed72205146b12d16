package named_test

import (
	"context"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/audit"
	"github.com/ampora/ampora/plugin/internal/configuration"
	"github.com/ampora/ampora/plugin/internal/group"
	"github.com/ampora/ampora/plugin/internal/named"
	"github.com/ampora/ampora/plugin/internal/settings"
	"github.com/ampora/ampora/plugin/internal/store"
	"github.com/ampora/ampora/plugin/internal/storetest"
	"github.com/hashicorp/vault/sdk/logical"
)

var operator = audit.Origin{Actor: apitype.Actor{DisplayName: "operator"}, RequestID: "request"}

// world is one process of the engine over a storage that outlives it.
type world struct {
	*testing.T
	storage        *storetest.Faulty
	log            *audit.Log
	settings       *settings.Settings
	groups         *group.Groups
	configurations *configuration.Configurations
}

func newWorld(t *testing.T, storage *storetest.Faulty) *world {
	rows := store.New(store.NewCache(storage))
	log := audit.NewLog(rows, time.Now, 90*24*time.Hour)
	w := &world{T: t, storage: storage, log: log, settings: settings.New(rows, log, time.Now)}
	ground := named.Ground{Store: rows, Log: log, Locks: store.NewLocks(), Settings: w.settings, Now: time.Now}
	w.configurations = configuration.New(ground)
	w.groups = group.New(ground, w.configurations)
	return w
}

func empty(t *testing.T) *world {
	return newWorld(t, &storetest.Faulty{Storage: &logical.InmemStorage{}})
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) group(tenant, name string, in apitype.GroupRequest) apitype.Group {
	w.Helper()
	g, err := w.groups.Write(w.Context(), operator, tenant, name, in)
	w.must(err)
	return g
}

func (w *world) configuration(tenant, name, body string) apitype.Configuration {
	w.Helper()
	c, err := w.configurations.Write(w.Context(), operator, tenant, name, apitype.ConfigurationRequest{Body: &body})
	w.must(err)
	return c
}

func (w *world) sweep() {
	w.Helper()
	w.must(w.log.Retell(w.Context()))
	w.must(w.groups.Sweep(w.Context()))
	w.must(w.configurations.Sweep(w.Context()))
}

// events counts the events by action.
func (w *world) events() map[string]int {
	w.Helper()
	page, _, err := w.log.Page(w.Context(), audit.Query{Limit: audit.MaxLimit})
	w.must(err)
	count := map[string]int{}
	for _, e := range page {
		count[e.Action]++
	}
	return count
}

func (w *world) keys(prefix string) []string {
	w.Helper()
	keys, err := logical.CollectKeysWithPrefix(w.Context(), w.storage.Storage, prefix)
	w.must(err)
	return keys
}

// refusal wants an error of the code.
func (w *world) refusal(code apitype.Code, err error) *apitype.Error {
	w.Helper()
	if apitype.CodeOf(err) != code {
		w.Fatalf("%v instead of %s", err, code)
	}
	return err.(*apitype.Error)
}

// referredBy is a referrer of things that are kept nowhere.
func referredBy(kind string, ids ...string) func(context.Context, string, string, func(kind, id string) bool) error {
	return func(_ context.Context, _, _ string, visit func(kind, id string) bool) error {
		for _, id := range ids {
			if !visit(kind, id) {
				return nil
			}
		}
		return nil
	}
}

func ptr[T any](v T) *T { return &v }
