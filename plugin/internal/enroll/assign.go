package enroll

import (
	"context"
	"fmt"
	"runtime/debug"
	"slices"
	"sync/atomic"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/audit"
	"github.com/ampora/ampora/plugin/internal/name"
	"golang.org/x/sync/errgroup"
)

// agentsTogether is how many agents are changed at a time: their events are then written together (see audit.Log).
const agentsTogether = 16

// Assign puts agents into a group, or into none. Everything is checked before anything is changed; then each agent is a
// transition of its own, with its own event. An agent that is deleted in between is left out. After an error some may have
// changed: asking again changes the others.
func (e *Enroller) Assign(ctx context.Context, origin audit.Origin, tenant string, in apitype.AssignRequest) (apitype.AssignResponse, error) {
	out := apitype.AssignResponse{Group: in.Group, Changed: []string{}}
	if n := len(in.AgentIDs); n == 0 || n > apitype.MaxAgentsTogether {
		return out, apitype.Errorf(apitype.FieldInvalid, "agent_ids must have 1 to %d entries", apitype.MaxAgentsTogether)
	}
	in.AgentIDs = slices.Compact(slices.Sorted(slices.Values(in.AgentIDs)))
	if err := e.assignable(ctx, tenant, in); err != nil {
		return out, err
	}
	changed := make([]bool, len(in.AgentIDs))
	err := eachAgent(in.AgentIDs, func(n int, id string) (err error) {
		_, changed[n], err = e.update(ctx, origin, tenant, id, apitype.AgentUpdateRequest{Group: &in.Group})
		return err
	})
	if err != nil {
		return out, err
	}
	for n, id := range in.AgentIDs {
		if changed[n] {
			out.Changed = append(out.Changed, id)
		}
	}
	return out, nil
}

// eachAgent works on many agents, some at a time, and answers the first error. An agent that is gone by then is left out. A
// panic goes on in the caller, who knows what to do about one.
func eachAgent(ids []string, change func(n int, id string) error) error {
	var broken atomic.Value
	var work errgroup.Group
	work.SetLimit(agentsTogether)
	for n, id := range ids {
		work.Go(func() error {
			defer func() {
				if p := recover(); p != nil {
					broken.Store(fmt.Sprintf("%v\n%s", p, debug.Stack()))
				}
			}()
			if err := change(n, id); apitype.CodeOf(err) != apitype.AgentUnknown {
				return err
			}
			return nil
		})
	}
	err := work.Wait()
	if p := broken.Load(); p != nil {
		panic(p)
	}
	return err
}

// assignable checks that all agents are there, and that the group is one of the tenant of each.
func (e *Enroller) assignable(ctx context.Context, tenant string, in apitype.AssignRequest) error {
	if in.Group != "" {
		if err := name.Check("group", in.Group); err != nil {
			return err
		}
	}
	tenants := map[string]bool{}
	for _, id := range in.AgentIDs {
		agent, err := e.Agent(ctx, tenant, id)
		if apitype.CodeOf(err) == apitype.AgentUnknown && name.CheckID(id, apitype.AgentUnknown) == nil {
			return apitype.Errorf(apitype.AgentUnknown, "no agent has the id %s, and nothing was changed", id)
		}
		if err != nil {
			return err
		}
		tenants[agent.Tenant] = true
	}
	for owner := range tenants {
		release, err := e.HoldGroup(ctx, owner, in.Group)
		if err != nil {
			return err
		}
		release()
	}
	return nil
}
