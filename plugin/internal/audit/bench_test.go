package audit

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/store"
	"github.com/hashicorp/vault/sdk/logical"
)

// manyEvents is a storage with 100,000 events over ninety days: half of them tokens issued, and the rest enrolments, two
// events to a record. It is made once, and only read.
var manyEvents = sync.OnceValue(func() *logical.InmemStorage {
	storage, c := &logical.InmemStorage{}, newClock()
	l := NewLog(store.New(storage), c.time, 365*24*time.Hour)
	edge := Origin{Actor: apitype.Actor{DisplayName: "approle-edge-1"}, RequestID: "f43b06ca-118f-875b-a8fe-1ff3c353f51c"}
	for n := range benchEvents / 4 {
		c.advance(90 * 24 * time.Hour / (benchEvents / 4))
		agent, pool := fmt.Sprintf("agent-%d", n), map[string]any{"pool": fmt.Sprintf("pool-%d", n%100), "label": "rack 7", "group": "web"}
		issued := apitype.Event{EntityType: "token", EntityID: fmt.Sprint(n), Action: "Token.Issued", Tenant: fmt.Sprintf("tenant-%d", n%50), Details: pool}
		redeemed := issued
		redeemed.Action, redeemed.AgentID, redeemed.SourceIP = "Token.Redeemed", agent, fmt.Sprintf("10.0.%d.%d", n/250%250, n%250)
		certificate := redeemed
		certificate.EntityType, certificate.EntityID, certificate.Action = "certificate", "serial-"+agent, "Certificate.Issued"
		for _, r := range []*Record{
			NewRecord(edge, c.time(), issued), NewRecord(edge, c.time(), issued), NewRecord(edge.ForAgent(agent, ""), c.time(), redeemed, certificate),
		} {
			if err := l.Ensure(context.Background(), r); err != nil {
				panic(err)
			}
		}
	}
	return storage
})

const benchEvents = 100_000

// BenchmarkFilter is a page of 100 out of 100,000 events, for filters that match few, many and none, with the index and
// without.
func BenchmarkFilter(b *testing.B) {
	tenant := "tenant-7"
	for _, indexed := range []bool{true, false} {
		l := NewLog(store.New(manyEvents()), time.Now, 365*24*time.Hour)
		if indexed {
			if err := l.Load(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
		for _, c := range []struct {
			name string
			want int
			q    Query
		}{
			{"one agent", 2, Query{AgentID: "agent-20000"}},
			{"nobody", 0, Query{AgentID: "agent-x"}},
			{"a pool's redemptions of a day", 3, Query{Action: "Token.Redeemed", Pool: "pool-7", Since: newClock().time().Add(240 * time.Hour), Until: newClock().time().Add(264 * time.Hour)}},
			{"a tenant", 100, Query{Tenant: &tenant}},
			{"one action, a thousand", 1000, Query{Action: "Certificate.Issued", Limit: 1000}},
			{"everything", 100, Query{}},
		} {
			name := c.name + ", by scanning"
			if indexed {
				name = c.name
			}
			b.Run(name, func(b *testing.B) {
				for b.Loop() {
					if events, _, err := l.Page(b.Context(), c.q); err != nil || len(events) != c.want {
						b.Fatalf("%d events, %v", len(events), err)
					}
				}
			})
		}
	}
}

// BenchmarkLoad is what a start costs: the index of 100,000 events, in time and in memory.
func BenchmarkLoad(b *testing.B) {
	storage := manyEvents()
	for b.Loop() {
		var before, after runtime.MemStats
		l := NewLog(store.New(storage), time.Now, 365*24*time.Hour)
		if err := l.ensureLoaded(b.Context()); err != nil {
			b.Fatal(err)
		}
		runtime.GC()
		runtime.ReadMemStats(&before)
		if err := l.Load(b.Context()); err != nil || l.index.size != benchEvents {
			b.Fatal(l.index.size, err)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/benchEvents, "B/event")
		runtime.KeepAlive(l)
	}
}
