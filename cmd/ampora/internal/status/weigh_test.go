package status

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
)

func TestWhatNeedsAttention(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	const day = 24 * time.Hour
	one := func(state string, left time.Duration) *issuer {
		return &issuer{IssuerID: "i", CommonName: "CA 1", State: state, expires: now.Add(left), Expires: rfc3339(now.Add(left).Unix())}
	}
	good := one(stateActive, 365*day)
	listed := func(left time.Duration) *issuer {
		i := *good
		i.CRL = &crl{Number: "1", NextUpdate: rfc3339(now.Add(left).Unix()), nextUpdate: now.Add(left)}
		return &i
	}
	seen := func(ago time.Duration) []*edge {
		return []*edge{{key: "acme/edge-1", EdgeInfo: apitype.EdgeInfo{SeenAt: now.Add(-ago).Format(time.RFC3339)}}}
	}
	for name, c := range map[string]struct {
		report report
		want   []string
	}{
		"nothing":                           {report{Issuers: []*issuer{good}, Edges: []*edge{}}, nil},
		"nothing is known":                  {report{}, nil},
		"an issuer that ends in 31 days":    {report{Issuers: []*issuer{one(stateActive, 31*day)}}, nil},
		"an issuer that ends in 29.9 days":  {report{Issuers: []*issuer{one(stateActive, 30*day-time.Minute)}}, []string{"active issuer CA 1 expires in 29 days, on 2026-03-31"}},
		"a trusted one that ends":           {report{Issuers: []*issuer{good, one(stateTrusted, day)}}, []string{"trusted issuer CA 1 expires in 1 day, on 2026-03-02"}},
		"a trusted one that has ended":      {report{Issuers: []*issuer{good, one(stateTrusted, -time.Second)}}, []string{"trusted issuer CA 1 has expired"}},
		"a retired one that has ended":      {report{Issuers: []*issuer{good, one("retired", -day)}}, nil},
		"a draft without certificate":       {report{Issuers: []*issuer{good, {State: "draft"}}}, nil},
		"no issuer":                         {report{Issuers: []*issuer{}}, []string{"no issuer is active"}},
		"no active issuer":                  {report{Issuers: []*issuer{one(stateTrusted, 365*day)}}, []string{"no issuer is active"}},
		"a fresh list":                      {report{Issuers: []*issuer{listed(time.Second)}}, nil},
		"an old list":                       {report{Issuers: []*issuer{listed(0)}}, []string{"list of revoked certificates of the issuer CA 1 is out of date"}},
		"an edge of 4:59":                   {report{Issuers: []*issuer{good}, Edges: seen(299 * time.Second)}, nil},
		"an edge of 5:00":                   {report{Issuers: []*issuer{good}, Edges: seen(5 * time.Minute)}, []string{"edge acme/edge-1 was last seen 5 minutes ago"}},
		"an edge of the future":             {report{Issuers: []*issuer{good}, Edges: seen(-time.Hour)}, nil},
		"a part that the token may not see": {report{Unavailable: map[string]string{"edges": notAllowed}}, nil},
		"a part that is broken":             {report{Unavailable: map[string]string{"crls": "not_ready"}, broken: map[string]bool{"crls": true}}, []string{"crls could not be read: not_ready"}},
	} {
		t.Run(name, func(t *testing.T) {
			c.report.weigh(now)
			if len(c.report.Attention) != len(c.want) {
				t.Fatalf("%q", c.report.Attention)
			}
			for n, want := range c.want {
				if !strings.Contains(c.report.Attention[n], want) {
					t.Errorf("%q", c.report.Attention[n])
				}
			}
		})
	}
}

func TestWhatOthersWroteMovesNoCursor(t *testing.T) {
	r := report{
		Mount: "ampora", Issuers: []*issuer{{CommonName: "CA\x1b[2J", State: stateActive}},
		Edges:       []*edge{{key: "e", EdgeInfo: apitype.EdgeInfo{Version: "v\x1b]0;x\a", SeenAt: "\x1b[31m"}}},
		Unavailable: map[string]string{"agents": "\x1b[1A"},
	}
	r.weigh(time.Now())
	var out bytes.Buffer
	if err := (&page{out: &out, now: time.Now()}).write(&r); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(out.String(), "\x1b\a") {
		t.Errorf("%q", out.String())
	}
}

func TestColoursLeaveTheColumnsWhereTheyAre(t *testing.T) {
	rows := func() [][]cell {
		return [][]cell{{{"STATE", faint}, {"NAME", faint}}, {{"active", green}, {"é", plain}}, {{"x", plain}, {"", plain}}}
	}
	var with, without bytes.Buffer
	(&page{out: &with, colour: true}).table(rows())
	(&page{out: &without}).table(rows())
	bare := with.String()
	for _, colour := range []string{bold, faint, red, green, yellow, "0"} {
		bare = strings.ReplaceAll(bare, "\x1b["+colour+"m", "")
	}
	if bare != without.String() || !strings.Contains(with.String(), "\x1b[32mactive\x1b[0m") {
		t.Errorf("%q\n%q", with.String(), without.String())
	}
	lines := strings.Split(without.String(), "\n")
	if at := strings.Index(lines[0], "NAME"); at < 0 || at != strings.Index(lines[1], "é") {
		t.Errorf("%q", lines)
	}
}

func TestSpansAreSaidAsPeopleDo(t *testing.T) {
	var got []string
	for _, d := range []time.Duration{0, time.Second, 119 * time.Second, 2 * time.Minute, 119 * time.Minute, 2 * time.Hour, 47 * time.Hour, 48 * time.Hour} {
		got = append(got, span(d))
	}
	want := []string{"0 seconds", "1 second", "119 seconds", "2 minutes", "119 minutes", "2 hours", "47 hours", "2 days"}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}
