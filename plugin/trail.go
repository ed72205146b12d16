package ampora

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/audit"
	"github.com/ampora/ampora/plugin/internal/name"
	"github.com/hashicorp/vault/sdk/logical"
)

// lastWords is how long the end of a mount waits for what is still to be told.
const lastWords = 5 * time.Second

// trail looks after the audit trail in the background: it loads the index of events, and tells of refusals in sum.
type trail struct {
	backend  *backend
	refusals *audit.Refusals

	mu      sync.Mutex
	loading bool
	telling bool
}

func newTrail(b *backend, now func() time.Time) *trail {
	return &trail{backend: b, refusals: audit.NewRefusals(b.log, now)}
}

// tick begins what is due, unless it is under way.
func (t *trail) tick() {
	if !t.backend.log.Indexed() {
		t.begin(&t.loading, t.backend.log.Load)
	}
	t.begin(&t.telling, func(ctx context.Context) error { t.refusals.Tell(ctx); return nil })
}

func (t *trail) begin(running *bool, step func(context.Context) error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if *running {
		return
	}
	*running = true
	go func() {
		if err := t.backend.upkeep.guarded(t.backend.life, step); err != nil && t.backend.life.Err() == nil {
			t.backend.Logger().Warn("the audit trail is not looked after; trying again within a minute", "error", err)
		}
		t.mu.Lock()
		defer t.mu.Unlock()
		*running = false
	}()
}

// end tells what was counted since the last tick. It does not wait long for a storage that is gone already.
func (t *trail) end(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lastWords)
	defer cancel()
	told := make(chan struct{})
	go func() {
		defer close(told)
		_ = t.backend.upkeep.guarded(ctx, func(ctx context.Context) error { t.refusals.Tell(ctx); return nil }) // it has logged a panic
	}()
	select {
	case <-told:
	case <-ctx.Done():
	}
}

// count counts a refusal of those calls by which somebody without a Vault token asks for something, through an edge.
func (t *trail) count(req *logical.Request, resp *logical.Response, err error) {
	if err == nil && !resp.IsError() || !forOthers(req) {
		return
	}
	if err == nil {
		err = resp.Error()
	}
	refusal := apitype.ParseError(err.Error())
	if refusal == nil || refusal.Code.VaultStatus() >= 500 {
		return // nobody's fault, or at least not theirs
	}
	source, _ := req.Data["source_ip"].(string)
	if source == "" && req.Connection != nil {
		source = req.Connection.RemoteAddr
	}
	tenant, _ := splitTenant(req.Path)
	t.refusals.Add(tenant, audit.Source(source), refusal.Code, 1)
}

// forOthers reports whether the request brings the credential of somebody else.
func forOthers(req *logical.Request) bool {
	if req.Operation != logical.UpdateOperation && req.Operation != logical.CreateOperation {
		return false
	}
	_, path := splitTenant(req.Path)
	return path == apitype.PathRedeem || path == apitype.PathRedeemCheck ||
		strings.HasPrefix(path, apitype.PathPools+"/") && strings.HasSuffix(path, "/admin/issue")
}

// splitTenant is the tenant that a path begins with, if that is a name, and the rest.
func splitTenant(path string) (tenant, rest string) {
	scoped, found := strings.CutPrefix(path, "tenants/")
	if !found {
		return "", path
	}
	tenant, rest, _ = strings.Cut(scoped, "/")
	if name.Check(tenantField, tenant) != nil {
		tenant = ""
	}
	return tenant, rest
}

// reported counts what an edge has refused by itself. It has no effect unless all of it can be right.
func (t *trail) reported(tenant string, all []apitype.Refusal) error {
	if len(all) > apitype.MaxRefusals {
		return apitype.Errorf(apitype.FieldInvalid, "refusals has more than %d entries", apitype.MaxRefusals)
	}
	for _, r := range all {
		if !r.Code.Known() || r.Count < 1 || r.Count > apitype.MaxRefusalCount {
			return apitype.Errorf(apitype.FieldInvalid, "refusals has a code that is none, or a count outside 1 to %d", int64(apitype.MaxRefusalCount))
		}
	}
	for _, r := range all {
		t.refusals.Add(tenant, audit.Source(r.SourceIP), r.Code, r.Count)
	}
	return nil
}
