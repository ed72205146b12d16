// Package store keeps rows of plain Go values in Vault's storage: keys, codec, commit and locks.
//
// Vault's storage has no transactions. A state transition is therefore one Put of one row (the commit); whatever follows it
// must be something that recovery can finish from that row.
package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/hashicorp/vault/sdk/logical"
)

// commitTimeout bounds a write that the caller's own deadline does not bound any more.
const commitTimeout = 30 * time.Second

// Store reads and writes rows. It adds no state to the storage underneath and is safe for concurrent use.
type Store struct {
	raw logical.Storage
}

// New puts a Store over Vault's storage.
func New(raw logical.Storage) *Store { return &Store{raw: raw} }

// Row is a value that can be stored: SchemaVersion is the version of its shape that this build writes. A row with a newer
// one is refused by name, an older one is the row type's own business in UnmarshalJSON.
type Row interface {
	SchemaName() string
	SchemaVersion() int
}

// envelope is a row as it is stored, in one pass of the codec. The version stands first, so that it is known also of a row
// whose shape is not.
type envelope struct {
	Version int `json:"v"`
	Row     Row `json:"row"`
}

// Get reads the row at key into row and reports whether there is one. A row of a newer schema is schema_too_new.
func (s *Store) Get(ctx context.Context, key string, row Row) (bool, error) {
	entry, err := s.raw.Get(ctx, key)
	if err != nil {
		return false, fault(err)
	}
	if entry == nil {
		return false, nil
	}
	return true, decode(entry.Value, row)
}

func decode(value []byte, row Row) error {
	e := envelope{Row: row}
	err := json.Unmarshal(value, &e)
	if e.Version > row.SchemaVersion() {
		return apitype.Errorf(apitype.SchemaTooNew, "a %s row has schema version %d and this build knows %d", row.SchemaName(), e.Version, row.SchemaVersion())
	}
	if err != nil {
		return fmt.Errorf("a %s row is damaged: %w", row.SchemaName(), err)
	}
	if e.Version < 1 || e.Row == nil { // JSON, but none of ours
		return fmt.Errorf("a %s row is damaged: there is nothing in it", row.SchemaName())
	}
	return nil
}

// Put writes the row and answers nil only when it is known to be stored. The write goes on when the caller hangs up.
// After an error whose outcome is unknown it reads again, so callers must hold the lock that guards the key; what is then
// still unknown is outcome_unknown, and asking again is the way to find out.
func (s *Store) Put(ctx context.Context, key string, row Row) error {
	value, err := json.Marshal(envelope{Version: row.SchemaVersion(), Row: row})
	if err != nil {
		return fmt.Errorf("encoding a %s row: %w", row.SchemaName(), err)
	}
	writing, cancel := Commit(ctx)
	defer cancel()
	if err := s.raw.Put(writing, &logical.StorageEntry{Key: key, Value: value}); err != nil {
		reading, cancel := Commit(ctx) // the write may have used up its own time
		defer cancel()
		entry, again := s.raw.Get(reading, key)
		if again == nil && entry != nil && bytes.Equal(entry.Value, value) {
			return nil
		}
		return fault(err)
	}
	return nil
}

// Absent says that there is no row at key yet, and nobody who would write or look for one, because its name has just been
// made up. It saves the first look for it.
func (s *Store) Absent(key string) {
	if c, ok := s.raw.(*Cache); ok {
		c.absent(key)
	}
}

// Delete removes the row. Removing what is not there is no error.
func (s *Store) Delete(ctx context.Context, key string) error {
	ctx, cancel := Commit(ctx)
	defer cancel()
	if err := s.raw.Delete(ctx, key); err != nil {
		return fault(err)
	}
	return nil
}

// List answers the keys directly below prefix in ascending order, folders with a trailing slash.
func (s *Store) List(ctx context.Context, prefix string) ([]string, error) {
	keys, err := s.raw.List(ctx, prefix)
	if err != nil {
		return nil, fault(err)
	}
	return keys, nil
}

// Commit detaches a context from the caller's hang-up and bounds it by a deadline of its own, so that what was begun is
// finished whether or not anybody still listens.
func Commit(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), commitTimeout)
}

// fault makes outcome_unknown of a storage error. The one that says "read only" keeps its text and stays bare, because
// Vault recognises it by that and forwards the request to the active node.
func fault(err error) error {
	if strings.Contains(err.Error(), logical.ErrReadOnly.Error()) {
		return err
	}
	return &Fault{Cause: err}
}

// UnknownOutcome reports whether err leaves open what is stored.
func UnknownOutcome(err error) bool {
	var fault *Fault
	return errors.As(err, &fault)
}

// Fault is a storage error. It is an outcome_unknown to callers; the cause is for the server log.
type Fault struct{ Cause error }

func (f *Fault) Error() string { return "storage: " + f.Cause.Error() }

// Unwrap makes the code and the cause reachable.
func (f *Fault) Unwrap() []error {
	return []error{apitype.Errorf(apitype.OutcomeUnknown, "Vault's storage did not answer"), f.Cause}
}
