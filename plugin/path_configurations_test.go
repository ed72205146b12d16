package ampora_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/hashicorp/vault/sdk/logical"
)

// configuration makes or changes a configuration of a tenant.
func (m *mount) configuration(tenant, name string, body data) apitype.Configuration {
	m.Helper()
	return call[apitype.Configuration](m, write, apitype.Scoped(tenant, "configurations/"+name), body)
}

func TestAConfigurationIsMadeChangedListedAndDeleted(t *testing.T) {
	m := newMount(t)
	const body = "receivers:\n\totlp: {}\r\n# ünï\n"
	m.storage.Reset()
	made := m.configuration("", "base", data{"body": body})
	if w := m.storage.Writes(); len(w) != 2 || w[0].Key != "configuration/-/base" || !strings.HasPrefix(w[1].Key, "event/") {
		t.Errorf("making a configuration wrote %v", w)
	}
	at := m.clock.now().Format(time.RFC3339)
	want := apitype.Configuration{Name: "base", ContentType: "text/yaml", Hash: made.Hash, Version: 1, Size: int64(len(body)), CreatedAt: at, UpdatedAt: at}
	if made != want {
		t.Errorf("%+v", made)
	}
	want.Body = body
	if got := call[apitype.Configuration](m, read, "configurations/base", nil); got != want {
		t.Errorf("read %+v", got)
	}
	want.Body = ""
	for _, op := range []logical.Operation{list, read} {
		l := call[apitype.ListResponse[apitype.Configuration]](m, op, "configurations", nil)
		if !slices.Equal(l.Keys, []string{"base"}) || l.KeyInfo["base"] != want {
			t.Errorf("%s: %+v", op, l)
		}
	}
	m.storage.Reset()
	m.configuration("", "base", data{"body": body, "content_type": "text/yaml"})
	if w := m.storage.Writes(); len(w) != 0 {
		t.Errorf("changing nothing wrote %v", w)
	}
	if got := m.configuration("", "base", data{"content_type": "application/json"}); got.Version != 2 || got.Hash == made.Hash {
		t.Errorf("%+v", got)
	}
	if got := m.configuration("", "base", data{"description": "of all"}); got.Version != 2 || got.Description != "of all" {
		t.Errorf("%+v", got)
	}
	for _, e := range m.events(data{"entity_type": "configuration"}) {
		if strings.Contains(toText(t, e), "receivers") {
			t.Errorf("the event tells the body: %+v", e)
		}
	}
	m.ok(remove, "configurations/base", nil)
	m.no(apitype.ConfigurationUnknown, read, "configurations/base", nil)
	m.ok(remove, "configurations/base", nil)
	if got := m.configuration("", "base", data{"body": "anew"}); got.Version != 1 {
		t.Errorf("%+v", got)
	}
}

func TestABodyOverTheLimitIsRefused(t *testing.T) {
	m := newMount(t)
	most := strings.Repeat("a", apitype.MaxConfigurationBody)
	m.no(apitype.BodyTooLarge, write, "configurations/base", data{"body": most + "a"})
	m.no(apitype.BodyTooLarge, write, "configurations/base", data{"body": strings.Repeat("a", 1<<20)})
	m.no(apitype.FieldInvalid, write, "configurations/base", nil)
	m.no(apitype.FieldInvalid, write, "configurations/base", data{"body": ""})
	m.no(apitype.FieldInvalid, write, "configurations/base", data{"body": "a\x00b"})
	m.no(apitype.FieldInvalid, write, "configurations/base", data{"body": "a", "content_type": "yaml"})
	m.no(apitype.FieldInvalid, write, "configurations/base", data{"body": "a", "description": "a\nb"})
	if keys := m.keys(""); len(keys) != 0 {
		t.Errorf("stored %v", keys)
	}
	if got := m.configuration("", "base", data{"body": most}); got.Size != apitype.MaxConfigurationBody {
		t.Errorf("%+v", got)
	}
	m.no(apitype.BodyTooLarge, write, "configurations/base", data{"body": most + "a"})
	if got := call[apitype.Configuration](m, read, "configurations/base", nil); got.Version != 1 || got.Body != most {
		t.Errorf("version %d, %d bytes", got.Version, len(got.Body))
	}
}
