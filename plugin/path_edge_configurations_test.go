package ampora_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
)

func (m *mount) edgeConfigurations(tenant, since string) apitype.EdgeConfigurations {
	m.Helper()
	return call[apitype.EdgeConfigurations](m, read, apitype.Scoped(tenant, "edge/configurations"), data{"since": since})
}

func TestAnEdgeHearsOfGroupsAndConfigurations(t *testing.T) {
	m := ready(t)
	base := m.configuration("", "base", data{"body": "one"})
	own := m.configuration("acme", "base", data{"body": "acme's"})
	m.group("", "web", data{"configuration": "base"})
	m.group("acme", "web", nil)
	all := m.edgeConfigurations("", "")
	if !all.Full || !slices.Equal(all.Groups, []apitype.SyncGroup{{Name: "web", Configuration: "base"}, {Tenant: "acme", Name: "web"}}) ||
		!slices.Equal(all.Configurations, []apitype.SyncConfiguration{{Name: "base", Hash: base.Hash}, {Tenant: "acme", Name: "base", Hash: own.Hash}}) {
		t.Errorf("%+v", all)
	}
	synced := m.sync("")
	m.group("acme", "web", data{"configuration": "base"})
	base = m.configuration("", "base", data{"body": "two"})
	if delta := m.sync(synced.Revision); !delta.Configurations || delta.Full || len(delta.Reassigned) != 0 {
		t.Errorf("%+v", delta)
	}
	delta := m.edgeConfigurations("acme", all.Revision)
	if delta.Full || !slices.Equal(delta.Groups, []apitype.SyncGroup{{Tenant: "acme", Name: "web", Configuration: "base"}}) || len(delta.Configurations) != 0 {
		t.Errorf("%+v", delta)
	}
	if delta := m.edgeConfigurations("", all.Revision); !slices.Equal(delta.Configurations, []apitype.SyncConfiguration{{Name: "base", Hash: base.Hash}}) {
		t.Errorf("%+v", delta)
	}
	m.ok(remove, "groups/web", nil)
	m.ok(remove, "configurations/base", nil)
	if gone := m.edgeConfigurations("", delta.Revision); !slices.Equal(gone.Groups, []apitype.SyncGroup{{Name: "web", Deleted: true}}) ||
		!slices.Equal(gone.Configurations, []apitype.SyncConfiguration{{Name: "base", Deleted: true}}) {
		t.Errorf("%+v", gone)
	}
}

func TestAnEdgeReadsWhatItGivesAgents(t *testing.T) {
	m := ready(t)
	mine := m.configuration("", "base", data{"body": "one"})
	theirs := m.configuration("acme", "base", data{"body": "acme's", "content_type": "application/json"})
	want := apitype.EdgeConfiguration{Name: "base", Tenant: "acme", Hash: theirs.Hash, ContentType: "application/json", Body: "acme's"}
	for path, fields := range map[string]data{
		"edge/configurations/base": {"tenant": "acme"}, "tenants/acme/edge/configurations/base": nil,
	} {
		if got := call[apitype.EdgeConfiguration](m, read, path, fields); got != want {
			t.Errorf("%s: %+v", path, got)
		}
	}
	if got := call[apitype.EdgeConfiguration](m, read, "edge/configurations/base", nil); got.Body != "one" || got.Hash != mine.Hash {
		t.Errorf("%+v", got)
	}
	m.no(apitype.ConfigurationUnknown, read, "tenants/umbrella/edge/configurations/base", nil)
	m.no(apitype.ConfigurationUnknown, read, "edge/configurations/other", nil)
	m.no(apitype.NameInvalid, read, "edge/configurations/Base", nil)
	m.no(apitype.NameInvalid, read, "edge/configurations/base", data{"tenant": "A"})
}

