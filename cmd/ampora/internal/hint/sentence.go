package hint

import (
	"regexp"
	"strings"

	"github.com/ampora/ampora/plugin/apitype"
)

// sentence takes a refusal's advice out of the text, because it stands in a line of its own.
func sentence(text string, refusal *apitype.Error) string {
	next := refusal.Code.Next()
	if next == "" {
		return text
	}
	text = strings.ReplaceAll(text, ": "+next, "")
	return strings.TrimSuffix(text, ":")
}

// masked hides what looks like a secret of ours: a mistyped command line quotes its arguments back.
func masked(text string) string {
	return regexp.MustCompile(`(?i)amp-[bp]s\.\S+`).ReplaceAllString(text, "<secret>")
}
