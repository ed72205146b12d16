package ampora

import (
	"context"
	"sync"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/store"
)

// edgeRowStep is how often an edge's row is stored at most.
const edgeRowStep = time.Minute

// edgeRow is edge/<tenant or ->/<name>: what an edge last said of itself. Edges of two tenants may have the same name.
type edgeRow struct {
	Name     string    `json:"name"`
	Version  string    `json:"version"`
	Revision string    `json:"revision"`
	Live     int       `json:"live"`
	SeenAt   time.Time `json:"seen_at"`
}

func (*edgeRow) SchemaName() string { return "edge" }
func (*edgeRow) SchemaVersion() int { return 1 }

// edges remembers when each edge's row was stored.
type edges struct {
	store *store.Store
	now   func() time.Time

	mu     sync.Mutex
	stored map[string]time.Time // by key
}

func newEdges(s *store.Store, now func() time.Time) *edges {
	return &edges{store: s, now: now, stored: map[string]time.Time{}}
}

// seen stores the edge's row unless that was done within the last minute. The tenant is the one that the edge reports for.
func (e *edges) seen(ctx context.Context, tenant string, in apitype.ReportRequest) error {
	now, key := e.now(), store.NamedKey(store.EdgePrefix, tenant, in.Name)
	if !e.due(key, now) {
		return nil
	}
	if _, err := e.store.Get(ctx, key, &edgeRow{}); err != nil { // a newer build's row is not ours to write over
		return err
	}
	if err := e.store.Put(ctx, key, &edgeRow{
		Name: in.Name, Version: in.Version, Revision: in.Revision, Live: in.Live, SeenAt: now.UTC(),
	}); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.stored[key] = now
	return nil
}

func (e *edges) due(key string, now time.Time) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return now.Sub(e.stored[key]) >= edgeRowStep
}
