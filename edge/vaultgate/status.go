package vaultgate

import (
	"sync"
	"time"
)

// Status is whether Vault answers this edge, for /readyz and the log.
type Status struct {
	Up     bool
	Reason string    // why not, as one line without secrets; empty while up
	Since  time.Time // of the last change
}

type status struct {
	mu  sync.Mutex
	now Status
}

func newStatus() *status {
	return &status{now: Status{Reason: "Vault has not been asked yet", Since: time.Now()}}
}

func (s *status) get() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

// note takes the outcome of a call and reports whether it changed the status. A new reason alone is no change.
func (s *status) note(up bool, reason string) (changed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	changed = s.now.Up != up
	if changed {
		s.now.Since = time.Now()
	}
	s.now.Up, s.now.Reason = up, reason
	return changed
}