func TestWhoseGroupOrConfigurationChangesIsReassigned(t *testing.T) {
	m := ready(t)
	m.configuration("", "base", data{"body": "one"})
	m.group("", "web", nil)
	var ids []string
	for range 2 {
		id, _ := m.enrol(nil)
		ids = append(ids, id.AgentID)
	}
	slices.Sort(ids)
	for name, change := range map[string]func(){
		"its group":                 func() { m.ok(write, "agents/"+ids[0], data{"group": "web"}) },
		"its own configuration":     func() { m.ok(write, "agents/"+ids[0], data{"configuration": "base"}) },
		"many, of which one is new": func() { m.ok(write, "agents/group", data{"agent_ids": ids, "group": "web"}) },
	} {
		m.ok(write, "agents/group", data{"agent_ids": ids, "group": ""})
		m.ok(write, "agents/"+ids[0], data{"configuration": ""})
		at := m.sync("").Revision
		change()
		got := m.sync(at).Reassigned
		slices.Sort(got)
		want := ids[:1]
		if strings.HasPrefix(name, "many") {
			want = ids
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v", name, got)
		}
		at = m.sync("").Revision
		m.ok(write, "agents/"+ids[0], data{"display_name": name})
		change()
		if got := m.sync(at); len(got.Reassigned) != 0 || got.Configurations {
			t.Errorf("%s, to what it is: %+v", name, got)
		}
	}
}

func TestWhatAnAgentSaysOfItsConfigurationIsInItsRow(t *testing.T) {
	m := ready(t)
	base := m.configuration("", "base", data{"body": "one"})
	id, _ := m.enrol(nil)
	m.ok(write, "agents/"+id.AgentID, data{"configuration": "base"})
	s := apitype.SessionReport{AgentID: id.AgentID, SerialNumber: id.SerialNumber, InstanceUID: instance}
	if got := m.report(s); got.OwnConfiguration != "base" || got.Configuration != "base" {
		t.Errorf("%+v", got)
	}
	say := func(c apitype.ConfigurationReport) apitype.Agent {
		t.Helper()
		s.Configuration = &c
		m.report(s)
		return m.agent(id.AgentID)
	}
	at := m.clock.now().Format(time.RFC3339)
	a := say(apitype.ConfigurationReport{Status: "applying", Hash: base.Hash, Name: "base"})
	if a.ConfigurationStatus != "applying" || a.ConfigurationHash != base.Hash || a.ConfigurationName != "base" || a.ConfigurationError != "" || a.ConfigurationTime != at {
		t.Errorf("%+v", a)
	}
	m.clock.advance(time.Minute)
	events := len(m.events(nil))
	m.storage.Reset()
	if again := say(apitype.ConfigurationReport{Status: "applying", Hash: base.Hash}); !equalJSON(t, again, a) {
		t.Errorf("%+v", again)
	}
	for _, w := range m.storage.Writes() {
		if strings.HasPrefix(w.Key, "agent/") {
			t.Error("the row was written though nothing had changed")
		}
	}
	later := m.clock.now().Format(time.RFC3339)
	a = say(apitype.ConfigurationReport{Status: "failed", Hash: base.Hash, Error: "no such receiver"})
	if a.ConfigurationStatus != "failed" || a.ConfigurationName != "base" || a.ConfigurationError != "no such receiver" || a.ConfigurationTime != later {
		t.Errorf("%+v", a)
	}
	if other := strings.Repeat("0", 64); say(apitype.ConfigurationReport{Status: "applied", Hash: other}).ConfigurationName != "" {
		t.Error("a hash that nobody knows has the name of another")
	}
	if n := len(m.events(nil)); n != events {
		t.Errorf("%d events", n-events)
	}
	a = m.agent(id.AgentID)
	for name, bad := range map[string]apitype.ConfigurationReport{
		"another status":           {Status: "odd", Hash: base.Hash},
		"a hash that is too short": {Status: "applied", Hash: "00"},
		"a hash in capitals":       {Status: "applied", Hash: strings.Repeat("A", 64)},
		"no hash":                  {Status: "applied"},
		"a name that is none":      {Status: "applied", Hash: base.Hash, Name: "Base!"},
		"an error that lies":       {Status: "failed", Hash: base.Hash, Error: "a\nb"},
		"an endless error":         {Status: "failed", Hash: base.Hash, Error: strings.Repeat("x", apitype.MaxConfigurationError+1)},
		"an error without failure": {Status: "applied", Hash: base.Hash, Error: "x"},
	} {
		if got := say(bad); !equalJSON(t, got, a) {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if a = say(apitype.ConfigurationReport{}); a.ConfigurationStatus != "" || a.ConfigurationHash != "" {
		t.Errorf("%+v", a)
	}
}
