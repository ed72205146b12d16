package store

import "github.com/hashicorp/vault/sdk/helper/locksutil"

// Locks is the one lock domain of token and agent transitions. The stripe is that of the agent's id, which a token knows
// before it has become an agent, so token and agent are guarded as one.
type Locks struct {
	stripes []*locksutil.LockEntry
}

// NewLocks makes a lock domain.
func NewLocks() *Locks { return &Locks{stripes: locksutil.CreateLocks()} }

// Agent takes the lock for one agent, and so for the token that becomes it. The answer releases it.
func (l *Locks) Agent(agentID string) (release func()) {
	stripe := locksutil.LockForKey(l.stripes, agentID)
	stripe.Lock()
	return stripe.Unlock
}
