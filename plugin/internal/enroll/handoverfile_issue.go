package enroll

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/audit"
	"github.com/ampora/ampora/plugin/internal/federation"
	"github.com/ampora/ampora/plugin/internal/name"
	"github.com/ampora/ampora/plugin/internal/store"
	"github.com/google/uuid"
)

// maxScan is how many rows one part of a group's handovers looks through, so that no request takes long where few of many
// agents are in the group.
const maxScan = 20_000

// IssueHandovers makes handover tokens for a part of the agents of a group of the path's tenant, or of a list. Each agent is a
// transition of its own, as with Handover: one that cannot be moved is told among the refused, with what Handover would have
// said, and so is one whose row storage gave no clear answer for. Nothing is made twice, so what was made in a part whose answer
// got lost is pending until it ends.
// Errors, before anything is made: field_invalid, peer_unknown, peer_suspended, group_missing, ttl_out_of_range, not_configured.
func (e *Enroller) IssueHandovers(ctx context.Context, origin audit.Origin, tenant string, in apitype.HandoverIssueRequest) (apitype.HandoverIssueResponse, error) {
	out := apitype.HandoverIssueResponse{Tokens: []apitype.IssuedHandover{}, Refused: []apitype.HandoverRefusal{}}
	each := apitype.HandoverRequest{Peer: in.Peer, Configuration: in.Configuration, TTL: in.TTL}
	if _, _, err := e.handoverTerms(ctx, each); err != nil {
		return out, err
	}
	peer, unhold, err := e.Peers.Hold(ctx, in.Peer)
	if err != nil {
		return out, err
	}
	unhold() // each agent holds it for itself
	part, err := e.handoverPart(ctx, tenant, peer, in)
	if err != nil {
		return out, err
	}
	made, failed := make([]apitype.HandoverToken, len(part.ids)), make([]error, len(part.ids))
	err = eachAgent(part.ids, func(n int, id string) error {
		if err := ctx.Err(); err != nil { // nobody listens any more
			return err
		}
		made[n], failed[n] = e.Handover(ctx, origin, tenant, id, each)
		if failed[n] != nil && apitype.CodeOf(failed[n]) == "" {
			return failed[n]
		}
		return nil
	})
	if err != nil {
		return out, err
	}
	for n, id := range part.ids {
		if failed[n] != nil {
			out.Refused = append(out.Refused, refusal(id, failed[n]))
			continue
		}
		t := made[n]
		out.Tokens = append(out.Tokens, apitype.IssuedHandover{AgentID: id, HandoverID: t.HandoverID, HandoverToken: t.HandoverToken})
		if out.ExpiresAt == "" || t.ExpiresAt < out.ExpiresAt {
			out.ExpiresAt = t.ExpiresAt
		}
	}
	out.NextAfter = part.next
	return out, nil
}

func refusal(agentID string, err error) apitype.HandoverRefusal {
	var coded *apitype.Error
	errors.As(err, &coded)
	return apitype.HandoverRefusal{AgentID: agentID, Code: coded.Code, Detail: coded.Detail}
}

// part is some agents of a selection, in the order of their ids.
type part struct {
	ids   []string
	bytes int    // that their tokens will have, about
	next  string // after which the next part begins, "" for the last one

	most int    // agents
	last string // that was taken, or after which it begins
}

