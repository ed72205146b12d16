package ampora_test

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
)

func (m *mount) edges(path string, page data) apitype.ListResponse[apitype.EdgeInfo] {
	m.Helper()
	return call[apitype.ListResponse[apitype.EdgeInfo]](m, read, path, page)
}

func TestEdgesAreListedAsTheyWereLastHeardOf(t *testing.T) {
	m := ready(t)
	if got := m.edges("edges", nil); len(got.Keys) != 0 {
		t.Errorf("edges before the first report: %v", got.Keys)
	}
	m.ok(write, "edge/report", data{"name": "edge-1", "version": "v1", "revision": "ab.7", "live": 3})
	m.ok(write, "tenants/acme/edge/report", data{"name": "edge-1", "live": 1})
	m.ok(write, "tenants/acme-2/edge/report", data{"name": "edge-9"})
	m.clock.advance(20 * time.Second) // the row is not stored so soon again
	m.storage.Reset()
	m.ok(write, "edge/report", data{"name": "edge-1", "version": "v2", "revision": "ab.8", "live": 4})
	if w := m.storage.Writes(); len(w) != 0 {
		t.Errorf("it wrote %v", w)
	}
	all := m.edges("edges", nil)
	if want := []string{"acme-2/edge-9", "acme/edge-1", "edge-1"}; !slices.Equal(all.Keys, want) {
		t.Fatalf("%v instead of %v", all.Keys, want)
	}
	seen := m.clock.now().Format(time.RFC3339)
	if want := (apitype.EdgeInfo{Name: "edge-1", Version: "v2", Revision: "ab.8", Live: 4, SeenAt: seen}); all.KeyInfo["edge-1"] != want {
		t.Errorf("%+v instead of %+v", all.KeyInfo["edge-1"], want)
	}
	if got := all.KeyInfo["acme/edge-1"]; got.Tenant != "acme" || got.Name != "edge-1" || got.Live != 1 {
		t.Errorf("%+v", got)
	}
	if got := decodeAnswer[apitype.ListResponse[apitype.EdgeInfo]](m, m.ok(list, "edges", nil)); !maps.Equal(got.KeyInfo, all.KeyInfo) {
		t.Errorf("list: %+v", got)
	}
	if got := m.edges("tenants/acme/edges", nil); !slices.Equal(got.Keys, []string{"edge-1"}) || got.KeyInfo["edge-1"].Live != 1 {
		t.Errorf("acme sees %+v", got)
	}
	if got := m.edges("tenants/acm/edges", nil); len(got.Keys) != 0 {
		t.Errorf("acm sees %+v", got)
	}

	var paged []string
	for page := (data{"limit": 1}); ; {
		got := m.edges("edges", page)
		paged = append(paged, got.Keys...)
		if len(got.Keys) != 1 {
			t.Fatalf("a page of %d", len(got.Keys))
		}
		if got.NextAfter == "" {
			break
		}
		page["after"] = got.NextAfter
	}
	if !slices.Equal(paged, all.Keys) {
		t.Errorf("page by page: %v", paged)
	}
	m.no(apitype.FieldInvalid, read, "edges", data{"limit": -1})
	m.no(apitype.NameInvalid, read, "tenants/Acme/edges", nil)

	// A restart knows what was stored, and each edge says the rest within a minute.
	again := mountOn(t, m.storage.Storage, m.clock)
	if got := again.edges("edges", nil); !slices.Equal(got.Keys, all.Keys) || got.KeyInfo["edge-1"].Revision != "ab.7" {
		t.Errorf("after a restart: %+v", got)
	}
	// Another node has been the active one for a while, and has stored what it heard.
	m.clock.advance(time.Minute)
	again.ok(write, "edge/report", data{"name": "edge-1", "revision": "cd.1"})
	m.backend.InvalidateKey(t.Context(), "edge/-/edge-1")
	if got := m.edges("edges", nil).KeyInfo["edge-1"]; got.Revision != "cd.1" {
		t.Errorf("memory stands before what another node has heard later: %+v", got)
	}
}

func TestAnEdgeThatReportsNoMoreIsForgottenAfterADay(t *testing.T) {
	m := ready(t)
	m.ok(write, "edge/report", data{"name": "gone"})
	m.ok(write, "tenants/acme/edge/report", data{"name": "gone"})
	m.clock.advance(time.Hour)
	m.ok(write, "edge/report", data{"name": "here"})
	m.clock.advance(23*time.Hour - time.Second)
	if err := m.backend.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := m.edges("edges", nil).Keys; len(got) != 3 || len(m.keys("edge/")) != 3 {
		t.Errorf("within the day: %v %v", got, m.keys("edge/"))
	}
	m.clock.advance(time.Second)
	if got := m.edges("edges", nil).Keys; !slices.Equal(got, []string{"here"}) {
		t.Errorf("after the day: %v", got)
	}
	if err := m.backend.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := m.keys("edge/"); !slices.Equal(got, []string{"edge/-/here"}) {
		t.Errorf("stored: %v", got)
	}
	m.ok(write, "edge/report", data{"name": "gone"})
	if got := m.edges("edges", nil).Keys; !slices.Equal(got, []string{"gone", "here"}) {
		t.Errorf("back again: %v", got)
	}
}

