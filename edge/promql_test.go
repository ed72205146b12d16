package edge_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// expression is what a PromQL expression names.
type expression struct {
	metrics  []string
	labels   []string  // that it groups or joins by
	matchers []matcher // in braces behind a metric
}

// matcher is a label that a metric of an expression is selected by.
type matcher struct{ metric, label, operator, value string }

// Words of PromQL that stand where a metric could.
var (
	operators    = []string{"and", "or", "unless", "bool", "atan2", "offset"}
	groupings    = []string{"by", "without", "on", "ignoring", "group_left", "group_right"}
	aggregations = []string{"sum", "min", "max", "avg", "count"}
	functions    = []string{"rate", "increase", "histogram_quantile"}
)

// parseExpression finds what an expression names. It knows as much of PromQL as our expressions use, and refuses the rest:
// what it does not understand must not pass unseen.
func parseExpression(text string) (e expression, err error) {
	tokens, err := promTokens(text)
	if err != nil {
		return e, err
	}
	next := func() string {
		if len(tokens) == 0 {
			return ""
		}
		t := tokens[0]
		tokens = tokens[1:]
		return t
	}
	peek := func() string {
		if len(tokens) == 0 {
			return ""
		}
		return tokens[0]
	}
	depth := 0
	for len(tokens) > 0 {
		switch t := next(); {
		case t == "(":
			depth++
		case t == ")":
			if depth--; depth < 0 {
				return e, fmt.Errorf("a ) too many in %s", text)
			}
		case slices.Contains(groupings, t):
			if next() != "(" {
				return e, fmt.Errorf("no ( behind %s in %s", t, text)
			}
			for {
				label := next()
				if !isWord(label) {
					return e, fmt.Errorf("no label behind %s in %s", t, text)
				}
				e.labels = append(e.labels, label)
				if end := next(); end == ")" {
					break
				} else if end != "," {
					return e, fmt.Errorf("%q in the labels of %s", end, text)
				}
			}
		case slices.Contains(operators, t):
		case slices.Contains(aggregations, t), slices.Contains(functions, t):
			if peek() != "(" && peek() != "by" && peek() != "without" {
				return e, fmt.Errorf("%s is not called in %s", t, text)
			}
		case isWord(t):
			if peek() == "(" {
				return e, fmt.Errorf("the function %s is not known here", t)
			}
			e.metrics = append(e.metrics, t)
			for braces := peek() == "{"; braces; {
				next()
				m := matcher{metric: t, label: next(), operator: next(), value: next()}
				if !isWord(m.label) || !slices.Contains([]string{"=", "!=", "=~", "!~"}, m.operator) || !strings.HasPrefix(m.value, `"`) {
					return e, fmt.Errorf("the matcher %v in %s", m, text)
				}
				m.value = strings.Trim(m.value, `"`)
				e.matchers = append(e.matchers, m)
				if end := peek(); end == "}" {
					next()
					braces = false
				} else if end != "," {
					return e, fmt.Errorf("%q in the braces of %s", end, text)
				}
			}
			if strings.HasPrefix(peek(), "[") {
				next()
			}
		case strings.ContainsAny(t[:1], "0123456789") || slices.Contains([]string{"+", "-", "*", "/", ">", "<", ">=", "<=", "==", "!=", ","}, t):
		default:
			return e, fmt.Errorf("%q in %s", t, text)
		}
	}
	if depth != 0 || len(e.metrics) == 0 {
		return e, fmt.Errorf("%s is cut off, or names no metric", text)
	}
	return e, nil
}

var promToken = regexp.MustCompile(`^(?:[a-zA-Z_:][a-zA-Z0-9_:]*|[0-9]+(?:\.[0-9]+)?|"[^"\\]*"|\[(?:[0-9]+[smhd]|\$__rate_interval)\]|=~|!~|!=|==|>=|<=|[-+*/(){},=<>])`)

func promTokens(text string) ([]string, error) {
	var all []string
	for rest := strings.TrimSpace(text); rest != ""; {
		t := promToken.FindString(rest)
		if t == "" {
			return nil, fmt.Errorf("not understood: %q", rest)
		}
		all = append(all, t)
		rest = strings.TrimLeftFunc(rest[len(t):], unicode.IsSpace)
	}
	return all, nil
}

func isWord(t string) bool {
	return t != "" && (t[0] == '_' || unicode.IsLetter(rune(t[0])))
}

func TestExpressionsAreTakenApart(t *testing.T) {
	for text, want := range map[string]expression{
		`up{job="x"} == 0`:                 {metrics: []string{"up"}, matchers: []matcher{{"up", "job", "=", "x"}}},
		`a == 0 and on (i) b > 30 * 86400`: {metrics: []string{"a", "b"}, labels: []string{"i"}},
		`histogram_quantile(0.95, sum by (i, le) (rate(a_bucket{o!="s",p=~"x|y"}[5m]))) > 5`: {
			metrics: []string{"a_bucket"}, labels: []string{"i", "le"}, matchers: []matcher{{"a_bucket", "o", "!=", "s"}, {"a_bucket", "p", "=~", "x|y"}},
		},
		`sum(increase(a[$__rate_interval])) by (by)`: {metrics: []string{"a"}, labels: []string{"by"}},
	} {
		got, err := parseExpression(text)
		if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: %+v %v", text, got, err)
		}
	}
	for _, text := range []string{
		``, `1 > 0`, `a(`, `sum(a`, `a)`, `a{b}`, `a{b=c}`, `{b="c"}`, `irate(a[5m])`, `sum by a`, `a by (b`, `a{b="c"`, `a[5x]`, `a; b`, `a{b="c" d="e"}`, `sum + a`, `'a'`,
	} {
		if got, err := parseExpression(text); err == nil {
			t.Errorf("%q passes as %+v", text, got)
		}
	}
}
