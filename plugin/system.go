package ampora

import (
	"sync"
	"time"

	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"
)

// replicationTTL is how long an answer about the replication state is used.
const replicationTTL = time.Second

// cachedSystem spares most requests the calls back into Vault with which the framework asks for the replication state, and
// whether the mount is local.
type cachedSystem struct {
	logical.SystemView
	now func() time.Time

	mu    sync.Mutex
	state consts.ReplicationState
	local bool
	until time.Time
}

func cacheReplicationState(system logical.SystemView, now func() time.Time) logical.SystemView {
	if system == nil {
		return nil
	}
	return &cachedSystem{SystemView: system, now: now}
}

// ReplicationState is at most a second old. A node that has just been demoted is stopped by storage, which refuses its
// writes, not by this.
func (s *cachedSystem) ReplicationState() consts.ReplicationState {
	state, _ := s.current()
	return state
}

// LocalMount is as old.
func (s *cachedSystem) LocalMount() bool {
	_, local := s.current()
	return local
}

func (s *cachedSystem) current() (consts.ReplicationState, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.now(); t.After(s.until) {
		s.state, s.local, s.until = s.SystemView.ReplicationState(), s.SystemView.LocalMount(), t.Add(replicationTTL)
	}
	return s.state, s.local
}
