// Package group keeps the groups that agents land in. A group gives its agents a configuration.
package group

import (
	"context"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/audit"
	"github.com/ampora/ampora/plugin/internal/configuration"
	"github.com/ampora/ampora/plugin/internal/feed"
	"github.com/ampora/ampora/plugin/internal/name"
	"github.com/ampora/ampora/plugin/internal/named"
	"github.com/ampora/ampora/plugin/internal/settings"
	"github.com/ampora/ampora/plugin/internal/store"
)

// row is group/<tenant or ->/<name>.
type row struct {
	named.Head
	Configuration string `json:"configuration,omitempty"`
	Description   string `json:"description,omitempty"`
	RenewProof    string `json:"renew_proof,omitempty"`
}

func (*row) SchemaName() string { return "group" }
func (*row) SchemaVersion() int { return 1 }

func (g *row) info() apitype.Group {
	return apitype.Group{
		Name: g.Name, Tenant: g.Tenant, Configuration: g.Configuration, Description: g.Description, RenewProof: g.RenewProof,
		CreatedAt: g.CreatedAt.Format(time.RFC3339), UpdatedAt: g.UpdatedAt.Format(time.RFC3339),
	}
}

// Groups keeps the groups of all tenants. It is safe for concurrent use.
type Groups struct {
	rows           *named.Rows[row, *row]
	configurations *configuration.Configurations
}

// New makes Groups. A configuration cannot be deleted from then on while one of them names it.
func New(ground named.Ground, configurations *configuration.Configurations) *Groups {
	g := &Groups{configurations: configurations, rows: named.New[row](named.Kind{
		Noun: "group", Prefix: store.GroupPrefix, Missing: apitype.GroupMissing, Unknown: apitype.GroupUnknown,
		Created: apitype.ActionGroupCreated, Updated: apitype.ActionGroupUpdated, Deleted: apitype.ActionGroupDeleted,
	}, ground)}
	configurations.ReferredBy(g.referrers)
	return g
}

// ReferredBy says who may refer to groups. It is called before the groups are used.
func (g *Groups) ReferredBy(referrers ...named.Referrer) {
	g.rows.Referrers = append(g.rows.Referrers, referrers...)
}

// TellTo has the feed told of every change. It is called before the groups are used.
func (g *Groups) TellTo(f *feed.Feed) {
	g.rows.Doubtful = f.Discard
	g.rows.Changed = func(r *row) {
		if r.Deleted {
			f.GroupDeleted(r.named())
			return
		}
		f.GroupChanged(r.named(), r.Configuration)
	}
}

func (g *row) named() feed.Named { return feed.Named{Tenant: g.Tenant, Name: g.Name} }

// Configurations is which configuration each group of every tenant gives, for the change feed.
func (g *Groups) Configurations(ctx context.Context) (map[feed.Named]string, error) {
	all := map[feed.Named]string{}
	return all, g.rows.All(ctx, func(r *row) { all[r.named()] = r.Configuration })
}

// Write makes a group or changes the fields that are set.
func (g *Groups) Write(ctx context.Context, origin audit.Origin, tenant, group string, in apitype.GroupRequest) (apitype.Group, error) {
	if in.Description != nil {
		if err := name.Text("description", *in.Description, named.MaxDescription); err != nil {
			return apitype.Group{}, err
		}
	}
	if p := in.RenewProof; p != nil && *p != "" && *p != settings.RenewProofKey && *p != settings.RenewProofEdge {
		return apitype.Group{}, apitype.Errorf(apitype.FieldInvalid, "renew_proof must be key or edge, or empty")
	}
	made, err := g.rows.Making(ctx, tenant)
	if err != nil {
		return apitype.Group{}, err
	}
	defer made()
	if in.Configuration != nil {
		release, err := g.configurations.Hold(ctx, tenant, *in.Configuration)
		if err != nil {
			return apitype.Group{}, err
		}
		defer release()
	}
	r, err := g.rows.Write(ctx, origin, tenant, group, func(r *row, _ bool) (map[string]any, error) {
		changed := map[string]any{}
		for field, change := range map[string]struct {
			to   *string
			have *string
		}{
			"configuration": {in.Configuration, &r.Configuration}, "description": {in.Description, &r.Description},
			"renew_proof": {in.RenewProof, &r.RenewProof},
		} {
			if change.to != nil && *change.to != *change.have {
				*change.have, changed[field] = *change.to, *change.to
			}
		}
		return changed, nil
	})
	if err != nil {
		return apitype.Group{}, err
	}
	return r.info(), nil
}

// Read reads a group.
func (g *Groups) Read(ctx context.Context, tenant, group string) (apitype.Group, error) {
	r, err := g.rows.Read(ctx, tenant, group)
	if err != nil {
		return apitype.Group{}, err
	}
	return r.info(), nil
}

// List lists a tenant's groups by name.
func (g *Groups) List(ctx context.Context, tenant string, page apitype.Page) (apitype.ListResponse[apitype.Group], error) {
	return named.List(ctx, g.rows, tenant, page, (*row).info)
}

// Delete deletes a group that nothing refers to. One that is not there is no error.
func (g *Groups) Delete(ctx context.Context, origin audit.Origin, tenant, group string) error {
	return g.rows.Delete(ctx, origin, tenant, group)
}

// Exists reports whether there is such a group.
func (g *Groups) Exists(ctx context.Context, tenant, group string) (bool, error) {
	return g.rows.Exists(ctx, tenant, group)
}

// Hold holds a group for somebody who is about to refer to it: it cannot be deleted until the answer is called. If there is
// none it is group_missing. An empty name is no work.
//
// It is called after what is needed of store.Locks was taken, and after a configuration is held.
func (g *Groups) Hold(ctx context.Context, tenant, group string) (release func(), err error) {
	return g.rows.Hold(ctx, tenant, group)
}

// Configuration is the name of the configuration that a group gives, or "" when it gives none, or is none.
func (g *Groups) Configuration(ctx context.Context, tenant, group string) (string, error) {
	return g.of(ctx, tenant, group, func(r *row) string { return r.Configuration })
}

// RenewProof is what renewals of the group's agents rest on, or "" when the group does not say.
func (g *Groups) RenewProof(ctx context.Context, tenant, group string) (string, error) {
	return g.of(ctx, tenant, group, func(r *row) string { return r.RenewProof })
}

// of is a field of the group, or "" when there is no such group.
func (g *Groups) of(ctx context.Context, tenant, group string, field func(*row) string) (string, error) {
	if group == "" {
		return "", nil
	}
	r, err := g.rows.Read(ctx, tenant, group)
	if apitype.CodeOf(err) == apitype.GroupUnknown {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return field(r), nil
}

// Tenantless is how many groups belong to no tenant.
func (g *Groups) Tenantless(ctx context.Context) (int, error) { return g.rows.Count(ctx, "") }

// Sweep finishes what crashes left.
func (g *Groups) Sweep(ctx context.Context) error { return g.rows.Sweep(ctx) }

// referrers tells which groups give a configuration.
func (g *Groups) referrers(ctx context.Context, tenant, configuration string, visit func(kind, id string) bool) error {
	return g.rows.Each(ctx, tenant, "", func(r *row) bool {
		return r.Configuration != configuration || visit("group", r.Name)
	})
}
