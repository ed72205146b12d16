package named_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/audit"
	"github.com/ampora/ampora/plugin/internal/storetest"
)

// deleted reports whether a stored row is a tombstone.
func deleted(value []byte) bool {
	var stored struct {
		Row struct {
			Deleted bool `json:"deleted"`
		} `json:"row"`
	}
	return json.Unmarshal(value, &stored) == nil && stored.Row.Deleted
}

func TestAVersionGoesUpOnlyWithTheContent(t *testing.T) {
	w := empty(t)
	write := func(in apitype.ConfigurationRequest) apitype.Configuration {
		t.Helper()
		c, err := w.configurations.Write(t.Context(), operator, "", "base", in)
		w.must(err)
		return c
	}
	first := write(apitype.ConfigurationRequest{Body: ptr("one")})
	if first.Version != 1 || first.ContentType != "text/yaml" || first.Size != 3 || len(first.Hash) != 64 || first.Body != "" {
		t.Errorf("%+v", first)
	}
	again := write(apitype.ConfigurationRequest{Body: ptr("one"), ContentType: ptr("text/yaml")})
	described := write(apitype.ConfigurationRequest{Description: ptr("of all")})
	if again != first || described.Version != 1 || described.Hash != first.Hash {
		t.Errorf("%+v, %+v", again, described)
	}
	typed := write(apitype.ConfigurationRequest{ContentType: ptr("application/json")})
	changed := write(apitype.ConfigurationRequest{Body: ptr("two")})
	if typed.Version != 2 || typed.Hash == first.Hash || changed.Version != 3 || changed.Hash == typed.Hash || changed.Description != "of all" {
		t.Errorf("%+v, %+v", typed, changed)
	}
	if got := w.events(); got[apitype.ActionConfigurationCreated] != 1 || got[apitype.ActionConfigurationUpdated] != 3 {
		t.Errorf("%v", got)
	}
	events, _, err := w.log.Page(t.Context(), audit.Query{EntityType: "configuration", EntityID: "base"})
	w.must(err)
	if e := events[0]; e.Details["hash"] != changed.Hash || fmt.Sprint(e.Details["version"], e.Details["fields"]) != "3 [body]" || len(e.Details) != 3 {
		t.Errorf("%+v", e)
	}
	c, err := w.configurations.Read(t.Context(), "", "base")
	if err != nil || c.Body != "two" {
		t.Errorf("%+v, %v", c, err)
	}
}

// The hash tells content types and bodies apart that only together are the same text.
func TestTheHashIsOverContentTypeAndBody(t *testing.T) {
	w := empty(t)
	hashes := map[string]string{}
	for _, c := range [][2]string{{"text/yaml", "a"}, {"text/yam", "la"}, {"text/yaml", "b"}, {"text/plain", "a"}} {
		name := fmt.Sprintf("c%d", len(hashes))
		got, err := w.configurations.Write(t.Context(), operator, "", name, apitype.ConfigurationRequest{ContentType: &c[0], Body: &c[1]})
		w.must(err)
		hashes[got.Hash] = name
	}
	if len(hashes) != 4 {
		t.Errorf("%v", hashes)
	}
	// SHA-256 of 00 00 00 00 00 00 00 09 "text/yaml" 00 00 00 00 00 00 00 01 "a", by another program.
	if hashes["00c94ea07e9beba377b01da18b2d618ebbf4125e55cf2acc3c724bb708adfe90"] != "c0" {
		t.Errorf("%v", hashes)
	}
}

// A body of the largest size, of whatever characters, makes a row that Vault's storage takes: 1 MiB with Raft.
func TestTheLargestBodyFitsIntoVaultsStorage(t *testing.T) {
	w := empty(t)
	for name, piece := range map[string]string{"ascii": "a", "escaped": "<", "control": "\x01", "wide": "\u2028"} {
		body := strings.Repeat(piece, apitype.MaxConfigurationBody/len(piece))
		w.configuration("", name, body)
		entry, err := w.storage.Get(t.Context(), "configuration/-/"+name)
		w.must(err)
		if len(entry.Value) > 1000<<10 {
			t.Errorf("%s: a row of %d bytes", name, len(entry.Value))
		}
		if c, err := w.configurations.Read(t.Context(), "", name); err != nil || c.Body != body {
			t.Errorf("%s: not as it was written: %v", name, err)
		}
	}
}

