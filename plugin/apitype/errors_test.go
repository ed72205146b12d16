package apitype_test

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/ampora/ampora/plugin/apitype"
)

func TestEveryCodeHasANameAStatusAndANextStep(t *testing.T) {
	shape := regexp.MustCompile(`^[a-z]+(_[a-z]+)*$`)
	for _, c := range apitype.Codes() {
		if !shape.MatchString(string(c)) || !c.Known() {
			t.Errorf("%q", c)
		}
		if next := c.Next(); next == "" || strings.HasSuffix(strings.TrimSuffix(next, "..."), ".") || strings.Contains(next, "\n") {
			t.Errorf("%s: what to do next is %q", c, next)
		}
		if s := c.EdgeStatus(); s < 400 || s > 503 {
			t.Errorf("%s travels as %d on the edge", c, s)
		}
	}
	none := apitype.Code("no_such_code")
	if none.Known() || none.VaultStatus() != 500 || none.EdgeStatus() != 500 {
		t.Error("an unknown code is known")
	}
}

func TestAnErrorComesBackFromItsTextAsVaultShowsIt(t *testing.T) {
	for _, c := range apitype.Codes() {
		for _, detail := range []string{"", "one clause", "a: b: c", "ends with a colon:"} {
			e := &apitype.Error{Code: c, Detail: detail}
			for _, text := range []string{e.Error(), "1 error occurred:\n\t* " + e.Error() + "\n\n", " " + e.Error() + " "} {
				back := apitype.ParseError(text)
				if back == nil || back.Code != c {
					t.Errorf("%q: %v", text, back)
				} else if text == e.Error() && back.Detail != detail {
					t.Errorf("%q: detail %q", text, back.Detail)
				}
			}
		}
	}
	for _, text := range []string{"", "permission denied", "1 error occurred:\n\t* permission denied\n\n", "token_redeemed", "no_such_code: x", "Vault is sealed", "x token_redeemed: y"} {
		if e := apitype.ParseError(text); e != nil {
			t.Errorf("%q: %v", text, e)
		}
	}
}

func TestCodesAreFoundInAChain(t *testing.T) {
	err := fmt.Errorf("outer: %w", errors.Join(errors.New("x"), apitype.Errorf(apitype.NotReady, "loading")))
	if apitype.CodeOf(err) != apitype.NotReady || !errors.Is(err, &apitype.Error{Code: apitype.NotReady}) || errors.Is(err, &apitype.Error{Code: apitype.Internal}) {
		t.Errorf("%v", err)
	}
	if apitype.CodeOf(nil) != "" || apitype.CodeOf(errors.New("x")) != "" {
		t.Error("a code without an error")
	}
}

func TestStateHashesTellThePartsApart(t *testing.T) {
	seen := map[string]bool{}
	for _, d := range []string{"", "a", "ab", "\x00"} {
		for _, n := range []string{"", "a", "ab", "b"} {
			for _, c := range []uint64{0, 1, 0x10, 1 << 63} {
				h := apitype.StateHash(d, n, c)
				if seen[h] || len(h) != 64 {
					t.Errorf("%q %q %d", d, n, c)
				}
				seen[h] = true
			}
		}
	}
}

func TestScopedPaths(t *testing.T) {
	if apitype.Scoped("", "redeem") != "redeem" || apitype.Scoped("acme", "redeem") != "tenants/acme/redeem" {
		t.Error("Scoped")
	}
}