// handoverPart selects the agents of one part: as many as are asked for, or as tokens fit into an answer.
func (e *Enroller) handoverPart(ctx context.Context, tenant string, peer *federation.Peer, in apitype.HandoverIssueRequest) (*part, error) {
	p := &part{most: in.Limit, last: in.After}
	switch {
	case in.Limit < 0 || in.Limit > apitype.MaxHandoverPart:
		return nil, apitype.Errorf(apitype.FieldInvalid, "limit must be 1 to %d", apitype.MaxHandoverPart)
	case in.Limit == 0:
		p.most = apitype.MaxHandoverPart
	}
	switch {
	case (in.Group == "") == (len(in.AgentIDs) == 0):
		return nil, apitype.Errorf(apitype.FieldInvalid, "give one of group and agent_ids")
	case len(in.AgentIDs) > apitype.MaxAgentsTogether:
		return nil, apitype.Errorf(apitype.FieldInvalid, "agent_ids has more than %d entries", apitype.MaxAgentsTogether)
	case in.Group != "":
		if err := name.Check("group", in.Group); err != nil {
			return nil, err
		}
		release, err := e.HoldGroup(ctx, tenant, in.Group)
		if err != nil {
			return nil, err
		}
		release()
		return p, e.pickOfGroup(ctx, tenant, peer, in.Group, p)
	}
	return p, e.pickOfList(ctx, tenant, peer, in.AgentIDs, p)
}

// pickOfGroup takes agents of the group after p.last. The group is one of the path's tenant, or of none.
func (e *Enroller) pickOfGroup(ctx context.Context, tenant string, peer *federation.Peer, group string, p *part) error {
	scanned := 0
	return e.walkAgents(store.InPassing(ctx), p.last, func(id string) (bool, error) {
		if scanned++; scanned > maxScan {
			p.next = before(id)
			return false, nil
		}
		row, err := get[agentRow](store.InPassing(ctx), e, store.AgentPrefix, id)
		if err != nil {
			return false, err
		}
		if row == nil || row.absent() || row.Tenant != tenant || row.Group != group {
			return true, nil
		}
		return p.take(id, row, peer), nil
	})
}

// before is a place before the agent's, and behind all but a few of those before it. It is answered where the agent's id must not
// be, for it may be another tenant's.
func before(id string) string {
	const told = 6 // digits: enough to tell millions of agents from each other
	return id[:told] + uuid.Nil.String()[told:]
}

// pickOfList takes agents of the list after p.last. Whether they are there, and the tenant's, is found out when they are moved.
func (e *Enroller) pickOfList(ctx context.Context, tenant string, peer *federation.Peer, list []string, p *part) error {
	ids := slices.Compact(slices.Sorted(slices.Values(list)))
	begin, found := slices.BinarySearch(ids, p.last)
	if found {
		begin++
	}
	for _, id := range ids[begin:] {
		if err := name.CheckID(id, apitype.AgentUnknown); err != nil {
			return err
		}
		row, err := get[agentRow](ctx, e, store.AgentPrefix, id)
		if err != nil {
			return err
		}
		if row != nil && !inTenant(tenant, row.Tenant) { // not even by how many fit into a part
			row = nil
		}
		if !p.take(id, row, peer) {
			return nil
		}
	}
	return nil
}

// take puts the agent into the part, or says that the part is full.
func (p *part) take(id string, row *agentRow, peer *federation.Peer) bool {
	size := row.handoverSize(peer)
	if len(p.ids) == p.most || len(p.ids) > 0 && p.bytes+size > apitype.MaxHandoverText {
		p.next = p.last
		return false
	}
	p.ids, p.bytes, p.last = append(p.ids, id), p.bytes+size, id
	return true
}

// Sizes of what a handover token has besides what is long, in bytes: more than any has.
const (
	shortClaims = 2000 // and their names
	signature   = 800  // of RSA with 4096 bits, and the header
)

// handoverSize is about as long as a handover token of the agent would be, never less. A nil row has none.
func (a *agentRow) handoverSize(peer *federation.Peer) int {
	if a == nil {
		return 0
	}
	claims := shortClaims + len(a.DisplayName) + quoted(a.Description) + quoted(a.Leaf.Certificate) + quoted(peer.CABundle)
	size := signature + claims/3*4 + 4
	if a.In != nil {
		size += len(a.In.Token)
	}
	return size
}

// quoted is how long a text is in JSON, at most.
func quoted(text string) int {
	n := len(text)
	for _, c := range []byte(text) {
		switch {
		case c == '"' || c == '\\' || c == '\n':
			n++
		case c < 0x20:
			n += 5
		}
	}
	return n
}

// soonest is the earlier of two times, a zero one being none.
func soonest(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}
