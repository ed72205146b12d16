package audit

import (
	"cmp"
	"context"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
)

// Bounds of what refusals may cost: whatever a flood brings, each Tell writes an event for so many sources, for each tenant
// that has used up its share one more, and one for all that did not fit.
const (
	maxSources       = 64
	maxTenantSources = 16 // of one tenant, so that it does not hide the others
	refusalsTogether = 8  // events in one record
)

// Sources that are no addresses.
const (
	SourceUnknown = "unknown"
	SourceOther   = "other" // the sum of those for which there was no room
)

// Source is the unit in which refusals are summed: an IPv4 address, or an IPv6 /64, which is what a single customer holds.
func Source(text string) string {
	if text == SourceOther {
		return SourceOther
	}
	addr, err := netip.ParseAddr(text)
	if err != nil {
		prefix, err := netip.ParsePrefix(text)
		if err != nil || prefix.Bits() != 64 {
			return SourceUnknown
		}
		addr = prefix.Addr()
	}
	if addr = addr.Unmap().WithZone(""); addr.Is4() {
		return addr.String()
	}
	return netip.PrefixFrom(addr, 64).Masked().String()
}

// Refusals counts what was refused, and tells it in sum: one event for each source. They are in memory until Tell, so a crash
// loses those since the last one. It is safe for concurrent use.
type Refusals struct {
	log *Log
	now func() time.Time

	mu   sync.Mutex
	sums map[refusedSource]*refused
}

type refusedSource struct{ tenant, source string }

// refused is what was refused to one source.
type refused struct {
	codes       map[apitype.Code]int64
	first, last time.Time
}

// NewRefusals makes Refusals that tell the log.
func NewRefusals(log *Log, now func() time.Time) *Refusals {
	return &Refusals{log: log, now: now, sums: map[refusedSource]*refused{}}
}

// Add counts n refusals of one code. The source is one of Source, the code one of the catalogue, and the tenant the path's.
func (r *Refusals) Add(tenant, source string, code apitype.Code, n int64) {
	now := r.now()
	r.mu.Lock()
	defer r.mu.Unlock()
	sum := r.sum(refusedSource{tenant, source})
	if sum.codes == nil {
		sum.codes, sum.first = map[apitype.Code]int64{}, now
	}
	sum.codes[code] += n
	sum.last = now
}

// sum is where a source is counted. Called under the lock.
func (r *Refusals) sum(s refusedSource) *refused {
	if r.sums[s] == nil && s.source != SourceOther {
		all, ofTenant := 0, 0
		for other := range r.sums {
			if other.source == SourceOther {
				continue
			}
			all++
			if other.tenant == s.tenant {
				ofTenant++
			}
		}
		if all >= maxSources || s.tenant != "" && ofTenant >= maxTenantSources {
			s.source = SourceOther
		}
		if s.source == SourceOther && ofTenant < maxTenantSources {
			s.tenant = ""
		}
	}
	if r.sums[s] == nil && len(r.sums) >= 2*maxSources {
		s = refusedSource{source: SourceOther}
	}
	if r.sums[s] == nil {
		r.sums[s] = &refused{}
	}
	return r.sums[s]
}

// Tell stores the events of what was counted since the last time. While the log waits for storage, they go on being summed.
func (r *Refusals) Tell(ctx context.Context) {
	if r.log.Untold() {
		return
	}
	r.mu.Lock()
	sums := r.sums
	r.sums = map[refusedSource]*refused{}
	r.mu.Unlock()
	order := slices.SortedFunc(maps.Keys(sums), func(a, b refusedSource) int {
		return cmp.Or(cmp.Compare(a.tenant, b.tenant), cmp.Compare(a.source, b.source))
	})
	for together := range slices.Chunk(order, refusalsTogether) {
		if r.log.Untold() || ctx.Err() != nil {
			r.keep(together, sums)
			continue
		}
		var events []apitype.Event
		for _, s := range together {
			events = append(events, sums[s].event(s))
		}
		r.log.Tell(ctx, NewRecord(System(), r.now(), events...))
	}
}

// keep puts back what is told the next time.
func (r *Refusals) keep(untold []refusedSource, sums map[refusedSource]*refused) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range untold {
		sum := r.sum(s)
		if sum.codes == nil {
			sum.codes, sum.last = map[apitype.Code]int64{}, sums[s].last
		}
		sum.first = sums[s].first
		for code, n := range sums[s].codes {
			sum.codes[code] += n
		}
	}
}

func (r *refused) event(s refusedSource) apitype.Event {
	codes, count := map[string]any{}, int64(0)
	for code, n := range r.codes {
		codes[string(code)] = n
		count += n
	}
	e := apitype.Event{
		EntityType: "source", EntityID: s.source, Action: apitype.ActionAccessRefused, Tenant: s.tenant,
		Details: map[string]any{"count": count, "codes": codes, "first": FormatTime(r.first), "last": FormatTime(r.last)},
	}
	if s.source != SourceUnknown && s.source != SourceOther {
		e.SourceIP = s.source
	}
	return e
}
