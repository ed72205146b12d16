package edge_test

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"go.yaml.in/yaml/v3"
)

// The dashboard and the alert rules.
const (
	dashboardFile = "../scripts/grafana/ampora.json"
	alertsFile    = "../scripts/alerts/ampora.yaml"
)

// exposed is what /metrics shows: by metric the values of each label.
type exposed map[string]map[string]map[string]bool

var (
	metricLine = regexp.MustCompile(`^([a-z_]+)(?:\{(.*)\})? [0-9eE.+-]+(?:Inf)?$`)
	labelPair  = regexp.MustCompile(`([a-z_]+)="((?:[^"\\]|\\.)*)"`)
)

func (w *world) exposed() exposed {
	w.t.Helper()
	_, body := w.admin("/metrics")
	all := exposed{}
	for _, line := range strings.Split(body, "\n") {
		m := metricLine.FindStringSubmatch(line)
		if m == nil {
			if line != "" && !strings.HasPrefix(line, "#") {
				w.t.Errorf("not understood: %s", line)
			}
			continue
		}
		if all[m[1]] == nil {
			all[m[1]] = map[string]map[string]bool{}
		}
		for _, pair := range labelPair.FindAllStringSubmatch(m[2], -1) {
			if all[m[1]][pair[1]] == nil {
				all[m[1]][pair[1]] = map[string]bool{}
			}
			all[m[1]][pair[1]][pair[2]] = true
		}
	}
	return all
}

// ofPrometheus are labels that every metric has by the time it is asked for.
var ofPrometheus = []string{"instance", "job"}

// check holds that everything which an expression names is exposed.
func (all exposed) check(t *testing.T, where, text string) (e expression) {
	t.Helper()
	e, err := parseExpression(text)
	if err != nil {
		t.Errorf("%s: %v", where, err)
		return e
	}
	var labels []string
	for _, name := range e.metrics {
		if name == "up" { // Prometheus' own
			continue
		}
		if all[name] == nil {
			t.Errorf("%s: no edge exposes %s", where, name)
		}
		for label := range all[name] {
			labels = append(labels, label)
		}
	}
	for _, label := range e.labels {
		if !slices.Contains(ofPrometheus, label) && !slices.Contains(labels, label) {
			t.Errorf("%s: nothing in %s has the label %s", where, text, label)
		}
	}
	for _, m := range e.matchers {
		if slices.Contains(ofPrometheus, m.label) {
			continue
		}
		if all[m.metric][m.label] == nil {
			t.Errorf("%s: %s has no label %s", where, m.metric, m.label)
		}
		values := []string{m.value}
		if strings.HasSuffix(m.operator, "~") {
			values = strings.Split(m.value, "|")
		}
		for _, value := range values {
			if !all[m.metric][m.label][value] {
				t.Errorf("%s: %s has no %s %q", where, m.metric, m.label, value)
			}
		}
	}
	return e
}

// TestWhatIsDrawnAndWatchedIsExposed holds the dashboard and the alert rules against what a running edge exposes.
func TestWhatIsDrawnAndWatchedIsExposed(t *testing.T) {
	w := newWorld(t)
	a := w.enrolled()
	c := a.mustDial()
	c.send(a.message(withDescription("host-1")))
	c.receive()
	if _, err := w.vault.RevokeAgent(t.Context(), a.id(), apitype.RevokeRequest{}); err != nil {
		t.Fatal(err)
	}
	w.eventually("the session that ended is counted", 20*time.Second, func() bool {
		return w.metric(`ampora_edge_sessions_ended_total{code="certificate_revoked"}`) == "1"
	})
	if up, ready, tokens := w.metric("ampora_edge_vault_up"), w.metric("ampora_edge_ready"), w.metric("ampora_edge_bootstrap_ready"); up+ready+tokens != "111" {
		t.Errorf("Vault %s, ready %s, for tokens %s", up, ready, tokens)
	}
	next, err := w.vault.CARoot(t.Context(), apitype.CARootRequest{TTL: 40 * 24 * 3600})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.vault.SetIssuerState(t.Context(), next.IssuerID, apitype.IssuerRequest{State: "active"}); err != nil {
		t.Fatal(err)
	}
	w.eventually("both issuers are told of, the new one as the active one", 20*time.Second, func() bool {
		left, err := strconv.ParseFloat(w.metric(`ampora_edge_issuer_expiry_seconds{issuer="`+next.IssuerID+`",state="active"}`), 64)
		return err == nil && left > 39*24*3600 && left <= 40*24*3600 && w.exposed()["ampora_edge_issuer_expiry_seconds"]["state"]["trusted"]
	})
	w.knows("far", newRegion(t, "far"))
	w.eventually("the peer is told of", patience, func() bool { return w.metric(`ampora_edge_peer_up{peer="far"}`) == "1" })
	all := w.exposed()
	t.Run("dashboard", func(t *testing.T) { checkDashboard(t, all) })
	t.Run("alerts", func(t *testing.T) { checkAlerts(t, all) })
}

// panel is what is looked at of a panel.
type panel struct {
	ID          int
	Type        string
	Title       string
	Description string
	Datasource  struct{ Type, UID string }
	GridPos     struct{ X, Y, W, H int }
	Targets     []struct {
		Expr         string
		LegendFormat string
	}
}

