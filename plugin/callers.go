package ampora

import (
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/hashicorp/vault/sdk/logical"
)

const (
	knownCallers = 1024
	callerTTL    = 10 * time.Minute
)

// callers finds names for people. Vault calls whoever logs in with AppRole by the name of the mount alone ("approle"), so that
// an event would not tell one edge or pipeline from another; the entity knows the role.
type callers struct {
	entity func(id string) (*logical.Entity, error)
	now    func() time.Time
	names  *lru.Cache[string, callerName] // by entity id
}

// callerName is the role of an entity, "" when there is none to tell.
type callerName struct {
	role  string
	until time.Time
}

func newCallers(entity func(id string) (*logical.Entity, error), now func() time.Time) *callers {
	names, err := lru.New[string, callerName](knownCallers)
	if err != nil {
		panic(err) // the size is wrong
	}
	return &callers{entity: entity, now: now, names: names}
}

// displayName is the request's with the role, as in "approle-ampora-edge-one". When Vault does not tell, it is what it was.
func (c *callers) displayName(req *logical.Request) string {
	if req.EntityID == "" || req.DisplayName == "" {
		return req.DisplayName
	}
	known, found := c.names.Get(req.EntityID)
	if now := c.now(); !found || now.After(known.until) {
		known = callerName{role: c.role(req.EntityID), until: now.Add(callerTTL)}
		c.names.Add(req.EntityID, known)
	}
	if known.role == "" {
		return req.DisplayName
	}
	return req.DisplayName + "-" + known.role
}

// role is what the one AppRole login of an entity is called. AppRole's login puts it into the alias; no other method has it.
func (c *callers) role(entityID string) string {
	entity, err := c.entity(entityID)
	if err != nil || entity == nil || len(entity.Aliases) != 1 {
		return ""
	}
	return entity.Aliases[0].Metadata["role_name"]
}
