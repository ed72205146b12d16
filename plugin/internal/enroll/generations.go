package enroll

import (
	"slices"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/identity"
)

// reasonSuperseded stands in the CRL for a leaf whose successor was confirmed, or that was replaced before it was used.
const reasonSuperseded = "superseded"

// maxPast bounds how many replaced leaves that have not expired an agent may have, and with it the row.
const maxPast = 64

// newest is the generation of the last leaf that the agent was given.
func (a *agentRow) newest() uint32 {
	if a.Next != nil {
		return max(a.Leaf.Generation, a.Next.Generation)
	}
	return a.Leaf.Generation
}

// lastNotAfter is when the last of the agent's good leaves expires.
func (a *agentRow) lastNotAfter() time.Time {
	if a.Next != nil && a.Next.NotAfter.After(a.Leaf.NotAfter) {
		return a.Next.NotAfter
	}
	return a.Leaf.NotAfter
}

// supersede notes that a leaf of the agent counts no longer, and forgets those that have expired.
func (a *agentRow) supersede(l leafRow, now time.Time) {
	a.Past = append(unexpired(a.Past, now), l.dead(now, reasonSuperseded))
}

// confirm makes the next leaf the current one.
func (a *agentRow) confirm(now time.Time) {
	a.supersede(a.Leaf, now)
	a.Leaf, a.Next, a.NextSeen = *a.Next, nil, time.Time{}
}

func (l leafRow) dead(since time.Time, reason string) leafRef {
	return leafRef{Generation: l.Generation, IssuerID: l.IssuerID, NotAfter: l.NotAfter, Time: since.UTC(), Reason: reason}
}

// unexpired is a copy of the leaves that have not expired.
func unexpired(leaves []leafRef, now time.Time) []leafRef {
	return slices.DeleteFunc(slices.Clone(leaves), func(l leafRef) bool { return !l.NotAfter.After(now) })
}

// covers reports whether the leaf of that generation was revoked. A nil row covers none.
func (r *revokedRow) covers(generation uint32) bool { return r != nil && generation <= r.Generation }

// ended reports whether every leaf of the agent was revoked.
func (m met) ended() bool { return m.agent != nil && m.revoked.covers(m.agent.newest()) }

// standing is what a leaf of the agent counts as.
func standing(m met, serial identity.Serial) string {
	a := m.agent
	switch generation := serial.Generation(); {
	case m.revoked.covers(generation):
		return apitype.LeafRevoked
	case generation == a.Leaf.Generation:
		return apitype.LeafCurrent
	case a.Next != nil && generation == a.Next.Generation:
		return apitype.LeafNext
	case generation < a.newest():
		return apitype.LeafSuperseded
	}
	return apitype.LeafUnknown
}
