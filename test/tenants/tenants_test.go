// Package tenants_test proves, on a real Vault, that a policy on ampora/tenants/acme/* reaches nothing of anybody else. It tries
// every path that Vault says the engine serves, with every operation, so that a path which is added later is tried unasked. It
// asks for what others have, by everything that is known of it, in the path, the query and the body, and by paths that lead
// elsewhere. No answer may tell anything, or tell what exists elsewhere from what does not, and at the end what others have must
// be, byte for byte, what it was.
package tenants_test

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/ampora/ampora/plugin/apitype"
)

func TestATenantsPolicyReachesNothingOfOthers(t *testing.T) {
	w := newWorld(t)
	w.theScanFindsWhatItIsFor()
	storage, shown := w.ofOthers(), w.shown()
	if len(storage) < 50 || len(shown) < 100 {
		t.Fatalf("others have only %d rows, of which %d entries are shown", len(storage), len(shown))
	}

	w.itsOwn()
	w.foreignInQueryAndBody(http.MethodGet, "LIST") // before acme has things that are called like those of others
	w.foreignInThePath()
	w.foreignAltogether()
	w.pathsThatLeadElsewhere()
	w.pathsWithoutATenant()
	w.anotherTenantInQueryAndBody()
	w.groupsGiveTheSame()
	w.foreignInQueryAndBody(http.MethodPost, http.MethodPatch) // late, for it leaves long lists
	w.deleteItsOwn()
	w.everythingWasReallyTried()

	w.wantSame("storage", storage, w.ofOthers())
	w.wantSame("shown", shown, w.shown())
	w.othersThingsWork()
	if len(differences(storage, w.ofOthers())) == 0 || len(differences(shown, w.shown())) == 0 {
		t.Error("the comparison does not find that others use what they have")
	}
	t.Logf("%d requests; others have %d rows and are known by %d identifiers", w.calls, len(storage), len(w.hidden))
}

// theScanFindsWhatItIsFor holds that the answers of others would be found to tell of them.
func (w *world) theScanFindsWhatItIsFor() {
	w.Helper()
	for _, s := range w.scoped() {
		if !s.methods["LIST"] {
			continue
		}
		for _, o := range w.others {
			if o.tenant == "" {
				continue
			}
			if text := w.asRoot("LIST", s.fill(o.tenant, nil), nil); len(w.leaks(text)) == 0 {
				w.Errorf("the scan finds nothing in %s of %s:\n%s", s.path, o.tenant, text)
			}
		}
		if text := w.asRoot("LIST", s.fill("acme", nil), nil); len(w.leaks(text)) != 0 || !identifying.MatchString(text) {
			w.Errorf("the scan finds %v in what is acme's:\n%s", w.leaks(text), text)
		}
	}
}

// itsOwn does everything once that acme's operator may do; deleting comes last.
func (w *world) itsOwn() {
	w.Helper()
	for _, s := range w.scoped() {
		for _, method := range methods {
			if s.methods[method] && method != http.MethodDelete {
				w.note(s, w.baseline(s, method, w.own.values))
			}
		}
	}
}

// foreignInThePath puts what others have into every parameter of every path.
func (w *world) foreignInThePath() {
	w.Helper()
	for _, s := range w.scoped() {
		for _, parameter := range s.parameters() {
			w.eachForeign(w.others, func(kind, foreign string) {
				bogus := w.twin(kind, foreign)
				for _, method := range methods {
					// Fill the body once, so that both requests differ in nothing else.
					r := w.baseline(s, method, w.own.values)
					ask := func(value string) reply {
						values := maps.Clone(w.own.values)
						values[parameter] = value
						r.path = "ampora/" + s.fill("acme", values)
						return w.note(s, r, value)
					}
					w.wantTwins(r, parameter, kind, ask(foreign), ask(bogus))
				}
			})
		}
	}
}

