package session

import (
	"errors"
	"time"

	"github.com/ampora/ampora/edge/problem"
	"github.com/ampora/ampora/plugin/apitype"
)

// Refusal is why somebody gets nothing, or nothing now. Its text is safe to show and to log.
type Refusal struct {
	Err *apitype.Error
	// RetryAfter is when to come again, zero when that would change nothing.
	RetryAfter time.Duration
	// About says for the log whom it concerns, as far as that is known: key and value in turn.
	About []any
	cause error
}

func (r *Refusal) Error() string { return r.Err.Error() }

// Unwrap makes the catalogue's error reachable with errors.As, and that it was Vault which refused.
func (r *Refusal) Unwrap() []error { return []error{r.Err, r.cause} }

// Passing reports whether the same request can succeed later.
func (r *Refusal) Passing() bool { return r.RetryAfter > 0 }

// refuse makes the refusal for an error. One without a code of ours is a fault of the edge.
func refuse(err error) *Refusal {
	var r *Refusal
	if errors.As(err, &r) {
		return r
	}
	var e *apitype.Error
	if !errors.As(err, &e) {
		e = apitype.Errorf(apitype.Internal, "an unexpected error, see the edge's log")
	}
	return &Refusal{Err: e, cause: err, RetryAfter: problem.RetryAfter(e.Code)}
}

func refusef(code apitype.Code, format string, args ...any) *Refusal {
	return refuse(apitype.Errorf(code, format, args...))
}

// about is the refusal for an error, with whom it concerns.
func about(err error, fields ...any) *Refusal {
	r := refuse(err)
	r.About = append(r.About, fields...)
	return r
}
