package audit

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/ampora/ampora/cmd/ampora/internal/console"
	"github.com/ampora/ampora/plugin/apitype"
)

// table writes events for people, one on a line. Columns are wide enough for what usually stands in them, so that lines that
// come later fit under those before.
type table struct {
	out   io.Writer
	begun bool
}

const row = "%-24s  %-22s  %-48s  %-28s  %-15s  %s\n"

func (t *table) write(events []apitype.Event) error {
	if len(events) > 0 && !t.begun {
		t.begun = true
		if _, err := fmt.Fprintf(t.out, row, "TIME", "ACTION", "WHAT", "WHO", "FROM", "DETAILS"); err != nil {
			return err
		}
	}
	for _, e := range events {
		what := e.EntityType
		if e.EntityID != e.EntityType {
			what += " " + e.EntityID
		}
		line := fmt.Sprintf(row, plain(e.Time), plain(e.Action), plain(what), plain(e.Actor.DisplayName), plain(e.SourceIP), details(e))
		if _, err := io.WriteString(t.out, strings.TrimRight(line, " \n")+"\n"); err != nil {
			return err
		}
	}
	return nil
}

// details are what the columns before do not say.
func details(e apitype.Event) string {
	var all []string
	add := func(name, value string) {
		if value == "" || value == "[]" || value == "map[]" {
			return
		}
		if value = plain(value); strings.ContainsAny(value, ` "=`) {
			value = strconv.Quote(value)
		}
		all = append(all, plain(name)+"="+value)
	}
	add("tenant", e.Tenant)
	if e.AgentID != e.EntityID {
		add("agent", e.AgentID)
	}
	for _, name := range slices.Sorted(maps.Keys(e.Details)) {
		add(name, value(e.Details[name]))
	}
	return strings.Join(all, " ")
}

// value writes a detail: lists with commas, sums with their names.
func value(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case []any:
		var all []string
		for _, one := range v {
			all = append(all, value(one))
		}
		return strings.Join(all, ",")
	case map[string]any:
		var all []string
		for _, name := range slices.Sorted(maps.Keys(v)) {
			all = append(all, name+":"+value(v[name]))
		}
		return strings.Join(all, ",")
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	}
	return fmt.Sprint(v)
}

func plain(text string) string { return console.Plain(text) }

func oneLine(err error) string { return plain(strings.Join(strings.Fields(err.Error()), " ")) }
