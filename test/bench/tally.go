package main

import (
	"errors"
	"net"
	"sync"
	"syscall"
)

// tally counts what did not work: refusals by their code, and the rest by what it was. It is safe for concurrent use.
type tally struct {
	mu      sync.Mutex
	refused map[string]int
	broken  map[string]int
}

func (t *tally) add(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if r, refused := errors.AsType[*refusal](err); refused {
		count(&t.refused, r.code)
		return
	}
	var timeout net.Error
	what := "cut off"
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		what = "nobody listens"
	case errors.As(err, &timeout) && timeout.Timeout():
		what = "no answer in time"
	}
	count(&t.broken, what)
}

func count(in *map[string]int, what string) {
	if *in == nil {
		*in = map[string]int{}
	}
	(*in)[what]++
}

// tell puts the counts into an outcome.
func (t *tally) tell(out *outcome) {
	t.mu.Lock()
	defer t.mu.Unlock()
	out.Refused, out.Broken = t.refused, t.broken
}