func TestARefusedWriteLeavesNothing(t *testing.T) {
	w := empty(t)
	for _, c := range []struct {
		name string
		code apitype.Code
		in   apitype.ConfigurationRequest
	}{
		{"no body", apitype.FieldInvalid, apitype.ConfigurationRequest{Description: ptr("x")}},
		{"an empty body", apitype.FieldInvalid, apitype.ConfigurationRequest{Body: ptr("")}},
		{"a body of one byte too many", apitype.BodyTooLarge, apitype.ConfigurationRequest{Body: ptr(strings.Repeat("a", apitype.MaxConfigurationBody+1))}},
		{"a body with a NUL", apitype.FieldInvalid, apitype.ConfigurationRequest{Body: ptr("a\x00b")}},
		{"a body that is no UTF-8", apitype.FieldInvalid, apitype.ConfigurationRequest{Body: ptr("a\xffb")}},
		{"a body with a bootstrap token", apitype.FieldInvalid, apitype.ConfigurationRequest{Body: ptr("token: amp-bs.abc")}},
		{"a content type of one word", apitype.FieldInvalid, apitype.ConfigurationRequest{Body: ptr("a"), ContentType: ptr("yaml")}},
		{"an empty content type", apitype.FieldInvalid, apitype.ConfigurationRequest{Body: ptr("a"), ContentType: ptr("")}},
		{"a content type with a line break", apitype.FieldInvalid, apitype.ConfigurationRequest{Body: ptr("a"), ContentType: ptr("text/yaml\r\nx: y")}},
		{"a long description", apitype.FieldInvalid, apitype.ConfigurationRequest{Body: ptr("a"), Description: ptr(strings.Repeat("a", 513))}},
	} {
		_, err := w.configurations.Write(t.Context(), operator, "", "base", c.in)
		if apitype.CodeOf(err) != c.code {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	_, err := w.groups.Write(t.Context(), operator, "", "web", apitype.GroupRequest{Configuration: ptr("base")})
	if e := w.refusal(apitype.ConfigurationMissing, err); e.Detail != `no configuration named "base"` {
		t.Error(e)
	}
	_, err = w.groups.Write(t.Context(), operator, "", "web", apitype.GroupRequest{Description: ptr("a\nb")})
	w.refusal(apitype.FieldInvalid, err)
	_, err = w.groups.Write(t.Context(), operator, "..", "web", apitype.GroupRequest{})
	w.refusal(apitype.NameInvalid, err)
	_, err = w.groups.Write(t.Context(), operator, "-", "web", apitype.GroupRequest{})
	w.refusal(apitype.NameInvalid, err)
	if keys := w.keys(""); len(keys) != 0 {
		t.Errorf("stored %v", keys)
	}
}

func TestReferencesStayInsideTheirTenant(t *testing.T) {
	w := empty(t)
	w.configuration("acme", "base", "one")
	for _, tenant := range []string{"", "globex", "acme-2", "acm"} {
		_, err := w.groups.Write(t.Context(), operator, tenant, "web", apitype.GroupRequest{Configuration: ptr("base")})
		w.refusal(apitype.ConfigurationMissing, err)
		_, err = w.configurations.Read(t.Context(), tenant, "base")
		w.refusal(apitype.ConfigurationUnknown, err)
		w.must(w.configurations.Delete(t.Context(), operator, tenant, "base"))
	}
	w.group("acme", "web", apitype.GroupRequest{Configuration: ptr("base")})
	for _, tenant := range []string{"", "globex"} {
		w.configuration(tenant, "base", "theirs")
		w.must(w.configurations.Delete(t.Context(), operator, tenant, "base"))
		_, err := w.groups.Hold(t.Context(), tenant, "web")
		w.refusal(apitype.GroupMissing, err)
	}
	if c, err := w.configurations.Read(t.Context(), "acme", "base"); err != nil || c.Body != "one" {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestWhatIsReferredToIsNotDeleted(t *testing.T) {
	w := empty(t)
	w.configuration("", "base", "one")
	w.group("", "web", apitype.GroupRequest{Configuration: ptr("base")})
	w.group("", "db", apitype.GroupRequest{Configuration: ptr("base")})
	err := w.configurations.Delete(t.Context(), operator, "", "base")
	if e := w.refusal(apitype.InUse, err); e.Detail != "configuration base is used by: group db, group web" {
		t.Error(e)
	}
	w.group("", "db", apitype.GroupRequest{Configuration: ptr("")})
	w.must(w.groups.Delete(t.Context(), operator, "", "web"))
	w.must(w.configurations.Delete(t.Context(), operator, "", "base"))
	w.must(w.configurations.Delete(t.Context(), operator, "", "base")) // once more is no error
	if got := w.events()[apitype.ActionConfigurationDeleted]; got != 1 {
		t.Errorf("told %d times", got)
	}
	if keys := w.keys("configuration/"); len(keys) != 0 {
		t.Errorf("left: %v", keys)
	}
}

func TestARefusedDeletionListsTwentyAndCountsTheRest(t *testing.T) {
	w := empty(t)
	w.group("", "web", apitype.GroupRequest{})
	var few, many []string
	for i := range 22 {
		few = append(few, fmt.Sprint(i))
	}
	for i := range 5000 {
		many = append(many, fmt.Sprint(i))
	}
	w.groups.ReferredBy(referredBy("token", few...))
	e := w.refusal(apitype.InUse, w.groups.Delete(t.Context(), operator, "", "web"))
	if !strings.HasPrefix(e.Detail, "group web is used by: token 0, token 1, ") || !strings.HasSuffix(e.Detail, ", token 19, and 2 more") {
		t.Error(e)
	}
	w.groups.ReferredBy(referredBy("agent", many...))
	e = w.refusal(apitype.InUse, w.groups.Delete(t.Context(), operator, "", "web"))
	if !strings.HasSuffix(e.Detail, ", token 19, and at least 980 more") {
		t.Error(e)
	}
}

// Somebody who begins to refer to a group while its deletion looks for referrers is seen.
func TestAReferenceMadeDuringADeletionIsSeen(t *testing.T) {
	w := empty(t)
	w.group("", "web", apitype.GroupRequest{})
	var users []string
	looks := 0
	w.groups.ReferredBy(func(ctx context.Context, tenant, name string, visit func(kind, id string) bool) error {
		looks++
		before := slices.Clone(users)
		if looks == 1 {
			release, err := w.groups.Hold(ctx, tenant, name) // the first look holds nobody up
			w.must(err)
			users = append(users, "7")
			release()
		}
		return referredBy("token", before...)(ctx, tenant, name, visit)
	})
	e := w.refusal(apitype.InUse, w.groups.Delete(t.Context(), operator, "", "web"))
	if e.Detail != "group web is used by: token 7" || looks != 2 {
		t.Errorf("%v after %d looks", e, looks)
	}
	users = nil
	w.must(w.groups.Delete(t.Context(), operator, "", "web"))
	if looks != 3 {
		t.Errorf("%d looks", looks)
	}
}

// Of many who refer to a group and some who delete it, nobody ends with a reference that leads nowhere.
func TestNoReferenceIsLeftWithoutItsGroup(t *testing.T) {
	w := empty(t)
	var mu sync.Mutex
	users := map[string]bool{}
	w.groups.ReferredBy(func(_ context.Context, _, _ string, visit func(kind, id string) bool) error {
		mu.Lock()
		defer mu.Unlock()
		for id := range users {
			if !visit("token", id) {
				break
			}
		}
		return nil
	})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := range 200 {
				id := fmt.Sprint(i, "-", n)
				release, err := w.groups.Hold(t.Context(), "", "web")
				if err != nil {
					if apitype.CodeOf(err) != apitype.GroupMissing {
						t.Error(err)
					}
					w.group("", "web", apitype.GroupRequest{})
					continue
				}
				mu.Lock()
				users[id] = true
				mu.Unlock()
				release()
				if _, err := w.groups.Read(t.Context(), "", "web"); err != nil {
					t.Errorf("referred to, and gone: %v", err)
				}
				mu.Lock()
				delete(users, id)
				mu.Unlock()
			}
		})
	}
	gone := 0
	for range 2 {
		wg.Go(func() {
			for range 300 {
				err := w.groups.Delete(t.Context(), operator, "", "web")
				if code := apitype.CodeOf(err); err != nil && code != apitype.InUse {
					t.Error(err)
				}
				mu.Lock()
				if err == nil {
					gone++
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if gone == 0 {
		t.Error("the group was never deleted")
	}
}

func TestListsAreByNameAndPaged(t *testing.T) {
	w := empty(t)
	var want []string
	for i := range 7 {
		name := fmt.Sprintf("c%d", i)
		w.configuration("acme", name, "one")
		want = append(want, name)
	}
	w.configuration("", "c0", "not theirs")
	for _, limit := range []int{1, 2, 7, 8, 0} {
		var got []string
		for after := ""; ; {
			l, err := w.configurations.List(t.Context(), "acme", apitype.Page{After: after, Limit: limit})
			w.must(err)
			got = append(got, l.Keys...)
			for _, c := range l.KeyInfo {
				if c.Body != "" || c.Size != 3 {
					t.Errorf("%+v", c)
				}
			}
			if after = l.NextAfter; after == "" {
				break
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("pages of %d: %v", limit, got)
		}
	}
	l, err := w.groups.List(t.Context(), "nobody", apitype.Page{})
	if err != nil || l.Keys == nil || len(l.Keys) != 0 {
		t.Errorf("%+v, %v", l, err)
	}
}

// A tombstone that could not be removed is no group any more, and goes at the next occasion.
func TestATombstoneIsNoGroup(t *testing.T) {
	var w *world
	for n, buried := 1, false; !buried; n++ { // until the process ends between the tombstone and its event
		w = empty(t)
		w.group("", "web", apitype.GroupRequest{})
		w.storage.Arm(n, storetest.Refuse, storetest.Dead)
		err := w.groups.Delete(t.Context(), operator, "", "web")
		if !w.storage.Disarm() {
			t.Fatal("no tombstone was seen")
		}
		entry, readErr := w.storage.Get(t.Context(), "group/-/web")
		w.must(readErr)
		buried = err == nil && entry != nil && deleted(entry.Value)
	}
	w = newWorld(t, w.storage)
	var err error
	_, err = w.groups.Read(t.Context(), "", "web")
	w.refusal(apitype.GroupUnknown, err)
	_, err = w.groups.Hold(t.Context(), "", "web")
	w.refusal(apitype.GroupMissing, err)
	if l, err := w.groups.List(t.Context(), "", apitype.Page{}); err != nil || len(l.Keys) != 0 {
		t.Errorf("%v, %v", l, err)
	}
	if there, err := w.groups.Exists(t.Context(), "", "web"); err != nil || there {
		t.Errorf("%v, %v", there, err)
	}
	g := w.group("", "web", apitype.GroupRequest{Description: ptr("anew")})
	if g.Description != "anew" {
		t.Errorf("%+v", g)
	}
	if got := w.events(); got[apitype.ActionGroupCreated] != 2 || got[apitype.ActionGroupDeleted] != 1 {
		t.Errorf("%v", got)
	}
}

func TestASweepLeavesOutWhatItCannotRead(t *testing.T) {
	w := empty(t)
	w.group("", "web", apitype.GroupRequest{})
	w.group("acme", "web", apitype.GroupRequest{})
	entry, err := w.storage.Get(t.Context(), "group/-/web")
	w.must(err)
	entry.Value = []byte(`{"v":99,"row":{}}`)
	w.must(w.storage.Put(t.Context(), entry))
	w = newWorld(t, w.storage)
	if err := w.groups.Sweep(t.Context()); apitype.CodeOf(err) != apitype.SchemaTooNew || !strings.HasPrefix(err.Error(), "1 group rows") {
		t.Errorf("%v", err)
	}
	_, err = w.groups.Write(t.Context(), operator, "", "web", apitype.GroupRequest{})
	w.refusal(apitype.SchemaTooNew, err)
	w.refusal(apitype.SchemaTooNew, w.groups.Delete(t.Context(), operator, "", "web"))
}
