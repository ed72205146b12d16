package named

import (
	"context"
	"fmt"
	"strings"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/audit"
)

// Bounds of what a refused deletion tells.
const (
	maxListed = 20   // referrers by name
	maxKnown  = 1000 // referrers that are looked for
)

// Referrer calls visit with the kind and id of everything of one sort that refers to the thing, until visit answers false.
// It takes no locks: whoever makes a reference holds the thing (see Hold).
type Referrer func(ctx context.Context, tenant, name string, visit func(kind, id string) bool) error

// Delete deletes the thing. One that is referred to is in_use; one that is not there is no error.
//
// Looking for referrers reads every row that may be one, and that may be long in a large fleet. So it is done while
// others can go on, and a second time only if somebody has begun to refer to the thing meanwhile.
func (r *Rows[R, P]) Delete(ctx context.Context, origin audit.Origin, tenant, name string) error {
	if err := r.check(tenant, name); err != nil {
		return err
	}
	row, shares, err := r.first(ctx, tenant, name)
	if err != nil || row == nil {
		return err
	}
	if err := r.unused(ctx, tenant, name); err != nil {
		return err
	}
	defer r.names.Lock(tenant, name)()
	if row, err = r.meet(ctx, tenant, name); err != nil || row == nil {
		return err
	}
	if r.names.Shares(tenant, name) != shares {
		if err := r.unused(ctx, tenant, name); err != nil {
			return err
		}
	}
	tombstone := P(new(R))
	*tombstone.Common() = *row.Common()
	tombstone.Common().Deleted, tombstone.Common().UpdatedAt = true, r.Now().UTC()
	return r.put(ctx, origin, tombstone, Change{Action: r.Deleted})
}

// first meets the row, and counts how often it was held shared. Whoever held it has stored his reference by now.
func (r *Rows[R, P]) first(ctx context.Context, tenant, name string) (row P, shares uint64, err error) {
	defer r.names.Lock(tenant, name)()
	row, err = r.meet(ctx, tenant, name)
	return row, r.names.Shares(tenant, name), err
}

// unused refuses with in_use what is referred to.
func (r *Rows[R, P]) unused(ctx context.Context, tenant, name string) error {
	var listed []string
	known := 0
	for _, referrer := range r.Referrers {
		if known >= maxKnown {
			break
		}
		err := referrer(ctx, tenant, name, func(kind, id string) bool {
			if known++; known <= maxListed {
				listed = append(listed, kind+" "+id)
			}
			return known < maxKnown
		})
		if err != nil {
			return err
		}
	}
	text := strings.Join(listed, ", ")
	switch more := known - len(listed); {
	case known == 0:
		return nil
	case known >= maxKnown:
		text += fmt.Sprintf(", and at least %d more", more)
	case more > 0:
		text += fmt.Sprintf(", and %d more", more)
	}
	return apitype.Errorf(apitype.InUse, "%s %s is used by: %s", r.Noun, name, text)
}