func checkDashboard(t *testing.T, all exposed) {
	raw, err := os.ReadFile(dashboardFile)
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		UID        string
		Title      string
		Templating struct {
			List []struct {
				Name  string
				Type  string
				Query any
			}
		}
		Panels []panel
	}
	if err := json.Unmarshal(raw, &d); err != nil {
		t.Fatal(err)
	}
	if d.UID == "" || d.Title == "" || len(d.Panels) < 20 {
		t.Errorf("%s %s has %d panels", d.UID, d.Title, len(d.Panels))
	}
	variables := map[string]bool{}
	for _, v := range d.Templating.List {
		variables[v.Name] = true
		if v.Type != "query" {
			continue
		}
		query := v.Query.(map[string]any)["query"].(string)
		m := regexp.MustCompile(`^label_values\(([a-z_]+), ([a-z_]+)\)$`).FindStringSubmatch(query)
		if m == nil || all[m[1]] == nil || !slices.Contains(ofPrometheus, m[2]) {
			t.Errorf("the variable %s: %s", v.Name, query)
		}
	}
	if !variables["instance"] || !variables["datasource"] {
		t.Errorf("variables %v", variables)
	}
	ids, drawn := map[int]bool{}, map[string]bool{}
	for n, p := range d.Panels {
		if p.ID == 0 || ids[p.ID] || p.Title == "" {
			t.Errorf("panel %q has the id %d", p.Title, p.ID)
		}
		ids[p.ID] = true
		for _, q := range d.Panels[:n] {
			if p.GridPos.X < q.GridPos.X+q.GridPos.W && q.GridPos.X < p.GridPos.X+p.GridPos.W && p.GridPos.Y < q.GridPos.Y+q.GridPos.H && q.GridPos.Y < p.GridPos.Y+p.GridPos.H {
				t.Errorf("%s lies over %s", p.Title, q.Title)
			}
		}
		if p.Type == "row" {
			continue
		}
		if p.Description == "" || p.Datasource.UID != "${datasource}" || len(p.Targets) == 0 {
			t.Errorf("%s: %q %+v %d", p.Title, p.Description, p.Datasource, len(p.Targets))
		}
		for _, target := range p.Targets {
			e := all.check(t, p.Title, target.Expr)
			for _, name := range e.metrics {
				drawn[name] = true
			}
			for _, m := range regexp.MustCompile(`{{(\w+)}}`).FindAllStringSubmatch(target.LegendFormat, -1) {
				if !slices.Contains(append(e.labels, ofPrometheus...), m[1]) {
					t.Errorf("%s: the legend names %s", p.Title, m[1])
				}
			}
			for _, name := range e.metrics {
				if !slices.ContainsFunc(e.matchers, func(m matcher) bool { return m.metric == name && m.label == "instance" && m.value == "$instance" }) {
					t.Errorf("%s: %s is of all edges, whatever was chosen", p.Title, name)
				}
			}
		}
	}
	// What is counted is drawn, but for what is better looked up.
	for name := range all {
		if family := regexp.MustCompile(`_(sum|count)$`).ReplaceAllString(name, "_bucket"); strings.HasPrefix(name, "ampora_edge_") && !drawn[name] && !drawn[family] &&
			!slices.Contains([]string{"ampora_edge_bootstrap_ready", "ampora_edge_crl_number", "ampora_edge_vault_logins_total"}, name) {
			t.Errorf("no panel draws %s", name)
		}
	}
}

func checkAlerts(t *testing.T, all exposed) {
	raw, err := os.ReadFile(alertsFile)
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert       string
				Expr        string
				For         string
				Labels      map[string]string
				Annotations map[string]string
			}
		}
	}
	decoder := yaml.NewDecoder(strings.NewReader(string(raw)))
	decoder.KnownFields(true)
	if err := decoder.Decode(&file); err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			if !regexp.MustCompile(`^Ampora[A-Za-z]+$`).MatchString(r.Alert) || names[r.Alert] {
				t.Errorf("the name %q", r.Alert)
			}
			names[r.Alert] = true
			if r.For != "" {
				if _, err := time.ParseDuration(r.For); err != nil {
					t.Errorf("%s: for %s", r.Alert, r.For)
				}
			}
			if s := r.Labels["severity"]; s != "critical" && s != "warning" {
				t.Errorf("%s: severity %q", r.Alert, s)
			}
			if r.Annotations["summary"] == "" || !strings.HasSuffix(r.Annotations["runbook"], ".") || len(r.Annotations) != 2 {
				t.Errorf("%s: %v", r.Alert, r.Annotations)
			}
			e := all.check(t, r.Alert, r.Expr)
			grouped := regexp.MustCompile(`\bby \(`).MatchString(r.Expr)
			for _, m := range regexp.MustCompile(`\$labels\.(\w+)`).FindAllStringSubmatch(r.Annotations["summary"]+r.Annotations["runbook"], -1) {
				known := slices.Contains(e.labels, m[1])
				if !grouped {
					known = known || slices.Contains(ofPrometheus, m[1]) || all[e.metrics[0]][m[1]] != nil
				}
				if !known {
					t.Errorf("%s tells of the label %s, which the expression does not have", r.Alert, m[1])
				}
			}
		}
	}
	if len(names) < 10 {
		t.Errorf("there are %d alerts", len(names))
	}
}
