// Package configuration keeps named remote-config bodies, which groups and agents refer to.
package configuration

import (
	"context"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/audit"
	"github.com/ampora/ampora/plugin/internal/feed"
	"github.com/ampora/ampora/plugin/internal/named"
	"github.com/ampora/ampora/plugin/internal/store"
)

// row is configuration/<tenant or ->/<name>.
type row struct {
	named.Head
	// Body is kept as bytes, which JSON stores as base64: as text each < or & would take six, and a body of the largest
	// size more than Vault's storage takes.
	Body        []byte `json:"body,omitempty"`
	ContentType string `json:"content_type"`
	Description string `json:"description,omitempty"`
	Hash        string `json:"hash"`
	Version     int64  `json:"version"`
}

func (*row) SchemaName() string { return "configuration" }
func (*row) SchemaVersion() int { return 1 }

// info is the row without its body.
func (c *row) info() apitype.Configuration {
	return apitype.Configuration{
		Name: c.Name, Tenant: c.Tenant, ContentType: c.ContentType, Description: c.Description,
		Hash: c.Hash, Version: c.Version, Size: int64(len(c.Body)),
		CreatedAt: c.CreatedAt.Format(time.RFC3339), UpdatedAt: c.UpdatedAt.Format(time.RFC3339),
	}
}

// Configurations keeps the configurations of all tenants. It is safe for concurrent use.
type Configurations struct {
	rows *named.Rows[row, *row]
}

// New makes Configurations.
func New(ground named.Ground) *Configurations {
	return &Configurations{rows: named.New[row](named.Kind{
		Noun: "configuration", Prefix: store.ConfigurationPrefix, Missing: apitype.ConfigurationMissing, Unknown: apitype.ConfigurationUnknown,
		Created: apitype.ActionConfigurationCreated, Updated: apitype.ActionConfigurationUpdated, Deleted: apitype.ActionConfigurationDeleted,
	}, ground)}
}

// ReferredBy says who may refer to configurations. It is called before they are used.
func (c *Configurations) ReferredBy(referrers ...named.Referrer) {
	c.rows.Referrers = append(c.rows.Referrers, referrers...)
}

// TellTo has the feed told of every change. It is called before the configurations are used.
func (c *Configurations) TellTo(f *feed.Feed) {
	c.rows.Doubtful = f.Discard
	c.rows.Changed = func(r *row) {
		if r.Deleted {
			f.ConfigurationDeleted(r.named())
			return
		}
		f.ConfigurationChanged(r.named(), r.Hash)
	}
}

func (c *row) named() feed.Named { return feed.Named{Tenant: c.Tenant, Name: c.Name} }

// Hashes are those of the configurations of every tenant, for the change feed.
func (c *Configurations) Hashes(ctx context.Context) (map[feed.Named]string, error) {
	all := map[feed.Named]string{}
	return all, c.rows.All(ctx, func(r *row) { all[r.named()] = r.Hash })
}

// Write makes a configuration or changes the fields that are set. The answer is without the body.
func (c *Configurations) Write(ctx context.Context, origin audit.Origin, tenant, configuration string, in apitype.ConfigurationRequest) (apitype.Configuration, error) {
	if err := validate(in); err != nil {
		return apitype.Configuration{}, err
	}
	made, err := c.rows.Making(ctx, tenant)
	if err != nil {
		return apitype.Configuration{}, err
	}
	defer made()
	r, err := c.rows.Write(ctx, origin, tenant, configuration, func(r *row, made bool) (map[string]any, error) {
		return r.change(in, made)
	})
	if err != nil {
		return apitype.Configuration{}, err
	}
	return r.info(), nil
}

// change changes the fields that are set and answers what the event tells: never the body, which its hash stands for.
func (c *row) change(in apitype.ConfigurationRequest, made bool) (map[string]any, error) {
	if made && in.Body == nil {
		return nil, apitype.Errorf(apitype.FieldInvalid, "body is missing")
	}
	if made {
		c.ContentType = defaultContentType
	}
	fields := []string{}
	if in.Body != nil && *in.Body != string(c.Body) {
		c.Body, fields = []byte(*in.Body), append(fields, "body")
	}
	if in.ContentType != nil && *in.ContentType != c.ContentType {
		c.ContentType, fields = *in.ContentType, append(fields, "content_type")
	}
	if made || len(fields) > 0 {
		c.Version++
		c.Hash = hash(c.ContentType, c.Body)
	}
	if in.Description != nil && *in.Description != c.Description {
		c.Description, fields = *in.Description, append(fields, "description")
	}
	if len(fields) == 0 {
		return nil, nil
	}
	return map[string]any{"fields": fields, "hash": c.Hash, "version": c.Version}, nil
}

// Read reads a configuration with its body.
func (c *Configurations) Read(ctx context.Context, tenant, configuration string) (apitype.Configuration, error) {
	r, err := c.rows.Read(ctx, tenant, configuration)
	if err != nil {
		return apitype.Configuration{}, err
	}
	info := r.info()
	info.Body = string(r.Body)
	return info, nil
}

// ForEdge reads what an edge gives to agents.
func (c *Configurations) ForEdge(ctx context.Context, tenant, configuration string) (apitype.EdgeConfiguration, error) {
	r, err := c.rows.Read(ctx, tenant, configuration)
	if err != nil {
		return apitype.EdgeConfiguration{}, err
	}
	return apitype.EdgeConfiguration{Name: r.Name, Tenant: r.Tenant, Hash: r.Hash, ContentType: r.ContentType, Body: string(r.Body)}, nil
}

// List lists a tenant's configurations by name, without their bodies.
func (c *Configurations) List(ctx context.Context, tenant string, page apitype.Page) (apitype.ListResponse[apitype.Configuration], error) {
	return named.List(ctx, c.rows, tenant, page, (*row).info)
}

// Delete deletes a configuration that nothing refers to. One that is not there is no error.
func (c *Configurations) Delete(ctx context.Context, origin audit.Origin, tenant, configuration string) error {
	return c.rows.Delete(ctx, origin, tenant, configuration)
}

// Exists reports whether there is such a configuration.
func (c *Configurations) Exists(ctx context.Context, tenant, configuration string) (bool, error) {
	return c.rows.Exists(ctx, tenant, configuration)
}

// Hold holds a configuration for somebody who is about to refer to it: it cannot be deleted until the answer is called. If
// there is none it is configuration_missing. An empty name is no work.
//
// It is called after what is needed of store.Locks was taken, and before a group is held.
func (c *Configurations) Hold(ctx context.Context, tenant, configuration string) (release func(), err error) {
	return c.rows.Hold(ctx, tenant, configuration)
}

// Tenantless is how many configurations belong to no tenant.
func (c *Configurations) Tenantless(ctx context.Context) (int, error) { return c.rows.Count(ctx, "") }

// Sweep finishes what crashes left.
func (c *Configurations) Sweep(ctx context.Context) error { return c.rows.Sweep(ctx) }
