package hint_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/ampora/ampora/cmd/ampora/internal/hint"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/token"
	vault "github.com/hashicorp/vault/api"
)

func printed(err error) string {
	var b bytes.Buffer
	hint.Print(&b, err)
	return b.String()
}

func TestAFailureIsASentenceAndItsHints(t *testing.T) {
	err := fmt.Errorf("outer: %w", hint.Wrap(hint.New("inner", "first"), "second"))
	if got := printed(errors.Join(err, nil)); got != "error: outer: inner\nhint: second\nhint: first\n" {
		t.Errorf("got %q", got)
	}
}

func TestACodesAdviceStandsInAHintOnly(t *testing.T) {
	for _, code := range apitype.Codes() {
		got := printed(fmt.Errorf("the edge refused: %w", apitype.Errorf(code, "a detail")))
		if want := fmt.Sprintf("error: the edge refused: %s: a detail\nhint: %s\n", code, code.Next()); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestAnAnswerOfVaultIsOneLine(t *testing.T) {
	err := fmt.Errorf("mounting: %w", &vault.ResponseError{HTTPMethod: "PUT", URL: "u", StatusCode: 400, Errors: []string{"1 error occurred:\n\t* no\n\n"}})
	if got := printed(err); got != "error: mounting: Vault answered 400: no\n" {
		t.Errorf("got %q", got)
	}
}

func TestNoSecretIsPrinted(t *testing.T) {
	for _, kind := range []token.Kind{token.Bootstrap, token.PoolSecret} {
		s := token.New(kind).Reveal()
		for _, text := range []string{s, strings.ToUpper(s)} {
			if got := printed(errors.New("unexpected argument " + text)); strings.Contains(got, text[10:]) {
				t.Errorf("got %q", got)
			}
		}
	}
}
