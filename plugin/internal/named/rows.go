// Package named keeps the rows of things that people name: each belongs to a tenant, or to none, is known by its name there,
// and is referred to by that name from within its tenant only.
//
// A change is one Put of the row, which carries its record until that is stored. A deletion is the same: it Puts the row with
// its Deleted mark, and that is the commit. Storing the record and removing the row come afterwards, and are finished by
// whoever holds the row next (see meet) or by Sweep.
//
// A thing that is referred to cannot be deleted, and one that is being deleted cannot be referred to: see store.NamedLocks.
package named

import (
	"context"
	"strconv"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/audit"
	"github.com/ampora/ampora/plugin/internal/name"
	"github.com/ampora/ampora/plugin/internal/settings"
	"github.com/ampora/ampora/plugin/internal/store"
)

// MaxDescription bounds the description of a thing in bytes.
const MaxDescription = 512

// Head is what every row has. Rows embed it.
type Head struct {
	Tenant    string        `json:"tenant,omitempty"`
	Name      string        `json:"name"`
	CreatedAt time.Time     `json:"created_at"`
	UpdatedAt time.Time     `json:"updated_at"`
	Deleted   bool          `json:"deleted,omitempty"` // a tombstone: only its record matters
	Record    *audit.Record `json:"record"`
}

// Common is the head of a row that embeds it.
func (h *Head) Common() *Head { return h }

// Row is a pointer to a row that embeds Head.
type Row[R any] interface {
	*R
	store.Row
	Common() *Head
}

// Kind says what sets one kind of things apart.
type Kind struct {
	Noun    string // "group": in errors, and the entity type of its events
	Prefix  string // of its keys
	Missing apitype.Code
	Unknown apitype.Code
	Created string // actions
	Updated string
	Deleted string
}

// Ground is what all kinds stand on.
type Ground struct {
	Store    *store.Store
	Log      *audit.Log
	Locks    *store.Locks
	Settings *settings.Settings
	Now      func() time.Time
}

// Rows keeps the things of one kind. It is safe for concurrent use.
type Rows[R any, P Row[R]] struct {
	Kind
	Ground
	// Referrers tell who refers to a thing, in an order in which a reference that moves from one to another is not missed.
	Referrers []Referrer
	// Changed is told of each row that was written, or deleted, after the Put; calls for one row come in the order of its Puts.
	// Doubtful is told when it is not known what a Put has left. Both may be nil; they are set before the rows are used.
	Changed  func(P)
	Doubtful func()

	names *store.NamedLocks
}

// New makes the rows of a kind.
func New[R any, P Row[R]](kind Kind, ground Ground) *Rows[R, P] {
	return &Rows[R, P]{Kind: kind, Ground: ground, names: store.NewNamedLocks()}
}

// Making holds what whoever makes a row must hold, before anything else, and refuses with tenant_required what must belong
// to a tenant and does not. The answer releases it.
func (r *Rows[R, P]) Making(ctx context.Context, tenant string) (release func(), err error) {
	unlock := r.Locks.Issuing("")
	defer func() {
		if release == nil { // an error, or a panic underneath
			unlock()
		}
	}()
	cfg, err := r.Settings.Get(ctx)
	if err != nil {
		return nil, err
	}
	if err := settings.NeedTenant(cfg, tenant); err != nil {
		return nil, err
	}
	return unlock, nil
}

// Read reads a row.
func (r *Rows[R, P]) Read(ctx context.Context, tenant, name string) (P, error) {
	if err := r.check(tenant, name); err != nil {
		return nil, err
	}
	row, err := r.get(ctx, tenant, name)
	if err == nil && row == nil {
		return nil, apitype.Errorf(r.Unknown, "no %s has this name", r.Noun)
	}
	return row, err
}

// Exists reports whether there is such a row. A name that breaks the rule has none.
func (r *Rows[R, P]) Exists(ctx context.Context, tenant, name string) (bool, error) {
	if r.check(tenant, name) != nil {
		return false, nil
	}
	row, err := r.get(ctx, tenant, name)
	return row != nil, err
}

// Hold checks that there is such a thing and holds it until the answer is called, so that a reference can be stored that
// leads somewhere. An empty name refers to nothing, and is no work.
func (r *Rows[R, P]) Hold(ctx context.Context, tenant, name string) (release func(), err error) {
	if name == "" {
		return func() {}, nil
	}
	if err := r.check(tenant, name); err != nil {
		return nil, err
	}
	unlock := r.names.Share(tenant, name)
	defer func() {
		if release == nil { // an error, or a panic underneath
			unlock()
		}
	}()
	row, err := r.get(ctx, tenant, name)
	if err != nil {
		return nil, err
	}
	if row == nil {
		return nil, apitype.Errorf(r.Missing, "no %s named %s", r.Noun, strconv.Quote(name))
	}
	return unlock, nil
}

// Change is what the event of a change tells.
type Change struct {
	// Details say what has changed: nothing when nothing has.
	Details map[string]any
	// Action, when set, comes before the kind's usual one for a row that there was.
	Action string
	// OriginPeerID is the peer that the change comes from, if any.
	OriginPeerID string
}

