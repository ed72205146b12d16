package vaultgate

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"

	"github.com/ampora/ampora/plugin/apitype"
	vaultapi "github.com/hashicorp/vault/api"
)

// Unavailable means that Vault gave no answer that counts. Its text is the public one, safe to show to an agent.
type Unavailable struct {
	// Public is what to answer: vault_unavailable, or outcome_unknown when the call may have taken effect.
	Public *apitype.Error
	// Cause is for the log.
	Cause error
}

func (e *Unavailable) Error() string { return e.Public.Error() }

// Unwrap makes both reachable with errors.As and errors.Is.
func (e *Unavailable) Unwrap() []error { return []error{e.Public, e.Cause} }

// Cause is what lies behind an error of a Gate, as one line for the log; of any other error it is the text.
func Cause(err error) string {
	if err == nil {
		return ""
	}
	var u *Unavailable
	if errors.As(err, &u) && u.Cause != nil {
		return oneLine(u.Cause.Error())
	}
	return oneLine(err.Error())
}

// maxCause bounds what is logged of a cause: a proxy in front of Vault answers with whole web pages.
const maxCause = 400

func oneLine(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > maxCause {
		text = strings.ToValidUTF8(text[:maxCause], "") + "..."
	}
	return text
}

func unavailable(cause error, format string, args ...any) *Unavailable {
	return &Unavailable{Public: apitype.Errorf(apitype.VaultUnavailable, format, args...), Cause: cause}
}

// statusOf is the HTTP status of an answer of Vault, or 0.
func statusOf(err error) int {
	var answer *vaultapi.ResponseError
	if errors.As(err, &answer) {
		return answer.StatusCode
	}
	return 0
}

// deadToken reports whether a 403 says that the token itself is the reason. Since version 1.10 Vault adds this to its
// 'permission denied'; a token that lives, but whose policies say no, gets the 'permission denied' alone.
func deadToken(err error) bool {
	var answer *vaultapi.ResponseError
	if !errors.As(err, &answer) || answer.StatusCode != http.StatusForbidden {
		return false
	}
	for _, text := range answer.Errors {
		if strings.Contains(text, "invalid token") || strings.Contains(text, "bad token") {
			return true
		}
	}
	return false
}

// translate makes what the client answered into what the edge may act on. A refusal stays; the rest is unavailable,
// with a public clause that tells the operator where to look and an outsider nothing.
func translate(err error) error {
	var own *Unavailable
	switch {
	case err == nil, errors.As(err, &own), apitype.CodeOf(err) != "":
		return err
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return unavailable(err, "Vault did not answer in time")
	}
	switch status := statusOf(err); {
	case status == 0:
		return unavailable(err, "Vault cannot be reached")
	case status == http.StatusForbidden:
		return unavailable(err, "Vault refused this edge")
	case status == http.StatusNotFound:
		return unavailable(err, "the secrets engine is not mounted where this edge looks for it")
	case status == http.StatusTooManyRequests:
		return unavailable(err, "Vault is asked too much")
	case status == http.StatusServiceUnavailable:
		return unavailable(err, "Vault is sealed or not ready")
	default:
		return unavailable(err, "Vault answered with an error")
	}
}

// passing reports whether the same call may well succeed in a moment.
func passing(err error) bool {
	switch apitype.CodeOf(err) {
	case apitype.OutcomeUnknown, apitype.NotReady, apitype.Internal:
		return true
	case apitype.VaultUnavailable:
	default:
		return false
	}
	if errors.Is(err, errPolicy) || errors.Is(err, errBusy) {
		return false
	}
	switch status := statusOf(err); status {
	case 0, http.StatusForbidden, http.StatusPreconditionFailed, http.StatusTooManyRequests:
		return true // without an answer; our token died; a lagging standby; a quota
	default:
		return status >= 500 || status == 472 || status == 473 // the latter: standbys that do not serve
	}
}

// mayHaveHappened reports whether a call that failed like this can still have taken effect. When in doubt it can.
func mayHaveHappened(err error) bool {
	switch apitype.CodeOf(err) {
	case apitype.OutcomeUnknown, apitype.Internal:
		return true
	case apitype.VaultUnavailable:
	default:
		return false
	}
	if errors.Is(err, errNoToken) || errors.Is(err, errPolicy) || errors.Is(err, errBusy) {
		return false
	}
	var dial *net.OpError
	if errors.As(err, &dial) && dial.Op == "dial" {
		return false
	}
	switch status := statusOf(err); status {
	case 0:
		return true
	default:
		// Vault answers 503 while it is sealed or a standby without a leader, before it looks at the request.
		return status >= 500 && status != http.StatusServiceUnavailable
	}
}

var (
	errNoToken = errors.New("not logged in to Vault")
	errPolicy  = errors.New("the token lives, so a policy says no; compare it with scripts/policies/edge.hcl")
	errBusy    = errors.New("too many calls are waiting")
	errGivenUp = errors.New("the caller gave up")
)

// givenUp marks the failure of a call whose caller did not wait for its end: it says nothing about Vault.
func givenUp(err error) error {
	public := apitype.Errorf(apitype.CodeOf(err), "the call was given up")
	return &Unavailable{Public: public, Cause: fmt.Errorf("%w: %w", errGivenUp, err)}
}
