package hint

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"

	"github.com/ampora/ampora/plugin/apitype"
	vault "github.com/hashicorp/vault/api"
)

// oneLine tells an answer of Vault in one line, where its library takes five.
func oneLine(text string, answer *vault.ResponseError) string {
	said := strings.Join(answer.Errors, "; ")
	if said == "" {
		said = http.StatusText(answer.StatusCode)
	}
	said = strings.Join(strings.Fields(strings.ReplaceAll(said, "1 error occurred:\n\t* ", "")), " ")
	return strings.ReplaceAll(text, answer.Error(), fmt.Sprintf("Vault answered %d: %s", answer.StatusCode, said))
}

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