// foreignInQueryAndBody puts what others have into every field, the paths' own parameters among them.
func (w *world) foreignInQueryAndBody(methods ...string) {
	w.Helper()
	for _, method := range methods {
		for _, s := range w.scoped() {
			fields := slices.Concat(s.query[method], s.parameters())
			if method == http.MethodPost {
				fields = slices.Concat(fields, s.body)
			}
			for _, field := range fields {
				w.eachForeign(w.another(), func(kind, foreign string) {
					bogus := w.twin(kind, foreign)
					ask := func(value string) reply {
						r := w.baseline(s, method, w.own.values)
						switch {
						case method != http.MethodPost:
							r = r.asking(field, value)
						case field == "agent_ids" && s.issues(): // alone, for the answer is in the order of the ids
							r = r.with(field, []string{value})
						case field == "agent_ids", field == "handover_ids":
							r = r.with(field, []string{w.own.values[strings.TrimSuffix(field, "s")], value})
						default:
							r = r.with(field, value)
						}
						return w.note(s, r, value)
					}
					w.wantTwins(w.baseline(s, method, w.own.values), field, kind, ask(foreign), ask(bogus))
				})
			}
		}
	}
}

// foreignAltogether asks for what another has, by each of its names, with everything that he would ask for it with.
func (w *world) foreignAltogether() {
	w.Helper()
	for _, s := range w.scoped() {
		if !s.methods[http.MethodPost] {
			continue
		}
		for _, o := range w.others {
			bogus := map[string]string{}
			for kind, value := range o.values {
				bogus[kind] = w.twin(kind, value)
			}
			bogus["agent_id"] = agentOf(bogus["serial_number"])
			for _, parameter := range append(s.parameters(), "") {
				for kind := range o.values {
					ask := func(values map[string]string) reply {
						values = maps.Clone(values)
						values[parameter] = values[kind]
						return w.note(s, w.baseline(s, http.MethodPost, values), slices.Collect(maps.Values(values))...)
					}
					field, of := "everything", "everything"
					if slices.Contains(s.body, "token") {
						field, of = "token", "token"
					}
					w.wantTwins(w.baseline(s, http.MethodPost, o.values), field, of, ask(o.values), ask(bogus))
					if parameter == "" {
						break
					}
				}
			}
		}
	}
}

// groupsGiveTheSame evens out what has been made of acme's groups that are called as those of others, and as nobody's: what an
// agent gets that lands in one would differ.
func (w *world) groupsGiveTheSame() {
	w.Helper()
	configuration := w.own.values["configuration"]
	for _, o := range w.others {
		name := o.values["group"]
		for _, group := range []string{name, w.twin("group", name)} {
			_, err := w.root.ForTenant("acme").WriteGroup(w.Context(), group, apitype.GroupRequest{Configuration: &configuration})
			w.must(err)
		}
	}
}

// anotherTenantInQueryAndBody names another tenant wherever a request has room for one.
func (w *world) anotherTenantInQueryAndBody() {
	w.Helper()
	for _, s := range w.scoped() {
		for _, method := range methods {
			if method == http.MethodDelete {
				continue
			}
			for _, tenant := range []string{"acme-2", "acm", "", "-"} {
				r := w.baseline(s, method, w.own.values)
				w.note(s, r.asking("tenant", tenant))
				w.note(s, r.with("tenant", tenant))
				w.note(s, r.with("tenant", []string{tenant}))
				w.note(s, r.with("Tenant", tenant))
			}
		}
	}
}

