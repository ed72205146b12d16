package enroll

import (
	"context"

	"github.com/ampora/ampora/plugin/identity"
	"github.com/ampora/ampora/plugin/internal/pace"
	"github.com/ampora/ampora/plugin/internal/revocation"
	"github.com/ampora/ampora/plugin/internal/store"
)

// Dead hears of leaves that count no longer although they have not expired: revoked ones, and replaced ones.
type Dead interface {
	// Changed tells all of them that an agent has. It is called after the Put.
	Changed(agentID string, leaves []revocation.Leaf)
	// Discard tells that memory may be wrong: a Put has an unknown outcome.
	Discard()
}

// putLeaves commits an agent's row whose replaced leaves are not what they were.
func (e *Enroller) putLeaves(ctx context.Context, row *agentRow) error {
	return e.putDead(ctx, store.AgentPrefix, row, row.AgentID, row.Past)
}

// putDead Puts a row of an agent that says which of its leaves count no longer.
func (e *Enroller) putDead(ctx context.Context, prefix string, row store.Row, agentID string, refs []leafRef) error {
	leaves, err := e.deadLeaves(agentID, refs)
	if err != nil {
		return err
	}
	known := false
	defer func() {
		if !known {
			e.Dead.Discard()
		}
	}()
	err = e.Store.Put(ctx, store.Sharded(prefix, agentID), row)
	known = !store.UnknownOutcome(err)
	if err == nil {
		e.Dead.Changed(agentID, leaves)
	}
	return err
}

// deadLeaves are those that have not expired.
func (e *Enroller) deadLeaves(agentID string, refs []leafRef) ([]revocation.Leaf, error) {
	var leaves []revocation.Leaf
	for _, l := range unexpired(refs, e.Now()) {
		leaf, err := l.leaf(agentID)
		if err != nil {
			return nil, err
		}
		leaves = append(leaves, leaf)
	}
	return leaves, nil
}

func (l leafRef) leaf(agentID string) (revocation.Leaf, error) {
	serial, err := identity.LeafSerial(agentID, l.Generation)
	return revocation.Leaf{Serial: serial, IssuerID: l.IssuerID, Time: l.Time, Reason: l.Reason, NotAfter: l.NotAfter}, err
}

// DeadLeaves visits every agent that has leaves which count no longer although they have not expired. An agent may be
// visited twice: the later visit counts, for an agent that was revoked had all its leaves by then.
func (e *Enroller) DeadLeaves(ctx context.Context, visit func(agentID string, leaves []revocation.Leaf)) error {
	ctx = store.InPassing(ctx)
	pace := pace.Pace{Awaited: true} // there is no CRL before
	each := func(prefix string, refs func(id string) ([]leafRef, error)) error {
		return e.Store.Walk(ctx, prefix, "", func(id string) (bool, error) {
			if err := pace.Step(ctx); err != nil {
				return false, err
			}
			found, err := refs(id)
			if err != nil {
				return false, err
			}
			leaves, err := e.deadLeaves(id, found)
			if err == nil && len(leaves) > 0 {
				visit(id, leaves)
			}
			return true, err
		})
	}
	if err := each(store.AgentPrefix, func(id string) ([]leafRef, error) {
		row, err := get[agentRow](ctx, e, store.AgentPrefix, id)
		if row == nil {
			return nil, err
		}
		return row.Past, err
	}); err != nil {
		return err
	}
	return each(store.RevokedPrefix, func(id string) ([]leafRef, error) {
		row, err := get[revokedRow](ctx, e, store.RevokedPrefix, id)
		if row == nil {
			return nil, err
		}
		return row.Leaves, err
	})
}

// LeafStanding says what became of a leaf: whether it is known (given by us, and not forgotten since it expired), which
// issuer signed it, and, when it counts no longer, since when and why.
//
// It holds no lock. An agent's rows are read in the order in which a deletion writes them backwards, so one of them tells.
func (e *Enroller) LeafStanding(ctx context.Context, serial identity.Serial) (known bool, issuerID string, dead *revocation.Leaf, err error) {
	if serial.Kind() != identity.KindLeaf {
		return false, "", nil, nil
	}
	id, generation := serial.AgentID(), serial.Generation()
	agent, err := get[agentRow](ctx, e, store.AgentPrefix, id)
	if err != nil {
		return false, "", nil, err
	}
	revoked, err := get[revokedRow](ctx, e, store.RevokedPrefix, id)
	if err != nil {
		return false, "", nil, err
	}
	var refs []leafRef
	switch {
	case revoked.covers(generation):
		refs = revoked.Leaves
	case agent == nil:
	case generation == agent.Leaf.Generation && agent.Leaf.Peer != "": // never ours
	case generation == agent.Leaf.Generation:
		return true, agent.Leaf.IssuerID, nil, nil
	case agent.Next != nil && generation == agent.Next.Generation:
		return true, agent.Next.IssuerID, nil, nil
	default:
		refs = agent.Past
	}
	for _, l := range refs {
		if l.Generation == generation {
			leaf, err := l.leaf(id)
			return true, l.IssuerID, &leaf, err
		}
	}
	return false, "", nil, nil
}
