package enroll

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/identity"
	"github.com/ampora/ampora/plugin/internal/ca"
	"github.com/ampora/ampora/plugin/internal/store"
)

// summaryShards is how many of the 256 folders of agents one part of a summary covers: at 100,000 agents some
// seconds of reading. Parts follow the ids alone, so a tenant cannot tell from them how many agents others have.
const summaryShards = 32

// Summary counts a part of a tenant's agents, or of everybody's: those from after on, which is two hexadecimal digits, or ""
// for the first part. It takes no locks: a row that changes meanwhile is counted as it was, or as it is.
func (e *Enroller) Summary(ctx context.Context, tenant, after string) (apitype.AgentsSummary, error) {
	sum := apitype.AgentsSummary{Expiring: map[string]int{}}
	begin, err := strconv.ParseUint("0"+after, 16, 16)
	if err != nil || after != "" && after != fmt.Sprintf("%02x", begin) {
		return sum, apitype.Errorf(apitype.FieldInvalid, "after is no next_after of an answer")
	}
	end := begin + summaryShards
	if end < 256 {
		sum.NextAfter = fmt.Sprintf("%02x", end)
	}
	ctx, now := store.InPassing(ctx), e.Now()
	revocations := e.revokedOf(ctx)
	err = e.walkAgents(ctx, after, func(id string) (bool, error) {
		if sum.NextAfter != "" && id >= sum.NextAfter {
			return false, nil
		}
		row, err := get[agentRow](ctx, e, store.AgentPrefix, id)
		if err != nil || row == nil || !inTenant(tenant, row.Tenant) {
			return err == nil, err
		}
		revoked, err := revocations(id)
		if err != nil || revoked != nil && revoked.Deleted {
			return err == nil, err
		}
		return true, count(&sum, row, revoked, now)
	})
	return sum, err
}

// revokedOf answers a function that reads the revocations of agents in the order of their ids: few have one, and one list tells
// which of a folder do.
func (e *Enroller) revokedOf(ctx context.Context) func(id string) (*revokedRow, error) {
	shard, listed := "", map[string]bool{}
	return func(id string) (*revokedRow, error) {
		if id[:2] != shard {
			ids, err := e.Store.List(ctx, store.RevokedPrefix+id[:2]+"/")
			if err != nil {
				return nil, err
			}
			shard, listed = id[:2], make(map[string]bool, len(ids))
			for _, id := range ids {
				listed[id] = true
			}
		}
		if !listed[id] {
			return nil, nil
		}
		return get[revokedRow](ctx, e, store.RevokedPrefix, id)
	}
}

// count adds one agent to the sum.
func count(sum *apitype.AgentsSummary, row *agentRow, revoked *revokedRow, now time.Time) error {
	last := row.lastNotAfter()
	switch {
	case row.absent():
		return nil
	case revoked.covers(row.newest()):
		sum.Revoked++
		return nil
	case row.away():
		sum.Moved++
		return nil
	case row.lands() && row.In.Made:
		sum.Awaited++
		return nil
	case !last.After(now):
		sum.Expired++
		return nil
	}
	sum.Active++
	sum.Expiring[month(last)]++
	if row.Next != nil {
		sum.Unconfirmed++
		return nil
	}
	c, err := ca.ParseCertificate(row.Leaf.Certificate)
	if err != nil {
		return fmt.Errorf("an agent row is damaged: %w", err)
	}
	if now.After(identity.RenewFrom(c.NotBefore, c.NotAfter)) {
		sum.RenewalsDue++
	}
	return nil
}

func month(t time.Time) string { return t.UTC().Format("2006-01") }
