package status

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/ampora/ampora/cmd/ampora/internal/console"
)

// page writes a report for people.
type page struct {
	out    io.Writer
	colour bool
	now    time.Time
	err    error
}

// Colours, as SGR parameters (ECMA-48). Nothing is told by colour alone.
const (
	plain  = ""
	bold   = "1"
	faint  = "2"
	red    = "31"
	green  = "32"
	yellow = "33"
)

// cell is one entry of a table.
type cell struct{ text, colour string }

func (p *page) write(r *report) error {
	of := r.Mount + "/"
	if r.Tenant != "" {
		of += ", tenant " + r.Tenant
	}
	p.line("%s, %s", p.paint("Ampora at "+console.Plain(of), bold), p.now.UTC().Format("2006-01-02 15:04:05 UTC"))
	p.attention(r)
	p.issuers(r)
	p.agents(r)
	p.tokens(r)
	p.edges(r)
	return p.err
}

func (p *page) attention(r *report) {
	if len(r.Attention) == 0 {
		return
	}
	p.head("NEEDS ATTENTION")
	for _, reason := range r.Attention {
		p.line("  %s", p.paint(console.Plain(reason), red))
	}
}

func (p *page) issuers(r *report) {
	p.head("ISSUERS")
	p.unavailable(r, "issuers")
	if len(r.Issuers) > 0 {
		rows := [][]cell{p.heads("STATE", "NAME", "EXPIRES", "LEFT", "REVOKED", "CRL", "GOOD UNTIL")}
		for _, i := range r.Issuers {
			row := []cell{{i.State, stateColour(i)}, {i.CommonName, plain}, {"not signed yet", faint}}
			if !i.expires.IsZero() {
				row = append(row[:2], cell{day(i.expires), plain}, cell{counted(i.DaysLeft, "day", "days"), leftColour(i, p.now)})
			}
			if i.CRL != nil {
				row = append(row, cell{strconv.Itoa(i.CRL.Entries), plain}, cell{"no. " + i.CRL.Number, plain}, cell{minute(i.CRL.nextUpdate), plain})
			}
			rows = append(rows, row)
		}
		p.table(rows)
	} else if r.Issuers != nil {
		p.line("  There is none: make one with 'ampora setup'.")
	}
	if why := r.Unavailable["crls"]; why != "" {
		p.line("  %s", p.paint("Lists of revoked certificates: "+console.Plain(why)+".", faint))
	}
}

func (p *page) agents(r *report) {
	p.head("AGENTS")
	p.unavailable(r, "agents")
	a := r.Agents
	if a == nil {
		return
	}
	p.table([][]cell{
		{{"active", green}, {strconv.Itoa(a.Active), plain}},
		{{"  due for renewal", plain}, {strconv.Itoa(a.RenewalsDue), plain}},
		{{"  with a next certificate", plain}, {strconv.Itoa(a.Unconfirmed), plain}},
		{{"expired", plain}, {strconv.Itoa(a.Expired), plain}},
		{{"revoked", plain}, {strconv.Itoa(a.Revoked), plain}},
		{{"moved to a peer", plain}, {strconv.Itoa(a.Moved), plain}},
		{{"to come from a peer", plain}, {strconv.Itoa(a.Awaited), plain}},
	})
	if len(a.Expiring) == 0 {
		return
	}
	p.line("")
	rows := [][]cell{p.heads("EXPIRES IN", "AGENTS")}
	most := slices.Max(slices.Collect(maps.Values(a.Expiring)))
	for _, month := range slices.Sorted(maps.Keys(a.Expiring)) {
		n := a.Expiring[month]
		bar := strings.Repeat("#", (n*barWidth+most-1)/most)
		rows = append(rows, []cell{{month, plain}, {strconv.Itoa(n), plain}, {bar, faint}})
	}
	p.table(rows)
}

// barWidth is how long the longest bar is.
const barWidth = 40

func (p *page) tokens(r *report) {
	p.head("TOKENS")
	p.unavailable(r, "tokens")
	if r.Tokens == nil {
		return
	}
	n := strconv.Itoa(r.Tokens.Outstanding)
	if r.Tokens.More {
		n = "more than " + n
	}
	p.line("  outstanding  %s", n)
}

func (p *page) edges(r *report) {
	p.head("EDGES")
	p.unavailable(r, "edges")
	switch {
	case r.Edges == nil:
		return
	case len(r.Edges) == 0:
		p.line("  None was seen within the last day.")
		return
	}
	rows := [][]cell{p.heads("NAME", "SEEN", "SESSIONS", "REVISION", "VERSION")}
	for _, e := range r.Edges {
		seen, colour := span(time.Duration(e.Age)*time.Second)+" ago", green
		if time.Duration(e.Age)*time.Second >= edgeSilent {
			colour = red
		}
		rows = append(rows, []cell{{e.key, plain}, {seen, colour}, {strconv.Itoa(e.Live), plain}, {e.Revision, plain}, {e.Version, plain}})
	}
	p.table(rows)
}

func stateColour(i *issuer) string {
	switch i.State {
	case stateActive:
		return green
	case stateTrusted:
		return plain
	}
	return faint
}

func leftColour(i *issuer, now time.Time) string {
	switch left := i.expires.Sub(now); {
	case !i.counts():
		return faint
	case left <= 0:
		return red
	case left < issuerSoon:
		return yellow
	}
	return plain
}

func day(t time.Time) string    { return t.UTC().Format("2006-01-02") }
func minute(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

func (p *page) unavailable(r *report, part string) {
	if why := r.Unavailable[part]; why != "" {
		p.line("  %s", p.paint(console.Plain(why)+".", faint))
	}
}

func (p *page) head(text string) { p.line("\n%s", p.paint(text, bold)) }

func (p *page) heads(names ...string) []cell {
	var row []cell
	for _, name := range names {
		row = append(row, cell{name, faint})
	}
	return row
}

// table writes rows in columns. Widths are worked out before the colours, which have none.
func (p *page) table(rows [][]cell) {
	var widths []int
	for _, row := range rows {
		for n := range row {
			row[n].text = console.Plain(row[n].text)
			if n == len(widths) {
				widths = append(widths, 0)
			}
			widths[n] = max(widths[n], utf8.RuneCountInString(row[n].text))
		}
	}
	for _, row := range rows {
		var b strings.Builder
		for n, c := range row {
			b.WriteString("  " + p.paint(c.text, c.colour))
			if n < len(row)-1 {
				b.WriteString(strings.Repeat(" ", widths[n]-utf8.RuneCountInString(c.text)))
			}
		}
		p.line("%s", b.String())
	}
}

func (p *page) paint(text, colour string) string {
	if !p.colour || colour == plain || text == "" {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

func (p *page) line(format string, args ...any) {
	if _, err := fmt.Fprintf(p.out, format+"\n", args...); err != nil && p.err == nil {
		p.err = err
	}
}
