package store

import (
	"sync"

	"github.com/hashicorp/vault/sdk/helper/locksutil"
)

// Locks is the one lock domain of token and agent transitions. A transition holds, in this order, the mount shared, its
// token's pool shared, and the stripe of the agent's id exclusively. A token knows its agent's id before it has become
// one, so token and agent are guarded as one.
//
// Whatever ends many tokens at once holds the mount or the pool exclusively. When it answers, nothing that looked at the
// state before can still commit.
//
// Nobody takes a lock of this domain while holding one of its kind: a second shared hold waits for whoever waits for the
// exclusive one.
type Locks struct {
	mount  sync.RWMutex
	pools  []*locksutil.LockEntry
	agents []*locksutil.LockEntry
}

// NewLocks makes a lock domain.
func NewLocks() *Locks {
	return &Locks{pools: locksutil.CreateLocks(), agents: locksutil.CreateLocks()}
}

// Agent takes what a transition of one agent, or of the token that becomes it, must hold. poolID is that of the token, or
// empty. The answer releases it.
func (l *Locks) Agent(agentID, poolID string) (release func()) {
	issuing := l.Issuing(poolID)
	stripe := locksutil.LockForKey(l.agents, agentID)
	stripe.Lock()
	return func() {
		stripe.Unlock()
		issuing()
	}
}

// Issuing takes what making a row must hold: the mount, and the pool that a token comes from, if any, both shared.
func (l *Locks) Issuing(poolID string) (release func()) {
	l.mount.RLock()
	if poolID == "" {
		return l.mount.RUnlock
	}
	pool := locksutil.LockForKey(l.pools, poolID)
	pool.RLock()
	return func() {
		pool.RUnlock()
		l.mount.RUnlock()
	}
}

// Pool takes a pool exclusively: no transition of its tokens is under way.
func (l *Locks) Pool(poolID string) (release func()) {
	l.mount.RLock()
	pool := locksutil.LockForKey(l.pools, poolID)
	pool.Lock()
	return func() {
		pool.Unlock()
		l.mount.RUnlock()
	}
}

// Mount takes the mount exclusively: no transition of any token or agent is under way, and no row is being made.
func (l *Locks) Mount() (release func()) {
	l.mount.Lock()
	return l.mount.Unlock
}
