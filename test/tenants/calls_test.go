package tenants_test

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/identity"
	"github.com/ampora/ampora/plugin/token"
	"github.com/google/uuid"
)

// served is a path as the engine's OpenAPI document has it, without slashes at its ends: tenants/{tenant}/tokens/{token_id}.
type served struct {
	path    string
	methods map[string]bool     // of those in methods
	body    []string            // fields of the request's body
	query   map[string][]string // parameters by method
}

var methods = []string{http.MethodGet, "LIST", http.MethodPost, http.MethodPatch, http.MethodDelete}

// specification is what Vault says that the engine serves, so that a path is tried here as soon as it exists.
func (w *world) specification() []served {
	w.Helper()
	a := w.send(w.vault.RootToken, request{method: http.MethodGet, path: "sys/internal/specs/openapi", query: url.Values{"generic_mount_paths": {"false"}}})
	type parameter struct {
		Name string `json:"name"`
		In   string `json:"in"`
	}
	var document struct {
		Paths map[string]map[string]json.RawMessage `json:"paths"`
	}
	w.must(json.Unmarshal([]byte(a.text), &document))
	all := map[string]*served{}
	for path, item := range document.Paths {
		rest, ours := strings.CutPrefix(path, "/ampora/")
		if !ours {
			continue
		}
		rest = strings.Trim(rest, "/")
		s := all[rest]
		if s == nil {
			s = &served{path: rest, methods: map[string]bool{}, query: map[string][]string{}}
			all[rest] = s
		}
		for method, raw := range item {
			method = strings.ToUpper(method)
			if !slices.Contains(methods, method) {
				continue
			}
			var o struct {
				Parameters  []parameter `json:"parameters"`
				RequestBody struct {
					Content map[string]struct {
						Schema struct {
							Properties map[string]any `json:"properties"`
						} `json:"schema"`
					} `json:"content"`
				} `json:"requestBody"`
			}
			w.must(json.Unmarshal(raw, &o))
			lists := slices.Contains(o.Parameters, parameter{Name: "list", In: "query"})
			if lists {
				method = "LIST"
			}
			s.methods[method] = true
			for _, p := range o.Parameters {
				if p.In == "query" && p.Name != "list" {
					s.query[method] = append(s.query[method], p.Name)
				}
			}
			for _, content := range o.RequestBody.Content {
				s.body = slices.AppendSeq(s.body, maps.Keys(content.Schema.Properties))
			}
		}
	}
	var sorted []served
	for _, s := range all {
		slices.Sort(s.body)
		sorted = append(sorted, *s)
	}
	slices.SortFunc(sorted, func(a, b served) int { return strings.Compare(a.path, b.path) })
	if len(sorted) < 30 {
		w.Fatalf("the specification lists only %d paths", len(sorted))
	}
	return sorted
}

// request is one request. The path is escaped and stands behind /v1/; it is sent as it is.
type request struct {
	method string
	path   string
	query  url.Values
	body   map[string]any
}

func (r request) with(field string, value any) request {
	body := map[string]any{}
	for k, v := range r.body {
		body[k] = v
	}
	body[field] = value
	r.body = body
	return r
}

func (r request) asking(parameter, value string) request {
	query := url.Values{}
	for k, v := range r.query {
		query[k] = v
	}
	query.Set(parameter, value)
	r.query = query
	return r
}

// answer is what came back: the last answer, where Vault sent elsewhere.
type reply struct {
	status int
	text   string
}

// send sends a request as it is, and follows where Vault sends it.
func (w *world) send(token string, r request) reply {
	w.Helper()
	host, err := url.Parse(w.vault.Addr)
	w.must(err)
	target := "/v1/" + r.path
	if len(r.query) > 0 {
		target += "?" + r.query.Encode()
	}
	for range 4 {
		var body io.Reader
		if r.method == http.MethodPost || r.method == http.MethodPatch {
			given := r.body
			if given == nil {
				given = map[string]any{}
			}
			body = bytes.NewReader(w.json(given))
		}
		req, err := http.NewRequestWithContext(w.Context(), r.method, w.vault.Addr, body)
		w.must(err)
		// Opaque, so that no library makes another path of it.
		req.URL = &url.URL{Scheme: host.Scheme, Host: host.Host, Opaque: target}
		req.Header.Set("X-Vault-Token", token)
		if r.method == http.MethodPatch {
			req.Header.Set("Content-Type", "application/merge-patch+json")
		}
		resp, err := http.DefaultTransport.RoundTrip(req)
		w.must(err)
		raw, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		w.must(err)
		w.calls++
		to := resp.Header.Get("Location")
		if resp.StatusCode < 300 || resp.StatusCode > 399 || to == "" {
			return reply{resp.StatusCode, string(raw)}
		}
		next, err := url.Parse(to)
		w.must(err)
		target = next.RequestURI()
	}
	w.Fatalf("%s %s leads in circles", r.method, r.path)
	return reply{}
}