func TestAnEdgeThatLeavesIsForgottenAtOnce(t *testing.T) {
	m := ready(t)
	m.ok(write, "edge/report", data{"name": "edge-1"})
	m.ok(write, "tenants/acme/edge/report", data{"name": "edge-1"})
	m.ok(write, "edge/report", data{"name": "edge-1", "leaving": true})
	m.ok(write, "edge/report", data{"name": "edge-2", "leaving": true}) // nobody has heard of it
	if got := m.edges("edges", nil).Keys; !slices.Equal(got, []string{"acme/edge-1"}) || len(m.keys("edge/")) != 1 {
		t.Errorf("%v %v", got, m.keys("edge/"))
	}
	m.clock.advance(time.Second)
	m.ok(write, "edge/report", data{"name": "edge-1"}) // it has been started again
	if got := m.edges("edges", nil).Keys; !slices.Equal(got, []string{"acme/edge-1", "edge-1"}) {
		t.Errorf("%v", got)
	}
}

// summary is all parts of the counts.
func (m *mount) summary(path string) apitype.AgentsSummary {
	m.Helper()
	var sum apitype.AgentsSummary
	for parts := 1; ; parts++ {
		sum.Add(call[apitype.AgentsSummary](m, read, path, data{"after": sum.NextAfter}))
		if sum.NextAfter == "" {
			if parts != 8 {
				m.Errorf("%d parts", parts)
			}
			return sum
		}
	}
}

func TestAgentsAreCountedByWhatTheirCertificatesNeed(t *testing.T) {
	m := ready(t) // on the first of March
	if got := m.summary("agents/summary"); !equalJSON(t, got, apitype.AgentsSummary{Expiring: map[string]int{}}) {
		t.Errorf("%+v", got)
	}
	m.ok(write, "config", data{"leaf_ttl": "24h", "agent_retention": "240h"})
	for range 3 {
		m.enrol(data{"tenant": "acme"})
	}
	m.ok(write, "config", data{"leaf_ttl": "720h"}) // to the 31st of March
	var long []apitype.Identity
	for range 20 {
		id, _ := m.enrol(nil)
		long = append(long, id)
	}
	m.ok(write, "config", data{"leaf_ttl": "2160h"}) // to the 30th of May
	for range 5 {
		m.enrol(data{"tenant": "acme"})
	}
	renew := func(id apitype.Identity) {
		m.ok(write, "agents/"+id.AgentID+"/renew", data{"fingerprint": id.Fingerprint})
	}
	m.ok(write, "agents/"+long[0].AgentID+"/revoke", nil)
	m.ok(remove, "agents/"+long[1].AgentID, nil)
	check := func(path string, want apitype.AgentsSummary) {
		t.Helper()
		if got := m.summary(path); !equalJSON(t, got, want) {
			t.Errorf("%s on %s: %+v instead of %+v", path, m.clock.now().Format(time.DateTime), got, want)
		}
	}
	check("agents/summary", apitype.AgentsSummary{Active: 26, Revoked: 1, Expiring: map[string]int{"2026-03": 21, "2026-05": 5}})
	check("tenants/acme/agents/summary", apitype.AgentsSummary{Active: 8, Expiring: map[string]int{"2026-03": 3, "2026-05": 5}})
	m.clock.advance(16*time.Hour - time.Second)
	check("tenants/acme/agents/summary", apitype.AgentsSummary{Active: 8, Expiring: map[string]int{"2026-03": 3, "2026-05": 5}})
	m.clock.advance(2 * time.Second)
	check("tenants/acme/agents/summary", apitype.AgentsSummary{Active: 8, RenewalsDue: 3, Expiring: map[string]int{"2026-03": 3, "2026-05": 5}})
	m.clock.advance(8 * time.Hour)
	check("tenants/acme/agents/summary", apitype.AgentsSummary{Active: 5, Expired: 3, Expiring: map[string]int{"2026-05": 5}})
	check("tenants/acm/agents/summary", apitype.AgentsSummary{Expiring: map[string]int{}})
	m.clock.advance(20 * 24 * time.Hour)
	renew(long[2])
	check("agents/summary", apitype.AgentsSummary{Active: 23, Expired: 3, Revoked: 1, RenewalsDue: 17, Unconfirmed: 1, Expiring: map[string]int{"2026-03": 17, "2026-05": 5, "2026-06": 1}})

	for _, after := range []string{"x", "2", "020", "g0", "-1", "AF", long[0].AgentID} {
		m.no(apitype.FieldInvalid, read, "agents/summary", data{"after": after})
	}
}
