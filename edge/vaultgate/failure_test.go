package vaultgate

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/client"
	vaultapi "github.com/hashicorp/vault/api"
)

func answer(status int, texts ...string) error {
	return fmt.Errorf("Error making API request: %w", &vaultapi.ResponseError{
		HTTPMethod: "PUT", URL: "https://vault.internal:8200/v1/ampora/redeem", StatusCode: status, Errors: texts,
	})
}

func refusal(code apitype.Code) error {
	return &client.Refusal{Err: apitype.Errorf(code, "here"), Vault: &vaultapi.ResponseError{StatusCode: code.VaultStatus()}}
}

func TestTranslation(t *testing.T) {
	dial := fmt.Errorf("Put: %w", &net.OpError{Op: "dial", Err: errors.New("connection refused")})
	read := fmt.Errorf("Put: %w", &net.OpError{Op: "read", Err: errors.New("connection reset by peer")})
	for name, c := range map[string]struct {
		err      error
		code     apitype.Code
		passing  bool // worth asking again
		happened bool // may have taken effect
	}{
		"a refusal":             {refusal(apitype.TokenRedeemed), apitype.TokenRedeemed, false, false},
		"a refusal of ours":     {apitype.Errorf(apitype.CSRRequired, ""), apitype.CSRRequired, false, false},
		"outcome unknown":       {refusal(apitype.OutcomeUnknown), apitype.OutcomeUnknown, true, true},
		"engine loading":        {refusal(apitype.NotReady), apitype.NotReady, true, false},
		"engine's own fault":    {refusal(apitype.Internal), apitype.Internal, true, true},
		"no listener":           {dial, apitype.VaultUnavailable, true, false},
		"connection broke":      {read, apitype.VaultUnavailable, true, true},
		"too slow":              {fmt.Errorf("Put: %w", context.DeadlineExceeded), apitype.VaultUnavailable, true, true},
		"answer cut off":        {errors.New("unexpected EOF"), apitype.VaultUnavailable, true, true},
		"sealed":                {answer(503, "Vault is sealed"), apitype.VaultUnavailable, true, false},
		"plugin crashed":        {answer(500, "rpc error: code = Unavailable desc = error reading from server: EOF"), apitype.VaultUnavailable, true, true},
		"bad gateway":           {answer(502, "<html>"), apitype.VaultUnavailable, true, true},
		"quota":                 {answer(429, "request path \"ampora/redeem\": rate limit quota exceeded"), apitype.VaultUnavailable, true, false},
		"lagging standby":       {answer(412, "required index state not present"), apitype.VaultUnavailable, true, false},
		"no such mount":         {answer(404, "no handler for route \"ampora/redeem\""), apitype.VaultUnavailable, false, false},
		"HTTP to HTTPS":         {answer(400, "Client sent an HTTP request to an HTTPS server."), apitype.VaultUnavailable, false, false},
		"not logged in, sealed": {unavailable(fmt.Errorf("%w: %w", errNoToken, answer(503, "Vault is sealed")), "x"), apitype.VaultUnavailable, true, false},
		"a policy says no":      {unavailable(fmt.Errorf("%w: %w", errPolicy, answer(403, "permission denied")), "x"), apitype.VaultUnavailable, false, false},
		"too many waiting":      {unavailable(errBusy, "x"), apitype.VaultUnavailable, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			err := translate(c.err)
			if code := apitype.CodeOf(err); code != c.code {
				t.Errorf("code %q, want %q", code, c.code)
			}
			if passing(err) != c.passing {
				t.Errorf("passing %v", passing(err))
			}
			if mayHaveHappened(err) != c.happened {
				t.Errorf("may have happened %v", mayHaveHappened(err))
			}
			// What an agent is shown says nothing of the inside; the log has it.
			if strings.Contains(err.Error(), "vault.internal") {
				t.Errorf("the public text tells too much: %s", err)
			}
			if statusOf(c.err) != 0 && c.code == apitype.VaultUnavailable && !strings.Contains(Cause(err), "vault.internal") && !strings.Contains(Cause(err), "x") {
				t.Errorf("the log learns nothing: %s", Cause(err))
			}
		})
	}
}

func TestCauseIsOneShortLine(t *testing.T) {
	got := Cause(translate(answer(502, strings.Repeat("<br>\n\n", 1000))))
	if strings.ContainsAny(got, "\n\r") || len(got) > maxCause+3 {
		t.Errorf("%d characters: %q", len(got), got)
	}
	if Cause(nil) != "" {
		t.Error("no error has a cause")
	}
}

func TestDeadTokensAreToldFromPolicies(t *testing.T) {
	if !deadToken(answer(403, "2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n")) {
		t.Error("a dead token counts as alive")
	}
	for _, err := range []error{nil, answer(403, "1 error occurred:\n\t* permission denied\n\n"), answer(400, "invalid token"), errors.New("invalid token")} {
		if deadToken(err) {
			t.Errorf("%v counts as a dead token", err)
		}
	}
}