// try sends a request as acme's operator. Whatever comes back must tell nothing of others.
func (w *world) try(r request) reply {
	w.Helper()
	a := w.send(w.policy, r)
	w.use(r, a)
	told := slices.DeleteFunc(w.leaks(a.text), func(id string) bool { return w.sent[id] })
	if len(told) > 0 {
		w.Errorf("LEAK: %s %s %v %s tells of %s:\n%s", r.method, r.path, r.query, w.json(r.body), told[0], a.text)
	}
	// Vault itself cannot bring a path to a plugin that is no UTF-8.
	if path, _ := url.PathUnescape(r.path); a.status >= 500 && utf8.ValidString(path) {
		w.Errorf("%s %s %v %s: %d %s", r.method, r.path, r.query, w.json(r.body), a.status, a.text)
	}
	return a
}

// leaks is what of an answer identifies the others' things, or names another tenant than acme.
func (w *world) leaks(text string) []string {
	var all []string
	for _, id := range identifying.FindAllString(text, -1) {
		if w.hidden[id] {
			all = append(all, id)
		}
	}
	for _, m := range tenants.FindAllStringSubmatch(text, -1) {
		if m[1] != "acme" && m[1] != "" {
			all = append(all, "the tenant "+m[1])
		}
	}
	return all
}