// pathsThatLeadElsewhere climbs out of the tenant, or begins as if it did.
func (w *world) pathsThatLeadElsewhere() {
	w.Helper()
	for _, s := range w.scoped() {
		rest := strings.TrimPrefix(s.path, "tenants/{tenant}/")
		for _, o := range append(w.another("acme-2", "acm"), w.others[len(w.others)-1]) {
			var paths []string
			theirs := func(prefix string) { paths = append(paths, prefix+served{path: rest}.fill("", o.values)) }
			if o.tenant == "" {
				for _, prefix := range []string{
					"tenants/acme/../../", "tenants/acme/%2e%2e/%2e%2e/", "tenants/acme/..%2f..%2f", "tenants/acme/%2e%2e%2f%2e%2e%2f",
					"tenants/acme/.../../", "tenants/acme/-/", "tenants/acme//", "tenants//", "tenants/-/", "tenants/%00/", "tenants/acme/../-/",
					"tenants/acme/%252e%252e/%252e%252e/",
				} {
					theirs(prefix)
				}
			} else {
				for _, tenant := range []string{
					"acme/../NAME", "acme/%2e%2e/NAME", "acme/.%2e/NAME", "acme%2f..%2fNAME", "acme%2F%2E%2E%2FNAME", "acme/..%2fNAME",
					"acme//../NAME", "acme/./../NAME", "acme/%252e%252e/NAME", "acme%252f..%252fNAME", "acme%5c..%5cNAME", "acme%00/../NAME",
					"acme;/../NAME", "acme/..;/NAME", "acme%3f/../NAME", "acme%23/../NAME", "acme/%c0%ae%c0%ae/NAME",
					"acme/NAME", "acme/tenants/NAME", "acme/tenants/acme/../NAME", "acme/../../tenants/NAME", "acme/tenants/../NAME",
					"acme%2fNAME", "acme%2ftenants%2fNAME", "NAME", "NAME/", "NAME//", "/NAME", "./NAME", "NAME%00", "NAME%20", "%20NAME", "NAME.",
				} {
					theirs("tenants/" + strings.ReplaceAll(tenant, "NAME", o.tenant) + "/")
				}
				theirs("%74enants/" + o.tenant + "/")
				theirs("tenants/acme/../../../ampora/tenants/" + o.tenant + "/")
			}
			// By their ids, but from within, with something at the end.
			for _, suffix := range []string{"/", "//", "/.", "/..", "%2f", "%2f..", "/%2e%2e/", "?list=true", "?help=1", "%00", ";", "%20"} {
				paths = append(paths, s.fill("acme", o.values)+suffix)
			}
			for _, tenant := range []string{"ACME", "Acme", "acme%20", "%20acme", "acme.", "acme*", "*", "+", "%61cme", "acm%65", "acme%2500", "\uff41cme"} {
				paths = append(paths, s.fill(strings.ReplaceAll(tenant, "\uff41", "%ef%bd%81"), o.values))
			}
			for _, path := range paths {
				for _, method := range methods {
					r := w.baseline(s, method, w.own.values)
					r.path = "ampora/" + path
					values := slices.Collect(maps.Values(o.values))
					w.tell(r, values...)
				}
			}
		}
	}
}

// pathsWithoutATenant tries everything else that the engine serves, and what Vault serves beside it.
func (w *world) pathsWithoutATenant() {
	w.Helper()
	for _, s := range w.served {
		if strings.HasPrefix(s.path, "tenants/") {
			continue
		}
		public := slices.ContainsFunc([]string{"ca/bundle", "federation/bundle", "crl", "issuer/", "ocsp/"}, func(begin string) bool { return strings.HasPrefix(s.path, begin) })
		for _, o := range append(w.others, w.own) {
			for _, method := range methods {
				r := w.baseline(s, method, w.own.values)
				r.path = "ampora/" + s.fill("", o.values)
				if a := w.tell(r, slices.Collect(maps.Values(o.values))...); a.status != http.StatusForbidden && !public {
					w.Errorf("%s %s: %d %s", method, r.path, a.status, a.text)
				}
			}
		}
	}
	for _, path := range []string{"ampora", "ampora/", "ampora/tenants", "ampora/tenants/", "ampora/tenants/acme", "ampora/tenants/acme/", "sys/raw/logical", "sys/internal/specs/openapi"} {
		for _, method := range methods {
			w.try(request{method: method, path: path, query: url.Values{"help": {"1"}}})
			w.try(request{method: method, path: path})
		}
	}
}

