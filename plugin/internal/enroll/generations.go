package enroll

import (
	"slices"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/handover"
	"github.com/ampora/ampora/plugin/identity"
)

// reasonSuperseded stands in the CRL for a leaf whose successor was confirmed, or that was replaced before it was used.
const reasonSuperseded = "superseded"

// maxPast bounds how many replaced leaves that have not expired an agent may have, and with it the row.
const maxPast = 64

// newest is the generation of the last leaf that the agent was given, or is to come with.
func (a *agentRow) newest() uint32 {
	newest := a.Leaf.Generation
	if a.Next != nil {
		newest = max(newest, a.Next.Generation)
	}
	if a.In != nil && a.In.State.Open() {
		newest = max(newest, a.In.Leaf.Generation)
	}
	return newest
}

// good are the leaves that the agent may use: its current one, and the next where there is one.
func (a *agentRow) good() []leafRow {
	if a.Next == nil {
		return []leafRow{a.Leaf}
	}
	return []leafRow{a.Leaf, *a.Next}
}

// lastNotAfter is when the last of the agent's good leaves expires.
func (a *agentRow) lastNotAfter() (last time.Time) {
	for _, l := range a.good() {
		if l.NotAfter.After(last) {
			last = l.NotAfter
		}
	}
	return last
}

// supersede notes that a leaf of the agent counts no longer, and forgets those that have expired. One that is not ours is in no
// list of ours: no row knows it any more.
func (a *agentRow) supersede(l leafRow, now time.Time) {
	if l.Peer != "" {
		return
	}
	a.Past = append(unexpired(a.Past, now), l.dead(now, reasonSuperseded))
}

// confirm makes the next leaf the current one, and answers what tells the end of the old one.
func (a *agentRow) confirm(now time.Time) apitype.Event {
	old := a.Leaf
	a.supersede(old, now)
	a.Leaf, a.Next, a.NextSeen = *a.Next, nil, time.Time{}
	return apitype.Event{
		EntityType: "certificate", EntityID: old.Serial, Action: apitype.ActionCertificateRevoked, Tenant: a.Tenant, AgentID: a.AgentID,
		Details: map[string]any{"reason": reasonSuperseded, "fingerprint": old.Fingerprint, "replaced_by": a.Leaf.Serial},
	}
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
	case a.In != nil && a.In.State == handover.AwaitingRelease && generation == a.In.Leaf.Generation:
		return apitype.LeafPending
	case a.away() && generation == a.Leaf.Generation:
		return apitype.LeafMoved
	case generation == a.Leaf.Generation:
		return apitype.LeafCurrent
	case a.Next != nil && generation == a.Next.Generation:
		return apitype.LeafNext
	case generation < a.newest():
		return apitype.LeafSuperseded
	}
	return apitype.LeafUnknown
}
