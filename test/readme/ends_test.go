package readme

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/client"
)

// TestTheTableOfWhatEndsTokens runs each command of that table on a pool of its own, and looks at what its row says.
func TestTheTableOfWhatEndsTokens(t *testing.T) {
	t.Parallel()
	w := installed(t)
	engine, err := client.New(w.vault.Client(), "ampora")
	must(t, err)
	ctx := t.Context()
	good := func(token string) bool {
		t.Helper()
		_, err := engine.RedeemCheck(ctx, apitype.RedeemCheckRequest{Token: token})
		if err != nil && apitype.CodeOf(err) == "" {
			t.Fatal(err)
		}
		return err == nil
	}
	text, _ := page(t, "README.md")
	rows := regexp.MustCompile("(?m)^\\| `((?:write -f|delete) ampora/[^`]+)` \\| ([^|]+) \\| ([^|]+) \\| ([^|]+) \\|$").FindAllStringSubmatch(text, -1)
	if len(rows) != 5 {
		t.Fatalf("the table has %d rows that are understood", len(rows))
	}
	for i, row := range rows {
		pool := fmt.Sprintf("pool-%d", i)
		made, err := engine.WritePool(ctx, pool, apitype.PoolRequest{})
		must(t, err)
		first, err := engine.IssueFromPool(ctx, pool, apitype.PoolIssueRequest{})
		must(t, err)
		second, err := engine.IssueFromPool(ctx, pool, apitype.PoolIssueRequest{})
		must(t, err)
		other, err := engine.IssueToken(ctx, apitype.TokenIssueRequest{})
		must(t, err)
		w.must("vault " + strings.NewReplacer("pools/ci", "pools/"+pool, "<id>", first.TokenID).Replace(row[1]))

		_, err = engine.IssueWithSecret(ctx, pool, apitype.PoolAdminIssueRequest{AdminSecret: made.AdminSecret})
		bySecret := err == nil
		_, err = engine.IssueFromPool(ctx, pool, apitype.PoolIssueRequest{})
		byPolicy := err == nil
		tokens, secret, policy := row[2], row[3], row[4]
		for what, wrong := range map[string]bool{
			"the token":                 good(first.Token),
			"the pool's other token":    good(second.Token) != strings.HasPrefix(tokens, "this one"),
			"a token of no pool":        good(other.Token) == strings.HasPrefix(tokens, "all there are"),
			"the admin secret":          bySecret != (secret == "goes on"),
			"issuing by policy":         byPolicy != (policy == "goes on"),
			"the words for its tokens":  !strings.Contains(tokens, "end"),
			"the words for the secret":  !strings.Contains(secret, "end") && secret != "goes on",
			"the words for its issuing": policy != "ends" && policy != "goes on",
		} {
			if wrong {
				t.Errorf("%s: %s is not as the page says: %s", row[1], what, row[0])
			}
		}
		if strings.HasPrefix(row[1], "delete") {
			_, err = engine.WritePool(ctx, pool, apitype.PoolRequest{})
			must(t, err)
			if good(first.Token) || good(second.Token) {
				t.Errorf("a pool of the same name brings its tokens back")
			}
		}
	}
}