// What two answers to the same question may differ in, in the order in which it is replaced.
var varying = []struct {
	pattern *regexp.Regexp
	by      string
}{
	{regexp.MustCompile(`-----BEGIN [^"]+-----END [A-Z ]+-----(\\n)?`), "PEM"},
	{regexp.MustCompile(`eyJ[A-Za-z0-9_.~-]+`), "SIGNED"},
	{regexp.MustCompile(`amp-[bp]s\.[a-z2-7]+\.[a-z2-7]+`), "SECRET"},
	{identifying, "ID"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`), "TIME"},
	{regexp.MustCompile(`\b1\d{9}\b`), "UNIX"},
	{regexp.MustCompile(`\b[0-9a-f]{16}(\.\d+)?\b`), "CURSOR"},
	{regexp.MustCompile(`"version":\d+`), "VERSION"},
}

func (a reply) normal() reply {
	for _, v := range varying {
		a.text = v.pattern.ReplaceAllString(a.text, v.by)
	}
	return a
}

// twin is a value of the same kind that belongs to nothing. It is always the same one, so that what acme makes of the two
// of them is the same as well.
func (w *world) twin(kind, value string) string {
	w.Helper()
	if w.twins[value] == "" {
		w.twins[value] = w.bogus(kind, value)
	}
	return w.twins[value]
}

func (w *world) bogus(kind, value string) string {
	w.Helper()
	switch kind {
	case "configuration", "group", "pool", "edge":
		return word()
	case "token":
		return token.New(token.Bootstrap).Reveal()
	case "admin_secret":
		return token.New(token.PoolSecret).Reveal()
	case "serial_number":
		serial, err := identity.LeafSerial(uuid.NewString(), 1)
		w.must(err)
		return serial.String()
	case "fingerprint":
		return strings.ReplaceAll(uuid.NewString()+uuid.NewString(), "-", "")
	case "cursor": // one that is not a number where the other is none
		return strings.Map(func(r rune) rune {
			if r >= 'a' && r <= 'f' {
				return 'a'
			}
			return r
		}, value)
	}
	return uuid.NewString()
}

// session is a session report on the agent and leaf of these values.
func session(values map[string]string) []apitype.SessionReport {
	return []apitype.SessionReport{{AgentID: values["agent_id"], SerialNumber: values["serial_number"]}}
}

// baseline is a request on a path in acme, for the things of these values, with all that it needs to succeed if they are
// acme's: of acme's secrets, it takes fresh ones.
func (w *world) baseline(s served, method string, values map[string]string) request {
	w.Helper()
	moves := method == http.MethodPost && strings.HasSuffix(s.path, "/handover")
	if moves && values["agent_id"] == w.own.values["agent_id"] {
		values = maps.Clone(values) // an agent moves once
		values["agent_id"] = w.fresh("agent_id")
	}
	r := request{method: method, path: "ampora/" + s.fill("acme", values)}
	if method != http.MethodPost && method != http.MethodPatch {
		return r
	}
	revokes := strings.HasSuffix(s.path, apitype.PathAgentsRevoke)
	for _, field := range s.body {
		switch field {
		case "token", "admin_secret":
			secret := values[field]
			switch {
			case secret == w.own.values[field] && s.takesHandover():
				secret = w.fresh("handover_token")
			case secret == w.own.values[field]:
				secret = w.fresh(field)
			}
			r = r.with(field, secret)
		case "peer":
			r = r.with(field, "south")
		case "handover_ids":
			r = r.with(field, []string{values["handover_id"]})
		case "manifest":
			r = r.with(field, w.manifest)
		case "force":
			r = r.with(field, true)
		case "csr":
			r = r.with(field, w.csr)
		case "name":
			r = r.with(field, values["edge"])
		case "sessions":
			r = r.with(field, session(values))
		case "agent_ids":
			id := values["agent_id"]
			if (revokes || s.issues()) && id == w.own.values["agent_id"] {
				id = w.fresh("agent_id") // the other one is still needed
			}
			r = r.with(field, []string{id})
		case "fingerprint":
			r = r.with(field, values[field])
		case "body":
			r = r.with(field, "a: 1")
		case "group", "configuration":
			if !revokes && (field != "group" || !slices.Contains(s.body, "agent_ids") && !slices.Contains(s.body, "handover_ids")) { // one selection alone
				r = r.with(field, values[field])
			}
		}
	}
	return r
}

// fresh is a secret of acme that is good, or an agent of it. What no request has used up is asked for again: to make one takes
// more requests than to try one.
func (w *world) fresh(kind string) string {
	w.Helper()
	if w.unused[kind] == "" {
		w.unused[kind] = w.make(kind)
	}
	return w.unused[kind]
}

// use forgets what a request may have used up: one that was refused has used up nothing.
func (w *world) use(r request, a reply) {
	if a.status >= 300 || strings.HasSuffix(r.path, apitype.PathHandoverInspect) {
		return
	}
	text := r.path + string(w.json(r.body))
	maps.DeleteFunc(w.unused, func(_, value string) bool { return strings.Contains(text, value) })
}

func (w *world) make(kind string) string {
	w.Helper()
	c := w.root.ForTenant("acme")
	switch kind {
	case "token":
		issued, err := c.IssueToken(w.Context(), apitype.TokenIssueRequest{})
		w.must(err)
		return issued.Token
	case "agent_id":
		return w.movable(c)
	case "handover_token":
		issued, err := w.south.Handover(w.Context(), w.movable(w.south), apitype.HandoverRequest{Peer: "north"})
		w.must(err)
		return issued.HandoverToken
	}
	pool, err := c.RotatePoolSecret(w.Context(), w.own.values["pool"], apitype.RevokeRequest{})
	w.must(err)
	return pool.AdminSecret
}

// fill puts a tenant and values into the path: for each parameter the one of its kind, which its name tells or the segment
// before it, as in groups/{name}.
func (s served) fill(tenant string, values map[string]string) string {
	segments := strings.Split(s.path, "/")
	for i, segment := range segments {
		parameter, found := strings.CutPrefix(segment, "{")
		if !found {
			continue
		}
		parameter = strings.TrimSuffix(parameter, "}")
		value := values[parameter]
		if value == "" && i > 0 {
			value = values[strings.TrimSuffix(segments[i-1], "s")]
		}
		switch {
		case parameter == "tenant":
			segments[i] = tenant
		case value == "":
			segments[i] = uuid.Nil.String()
		default:
			segments[i] = url.PathEscape(value)
		}
	}
	return strings.Join(segments, "/")
}

// takesHandover reports whether the path's token is a handover token.
func (s served) takesHandover() bool {
	return strings.HasSuffix(s.path, apitype.PathHandoverInspect) || strings.HasSuffix(s.path, apitype.PathHandoverRedeem)
}

// issues reports whether the path makes handover tokens for many.
func (s served) issues() bool { return strings.HasSuffix(s.path, apitype.PathHandoverIssue) }

// parameters are those of the path, without the tenant.
func (s served) parameters() []string {
	var all []string
	for _, segment := range strings.Split(s.path, "/") {
		if parameter, found := strings.CutPrefix(segment, "{"); found && parameter != "tenant}" {
			all = append(all, strings.TrimSuffix(parameter, "}"))
		}
	}
	return all
}

// agentOf is the agent that a serial number names.
func agentOf(serial string) string {
	s, _ := identity.ParseSerialText(serial)
	return s.AgentID()
}
