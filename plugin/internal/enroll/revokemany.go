package enroll

import (
	"context"
	"slices"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/audit"
	"github.com/ampora/ampora/plugin/internal/ca"
	"github.com/ampora/ampora/plugin/internal/name"
	"github.com/ampora/ampora/plugin/internal/store"
	"github.com/google/uuid"
)

// revokeJob is revoke-job/<shard>/<id>: many agents that are being revoked together. Its Put is the commit, and tells one event
// with their number; each agent then gets a record of its own, and the job goes when they all have. A crash in between leaves
// the job, and the next sweep carries on.
type revokeJob struct {
	ID     string        `json:"id"`
	Tenant string        `json:"tenant,omitempty"`
	Agents []string      `json:"agents,omitempty"`
	Group  string        `json:"group,omitempty"`
	Pool   string        `json:"pool,omitempty"`
	Reason string        `json:"reason"`
	Time   time.Time     `json:"time"` // agents that enrolled later are not meant
	Record *audit.Record `json:"record"`
}

func (*revokeJob) SchemaName() string { return "revoke job" }
func (*revokeJob) SchemaVersion() int { return 1 }

// RevokeAgents ends every leaf of the agents that are selected: a list, or all of the path's tenant that are in a group or
// come from a pool, or every agent of a tenant. Agents of a list are checked before anything is changed. Those that were
// revoked before keep their reason and time. After an error some may have been revoked, and the others soon are.
func (e *Enroller) RevokeAgents(ctx context.Context, origin audit.Origin, tenant string, in apitype.RevokeAgentsRequest) (apitype.RevokeAgentsResponse, error) {
	job := &revokeJob{ID: uuid.NewString(), Tenant: tenant, Agents: in.AgentIDs, Group: in.Group, Pool: in.Pool, Reason: in.Reason, Time: e.Now().UTC()}
	none := apitype.RevokeAgentsResponse{}
	details, err := job.validate(in.All)
	if err != nil {
		return none, err
	}
	ids, err := e.selected(ctx, job)
	if err != nil {
		return none, err
	}
	out := apitype.RevokeAgentsResponse{Revoked: len(ids), Reason: job.Reason, RevocationTime: job.Time.Unix()}
	if len(ids) == 0 {
		return out, nil
	}
	details["reason"], details["count"] = job.Reason, len(ids)
	job.Record = audit.NewRecord(origin, job.Time, apitype.Event{
		EntityType: "certificate", EntityID: "many", Action: apitype.ActionCertificateRevoked, Tenant: tenant, Details: details,
	})
	if err := e.Store.Put(ctx, store.Sharded(store.RevokeJobs, job.ID), job); err != nil { // the commit
		return none, err
	}
	if err := e.carryOut(context.WithoutCancel(ctx), job, ids); err != nil {
		e.unfinished.Store(true)
		return none, err
	}
	return out, nil
}

// validate checks the selection and says how an event tells it.
func (j *revokeJob) validate(all bool) (map[string]any, error) {
	if j.Reason == "" {
		j.Reason = reasonUnspecified
	}
	if !ca.KnownReason(j.Reason) {
		return nil, apitype.Errorf(apitype.FieldInvalid, "reason must be one of %v", ca.Reasons())
	}
	details, ways := map[string]any{}, 0
	for _, w := range []struct {
		given bool
		what  string
		value any
	}{
		{len(j.Agents) > 0, "agent_ids", j.Agents}, {j.Group != "", "group", j.Group}, {j.Pool != "", "pool", j.Pool}, {all, "all", true},
	} {
		if w.given {
			ways++
			details[w.what] = w.value
		}
	}
	switch {
	case ways != 1:
		return nil, apitype.Errorf(apitype.FieldInvalid, "give one of agent_ids, group, pool and all")
	case all && j.Tenant == "":
		return nil, apitype.Errorf(apitype.FieldInvalid, "all needs a tenant's path: ampora/tenants/<tenant>/agents/revoke")
	case len(j.Agents) > apitype.MaxAgentsTogether:
		return nil, apitype.Errorf(apitype.FieldInvalid, "agent_ids has more than %d entries", apitype.MaxAgentsTogether)
	case j.Group != "":
		return details, name.Check("group", j.Group)
	case j.Pool != "" && name.CheckID(j.Pool, apitype.PoolUnknown) != nil:
		return details, name.Check("pool", j.Pool)
	}
	j.Agents = slices.Compact(slices.Sorted(slices.Values(j.Agents)))
	return details, nil
}