// Write makes the row, or changes it. change works on a copy, and answers what the event tells of it: nothing when nothing
// has changed, and then nothing is stored or told. made says that there is no such row yet. The caller holds what Making takes.
func (r *Rows[R, P]) Write(ctx context.Context, origin audit.Origin, tenant, name string, change func(row P, made bool) (map[string]any, error)) (P, error) {
	return r.WriteAs(ctx, origin, tenant, name, func(row P, made bool) (Change, error) {
		details, err := change(row, made)
		return Change{Details: details}, err
	})
}

// WriteAs is Write for a kind whose changes have other actions as well.
func (r *Rows[R, P]) WriteAs(ctx context.Context, origin audit.Origin, tenant, name string, change func(row P, made bool) (Change, error)) (P, error) {
	if err := r.check(tenant, name); err != nil {
		return nil, err
	}
	defer r.names.Lock(tenant, name)()
	old, err := r.meet(ctx, tenant, name)
	if err != nil {
		return nil, err
	}
	now, next, made := r.Now().UTC(), P(new(R)), old == nil
	if made {
		*next.Common() = Head{Tenant: tenant, Name: name, CreatedAt: now}
	} else {
		*next = *old
	}
	changed, err := change(next, made)
	if err != nil || len(changed.Details) == 0 && !made {
		return next, err
	}
	switch {
	case made:
		changed.Action = r.Created
	case changed.Action == "":
		changed.Action = r.Updated
	}
	next.Common().UpdatedAt = now
	return next, r.put(ctx, origin, next, changed)
}

// Note stores something of a row that no event tells of. note works on a copy, and reports whether it has changed it. A row
// that is not there is the kind's Unknown.
func (r *Rows[R, P]) Note(ctx context.Context, tenant, name string, note func(row P) bool) error {
	if err := r.check(tenant, name); err != nil {
		return err
	}
	defer r.names.Lock(tenant, name)()
	old, err := r.meet(ctx, tenant, name)
	if err != nil {
		return err
	}
	if old == nil {
		return apitype.Errorf(r.Unknown, "no %s has this name", r.Noun)
	}
	next := P(new(R))
	*next = *old
	if !note(next) {
		return nil
	}
	return r.Store.Put(ctx, store.NamedKey(r.Prefix, tenant, name), next)
}

// put commits a row with its event and finishes what follows. The commit stands whatever comes of that.
func (r *Rows[R, P]) put(ctx context.Context, origin audit.Origin, row P, change Change) error {
	h := row.Common()
	h.Record = audit.NewRecord(origin, r.Now(), apitype.Event{
		EntityType: r.Noun, EntityID: h.Name, Action: change.Action, Tenant: h.Tenant, OriginPeerID: change.OriginPeerID, Details: change.Details,
	})
	if err := r.commit(ctx, row); err != nil {
		return err
	}
	r.Log.Tell(ctx, h.Record)
	if h.Deleted {
		ctx, cancel := store.Commit(ctx)
		defer cancel()
		_ = r.settle(ctx, row) // what cannot be done now, the next sweep does
	}
	return nil
}

// commit Puts a row and says so. A Put of unknown outcome, or one that panics, is doubtful.
func (r *Rows[R, P]) commit(ctx context.Context, row P) error {
	known := false
	defer func() {
		if !known && r.Doubtful != nil {
			r.Doubtful()
		}
	}()
	err := r.Store.Put(ctx, store.NamedKey(r.Prefix, row.Common().Tenant, row.Common().Name), row)
	known = !store.UnknownOutcome(err)
	if err == nil && r.Changed != nil {
		r.Changed(row)
	}
	return err
}

// meet reads a row that the caller holds alone, and finishes what a crash or a fault left. A tombstone is gone afterwards.
func (r *Rows[R, P]) meet(ctx context.Context, tenant, name string) (P, error) {
	row, err := r.load(ctx, tenant, name)
	if err != nil || row == nil {
		return nil, err
	}
	if err := r.settle(ctx, row); err != nil || row.Common().Deleted {
		return nil, err
	}
	return row, nil
}

// settle stores the row's record, and then removes the row if it is a tombstone.
func (r *Rows[R, P]) settle(ctx context.Context, row P) error {
	h := row.Common()
	if err := r.Log.Ensure(ctx, h.Record); err != nil || !h.Deleted {
		return err
	}
	return r.Store.Delete(ctx, store.NamedKey(r.Prefix, h.Tenant, h.Name))
}

// get reads a row, or nil when there is none or it was deleted.
func (r *Rows[R, P]) get(ctx context.Context, tenant, name string) (P, error) {
	row, err := r.load(ctx, tenant, name)
	if err != nil || row == nil || row.Common().Deleted {
		return nil, err
	}
	return row, nil
}

// load reads a row or a tombstone.
func (r *Rows[R, P]) load(ctx context.Context, tenant, name string) (P, error) {
	row := P(new(R))
	found, err := r.Store.Get(ctx, store.NamedKey(r.Prefix, tenant, name), row)
	if err != nil || !found {
		return nil, err
	}
	return row, nil
}

// check keeps everything that is no name out of keys and errors.
func (r *Rows[R, P]) check(tenant, value string) error {
	if tenant != "" {
		if err := name.Check("tenant", tenant); err != nil {
			return err
		}
	}
	return name.Check(r.Noun, value)
}
