package ampora

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/store"
)

const (
	// edgeRowStep is how often an edge's row is stored at most.
	edgeRowStep = time.Minute
	// edgeKept is how long an edge is remembered that reports no more: its name may be a pod's, which never comes back.
	edgeKept = 24 * time.Hour
)

// edgeRow is edge/<tenant or ->/<name>: what an edge last said of itself. Edges of two tenants may have the same name.
type edgeRow struct {
	Name     string    `json:"name"`
	Version  string    `json:"version"`
	Revision string    `json:"revision"`
	Live     int       `json:"live"`
	SeenAt   time.Time `json:"seen_at"`
	// Peers is how it last found the peers.
	Peers []apitype.PeerReport `json:"peers,omitempty"`
}

func (*edgeRow) SchemaName() string { return "edge" }
func (*edgeRow) SchemaVersion() int { return 1 }

func (r *edgeRow) info(tenant string) apitype.EdgeInfo {
	return apitype.EdgeInfo{
		Name: r.Name, Tenant: tenant, Version: r.Version, Revision: r.Revision, Live: r.Live, SeenAt: r.SeenAt.UTC().Format(time.RFC3339),
	}
}

// edges remembers the edges: in memory as they were last heard of, in storage as they were at most a minute before.
type edges struct {
	store *store.Store
	now   func() time.Time

	mu    sync.Mutex
	heard map[string]heard // by key
}

type heard struct {
	row    edgeRow
	stored time.Time // when the row was stored last, the zero time for never
}

func newEdges(s *store.Store, now func() time.Time) *edges {
	return &edges{store: s, now: now, heard: map[string]heard{}}
}

// seen remembers the edge, and stores its row unless that was done within the last minute; one that leaves is forgotten. The
// tenant is the one that the edge reports for.
func (e *edges) seen(ctx context.Context, tenant string, in apitype.ReportRequest) error {
	now, key := e.now(), store.NamedKey(store.EdgePrefix, tenant, in.Name)
	if in.Leaving {
		if _, err := e.store.Get(ctx, key, &edgeRow{}); err != nil {
			return err
		}
		return e.forget(ctx, key)
	}
	row := edgeRow{Name: in.Name, Version: in.Version, Revision: in.Revision, Live: in.Live, SeenAt: now.UTC(), Peers: in.Peers}
	row, due := e.hear(key, row, now)
	if !due {
		return nil
	}
	var stored edgeRow
	if _, err := e.store.Get(ctx, key, &stored); err != nil { // a newer build's row is not ours to write over
		return err
	}
	if len(row.Peers) == 0 { // a process that has just started has only what is stored
		row.Peers = stored.Peers
	}
	if err := e.store.Put(ctx, key, &row); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	h := e.heard[key]
	h.stored = now
	if len(h.row.Peers) == 0 {
		h.row.Peers = row.Peers
	}
	e.heard[key] = h
	return nil
}

// hear takes the row into memory, with the peers as they were heard of before if it tells of none, and answers whether it is to
// be stored.
func (e *edges) hear(key string, row edgeRow, now time.Time) (edgeRow, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	h := e.heard[key]
	if len(row.Peers) == 0 {
		row.Peers = h.row.Peers
	}
	h.row = row
	e.heard[key] = h
	return row, now.Sub(h.stored) >= edgeRowStep
}

// list answers one page of the edges of a tenant, or of all, that were seen lately.
func (e *edges) list(ctx context.Context, tenant string, page apitype.Page) (apitype.ListResponse[apitype.EdgeInfo], error) {
	out := apitype.ListResponse[apitype.EdgeInfo]{Keys: []string{}, KeyInfo: map[string]apitype.EdgeInfo{}}
	all, err := e.keys(ctx, tenant)
	if err != nil {
		return out, err
	}
	keys := map[string]string{} // by what they are called in the list
	for _, key := range all {
		shown := strings.TrimPrefix(key, store.EdgePrefix)
		if of, name, _ := strings.Cut(shown, "/"); of == store.NoTenant || tenant != "" {
			shown = name
		}
		keys[shown] = key
	}
	for _, shown := range slices.Sorted(maps.Keys(keys)) {
		if shown <= page.After {
			continue
		}
		row, err := e.latest(ctx, keys[shown])
		if err != nil {
			return out, err
		}
		if row == nil || e.forgotten(row) {
			continue
		}
		if page.Limit > 0 && len(out.Keys) == page.Limit {
			out.NextAfter = out.Keys[len(out.Keys)-1]
			break
		}
		out.Keys = append(out.Keys, shown)
		out.KeyInfo[shown] = row.info(tenantOfEdge(keys[shown]))
	}
	return out, nil
}

// keys are where the rows of a tenant's edges lie, or of all.
func (e *edges) keys(ctx context.Context, tenant string) ([]string, error) {
	folders := []string{store.NamedFolder("", tenant)}
	if tenant == "" {
		var err error
		if folders, err = e.store.List(ctx, store.EdgePrefix); err != nil {
			return nil, err
		}
	}
	var keys []string
	for _, folder := range folders {
		names, err := e.store.List(ctx, store.EdgePrefix+folder)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			keys = append(keys, store.EdgePrefix+folder+name)
		}
	}
	return keys, nil
}

// latest is what is known of an edge, nil for nothing. Memory alone would not do: another node may have been the active one.
func (e *edges) latest(ctx context.Context, key string) (*edgeRow, error) {
	row := &edgeRow{}
	found, err := e.store.Get(ctx, key, row)
	if err != nil || !found {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if h, known := e.heard[key]; known && h.row.SeenAt.After(row.SeenAt) {
		return &h.row, nil
	}
	return row, nil
}

func (e *edges) forgotten(row *edgeRow) bool { return e.now().Sub(row.SeenAt) >= edgeKept }

// tenantOfEdge is the tenant in a row's key, "" without one.
func tenantOfEdge(key string) string {
	tenant, _, _ := strings.Cut(strings.TrimPrefix(key, store.EdgePrefix), "/")
	if tenant == store.NoTenant {
		return ""
	}
	return tenant
}

// sweep removes the edges that have not been seen for long. A row that cannot be read stays, and is told of at the end.
func (e *edges) sweep(ctx context.Context) error {
	keys, err := e.keys(ctx, "")
	if err != nil {
		return err
	}
	left, first := 0, error(nil)
	for _, key := range keys {
		err := e.drop(ctx, key)
		if fault := (*store.Fault)(nil); errors.As(err, &fault) || ctx.Err() != nil {
			return err
		}
		if err != nil {
			if left++; first == nil {
				first = err
			}
		}
	}
	if left > 0 {
		return fmt.Errorf("%d edge rows were left out, the first: %w", left, first)
	}
	return nil
}

// drop removes an edge's row if it has not been seen for long.
func (e *edges) drop(ctx context.Context, key string) error {
	row, err := e.latest(ctx, key)
	if err != nil || row == nil || !e.forgotten(row) {
		return err
	}
	return e.forget(ctx, key)
}

// forget removes what is known of an edge. Its next report is stored at once.
func (e *edges) forget(ctx context.Context, key string) error {
	e.mu.Lock()
	delete(e.heard, key)
	e.mu.Unlock()
	return e.store.Delete(ctx, key)
}