// selected are the agents that the job means and that are not revoked yet.
func (e *Enroller) selected(ctx context.Context, job *revokeJob) ([]string, error) {
	var ids []string
	pick := func(id string) (found bool, err error) {
		agent, err := get[agentRow](ctx, e, store.AgentPrefix, id)
		if err != nil || agent == nil || agent.absent() || !job.means(agent) {
			return agent != nil && !agent.absent() && inTenant(job.Tenant, agent.Tenant), err
		}
		revoked, err := get[revokedRow](ctx, e, store.RevokedPrefix, id)
		if err == nil && !(met{agent: agent, revoked: revoked}).ended() {
			ids = append(ids, id)
		}
		return true, err
	}
	if len(job.Agents) == 0 {
		return ids, e.walkAgents(ctx, "", func(id string) (bool, error) {
			_, err := pick(id)
			return true, err
		})
	}
	for _, id := range job.Agents {
		if err := name.CheckID(id, apitype.AgentUnknown); err != nil {
			return nil, err
		}
		found, err := pick(id)
		if err != nil {
			return nil, err
		}
		if !found && job.Record == nil { // later it may have been deleted
			return nil, apitype.Errorf(apitype.AgentUnknown, "no agent has the id %s, and nothing was changed", id)
		}
	}
	return ids, nil
}

// means reports whether the agent is one of those that the job is about. A group is one of the job's own tenant, or of none.
func (j *revokeJob) means(a *agentRow) bool {
	switch {
	case a.EnrolledAt.After(j.Time):
		return false
	case len(j.Agents) > 0:
		return inTenant(j.Tenant, a.Tenant)
	}
	return a.Tenant == j.Tenant && wanted(j.Group, a.Group) && (j.Pool == "" || j.Pool == a.Pool || j.Pool == a.PoolID)
}

// carryOut gives each agent its record, and then removes the job.
func (e *Enroller) carryOut(ctx context.Context, job *revokeJob, ids []string) error {
	if err := e.Log.Ensure(ctx, job.Record); err != nil {
		return err
	}
	err := eachAgent(ids, func(_ int, id string) error {
		m, release, err := e.metAgent(ctx, job.Tenant, id)
		if err != nil {
			return err
		}
		defer release()
		if m.ended() {
			return nil
		}
		row, err := e.revocation(ctx, m, job.Reason, job.Time)
		if err != nil {
			return err
		}
		if err := e.putRevoked(ctx, row); err != nil {
			return err
		}
		e.endPending(ctx, met{agent: m.agent, revoked: row})
		return nil
	})
	if err != nil {
		return err
	}
	return e.Store.Delete(ctx, store.Sharded(store.RevokeJobs, job.ID))
}

// CarryOn finishes the revocations of many agents that a crash or a fault cut short.
func (e *Enroller) CarryOn(ctx context.Context) error {
	e.unfinished.Store(false)
	err := e.Store.Walk(ctx, store.RevokeJobs, "", func(id string) (bool, error) {
		job, err := get[revokeJob](ctx, e, store.RevokeJobs, id)
		if err != nil || job == nil {
			return err == nil, err
		}
		ids, err := e.selected(ctx, job)
		if err != nil {
			return false, err
		}
		return true, e.carryOut(ctx, job, ids)
	})
	if err != nil {
		e.unfinished.Store(true)
	}
	return err
}

// Unfinished reports whether a revocation of many agents waits for CarryOn.
func (e *Enroller) Unfinished() bool { return e.unfinished.Load() }