// deleteItsOwn comes last.
func (w *world) deleteItsOwn() {
	w.Helper()
	for _, s := range w.scoped() {
		// What is not there is deleted, and the query names what is.
		r := w.baseline(s, http.MethodDelete, nil)
		for _, field := range slices.Concat(s.query[http.MethodDelete], s.parameters()) {
			w.eachForeign(w.others, func(_, foreign string) { w.note(s, r.asking(field, foreign), foreign) })
		}
		for _, o := range w.others {
			w.note(s, r.asking("tenant", o.tenant))
		}
		values := maps.Clone(w.own.values)
		maps.Copy(values, w.own.spare)
		w.note(s, w.baseline(s, http.MethodDelete, values))
	}
}

// everythingWasReallyTried holds that each operation has done its work for acme at least once: one that always fails for want
// of a field would prove nothing.
func (w *world) everythingWasReallyTried() {
	w.Helper()
	for _, s := range w.scoped() {
		for method := range s.methods {
			if !w.worked[method+" "+s.path] {
				w.Errorf("%s %s has never succeeded: teach 'baseline' what it needs", method, s.path)
			}
		}
	}
}

// othersThingsWork uses what the others have: nothing has been used up or ended.
func (w *world) othersThingsWork() {
	w.Helper()
	for _, o := range w.others {
		c := w.root.ForTenant(o.tenant)
		id, err := c.Redeem(w.Context(), apitype.RedeemRequest{Token: o.values["token"], CSR: w.csr})
		w.must(err)
		if id.Tenant != o.tenant || id.Group != o.values["group"] {
			w.Errorf("the token of %q made %+v", o.tenant, id)
		}
		_, err = c.IssueWithSecret(w.Context(), o.values["pool_id"], apitype.PoolAdminIssueRequest{AdminSecret: o.values["admin_secret"]})
		w.must(err)
	}
}

// scoped are the paths below a tenant's prefix.
func (w *world) scoped() []served {
	var all []served
	for _, s := range w.served {
		if strings.HasPrefix(s.path, "tenants/{tenant}/") {
			all = append(all, s)
		}
	}
	return all
}

// eachForeign visits all that some others have and that a request may tell.
func (w *world) eachForeign(others []*owner, visit func(kind, value string)) {
	for _, o := range others {
		for _, kind := range slices.Sorted(maps.Keys(o.values)) {
			visit(kind, o.values[kind])
		}
	}
}

// another is the next of the others, in turn; of the named ones, where any are.
func (w *world) another(named ...string) []*owner {
	for {
		w.turn++
		o := w.others[w.turn%len(w.others)]
		if len(named) == 0 || slices.Contains(named, o.tenant) {
			return []*owner{o}
		}
	}
}

// tell tries a request that tells the values.
func (w *world) tell(r request, told ...string) reply {
	w.Helper()
	for _, value := range told {
		w.sent[value] = true
	}
	return w.try(r)
}

// note tries a request on a path as it is served, and remembers whether it has succeeded.
func (w *world) note(s served, r request, told ...string) reply {
	w.Helper()
	a := w.tell(r, told...)
	if a.status < 300 {
		w.worked[r.method+" "+s.path] = true
	}
	return a
}

// wantTwins holds that what belongs to others is answered like what belongs to nobody.
func (w *world) wantTwins(r request, field, kind string, foreign, bogus reply) {
	w.Helper()
	switch {
	case field == "after" || field == "cursor":
		return // a place in an order, not a reference
	case field == "token" && kind == "token" && r.method == http.MethodPost && !strings.Contains(r.path, "/handover/"):
		// Who holds the token itself is told that it belongs elsewhere, and it is not used up.
		if !strings.Contains(foreign.text, string(apitype.TenantMismatch)) || !strings.Contains(bogus.text, string(apitype.TokenUnknown)) {
			w.Errorf("%s %s with another tenant's token: %d %s", r.method, r.path, foreign.status, foreign.text)
		}
		return
	}
	if foreign.normal() != bogus.normal() {
		w.Errorf("%s %s, %s of others in %s: what exists elsewhere differs from what does not:\n%d %s\n%d %s",
			r.method, r.path, kind, field, foreign.status, foreign.text, bogus.status, bogus.text)
	}
}
