package tenants_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/ampora/ampora/plugin/apitype"
)

// identifying is what things are known by: ids, serial numbers, fingerprints and the words of this test.
var identifying = regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|([0-9a-f]{2}:){19}[0-9a-f]{2}|\b[0-9a-f]{64}\b|zz[a-z2-7]{16}`)

// storage is everything that the engine has stored, as it is behind Vault's encryption, by its key in the mount.
func (w *world) storage() map[string]string {
	w.Helper()
	v := w.vault.Client()
	mounts, err := v.Sys().ListMountsWithContext(w.Context())
	w.must(err)
	root := "sys/raw/logical/" + mounts["ampora/"].UUID + "/"
	rows := map[string]string{}
	var walk func(prefix string)
	walk = func(prefix string) {
		list, err := v.Logical().ListWithContext(w.Context(), root+prefix)
		w.must(err)
		if list == nil {
			return
		}
		for _, k := range list.Data["keys"].([]any) {
			key := prefix + k.(string)
			if strings.HasSuffix(key, "/") {
				walk(key)
				continue
			}
			row, err := v.Logical().ReadWithContext(w.Context(), root+key)
			w.must(err)
			if row != nil {
				rows[key] = fmt.Sprint(row.Data["value"])
			}
		}
	}
	walk("")
	if !strings.Contains(rows["config"], "north.example") {
		w.Fatal("the storage cannot be read")
	}
	return rows
}

// isOwn reports whether a row belongs to acme, and to nobody else.
func isOwn(key, value string) bool {
	if slices.Contains(strings.Split(key, "/"), "acme") {
		return true
	}
	owners := tenants.FindAllStringSubmatch(value, -1)
	for _, o := range owners {
		if o[1] != "acme" {
			return false
		}
	}
	return len(owners) > 0
}

// agentBehind is the key of the agent's row that the row of a handover leads to, "" for any other row: it says of no tenant
// whose it is.
func agentBehind(key, value string) string {
	m := leading.FindStringSubmatch(value)
	if m == nil || !strings.HasPrefix(key, "handover/") {
		return ""
	}
	return "agent/" + m[1][:2] + "/" + m[1]
}

var leading = regexp.MustCompile(`"agent_id":\s*"([^"]+)"`)

var tenants = regexp.MustCompile(`"tenant":\s*"([^"]*)"`)

// ofOthers is what of the storage does not belong to acme.
func (w *world) ofOthers() map[string]string {
	w.Helper()
	rows := w.storage()
	own := map[string]bool{}
	for key, value := range rows {
		own[key] = isOwn(key, value) || isOwn("", rows[agentBehind(key, value)])
	}
	maps.DeleteFunc(rows, func(key, _ string) bool { return own[key] })
	// One row counts for every tenant how often all its tokens were ended.
	if epoch, found := rows["epoch"]; found {
		var row struct {
			V   int            `json:"v"`
			Row map[string]any `json:"row"`
		}
		w.must(json.Unmarshal([]byte(epoch), &row))
		if tenants, ok := row.Row["tenants"].(map[string]any); ok {
			delete(tenants, "acme")
		}
		if isOwn("", string(w.json(row.Row["record"]))) {
			delete(row.Row, "record")
		}
		if all, _ := row.Row["all"].(map[string]any); len(row.Row["tenants"].(map[string]any)) == 0 && all["count"] == 0.0 {
			delete(rows, "epoch")
		} else {
			rows["epoch"] = string(w.json(row))
		}
	}
	return rows
}

// identifiers is what identifies the others' things and is not acme's or the mount's.
func (w *world) identifiers() map[string]bool {
	w.Helper()
	hidden, known := map[string]bool{}, map[string]bool{}
	for key, value := range w.storage() {
		into := hidden
		if key == "config" || strings.HasPrefix(key, "ca/") || isOwn(key, value) {
			into = known
		}
		for _, id := range identifying.FindAllString(key+"\n"+value, -1) {
			into[id] = true
		}
	}
	maps.DeleteFunc(hidden, func(id string, _ bool) bool { return known[id] })
	if len(hidden) < 100 {
		w.Fatalf("only %d identifiers of others were found", len(hidden))
	}
	return hidden
}

// shown is what the API shows of everybody but acme to somebody who may see everything.
func (w *world) shown() map[string]string {
	w.Helper()
	all := map[string]string{}
	for _, o := range w.others {
		for _, s := range w.served {
			rest, scoped := strings.CutPrefix(s.path, "tenants/{tenant}/")
			if !scoped || !s.methods["LIST"] || strings.Contains(rest, "{") {
				continue
			}
			folder := apitype.Scoped(o.tenant, rest)
			var list struct {
				Data apitype.ListResponse[json.RawMessage] `json:"data"`
			}
			w.must(json.Unmarshal([]byte(w.asRoot("LIST", folder, nil)), &list))
			readable := slices.ContainsFunc(w.served, func(one served) bool { return strings.HasPrefix(one.path, s.path+"/{") && one.methods[http.MethodGet] })
			for _, key := range list.Data.Keys {
				switch {
				case isOwn("", string(list.Data.KeyInfo[key])):
				case readable:
					all[folder+"/"+key] = w.data(w.asRoot(http.MethodGet, folder+"/"+key, nil))
				default:
					all[folder+"/"+key] = string(list.Data.KeyInfo[key])
				}
			}
		}
		for cursor, more := "", true; more; more = cursor != "" {
			page, err := w.root.ForTenant(o.tenant).Events(w.Context(), apitype.EventsRequest{Limit: 1000, Cursor: cursor})
			w.must(err)
			for _, e := range page.Events {
				if e.Tenant != "acme" {
					all["event "+o.tenant+" "+e.ID] = string(w.json(e))
				}
			}
			cursor = page.NextCursor
		}
	}
	return all
}

func (w *world) asRoot(method, path string, query url.Values) string {
	w.Helper()
	a := w.send(w.vault.RootToken, request{method: method, path: "ampora/" + path, query: query})
	if a.status != http.StatusOK {
		w.Fatalf("%s %s as root: %d %s", method, path, a.status, a.text)
	}
	return a.text
}

// data is the answer without what differs from request to request.
func (w *world) data(text string) string {
	w.Helper()
	var answer struct {
		Data json.RawMessage `json:"data"`
	}
	w.must(json.Unmarshal([]byte(text), &answer))
	return string(answer.Data)
}

func (w *world) json(v any) []byte {
	w.Helper()
	raw, err := json.Marshal(v)
	w.must(err)
	return raw
}

// wantSame compares what there was with what there is, byte for byte.
func (w *world) wantSame(what string, before, after map[string]string) {
	w.Helper()
	for _, d := range differences(before, after) {
		w.Errorf("%s: %s", what, d)
	}
}

func differences(before, after map[string]string) []string {
	var all []string
	for key, value := range before {
		if now, found := after[key]; !found {
			all = append(all, key+" is gone")
		} else if now != value {
			all = append(all, fmt.Sprintf("%s was\n%s\nand is\n%s", key, value, now))
		}
	}
	for key, value := range after {
		if _, found := before[key]; !found {
			all = append(all, fmt.Sprintf("%s is new\n%s", key, value))
		}
	}
	slices.Sort(all)
	return all
}
