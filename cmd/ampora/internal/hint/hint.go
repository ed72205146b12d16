// Package hint is how the command line fails: one sentence that says what went wrong, then what to do about it.
package hint

import (
	"errors"
	"fmt"
	"io"

	"github.com/ampora/ampora/plugin/apitype"
	vault "github.com/hashicorp/vault/api"
)

// Error is an error with advice.
type Error struct {
	Err   error
	Hints []string
}

// New makes an Error of a sentence and its hints.
func New(sentence string, hints ...string) *Error {
	return &Error{Err: errors.New(sentence), Hints: hints}
}

// Wrap adds hints to err. A nil err stays nil.
func Wrap(err error, hints ...string) error {
	if err == nil {
		return nil
	}
	return &Error{Err: err, Hints: hints}
}

func (e *Error) Error() string { return e.Err.Error() }

// Unwrap is the error without this advice.
func (e *Error) Unwrap() error { return e.Err }

// Of collects the hints of the whole tree of errors, outermost first. A refusal of our catalogue brings its own.
func Of(err error) []string {
	hints := walk(err)
	var refusal *apitype.Error
	if errors.As(err, &refusal) {
		hints = append(hints, refusal.Code.Next())
	}
	return hints
}

func walk(err error) []string {
	if err == nil {
		return nil
	}
	var hints []string
	if h, ok := err.(*Error); ok { // the tree is walked by hand, so that no hint is lost
		hints = append(hints, h.Hints...)
	}
	switch e := err.(type) { // likewise
	case interface{ Unwrap() error }:
		hints = append(hints, walk(e.Unwrap())...)
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			hints = append(hints, walk(inner)...)
		}
	}
	return hints
}

// Print writes err and its hints, each on a line of its own.
func Print(w io.Writer, err error) {
	text := err.Error()
	var answer *vault.ResponseError
	if errors.As(err, &answer) {
		text = oneLine(text, answer)
	}
	var refusal *apitype.Error
	if errors.As(err, &refusal) {
		text = sentence(text, refusal)
	}
	fmt.Fprintf(w, "error: %s\n", masked(text))
	for _, h := range Of(err) {
		if h != "" {
			fmt.Fprintf(w, "hint: %s\n", h)
		}
	}
}
